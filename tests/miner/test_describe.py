"""What is in a lake, and all about one thing in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miner.errors import NotFound
from miner.executor import LocalExecutor
from miner.lake import Lake, create
from tests.recordings import write_drives, write_frames


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two scenes of three frames a second apart, one broken, and one scene with two cameras and a label."""
    folder = tmp_path_factory.mktemp("describe")
    source = write_drives(folder / "source", scenes=2, frames=3)
    (source / "drive_01" / "frame_000001.jpg").write_bytes(b"")
    for camera in ("CAM_BACK", "CAM_FRONT"):
        write_frames(source / "two cameras" / camera, 2)
    (source / "labels").mkdir()
    (source / "labels" / "drive_00.json").write_text(
        '[{"name": "frame_000001.jpg", "attributes": {"weather": "rain"}, "labels": []}]'
    )
    lake = create(folder / "lake", LocalExecutor(threads=2))
    lake.ingest(source)
    lake.cut(2)
    lake.embed(["hashing"], views="whole")
    lake.index()
    return lake


def rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    return list(lake.store.scan(table).to_pylist())


def test_the_numbers_of_a_lake(lake: Lake) -> None:
    found = lake.describe()
    assert (found["scenes"], found["readings"], found["annotations"]) == (3, 10, 1)
    assert found["datasets"] == {"source": 3}
    assert found["channels"] == {"CAM": 6, "CAM_BACK": 2, "CAM_FRONT": 2}
    assert found["clips"] == len(rows(lake, "clips"))
    assert found["quarantine"] == {"empty-file": 1}
    [encoder] = found["encoders"]
    assert (encoder["encoder"], encoder["dim"], encoder["views"]) == ("hashing", 64, "whole")
    assert (encoder["readings"], encoder["vectors"]) == (9, 9)
    seconds = sum(row["end_ns"] - row["start_ns"] for row in rows(lake, "scenes")) / 1e9
    assert found["hours"] == pytest.approx(seconds / 3600)
    assert found["tables"].keys() == set(lake.store.tables())
    assert found["tables"]["sample_data"] == {"rows": 10, "version": lake.store.version("sample_data")}
    json.dumps(found)


def test_an_empty_lake_has_numbers_too(tmp_path: Path) -> None:
    found = create(tmp_path / "lake").describe()
    assert (found["scenes"], found["hours"], found["encoders"], found["channels"]) == (0, 0, [], {})
    assert list(found["tables"]) == ["lineage"]


@pytest.mark.parametrize("by", ["name", "scene_id"])
def test_a_scene(lake: Lake, by: str) -> None:
    [scene] = [row for row in rows(lake, "scenes") if row["name"] == "two cameras"]
    found = lake.show(scene[by])
    assert (found["kind"], found["name"], found["dataset"]) == ("scene", "two cameras", "source")
    assert found["channels"] == {"CAM_BACK": 2, "CAM_FRONT": 2}
    order = [(row["timestamp_ns"], row["channel"]) for row in found["readings"]]
    assert order == sorted(order) and len(order) == 4
    assert len(found["clips"]) == 1


def test_a_clip(lake: Lake) -> None:
    [scene] = [row for row in rows(lake, "scenes") if row["name"] == "drive_00"]
    clips = [row for row in rows(lake, "clips") if row["scene_id"] == scene["scene_id"]]
    assert len(clips) == 2
    for clip in clips:
        found = lake.show(clip["clip_id"])
        assert found["kind"] == "clip"
        assert [fact["clip_id"] for fact in found["clips"]] == [clip["clip_id"]]
        inside = [r for r in rows(lake, "sample_data") if r["scene_id"] == clip["scene_id"]]
        inside = [r for r in inside if clip["start_ns"] <= r["timestamp_ns"] < clip["end_ns"]]
        assert {r["sample_data_id"] for r in found["readings"]} == {r["sample_data_id"] for r in inside}


def test_a_reading(lake: Lake) -> None:
    [note] = rows(lake, "annotations")
    found = lake.show(note["sample_data_id"])
    assert (found["kind"], found["modality"], Path(found["uri"]).name) == ("reading", "camera", "frame_000001.jpg")
    assert [each["category"] for each in found["annotations"]] == ["weather"]
    assert found["asset"][0]["width"] == 96
    [bad] = rows(lake, "quarantine")
    assert lake.show(bad["key"])["asset"] == []


@pytest.mark.parametrize("name", ["nobody", "", "' OR 'a' = 'a"])
def test_what_is_not_there(lake: Lake, name: str) -> None:
    with pytest.raises(NotFound, match="no scene, clip or reading"):
        lake.show(name)
