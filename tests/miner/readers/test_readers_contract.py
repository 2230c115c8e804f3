"""What every registered reader must keep, on a small source of its format. A new reader adds one builder here."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from embeddings.plugins import load_plugin, plugin_names
from miner.errors import BadInput
from miner.ids import is_token
from miner.readers import Reader, SceneTables, find_reader
from miner.schema import ANNOTATIONS, SAMPLE_DATA, SCENES, check
from miner.simulation.recording import record
from miner.simulation.spec import Spec
from tests.kitti import write_object, write_raw
from tests.mcaps import Sent, compressed_image, write_mcap
from tests.videos import write_video


def _images(folder: Path) -> None:
    for name in ("images/a/CAM_FRONT/1.jpg", "images/a/CAM_FRONT/2.jpg", "images/a/CAM_BACK/1.jpg", "images/b/é.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    frame = {"name": "é.png", "labels": [{"category": "car", "box2d": {"x1": 0, "y1": 0, "x2": 9, "y2": 9}}]}
    (folder / "labels.json").write_text(json.dumps([frame]))


def _nuscenes(folder: Path) -> None:
    pose = {"translation": [1, 2, 0], "rotation": [1, 0, 0, 0]}
    reading = {"sample_token": "k", "timestamp": 1_600_000_000_000_000, "is_key_frame": True, "ego_pose_token": "p"}
    tables = {
        "scene": [{"token": "s", "name": "scene-1"}, {"token": "empty", "name": "scene-2"}],
        "sample": [{"token": "k", "scene_token": "s", "timestamp": 1_600_000_000_000_000}],
        "sample_data": [
            reading | {"token": name, "filename": f"samples/{name}/1.jpg"} for name in ("CAM_FRONT", "CAM_BACK")
        ],
        "ego_pose": [{"token": "p", **pose}],
        "sample_annotation": [{"token": "b", "sample_token": "k", "size": [2, 4, 1], **pose}],
    }
    (folder / "v1.0-mini").mkdir()
    for name, rows in tables.items():
        (folder / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))


def _synthetic(folder: Path) -> None:
    spec = Spec(scenes=2, seconds=1, rare_rate=1.0, pixels=False)  # tables only: readers open no recording
    record(spec, folder)


def _mcap(folder: Path) -> None:
    for name in ("a", "b/é"):
        sent = [Sent("/front", compressed_image(10**9 + n, b"", f"cam{n}"), 10**9) for n in range(3)]
        write_mcap(folder / f"{name}.mcap", sent)


def _kitti_raw(folder: Path) -> None:
    write_raw(folder)
    write_raw(folder, frames=2, drive="2011_09_28_drive_0002_sync")


def _video(folder: Path) -> None:
    for name in ("drive/1.mp4", "2011-11-22 19-27-00.mkv"):
        write_video(folder / name, 26)
    (folder / "drive" / "1.txt").write_text("".join(f"{1_600_000_000_000 + 40 * n}\n" for n in range(26)))


_SOURCES: dict[str, Callable[[Path], object]] = {
    "images": _images,
    "kitti_object": write_object,
    "kitti_raw": _kitti_raw,
    "mcap": _mcap,
    "nuscenes": _nuscenes,
    "synthetic": _synthetic,
    "video": _video,
}


@pytest.fixture(scope="module", params=plugin_names("miner.readers"))
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[type[Reader], str]:
    assert request.param in _SOURCES, f"add a small source for reader {request.param!r} to _SOURCES"
    folder = tmp_path_factory.mktemp(request.param)
    _SOURCES[request.param](folder)
    return load_plugin("miner.readers", request.param), str(folder)


def _all(reader: Reader) -> dict[str, SceneTables]:
    return {ref.name: reader.read(ref.name) for ref in reader.scenes()}


def _parts(tables: SceneTables) -> list[tuple[pa.Table, pa.Schema]]:
    return [(tables.scenes, SCENES), (tables.sample_data, SAMPLE_DATA), (tables.annotations, ANNOTATIONS)]


def test_it_is_found_for_its_source(source: tuple[type[Reader], str]) -> None:
    kind, folder = source
    assert kind.name and kind.looks_for and kind.matches(folder)
    assert find_reader(folder) is kind


def test_it_matches_no_empty_or_missing_folder(source: tuple[type[Reader], str], tmp_path: Path) -> None:
    assert not source[0].matches(str(tmp_path)) and not source[0].matches(str(tmp_path / "none"))


def test_scenes_have_distinct_names_and_ids(source: tuple[type[Reader], str]) -> None:
    kind, folder = source
    refs = list(kind(folder).scenes())
    assert len(refs) >= 2
    assert len({ref.name for ref in refs}) == len({ref.scene_id for ref in refs}) == len(refs)
    assert all(is_token(ref.scene_id) for ref in refs)
    for ref in refs:
        assert kind(folder).read(ref.name).scenes["scene_id"].to_pylist() == [ref.scene_id]


def test_tables_have_the_declared_schemas(source: tuple[type[Reader], str]) -> None:
    for tables in _all(source[0](source[1])).values():
        for table, schema in _parts(tables):
            assert check(table, schema).schema.equals(schema)
        assert len(tables.scenes) == 1


def test_ids_are_unique_over_the_source(source: tuple[type[Reader], str]) -> None:
    scenes = _all(source[0](source[1])).values()
    for part, key in enumerate(("scene_id", "sample_data_id", "annotation_id")):
        ids = [value for tables in scenes for value in _parts(tables)[part][0][key].to_pylist()]
        assert len(set(ids)) == len(ids) and all(map(is_token, ids))
        assert ids or key == "annotation_id"  # a recording may have no labels


def test_rows_belong_together(source: tuple[type[Reader], str]) -> None:
    for tables in _all(source[0](source[1])).values():
        scene, readings = tables.scenes.to_pylist()[0], tables.sample_data.to_pylist()
        ids = {row["sample_data_id"] for row in readings}
        assert all(scene["start_ns"] <= row["timestamp_ns"] < scene["end_ns"] for row in readings)
        assert {row["modality"] for row in readings} <= {"camera", "lidar", "radar"}
        assert len({(row["channel"], row["timestamp_ns"]) for row in readings}) == len(readings)
        assert all(Path(row["uri"]).is_absolute() for row in readings)
        for row in (*readings, *tables.annotations.to_pylist()):
            assert row["scene_id"] == scene["scene_id"]
        for row in tables.annotations.to_pylist():
            assert isinstance(json.loads(row["attributes"]), dict)
            assert row["sample_data_id"] in (ids if row["bbox_xyxy"] else ids | {None})
            assert (row["size_lwh"] is not None) or (row["ego_SE3_object"] is None)


def test_the_same_again_also_from_another_process(source: tuple[type[Reader], str]) -> None:
    kind, folder = source
    reader = kind(folder)
    first = _all(reader)
    data = pickle.dumps(reader)
    assert len(data) < 2000
    for again in (_all(reader), _all(kind(folder)), _all(pickle.loads(data))):
        assert list(again) == list(first)
        for name, tables in again.items():
            for (left, _), (right, _) in zip(_parts(tables), _parts(first[name]), strict=True):
                assert left.equals(right)


def test_the_dataset_can_be_named(source: tuple[type[Reader], str]) -> None:
    for tables in _all(source[0](source[1], "mine")).values():
        assert tables.scenes["dataset"].to_pylist() == ["mine"]


def test_an_unknown_scene_is_bad_input(source: tuple[type[Reader], str]) -> None:
    with pytest.raises(BadInput, match="unknown-scene"):
        source[0](source[1]).read("no such scene")
