"""The nuScenes reader on made-up tables for every rule, and on a real excerpt against the tables themselves."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from scipy.spatial.transform import Rotation

from kernels.boxes import box_corners, points_in_boxes
from kernels.project import project_points
from kernels.se3 import SE3
from miner.errors import BadInput, NotFound, UsageError
from miner.ids import is_token
from miner.readers.nuscenes import NuScenesReader

Tables = dict[str, Any]

_T0_US = 1_532_402_927_000_000
_QUARTER_LEFT = [0.5**0.5, 0.0, 0.0, 0.5**0.5]


def _hex(number: int) -> str:
    return f"{number:032x}"


def _tables() -> Tables:
    """One scene of one sample: a LiDAR and a camera key frame, a camera sweep and a box 10 m ahead of the ego."""
    lidar = "samples/LIDAR_TOP/a__LIDAR_TOP__1.pcd.bin"
    readings = [
        (10, 100, 1, 0, lidar, True),
        (11, 101, 2, -40_000, "samples/CAM_FRONT/a b[1]__CAM_FRONT__+0800.jpg", True),
        (12, 102, 2, 50_000, "sweeps/CAM_FRONT/s.jpg", False),
    ]
    box = {"token": _hex(20), "sample_token": _hex(2), "instance_token": _hex(21), "visibility_token": "4"}
    box |= {
        "attribute_tokens": [_hex(24)],
        "translation": [100, 210, 1],
        "size": [2, 4, 1.5],
        "rotation": _QUARTER_LEFT,
    }
    intrinsic = [[1000, 0, 800], [0, 1000, 450], [0, 0, 1]]
    still = {"translation": [1, 0, 1.5], "rotation": [1, 0, 0, 0]}
    return {
        "scene": [{"token": _hex(1), "name": "scene-0001", "log_token": _hex(5), "description": "Rain"}],
        "log": [{"token": _hex(5), "location": "boston", "vehicle": "n008"}],
        "sample": [{"token": _hex(2), "scene_token": _hex(1), "timestamp": _T0_US}],
        "sample_data": [
            {
                "token": _hex(token),
                "sample_token": _hex(2),
                "ego_pose_token": _hex(pose),
                "calibrated_sensor_token": _hex(30 + sensor),
                "timestamp": _T0_US + after_us,
                "filename": name,
                "is_key_frame": key_frame,
            }
            for token, pose, sensor, after_us, name, key_frame in readings
        ],
        "ego_pose": [
            {"token": _hex(token), "translation": [100, 200, 0], "rotation": _QUARTER_LEFT} for token in (100, 101, 102)
        ],
        "calibrated_sensor": [
            {"token": _hex(31), "sensor_token": _hex(41), "camera_intrinsic": [], **still},
            {"token": _hex(32), "sensor_token": _hex(42), "camera_intrinsic": intrinsic, **still},
        ],
        "sensor": [
            {"token": _hex(41), "channel": "LIDAR_TOP", "modality": "lidar"},
            {"token": _hex(42), "channel": "CAM_FRONT", "modality": "camera"},
        ],
        "sample_annotation": [{**box, "num_lidar_pts": 7, "num_radar_pts": 0}],
        "instance": [{"token": _hex(21), "category_token": _hex(22)}],
        "category": [{"token": _hex(22), "name": "vehicle.car"}],
        "attribute": [{"token": _hex(24), "name": "vehicle.parked"}],
        "visibility": [{"token": "4", "level": "v80-100"}],
    }


def _write(root: Path, tables: Tables, version: str = "v1.0-mini") -> str:
    folder = root / version
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(rows if isinstance(rows, str) else json.dumps(rows, indent=0), "utf-8")
    return str(root)


def _read(root: Path, tables: Tables) -> tuple[list[Any], list[Any], list[Any]]:
    reader = NuScenesReader(_write(root, tables))
    tables_ = reader.read(next(iter(reader.scenes())).name)
    return tables_.scenes.to_pylist(), tables_.sample_data.to_pylist(), tables_.annotations.to_pylist()


def test_a_whole_scene(tmp_path: Path) -> None:
    (tmp_path / "samples" / "LIDAR_TOP").mkdir(parents=True)
    (tmp_path / "samples" / "LIDAR_TOP" / "a__LIDAR_TOP__1.pcd.bin").write_bytes(b"x" * 20)
    (scene,), readings, (box,) = _read(tmp_path, _tables())

    assert scene["scene_id"] == _hex(1) and scene["log_id"] == _hex(5)
    assert (scene["name"], scene["location"], scene["vehicle"], scene["split"]) == (
        "scene-0001",
        "boston",
        "n008",
        "mini",
    )
    assert (scene["dataset"], scene["description"]) == ("nuscenes", "Rain")
    assert scene["start_ns"] == (_T0_US - 40_000) * 1000 and scene["end_ns"] == (_T0_US + 50_000) * 1000 + 1

    front, lidar, sweep = readings  # by time
    assert [r["sample_data_id"] for r in readings] == [_hex(11), _hex(10), _hex(12)]
    assert [r["is_key_frame"] for r in readings] == [True, True, False]
    assert [r["fileformat"] for r in readings] == ["jpg", "nuscenes_bin", "jpg"]
    assert [r["modality"] for r in readings] == ["camera", "lidar", "camera"]
    assert lidar["uri"] == str(tmp_path / "samples/LIDAR_TOP/a__LIDAR_TOP__1.pcd.bin") and lidar["num_bytes"] == 20
    assert front["num_bytes"] is None and front["uri"].endswith("/samples/CAM_FRONT/a b[1]__CAM_FRONT__+0800.jpg")
    assert lidar["intrinsic"] is None and sweep["intrinsic"] == [1000, 0, 800, 0, 1000, 450, 0, 0, 1]
    assert front["global_SE3_ego"] == {"translation": [100, 200, 0], "rotation_wxyz": _QUARTER_LEFT}
    assert {r["sample_id"] for r in readings} == {_hex(2)}

    # The ego looks along global +y, the box is 10 m further that way and turned like it.
    np.testing.assert_allclose(box["ego_SE3_object"]["translation"], [10, 0, 1], atol=1e-12)
    np.testing.assert_allclose(box["ego_SE3_object"]["rotation_wxyz"], [1, 0, 0, 0], atol=1e-12)
    assert box["size_lwh"] == [4, 2, 1.5] and box["num_lidar_pts"] == 7
    assert (box["category"], box["track_id"], box["sample_id"]) == ("vehicle.car", _hex(21), _hex(2))
    assert box["sample_data_id"] == _hex(10) and box["timestamp_ns"] == _T0_US * 1000
    assert (box["source"], box["version"]) == ("nuscenes", "v1.0-mini")
    expected = {"attributes": ["vehicle.parked"], "visibility": "v80-100", "num_radar_pts": 0}
    assert json.loads(box["attributes"]) == expected


def _drop(tables: Tables, *names: str) -> Tables:
    return {name: rows for name, rows in tables.items() if name not in names}


def _empty(tables: Tables, *names: str) -> Tables:
    return tables | {name: [] for name in names}


@pytest.mark.parametrize("without", [_drop, _empty])
def test_missing_and_empty_tables_are_normal(tmp_path: Path, without: Callable[..., Tables]) -> None:
    names = ("attribute", "visibility", "log", "category", "instance", "sensor", "calibrated_sensor", "ego_pose")
    (scene,), readings, (box,) = _read(tmp_path, without(_tables(), *names))
    assert scene["location"] is None and is_token(scene["log_id"])
    assert [(r["channel"], r["modality"]) for r in readings] == [
        ("CAM_FRONT", "camera"),
        ("LIDAR_TOP", "lidar"),
        ("CAM_FRONT", "camera"),
    ]
    assert all(r["ego_SE3_sensor"] is None and r["global_SE3_ego"] is None for r in readings)
    assert box["category"] == "unknown" and box["ego_SE3_object"] is None and box["sample_data_id"] is None
    assert json.loads(box["attributes"])["flags"] == ["no-ego-pose"]
    assert box["timestamp_ns"] == _T0_US * 1000


@pytest.mark.parametrize("without", [_drop, _empty])
def test_a_scene_without_readings_or_boxes(tmp_path: Path, without: Callable[..., Tables]) -> None:
    tables = without(_tables(), "sample_data", "sample_annotation")
    (scene,), readings, boxes = _read(tmp_path, tables)
    assert not readings and not boxes
    assert scene["start_ns"] == _T0_US * 1000
    (scene,), _, _ = _read(tmp_path / "second", without(tables, "sample"))
    assert (scene["start_ns"], scene["end_ns"]) == (0, 1)


def test_boxes_fall_back_to_another_key_frame(tmp_path: Path) -> None:
    tables = _tables()
    del tables["sample_data"][0]
    _, _, (box,) = _read(tmp_path, tables)
    assert box["sample_data_id"] == _hex(11) and box["timestamp_ns"] == (_T0_US - 40_000) * 1000
    np.testing.assert_allclose(box["ego_SE3_object"]["translation"], [10, 0, 1], atol=1e-12)


def test_boxes_are_in_the_ego_frame_of_lidar_top_whatever_other_lidars_there_are(tmp_path: Path) -> None:
    tables = _tables()
    other = {"token": _hex(13), "calibrated_sensor_token": "?", "ego_pose_token": _hex(103)}
    other |= {"filename": "samples/LIDAR_BACK/b.pcd.bin", "is_key_frame": True}
    tables["sample_data"].append(tables["sample_data"][0] | other)
    tables["ego_pose"].append({"token": _hex(103), "translation": [0, 0, 0], "rotation": [1, 0, 0, 0]})
    _, readings, (box,) = _read(tmp_path, tables)
    assert len(readings) == 4 and box["sample_data_id"] == _hex(10)
    np.testing.assert_allclose(box["ego_SE3_object"]["translation"], [10, 0, 1], atol=1e-12)


def test_tokens_that_are_none_are_hashed(tmp_path: Path) -> None:
    text = json.dumps(_tables()).replace(_hex(1), "scène one").replace(_hex(10), "L-10").replace(_hex(2), "sample/é")
    (scene,), readings, (box,) = _read(tmp_path, json.loads(text))
    ids = [
        scene["scene_id"],
        *(r["sample_data_id"] for r in readings),
        *(r["sample_id"] for r in readings),
        box["sample_id"],
    ]
    assert all(map(is_token, ids))
    assert len(readings) == 3 and box["sample_id"] == readings[0]["sample_id"]


def test_radar_and_several_scenes(tmp_path: Path) -> None:
    tables = _tables()
    tables["sample_data"][0]["filename"] = "samples/RADAR_FRONT/r.pcd"
    tables["scene"] += [{"token": _hex(7), "name": "twice"}, {"token": _hex(8), "name": "twice"}, {"token": _hex(9)}]
    reader = NuScenesReader(_write(tmp_path, tables))
    assert [ref.name for ref in reader.scenes()] == ["scene-0001", _hex(7), _hex(8), _hex(9)]
    formats = reader.read("scene-0001").sample_data["fileformat"].to_pylist()
    assert sorted(formats) == ["jpg", "jpg", "pcd"]
    assert reader.read(_hex(7)).scenes["name"].to_pylist() == ["twice"]
    with pytest.raises(BadInput, match="no scene 'scene-9999'"):
        reader.read("scene-9999")


def test_version_folders(tmp_path: Path) -> None:
    _write(tmp_path, _tables())
    assert NuScenesReader.matches(str(tmp_path)) and NuScenesReader.matches(str(tmp_path / "v1.0-mini"))
    _write(tmp_path, _tables(), "v1.0-trainval")
    with pytest.raises(UsageError, match=r"v1\.0-mini, v1\.0-trainval"):
        NuScenesReader(str(tmp_path))
    tables = NuScenesReader(str(tmp_path / "v1.0-trainval")).read("scene-0001")
    assert tables.scenes["split"].to_pylist() == ["trainval"]
    assert tables.sample_data["uri"][0].as_py().startswith(str(tmp_path / "samples"))
    (tmp_path / "v1.0-empty").mkdir()
    assert not NuScenesReader.matches(str(tmp_path / "v1.0-empty"))
    with pytest.raises(NotFound, match=r"scene\.json"):
        NuScenesReader(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "samples/../../x.jpg", "/etc/passwd", "a\\..\\b.jpg", "samples/a\0.jpg"]
)
def test_a_file_name_that_leaves_the_dataroot(tmp_path: Path, name: str) -> None:
    tables = _tables()
    tables["sample_data"][1]["filename"] = name
    with pytest.raises(BadInput, match="outside-source") as error:
        _read(tmp_path, tables)
    assert _hex(11) in error.value.detail


@pytest.mark.parametrize(
    ("table", "change", "match"),
    [
        ("sample_data", {"timestamp": None}, "bad-row: sample_data.json: row .*timestamp is None"),
        ("sample_data", {"filename": 3}, "filename is 3"),
        ("sample_data", {"filename": "x.jpg", "calibrated_sensor_token": "?"}, "missing-sensor"),
        ("sample_data", {"token": _hex(12)}, "duplicate-id"),
        ("ego_pose", {"rotation": [0, 0, 0, 0]}, "bad-pose: ego_pose.json: .* no unit quaternion"),
        ("ego_pose", {"translation": [0, 0]}, "bad-pose: .*expected 3 finite numbers"),
        ("ego_pose", {"translation": [0, 0, float("nan")]}, "bad-pose: .*expected 3 finite numbers"),
        ("sample_annotation", {"size": [1, 2]}, "bad-row: sample_annotation.json: .*width, length, height"),
        ("sample_annotation", {"size": [1, 2, -1]}, "bad-row"),
        ("sample_annotation", {"rotation": "north"}, "bad-pose: sample_annotation.json"),
        ("sample_annotation", {"num_lidar_pts": "many"}, "bad-row"),
        ("calibrated_sensor", {"camera_intrinsic": [[1, 2], [3]]}, "camera_intrinsic .* is not 3 x 3"),
        ("calibrated_sensor", {"camera_intrinsic": [1, 2, 3]}, "camera_intrinsic .* is not 3 x 3"),
    ],
)
def test_bad_rows_name_file_row_and_field(tmp_path: Path, table: str, change: Tables, match: str) -> None:
    tables = _tables()
    tables[table][0] |= change
    with pytest.raises(BadInput, match=match):
        _read(tmp_path, tables)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "line 1: expected \\[, got 'the end of the file'"),
        ('{"a": 1}', "line 1: expected \\["),
        ('[\n{"token": "a"},\n{"token": }]', "line 3: Expecting value"),
        ('[\n{"token": "a"}\n{"token": "b"}]', "line 3: expected , or \\]"),
        ('[\n{"token": "a"},\n3]', "line 3: expected an object, got int"),
        ('[\n{"token": "a"}', "line 2: expected , or \\]"),
        ('[{"token": "a"},]', "line 1: Expecting value"),
        ("[" * 100_000, "line 1"),
    ],
)
@pytest.mark.parametrize("table", ["scene", "sample_data", "sensor"])
def test_malformed_tables_name_file_line_and_cause(tmp_path: Path, table: str, text: str, cause: str) -> None:
    error = UsageError if table == "scene" else BadInput
    with pytest.raises(error, match=f"{table}.json: {cause}"):
        _read(tmp_path, _tables() | {table: text})


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    _write(tmp_path, _tables())
    (tmp_path / "v1.0-mini" / "sample.json").write_bytes(b"[{\xff\xfe}]")
    with pytest.raises(BadInput, match=r"sample\.json: line 1"):
        NuScenesReader(str(tmp_path)).read("scene-0001")


def test_the_reader_travels_small(tmp_path: Path) -> None:
    reader = NuScenesReader(_write(tmp_path, _tables()), "mine")
    before = reader.read("scene-0001")
    data = pickle.dumps(reader)
    assert len(data) < 500
    after = pickle.loads(data).read("scene-0001")
    assert after.sample_data.equals(before.sample_data) and after.scenes["dataset"].to_pylist() == ["mine"]


# ---- the real excerpt ----


@pytest.fixture(scope="module")
def excerpt(test_data: Path) -> tuple[dict[str, list[Any]], Any]:
    folder = test_data / "nuscenes"
    raw = {path.stem: json.loads(path.read_text()) for path in (folder / "v1.0-mini").glob("*.json")}
    return raw, NuScenesReader(str(folder)).read("scene-0061")


def test_real_counts(excerpt: tuple[dict[str, list[Any]], Any]) -> None:
    raw, tables = excerpt
    sensor_of = {row["token"]: row["sensor_token"] for row in raw["calibrated_sensor"]}
    channel_of = {row["token"]: (row["channel"], row["modality"]) for row in raw["sensor"]}
    expected = Counter(channel_of[sensor_of[row["calibrated_sensor_token"]]] for row in raw["sample_data"])
    found = Counter(
        zip(tables.sample_data["channel"].to_pylist(), tables.sample_data["modality"].to_pylist(), strict=True)
    )
    assert found == expected and sum(m == "camera" for _, m in expected) == 6
    assert len(raw["scene"]) == len(tables.scenes) == 1
    assert set(tables.annotations["annotation_id"].to_pylist()) == {row["token"] for row in raw["sample_annotation"]}
    assert None not in tables.sample_data["num_bytes"].to_pylist()
    category_of = {row["token"]: row["name"] for row in raw["category"]}
    category_of |= {row["token"]: category_of[row["category_token"]] for row in raw["instance"]}
    expected_categories = Counter(category_of[row["instance_token"]] for row in raw["sample_annotation"])
    assert Counter(tables.annotations["category"].to_pylist()) == expected_categories


def _se3(pose: dict[str, list[float]]) -> SE3:
    return SE3.from_wxyz(pose["translation"], pose["rotation_wxyz"])


def _ours(tables: Any, channel: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels and depths of all box corners: object -> ego -> global -> camera's ego -> camera -> pixels."""
    readings = {row["sample_data_id"]: row for row in tables.sample_data.to_pylist()}
    camera = next(row for row in readings.values() if row["channel"] == channel)
    camera_SE3_global = (_se3(camera["global_SE3_ego"]) @ _se3(camera["ego_SE3_sensor"])).inverse()
    found = {}
    for box in tables.annotations.to_pylist():
        global_SE3_ego = _se3(readings[box["sample_data_id"]]["global_SE3_ego"])
        corners = box_corners(global_SE3_ego @ _se3(box["ego_SE3_object"]), box["size_lwh"])
        projected = project_points(corners, camera_SE3_global, camera["intrinsic"], 1600, 900)
        found[box["annotation_id"]] = (projected.pixels, projected.depth_m)
    return found


