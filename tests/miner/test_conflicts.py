"""Scenes that are in the lake already: what is seen of other content, whatever the reader, and what is no conflict."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from embeddings.plugins import load_plugin, plugin_names
from miner.conflicts import _changes, compare, known_scenes
from miner.errors import UsageError
from miner.executor import LocalExecutor
from miner.lake import Lake, create, open_source
from miner.readers.images import ImagesReader
from miner.schema import SAMPLE_DATA
from miner.store import Store
from tests.miner.readers.test_readers_contract import _SOURCES
from tests.recordings import write_drives, write_frames
from tests.videos import write_video

LABEL = {"name": "frame_000000.jpg", "labels": [{"category": "car", "box2d": {"x1": 0, "y1": 0, "x2": 9, "y2": 9}}]}


def lake_at(folder: Path) -> Lake:
    return create(folder / "lake", LocalExecutor(threads=2))


def filled(folder: Path, source: Path) -> Lake:
    lake = lake_at(folder)
    lake.ingest(source)
    lake.embed(["hashing"], views="whole")
    return lake


def found(lake: Lake, source: Path) -> dict[str, str]:
    """What a comparison says of each scene: "" for no conflict."""
    reader = open_source(str(source))
    verdicts = compare(lake.store, reader, known_scenes(lake.store, reader))
    return {each.scene.name: str(each.conflict or "") for each in verdicts}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = write_drives(tmp_path / "source", scenes=2, frames=3)
    (source / "drive_00.json").write_text(json.dumps([LABEL]))
    return source


@pytest.mark.parametrize("name", plugin_names("miner.readers"))
def test_what_any_reader_gave_is_unchanged(name: str, tmp_path: Path) -> None:
    """Every column of every reader comes back from the lake as it was: poses, times, labels, byte ranges."""
    (tmp_path / "source").mkdir()
    _SOURCES[name](tmp_path / "source")
    lake, reader = lake_at(tmp_path), load_plugin("miner.readers", name)(str(tmp_path / "source"))
    taken = lake.ingest(reader)
    assert taken.scenes["new"] == len(list(reader.scenes())) >= 2
    versions = {table: lake.store.version(table) for table in lake.store.tables()}
    for mode in ("check", "replace"):
        report = lake.ingest(reader, on_conflict=mode)  # type: ignore[arg-type]
        assert report.scenes == {
            **dict.fromkeys(("new", "kept", "moved", "differing", "replaced"), 0),
            "unchanged": taken.scenes["new"],
        }
        assert not report.changed and not report.notes
    assert versions == {table: lake.store.version(table) for table in lake.store.tables()}


def _rewrite(source: Path) -> None:
    file = source / "drive_00" / "frame_000001.jpg"
    file.write_bytes(file.read_bytes() + b"\0" * 7)


def _flip(source: Path) -> None:
    file = source / "drive_00" / "frame_000001.jpg"
    data = bytearray(file.read_bytes())
    data[-30] ^= 1
    file.write_bytes(data)


def _relabel(source: Path) -> None:
    (source / "drive_00.json").write_text(json.dumps([LABEL]).replace("car", "bus"))


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "other bytes": (_flip, r"of 3 readings 1 with other bytes; e\.g\. .*frame_000001\.jpg .*sha256 \w{64} .*\w{64} "),
    "another size": (_rewrite, r"of 3 readings 1 changed, 1 with other bytes; e\.g\. .*frame_000001"),
    "files added": (
        lambda source: write_frames(source / "drive_00", 2, seed=9, first=3),
        r"of 5 readings 2 added since; .*frame_000003\.jpg .*: new\.",
    ),
    "files gone": (lambda source: (source / "drive_00" / "frame_000002.jpg").unlink(), r"of 3 readings 1 gone"),
    "other labels": (_relabel, r"annotations .*1 (changed|added).*e\.g\. .*"),
}


@pytest.mark.parametrize("case", CASES)
def test_other_content_is_seen_and_named(case: str, source: Path, tmp_path: Path) -> None:
    lake = filled(tmp_path, source)
    change, told = CASES[case]
    change(source)
    verdicts = found(lake, source)
    assert verdicts["drive_01"] == ""
    message = f"conflict: scene 'drive_00' is not as in the lake: .*{told}"
    assert re.match(message, verdicts["drive_00"]), verdicts["drive_00"]
    assert "The lake keeps what it has. Take this version with --on-conflict replace" in verdicts["drive_00"]


def test_a_frame_of_a_video_is_compared_by_its_own_bytes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_video(source / "1.mp4", 26)
    lake = filled(tmp_path, source)
    assert set(found(lake, source).values()) == {""}
    data = bytearray((source / "1.mp4").read_bytes())
    row = lake.store.scan("sample_data", ["offset", "length"]).to_pylist()[-1]
    data[row["offset"] + row["length"] - 3] ^= 0xFF
    (source / "1.mp4").write_bytes(data)
    [told] = found(lake, source).values()
    assert "1 with other bytes" in told


def test_without_digests_rows_are_compared_alone(source: Path, tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.ingest(source)
    _flip(source)
    assert set(found(lake, source).values()) == {""}, "nothing of the lake was made from those bytes"
    _rewrite(source)
    assert "num_bytes is " in found(lake, source)["drive_00"]


def test_a_moved_scene_is_unchanged_and_its_paths_are_taken_on_request(source: Path, tmp_path: Path) -> None:
    lake = filled(tmp_path, source)
    assets = lake.store.version("assets")
    source.rename(tmp_path / "elsewhere")
    moved = ImagesReader(str(tmp_path / "elsewhere"), "source")
    seen = lake.ingest(moved)
    assert "6 of 6 files looked at are gone" in "".join(seen.notes) and not seen.changed
    report = lake.ingest(moved, on_conflict="check")
    assert (report.scenes["unchanged"], report.scenes["moved"], report.changed) == (2, 2, False)
    assert "--on-conflict replace takes the new paths" in "".join(report.notes)
    report = lake.ingest(moved, on_conflict="replace")
    assert (report.scenes["unchanged"], report.scenes["replaced"], report.rows) == (2, 0, {"sample_data": 6})
    uris = lake.store.scan("sample_data", ["uri"])["uri"].to_pylist()
    assert all(Path(uri).is_file() for uri in uris) and lake.store.version("assets") == assets
    assert not lake.ingest(moved, on_conflict="replace").changed


def test_what_cannot_be_read_now_replaces_nothing(tmp_path: Path) -> None:
    """Tables that still name recordings on a disk that is away."""
    source = tmp_path / "source"
    source.mkdir()
    _SOURCES["nuscenes"](source)
    for name in ("CAM_FRONT", "CAM_BACK"):
        [file] = write_frames(source / "samples" / name, 1)
        file.rename(file.with_name("1.jpg"))
    lake = filled(tmp_path, source)
    assert lake.store.count("assets") == 2
    shutil.move(source / "samples", tmp_path / "away")
    for mode in ("replace", "check"):
        report = lake.ingest(source, on_conflict=mode)  # type: ignore[arg-type]
        assert (report.scenes["differing"], report.scenes["replaced"]) == (1, 0)
        [bad] = lake.store.scan("quarantine").to_pylist()
        assert (bad["stage"], bad["reason"], bad["reader"]) == ("ingest", "missing-file", "nuscenes")
        assert "2 recordings cannot be read now" in bad["detail"] and "The lake keeps what it has." in bad["detail"]
    assert lake.store.count("assets") == 2
    shutil.move(tmp_path / "away", source / "samples")
    assert lake.ingest(source, on_conflict="check").scenes["unchanged"] == 2
    assert lake.store.count("quarantine") == 0


def test_a_scene_whose_metadata_broke_replaces_nothing(source: Path, tmp_path: Path) -> None:
    lake = filled(tmp_path, source)
    (source / "drive_00.json").write_text("[{")
    report = lake.ingest(source, on_conflict="replace")
    assert (report.scenes["differing"], report.quarantined, report.scenes["replaced"]) == (1, 1, 0)
    assert lake.store.count("scenes") == 2


def rows(**columns: list[Any]) -> pa.Table:
    table = {"sample_data_id": ["a", "b"], "distortion": [[float("nan")], None], "num_bytes": [None, 5], **columns}
    return pa.Table.from_pydict(table, schema=pa.schema([SAMPLE_DATA.field(name) for name in table]))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({}, {}),
        ({"num_bytes": [7, None]}, {}),
        ({"num_bytes": [None, 6]}, {"b": ["num_bytes"]}),
        ({"distortion": [[0.0], None]}, {"a": ["distortion"]}),
        ({"uri": ["x", "y"]}, {}),
    ],
)
def test_not_a_number_and_sizes_not_known(source: dict[str, list[Any]], expected: dict[str, list[str]]) -> None:
    assert _changes(rows(), rows(**source)).changed == expected


def test_the_default_tells_what_a_quick_look_shows(source: Path, tmp_path: Path) -> None:
    lake = filled(tmp_path, source)
    assert lake.ingest(source).notes == []
    _rewrite(source)
    [note] = lake.ingest(source).notes
    assert "1 of 6 files looked at are gone or not the size they had, e.g. " in note and "frame_000001.jpg" in note
    assert lake.store.count("quarantine") == 0


def test_an_unknown_word_is_a_usage_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Known: keep, check, replace"):
        lake_at(tmp_path).ingest(source, on_conflict="overwrite")  # type: ignore[arg-type]


def test_rows_are_removed_in_one_stamped_version(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("clips")
    for part in range(3):
        clips = {"clip_id": [f"{part}a", f"{part}b"], "scene_id": [f"s{part}", "t"], "recipe": ["r", "r"]}
        store.append("clips", pa.table({**clips, "start_ns": [0, 0], "end_ns": [1, 1]}))
    before = store.version("clips")
    assert store.remove("clips", "scene_id = 'nobody'", {"miner.run_id": "r"}) == 0
    assert store.version("clips") == before
    assert store.remove("clips", "scene_id IN ('t', 's1')", {"miner.run_id": "r"}) == 4
    [commit] = store.commits("clips", before)
    assert (commit.operation, commit.properties) == ("Delete", {"miner.run_id": "r"})
    left = lance.dataset(str(tmp_path / "lake" / "clips.lance")).to_table(columns=["clip_id"])
    assert sorted(left["clip_id"].to_pylist()) == ["0a", "2a"]
