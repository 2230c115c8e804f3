"""The KITTI raw reader on drives written here, and on a real excerpt against its files and the devkit's formulas."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from miner.decode.sweep import decode_sweep
from miner.errors import BadInput, NotFound
from miner.readers import find_reader
from miner.readers.kitti_raw import KittiRawReader, nominal_time
from tests.kitti import DRIVE, oxts, sweep, timestamps, tracklets, write, write_raw
from tests.kitti_oracle import (
    calibration,
    corners_rect0,
    labels,
    matrix,
    moved,
    our_corners,
    our_pixels,
    pixels,
    points_inside,
)

Row = dict[str, Any]
T0_NS = 1_317_042_145_900_000_000  # 2011-09-26 13:02:25.9


def read(source: Path, scene: str = DRIVE) -> tuple[Row, list[Row], list[Row]]:
    tables = KittiRawReader(str(source)).read(scene)
    return tables.scenes.to_pylist()[0], tables.sample_data.to_pylist(), tables.annotations.to_pylist()


def by_channel(readings: list[Row], channel: str) -> list[Row]:
    return [reading for reading in readings if reading["channel"] == channel]


def bad(source: Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read(source)
    assert str(source) in caught.value.detail
    return caught.value


# --- a whole drive ---


def test_readings(tmp_path: Path) -> None:
    drive = write_raw(tmp_path)
    scene, readings, _ = read(tmp_path)
    assert (scene["name"], scene["dataset"]) == (DRIVE, "kitti_raw")
    assert scene["start_ns"] == T0_NS and scene["end_ns"] == T0_NS + 200_000_002 + 1
    assert Counter(r["channel"] for r in readings) == {"image_02": 3, "image_03": 3, "velodyne_points": 3}
    lidar, left, right = readings[3:6]  # by time: frame 1, each sensor a nanosecond after the other
    assert [r["timestamp_ns"] - T0_NS for r in (lidar, left, right)] == [100_000_000, 100_000_001, 100_000_002]
    assert left["uri"] == str(drive / "image_02" / "data" / "0000000001.png")
    assert left["num_bytes"] == Path(left["uri"]).stat().st_size
    assert [r["fileformat"] for r in (lidar, left)] == ["kitti_bin", "png"]
    assert [r["modality"] for r in (lidar, left)] == ["lidar", "camera"] and all(r["is_key_frame"] for r in readings)
    assert lidar["sample_id"] == left["sample_id"] == right["sample_id"] != readings[0]["sample_id"]
    np.testing.assert_array_equal(
        decode_sweep(Path(lidar["uri"]).read_bytes(), lidar["fileformat"], lidar["uri"]).points, sweep(seed=1)
    )


def test_sensors(tmp_path: Path) -> None:
    write_raw(tmp_path)
    _, readings, _ = read(tmp_path)
    lidar, left, right = readings[:3]
    assert lidar["ego_SE3_sensor"] == {"translation": [1, 0, 0.5], "rotation_wxyz": [1, 0, 0, 0]}
    assert lidar["intrinsic"] is None
    for camera, to_left in ((left, 0.06), (right, -0.48)):
        np.testing.assert_allclose(camera["ego_SE3_sensor"]["translation"], [1, to_left, 0.5], atol=1e-12)
        np.testing.assert_allclose(moved(matrix(camera["ego_SE3_sensor"]), np.array([[0.0, 0, 10]]))[0, 0], 11)
        assert camera["intrinsic"] == [700, 0, 600, 0, 700, 180, 0, 0, 1] and camera["distortion"] is None


def test_ego_poses(tmp_path: Path) -> None:
    write_raw(tmp_path)
    _, readings, _ = read(tmp_path)
    poses = [matrix(r["global_SE3_ego"]) for r in by_channel(readings, "image_02")]
    assert np.abs(poses[0][:3, 3]).max() == 0  # the first frame is the origin
    # A hundred-thousandth of a degree to the north is 1.113 m on a sphere of the Earth's equatorial radius.
    north_m = np.radians(1e-5) * 6378137
    for number, pose in enumerate(poses):
        np.testing.assert_allclose(pose[:3, 3], [0, number * north_m, 0], atol=1e-6)
        np.testing.assert_allclose(pose[:3, :3], Rotation.from_euler("ZYX", [1.5, 0.02, 0.01]).as_matrix(), atol=1e-12)
    assert by_channel(readings, "velodyne_points")[1]["global_SE3_ego"] == readings[4]["global_SE3_ego"]


def test_boxes(tmp_path: Path) -> None:
    write_raw(tmp_path)
    _, readings, boxes = read(tmp_path)
    (car,), (area,), cyclist = (
        [box for box in boxes if box["category"] == category] for category in ("Car", "DontCare", "Cyclist")
    )
    assert len(boxes) == 4 and area["bbox_xyxy"] == [503.89, 169.71, 590.61, 190.13]
    ids = {reading["sample_data_id"]: reading for reading in readings}
    for box in boxes:
        reading = ids[box["sample_data_id"]]
        assert reading["channel"] == ("velodyne_points" if box["category"] == "Cyclist" else "image_02")
        assert (box["timestamp_ns"], box["sample_id"]) == (reading["timestamp_ns"], reading["sample_id"])
    np.testing.assert_allclose(car["ego_SE3_object"]["translation"], [11, -2, -0.25], atol=1e-12)
    for box, x in zip(cyclist, (12, 11), strict=True):  # in the LiDAR's frame, their bottom 1.5 m below it
        pose = matrix(box["ego_SE3_object"])
        np.testing.assert_allclose(pose[:3, 3], [x + 1, 3, -1.5 + 0.85 + 0.5], atol=1e-12)
        np.testing.assert_allclose(pose[:3, :3], Rotation.from_rotvec([0, 0, 0.5]).as_matrix(), atol=1e-12)
        assert box["size_lwh"] == [1.8, 0.6, 1.7] and box["bbox_xyxy"] is None and box["version"] == "tracklets"
        assert json.loads(box["attributes"]) == {"state": 2, "occlusion": 1, "truncation": 0}
    assert cyclist[0]["track_id"] == cyclist[1]["track_id"] is not None
    assert [readings.index(ids[box["sample_data_id"]]) for box in cyclist] == [3, 6]  # frames 1 and 2


def test_a_drive_that_is_not_synchronised(tmp_path: Path) -> None:
    name = DRIVE.replace("sync", "extract")
    drive = write_raw(tmp_path, drive=name)
    for sensor in ("image_02", "image_03", "velodyne_points"):
        write(drive / sensor / "timestamps.txt", "".join(f"2011-09-26 13:02:25.9{n}\n" for n in (2, 5, 8)))
    for file in (drive / "velodyne_points" / "data").iterdir():
        points = np.frombuffer(file.read_bytes(), np.float32).reshape(-1, 4)
        write(file.with_suffix(".txt"), "".join(f"{x} {y} {z} {r}\n" for x, y, z, r in points))
        file.unlink()
    _, readings, _ = read(tmp_path, name)
    lidar, left = by_channel(readings, "velodyne_points"), by_channel(readings, "image_02")
    assert left[0]["distortion"] == [-0.3, 0.2, 0.001, 0.002, -0.07]
    np.testing.assert_allclose(left[0]["ego_SE3_sensor"]["translation"], [1, 0.06, 0.5], atol=1e-12)
    np.testing.assert_allclose(
        decode_sweep(Path(lidar[2]["uri"]).read_bytes(), lidar[2]["fileformat"], "x").points, sweep(seed=2)
    )
    # The IMU has packets at 25.9, 26.0, 26.1: the pictures between them lie between its places.
    north_m = np.radians(1e-5) * 6378137
    for reading, share in zip(left, (0.2, 0.5, 0.8), strict=True):
        np.testing.assert_allclose(reading["global_SE3_ego"]["translation"], [0, share * north_m, 0], atol=1e-5)
    write(drive / "image_02" / "timestamps.txt", "".join(f"2011-09-26 13:02:2{n}\n" for n in (5, 6, 7)))
    _, readings, _ = read(tmp_path, name)
    assert [r["global_SE3_ego"] is None for r in by_channel(readings, "image_02")] == [True, False, True]


# --- where it is found ---


@pytest.mark.parametrize("part", ["", DRIVE[:10], f"{DRIVE[:10]}/{DRIVE}"])
def test_root_date_and_drive_are_the_same_source(tmp_path: Path, part: str) -> None:
    write_raw(tmp_path)
    assert find_reader(str(tmp_path / part)) is KittiRawReader
    assert read(tmp_path / part) == read(tmp_path)


def test_drives_of_one_name(tmp_path: Path) -> None:
    write_raw(tmp_path / "2011_09_26")
    write_raw(tmp_path / "copy", drive=DRIVE)
    (tmp_path / "2011_09_26" / "2011_09_26").rename(tmp_path / "a")
    (tmp_path / "copy" / "2011_09_26").rename(tmp_path / "b")
    write_raw(tmp_path, drive=DRIVE.replace("0001", "0002"))
    names = [ref.name for ref in KittiRawReader(str(tmp_path)).scenes()]
    assert names == [DRIVE.replace("0001", "0002"), f"a/{DRIVE}", f"b/{DRIVE}"]
    logs = {read(tmp_path, name)[0]["log_id"] for name in names}
    assert len(logs) == 2  # one drive has one log, wherever it lies


def test_folders_without_recordings_are_no_drives(tmp_path: Path) -> None:
    (tmp_path / "2011_09_26" / DRIVE / "proj_depth").mkdir(parents=True)
    assert not KittiRawReader.matches(str(tmp_path))
    with pytest.raises(NotFound, match="no KITTI raw drive"):
        KittiRawReader(str(tmp_path))


# --- what is missing ---


def drop(drive: Path, *names: str) -> None:
    for name in names:
        for path in sorted(drive.parent.glob(name)):
            path.unlink()


def test_without_any_calibration(tmp_path: Path) -> None:
    drop(write_raw(tmp_path), "calib_*.txt")
    _, readings, boxes = read(tmp_path)
    assert len(readings) == 9 and len(boxes) == 4
    for reading in readings:
        lidar = reading["modality"] == "lidar"  # the ego frame is the LiDAR's
        expected = {"translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0]} if lidar else None
        assert reading["ego_SE3_sensor"] == expected and reading["intrinsic"] is None
        assert reading["global_SE3_ego"] is None
    car = next(box for box in boxes if box["category"] == "Car")
    assert car["ego_SE3_object"] is None and json.loads(car["attributes"])["flags"] == ["no-calibration"]
    cyclist = next(box for box in boxes if box["category"] == "Cyclist")
    np.testing.assert_allclose(cyclist["ego_SE3_object"]["translation"], [12, 3, -0.65])


@pytest.mark.parametrize(
    ("missing", "camera", "intrinsic", "ego"),
    [("cam_to_cam", False, False, True), ("velo_to_cam", False, True, True), ("imu_to_velo", True, True, False)],
)
def test_without_one_calibration(tmp_path: Path, missing: str, camera: bool, intrinsic: bool, ego: bool) -> None:
    drop(write_raw(tmp_path), f"calib_{missing}.txt")
    _, readings, _ = read(tmp_path)
    left = by_channel(readings, "image_02")[0]
    known = [left[column] is not None for column in ("ego_SE3_sensor", "intrinsic", "global_SE3_ego")]
    assert known == [camera, intrinsic, ego]


def test_without_anything_but_sweeps(tmp_path: Path) -> None:
    drive = write_raw(tmp_path)
    drop(drive, "calib*", f"{DRIVE}/*.xml", f"{DRIVE}/label_2/*", f"{DRIVE}/*/timestamps.txt", f"{DRIVE}/[io]*/data/*")
    scene, readings, boxes = read(tmp_path)
    assert [r["timestamp_ns"] for r in readings] == [0, 100_000_000, 200_000_000] and not boxes
    assert {r["channel"] for r in readings} == {"velodyne_points"} and scene["end_ns"] == 200_000_001
    drop(drive, f"{DRIVE}/velodyne_points/data/*")
    scene, readings, boxes = read(tmp_path)
    assert not readings and (scene["start_ns"], scene["end_ns"]) == (0, 1)


def test_frames_that_are_missing(tmp_path: Path) -> None:
    drive = write_raw(tmp_path, frames=4)
    drop(drive, f"{DRIVE}/image_02/data/*[01].png", f"{DRIVE}/velodyne_points/data/*1.bin", f"{DRIVE}/oxts/data/*0.txt")
    _, readings, boxes = read(tmp_path)
    left, lidar = by_channel(readings, "image_02"), by_channel(readings, "velodyne_points")
    assert [r["timestamp_ns"] - T0_NS for r in left] == [200_000_001, 300_000_001]
    assert [r["timestamp_ns"] - T0_NS for r in lidar] == [0, 200_000_000, 300_000_000]
    assert lidar[0]["global_SE3_ego"] is None and lidar[1]["global_SE3_ego"] is not None
    (car,) = [box for box in boxes if box["version"] == "label_2"]  # nothing is left of the area without its picture
    assert car["sample_data_id"] is None and car["bbox_xyxy"] is None and car["ego_SE3_object"] is not None
    assert car["timestamp_ns"] in {r["timestamp_ns"] for r in readings if r["sample_id"] == car["sample_id"]}


def test_labels_below_ground_truth(tmp_path: Path) -> None:
    drive = write_raw(tmp_path)
    before = read(tmp_path)
    (drive / "ground_truth").mkdir()
    (drive / "label_2").rename(drive / "ground_truth" / "label_2")
    assert read(tmp_path) == before


# --- times ---


def test_times_of_another_sensor(tmp_path: Path) -> None:
    drive = write_raw(tmp_path)
    drop(drive, f"{DRIVE}/image_02/timestamps.txt")
    _, readings, _ = read(tmp_path)
    assert [r["timestamp_ns"] - T0_NS for r in by_channel(readings, "image_02")] == [2, 100_000_002, 200_000_002]
    write(drive / "image_02" / "data" / "0000000004.png", b"")
    _, readings, _ = read(tmp_path)
    assert by_channel(readings, "image_02")[3]["timestamp_ns"] == T0_NS + 400_000_002  # 10 Hz from the nearest frame


def test_middle_of_a_sweep(tmp_path: Path) -> None:
    folder = write_raw(tmp_path) / "velodyne_points"
    (folder / "timestamps.txt").rename(folder / "timestamps_start.txt")
    write(folder / "timestamps_end.txt", timestamps(3, offset_ns=50_000_000))
    _, readings, _ = read(tmp_path)
    lidar = by_channel(readings, "velodyne_points")
    assert [r["timestamp_ns"] - T0_NS for r in lidar] == [25_000_000, 125_000_000, 225_000_000]


def test_lines_are_numbered_like_frames_or_are_those_of_the_frames(tmp_path: Path) -> None:
    drive = write_raw(tmp_path, frames=5)
    drop(drive, f"{DRIVE}/image_02/data/*[013].png")
    _, whole, _ = read(tmp_path)
    lines = (drive / "image_02" / "timestamps.txt").read_text().splitlines(True)
    write(drive / "image_02" / "timestamps.txt", lines[2] + lines[4])
    _, cut, _ = read(tmp_path)
    assert by_channel(whole, "image_02") == by_channel(cut, "image_02")
    write(drive / "image_02" / "timestamps.txt", lines[0] + lines[1] + lines[2])
    found = bad(tmp_path)
    assert found.reason == "timestamp-count" and "3 lines for 2 frames up to 4" in found.detail


def test_lines_that_are_empty_twice_or_out_of_order(tmp_path: Path) -> None:
    drive = write_raw(tmp_path, frames=4)
    lines = timestamps(4, 1).splitlines(True)
    for part in ("image_02", "image_03", "velodyne_points", "oxts"):
        write(drive / part / "timestamps.txt", lines[0] + "\n" + lines[2] + lines[3])
    _, readings, _ = read(tmp_path)
    times = [r["timestamp_ns"] - T0_NS - 1 for r in by_channel(readings, "image_02")]
    assert times == [0, 100_000_000, 200_000_000, 300_000_000]
    write(drive / "image_02" / "timestamps.txt", lines[1] + lines[0] + lines[2] + lines[2])
    _, readings, _ = read(tmp_path)
    left = by_channel(readings, "image_02")
    assert [r["timestamp_ns"] - T0_NS - 1 for r in left] == [0, 100_000_000, 200_000_000, 200_000_001]
    assert [int(Path(r["uri"]).stem) for r in left] == [1, 0, 2, 3]


@given(known=st.dictionaries(st.integers(0, 40), st.integers(10**18, 10**18 + 10**10)), frame=st.integers(-9, 60))
def test_nominal_time(known: dict[int, int], frame: int) -> None:
    found = nominal_time(frame, known)
    nearest = [other for other in known if abs(other - frame) == min(abs(one - frame) for one in known)]
    assert found in ([known[other] + (frame - other) * 10**8 for other in nearest] or [frame * 10**8])


# --- what is damaged ---


@pytest.mark.parametrize(
    ("name", "text", "reason", "says"),
    [
        ("../calib_cam_to_cam.txt", "R_rect_00: 1 2 3\n", "bad-calibration", "line 1"),
        ("../calib_cam_to_cam.txt", "", "bad-calibration", "no line 'R_rect_00'"),
        ("../calib_velo_to_cam.txt", "R: 0 0 0 0 0 0 0 0 0\nT: 0 0 0\n", "bad-calibration", "line 1"),
        ("../calib_imu_to_velo.txt", "R: 1 0 0 0 1 0 0 0 1\nT: 1 x 0\n", "bad-calibration", "line 2"),
        ("../calib_imu_to_velo.txt", b"R: \xff", "unreadable", "calib_imu_to_velo"),
        ("image_02/timestamps.txt", "2011-09-26 13:02:25\n2011-13-26 13:02:25\n", "bad-timestamps", "line 2"),
        ("image_02/timestamps.txt", "2011-09-26 13:02:25\n25.1\n", "bad-timestamps", "line 2"),
        ("image_02/timestamps.txt", "1911-09-26 13:02:25\n", "bad-timestamps", "year"),
        ("image_02/timestamps.txt", "2011-09-26 13:02:25\n\n2011-09-26 13:05:25\n", "bad-timestamps", "line 3"),
        ("image_02/timestamps.txt", "", "timestamp-count", "1 lines for 3 frames"),
        ("oxts/data/0000000001.txt", "", "bad-oxts", "0000000001.txt"),
        ("oxts/data/0000000001.txt", "49 8 110 0 0", "bad-oxts", "latitude"),
        ("oxts/data/0000000001.txt", oxts(90.0, 8, 110, 0, 0, 0), "bad-oxts", "latitude"),
        ("oxts/data/0000000001.txt", oxts(49, float("nan"), 110, 0, 0, 0), "bad-oxts", "latitude"),
        ("oxts/data/0000000001.txt", oxts(49, 8, 110, 0, 0, float("inf")), "bad-oxts", "latitude"),
        ("label_2/0000000002.txt", "Car 1 2 3\n", "bad-label", "line 1"),
        ("tracklet_labels.xml", "", "bad-tracklets", "no element"),
        ("tracklet_labels.xml", "<boost_serialization/>", "bad-tracklets", "no element tracklets"),
        ("tracklet_labels.xml", tracklets(("Car", 0, [(1, 2, 3, 4)]))[:-40], "bad-tracklets", "line 6"),
        ("tracklet_labels.xml", tracklets(("Car", 0, [(1, float("nan"), 3, 4)])), "bad-tracklets", "ty"),
        ("tracklet_labels.xml", tracklets(("", 0, [(1, 2, 3, 4)])), "bad-tracklets", "tracklet 0: type ''"),
        ("tracklet_labels.xml", tracklets(("Car", 10**9, [(1, 2, 3, 4)])), "bad-tracklets", "first_frame"),
        ("tracklet_labels.xml", "<a>" * 100_000, "bad-tracklets", "no element"),
    ],
)
def test_damage(tmp_path: Path, name: str, text: str | bytes, reason: str, says: str) -> None:
    write(write_raw(tmp_path) / name, text)
    found = bad(tmp_path)
    assert found.reason == reason and Path(name).name in found.detail and says in found.detail


BOMB = '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'


@pytest.mark.parametrize(
    ("declared", "used"),
    [(BOMB, "&b;"), ('<!ENTITY f SYSTEM "file:///etc/passwd">', "&f;"), ('<!ENTITY % p SYSTEM "x.dtd"> %p;', "")],
)
def test_entities_are_refused(tmp_path: Path, declared: str, used: str) -> None:
    text = tracklets(("Car", 0, [(1, 2, 3, 4)]))
    text = text.replace("<!DOCTYPE boost_serialization>", f"<!DOCTYPE boost_serialization [{declared}]>")
    write(write_raw(tmp_path) / "tracklet_labels.xml", text.replace("Car", f"Car{used}"))
    found = bad(tmp_path)
    assert found.reason == "bad-tracklets" and "entity" in found.detail


LINKS = ["image_02/data/0000000001.png", "velodyne_points/data/0000000002.bin", "oxts/data/0000000001.txt"]
LINKS += ["label_2/0000000001.txt", "tracklet_labels.xml", "../calib_imu_to_velo.txt", "image_03/timestamps.txt"]


@pytest.mark.parametrize("name", LINKS)
def test_links_out_of_the_source_are_refused(tmp_path: Path, name: str) -> None:
    drive, outside = write_raw(tmp_path / "root"), write(tmp_path / "secret", "1")
    path = drive / name
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    assert bad(tmp_path / "root").reason == "outside-source"
    path.unlink()
    inside = write(tmp_path / "root" / "there", "")
    if name.endswith(("png", "bin")):
        path.symlink_to(inside)
        read(tmp_path / "root")


def test_a_folder_that_is_a_link_out_of_the_source(tmp_path: Path) -> None:
    drive = write_raw(tmp_path / "root")
    (drive / "image_02").rename(tmp_path / "image_02")
    (drive / "image_02").symlink_to(tmp_path / "image_02")
    assert bad(tmp_path / "root").reason == "outside-source"


def test_one_bad_drive_leaves_the_others(tmp_path: Path) -> None:
    other = DRIVE.replace("0001", "0002")
    write(write_raw(tmp_path) / "label_2" / "0000000000.txt", "Car")
    write_raw(tmp_path, drive=other)
    assert bad(tmp_path).reason == "bad-label"
    assert len(read(tmp_path, other)[1]) == 9


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw(tmp_path_factory.mktemp("drive"), frames=2)


TEXTS = ["../calib_cam_to_cam.txt", "../calib_velo_to_cam.txt", "image_02/timestamps.txt", "oxts/data/0000000001.txt"]


@settings(max_examples=100)
@given(data=st.data(), name=st.sampled_from([*TEXTS, "tracklet_labels.xml"]))
def test_damaged_text_is_a_scene_or_bad_input(drive: Path, data: st.DataObject, name: str) -> None:
    whole = (drive / name).read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (drive / name).write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    try:
        _, readings, _ = read(drive)
    except BadInput as found:
        assert Path(name).name in found.detail
    else:
        assert len(readings) == 6
    finally:
        (drive / name).write_bytes(whole)


# --- the real excerpt ---


@pytest.fixture(scope="module")
def excerpt(test_data: Path) -> tuple[Path, list[Row], list[Row]]:
    source = test_data / "kitti_raw"
    (scene,) = [ref.name for ref in KittiRawReader(str(source)).scenes()]
    return next(source.glob("*/*_drive_*_sync")), *read(source, scene)[1:]


def test_real_counts(excerpt: tuple[Path, list[Row], list[Row]]) -> None:
    drive, readings, boxes = excerpt
    files = [path.relative_to(drive).parts for path in drive.glob("*/data/*")]
    assert Counter(r["channel"] for r in readings) == Counter(parts[0] for parts in files)
    assert {r["uri"] for r in readings} == {str(drive.joinpath(*parts)) for parts in files}
    words = [label[0] for file in drive.glob("ground_truth/label_2/*.txt") for label in labels(file)]
    assert Counter(box["category"] for box in boxes) == Counter(words) and len(words) == 19
    for reading in readings:  # nominal: the excerpt has no times
        assert reading["timestamp_ns"] == int(Path(reading["uri"]).stem) * 100_000_000
        assert reading["global_SE3_ego"] is None and reading["ego_SE3_sensor"] is not None


def labelled(excerpt: tuple[Path, list[Row], list[Row]], channel: str) -> list[tuple[Row, list[tuple[list[str], Row]]]]:
    """Per frame with labels its reading and its lines, each with our row."""
    drive, readings, boxes = excerpt
    found = []
    for file in sorted(drive.glob("ground_truth/label_2/*.txt")):
        (reading,) = [r for r in by_channel(readings, channel) if Path(r["uri"]).stem == file.stem]
        own = {tuple(box["bbox_xyxy"]): box for box in boxes if box["sample_id"] == reading["sample_id"]}
        found.append((reading, [(line, own[tuple(map(float, line[4:8]))]) for line in labels(file)]))
    return found


def test_real_boxes_land_on_the_pixels_of_the_devkit(excerpt: tuple[Path, list[Row], list[Row]]) -> None:
    projection = calibration(excerpt[0].parent / "calib_cam_to_cam.txt")["P_rect_02"]
    corners = 0
    for image, lines in labelled(excerpt, "image_02"):
        for line, box in lines:
            assert box["category"] == line[0]
            if line[0] == "DontCare":
                assert box["ego_SE3_object"] is None
                continue
            expected, depth = pixels(corners_rect0(line), projection)
            found, our_depth = our_pixels(our_corners(box), image)
            np.testing.assert_allclose(our_depth, depth, atol=1e-4)
            assert np.abs(found - expected)[depth > 1].max() < 0.1
            corners += int((depth > 1).sum())
    assert corners > 100


def test_real_points_land_on_the_pixels_of_the_devkit(excerpt: tuple[Path, list[Row], list[Row]]) -> None:
    date = excerpt[0].parent
    known = calibration(date / "calib_cam_to_cam.txt", date / "calib_velo_to_cam.txt")
    (image, _), (lidar, _) = labelled(excerpt, "image_02")[0], labelled(excerpt, "velodyne_points")[0]
    points = np.fromfile(lidar["uri"], np.float32).reshape(-1, 4)[:, :3].astype(np.float64)
    turn = known["calib_cam_to_cam/R_rect_00"].reshape(3, 3)
    in_camera0 = points @ known["calib_velo_to_cam/R"].reshape(3, 3).T + known["calib_velo_to_cam/T"]
    expected, depth = pixels(in_camera0 @ turn.T, known["calib_cam_to_cam/P_rect_02"])
    found, _ = our_pixels(moved(matrix(lidar["ego_SE3_sensor"]), points), image)
    ahead = depth > 1
    assert ahead.sum() > 10_000 and np.abs(found - expected)[ahead].max() < 0.1


def test_real_near_boxes_hold_points(excerpt: tuple[Path, list[Row], list[Row]]) -> None:
    counts = []
    for lidar, lines in labelled(excerpt, "velodyne_points"):
        points = np.fromfile(lidar["uri"], np.float32).reshape(-1, 4)[:, :3].astype(np.float64)
        points = moved(matrix(lidar["ego_SE3_sensor"]), points)
        counts += [points_inside(points, box) for line, box in lines if line[0] != "DontCare" and float(line[13]) < 30]
    assert len(counts) >= 14 and np.mean(np.array(counts) >= 20) >= 0.95


def test_real_frames_without_calibration_and_with_damage(test_data: Path, tmp_path: Path) -> None:
    source = next((test_data / "kitti_raw").glob("*/*_drive_*_sync"))
    drive = tmp_path / source.parent.name / source.name
    for folder in ("image_02", "velodyne_points"):
        for file in sorted(source.glob(f"{folder}/data/*"))[:3]:
            write(drive / folder / "data" / file.name, file.read_bytes()[:-1])  # truncated: only embed will see it
    _, readings, boxes = read(tmp_path, drive.name)
    assert len(readings) == 6 and not boxes
    lidar = by_channel(readings, "velodyne_points")[0]
    with pytest.raises(BadInput, match="bad-size"):
        decode_sweep(Path(lidar["uri"]).read_bytes(), lidar["fileformat"], lidar["uri"])


@pytest.mark.parametrize("above", ["raw", "kitti/raw"])
def test_a_root_further_up_is_a_root_too(tmp_path: Path, above: str) -> None:
    write_raw(tmp_path / above)
    [near], [far] = KittiRawReader(str(tmp_path / above)).scenes(), KittiRawReader(str(tmp_path)).scenes()
    assert near == far and find_reader(str(tmp_path)) is KittiRawReader
    readings = KittiRawReader(str(tmp_path)).read(far.name).sample_data
    assert {"camera", "lidar"} == set(readings["modality"].to_pylist())