def _oracle(raw: dict[str, list[Any]], channel: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same from the JSON tables alone, with scipy."""
    by_token = {row["token"]: row for rows in raw.values() for row in rows}
    data = next(row for row in raw["sample_data"] if f"__{channel}__" in row["filename"])
    poses = {row["token"]: row for row in raw["ego_pose"]}
    found = {}
    for box in raw["sample_annotation"]:
        width, length, height = box["size"]
        signs = [(a, b, c) for a in (1, -1) for b in (1, -1) for c in (1, -1)]
        points = np.array([(a * length / 2, b * width / 2, c * height / 2) for a, b, c in signs])
        points = Rotation.from_quat(box["rotation"], scalar_first=True).apply(points) + box["translation"]
        for frame in (poses[data["ego_pose_token"]], by_token[data["calibrated_sensor_token"]]):
            turn = Rotation.from_quat(frame["rotation"], scalar_first=True).inv()
            points = turn.apply(points - np.array(frame["translation"]))
        (fx, _, cx), (_, fy, cy), _ = by_token[data["calibrated_sensor_token"]]["camera_intrinsic"]
        u, v = fx * points[:, 0] / points[:, 2] + cx, fy * points[:, 1] / points[:, 2] + cy
        found[box["token"]] = (np.stack([u, v], axis=1), points[:, 2])
    return found


def test_real_boxes_land_on_the_right_pixels(excerpt: tuple[dict[str, list[Any]], Any]) -> None:
    raw, tables = excerpt
    in_view = 0
    for channel in sorted(set(tables.sample_data["channel"].to_pylist()) - {"LIDAR_TOP"}):
        ours, oracle = _ours(tables, channel), _oracle(raw, channel)
        assert ours.keys() == oracle.keys()
        for token, (pixels, depth) in oracle.items():
            np.testing.assert_allclose(ours[token][1], depth, atol=1e-3)
            front = depth > 1.0
            assert np.abs(ours[token][0][front] - pixels[front]).max(initial=0) < 1.0
            centre = pixels.mean(axis=0)
            in_view += bool(front.all() and (centre > 0).all() and (centre < (1600, 900)).all())
    assert in_view >= 60  # the 68 boxes are all around the car, most of them in some camera's view


def test_real_boxes_hold_lidar_points(excerpt: tuple[dict[str, list[Any]], Any]) -> None:
    _, tables = excerpt
    lidar = tables.sample_data.filter(pc.equal(tables.sample_data["channel"], "LIDAR_TOP")).to_pylist()[0]
    sweep = np.fromfile(lidar["uri"], np.float32).reshape(-1, 5)[:, :3]
    points = _se3(lidar["ego_SE3_sensor"]).transform(sweep)
    boxes = tables.annotations.to_pylist()
    poses = [_se3(box["ego_SE3_object"]) for box in boxes]
    counts = points_in_boxes(points, poses, [box["size_lwh"] for box in boxes])
    near = [
        count
        for count, box, pose in zip(counts, boxes, poses, strict=True)
        if np.linalg.norm(pose.translation) <= 30 and box["num_lidar_pts"] >= 5
    ]
    assert len(near) >= 10
    assert np.mean(np.array(near) > 0) >= 0.95
    labelled = np.array([box["num_lidar_pts"] for box in boxes])
    assert np.mean(np.abs(counts - labelled) <= np.maximum(2, 0.05 * labelled)) >= 0.95  # and about as many as labelled
