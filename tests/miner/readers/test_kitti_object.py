"""The KITTI object reader on frames written here, and on real ones against their files and the devkit's formulas."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miner.errors import BadInput, NotFound
from miner.readers import find_reader
from miner.readers.kitti_object import KittiObjectReader
from tests.kitti import write, write_object
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
FIRST = "training/000000"


def read(source: Path, scene: str = FIRST) -> tuple[Row, list[Row], list[Row]]:
    tables = KittiObjectReader(str(source)).read(scene)
    return tables.scenes.to_pylist()[0], tables.sample_data.to_pylist(), tables.annotations.to_pylist()


def names(source: Path) -> list[str]:
    return [ref.name for ref in KittiObjectReader(str(source)).scenes()]


def bad(source: Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read(source)
    assert str(source) in caught.value.detail
    return caught.value


# --- frames written here ---


def test_a_frame(tmp_path: Path) -> None:
    split = write_object(tmp_path)
    scene, readings, (car, area) = read(tmp_path)
    assert (scene["name"], scene["split"], scene["start_ns"], scene["end_ns"]) == (FIRST, "training", 0, 1)
    assert [r["channel"] for r in readings] == ["image_2", "image_3", "velodyne"]
    left, right, lidar = readings
    assert [r["uri"] for r in readings] == [
        str(split / name) for name in ("image_2/000000.png", "image_3/000000.png", "velodyne/000000.bin")
    ]
    assert lidar["fileformat"] == "kitti_bin" and lidar["modality"] == "lidar" and lidar["num_bytes"] == 800
    assert lidar["ego_SE3_sensor"] == {"translation": [1, 0, 0.5], "rotation_wxyz": [1, 0, 0, 0]}
    for camera, to_left in ((left, 0.06), (right, -0.48)):
        np.testing.assert_allclose(camera["ego_SE3_sensor"]["translation"], [1, to_left, 0.5], atol=1e-12)
        assert camera["intrinsic"] == [700, 0, 600, 0, 700, 180, 0, 0, 1]
    assert all(r["global_SE3_ego"] is None and r["is_key_frame"] and r["timestamp_ns"] == 0 for r in readings)
    assert (car["category"], area["category"]) == ("Car", "DontCare")
    assert car["sample_data_id"] == area["sample_data_id"] == left["sample_data_id"]
    np.testing.assert_allclose(car["ego_SE3_object"]["translation"], [11, -2, -0.25], atol=1e-12)
    assert car["sample_id"] == left["sample_id"]


def test_splits(tmp_path: Path) -> None:
    write_object(tmp_path)
    testing = write_object(tmp_path, frames=1, split="testing")
    for file in testing.glob("label_2/*"):
        file.unlink()
    assert names(tmp_path) == ["training/000000", "training/000001", "testing/000000"]
    scene, readings, boxes = read(tmp_path, "testing/000000")
    assert scene["split"] == "testing" and len(readings) == 3 and not boxes
    assert names(testing) == ["testing/000000"]
    assert read(testing, "testing/000000") == read(tmp_path, "testing/000000")


def test_parts_of_a_frame(tmp_path: Path) -> None:
    split = write_object(tmp_path, frames=3)
    for name in ("image_2/000000.png", "image_3/000000.png", "velodyne/000001.bin", "label_2/000001.txt"):
        (split / name).unlink()
    for folder in ("image_2", "image_3", "velodyne"):
        (split / folder / "000002.png").unlink(missing_ok=True)
        (split / folder / "000002.bin").unlink(missing_ok=True)
    assert names(tmp_path) == ["training/000000", "training/000001"]  # of frame 2 only words are left
    _, readings, (car,) = read(tmp_path)
    assert [r["channel"] for r in readings] == ["velodyne"]
    assert car["bbox_xyxy"] is None and car["sample_data_id"] is None and car["ego_SE3_object"] is not None
    _, readings, boxes = read(tmp_path, "training/000001")
    assert [r["channel"] for r in readings] == ["image_2", "image_3"] and not boxes


def test_without_calibration(tmp_path: Path) -> None:
    (write_object(tmp_path) / "calib" / "000000.txt").unlink()
    _, (left, right, lidar), (car, _) = read(tmp_path)
    assert left["ego_SE3_sensor"] is right["ego_SE3_sensor"] is left["intrinsic"] is None
    assert lidar["ego_SE3_sensor"] == {"translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0]}
    assert car["ego_SE3_object"] is None and car["bbox_xyxy"] and "no-calibration" in car["attributes"]
    assert read(tmp_path, "training/000001")[1][0]["ego_SE3_sensor"] is not None


@pytest.mark.parametrize("folder", ["mapping", "devkit_object/mapping"])
def test_the_mapping_of_the_devkit_names_the_drive(tmp_path: Path, folder: str) -> None:
    write_object(tmp_path, frames=3)
    line = "2011_09_26 2011_09_26_drive_{:04d}_sync {:010d}\n"
    write(tmp_path / folder / "train_mapping.txt", "".join(line.format(drive, 7) for drive in (1, 2, 2)))
    write(tmp_path / folder / "train_rand.txt", "2,1,3\n")
    scenes = [read(tmp_path, name)[0] for name in names(tmp_path)]
    assert [scene["description"] for scene in scenes] == [
        f"frame 0000000007 of 2011_09_26_drive_{drive}" for drive in ("0002", "0001", "0002")
    ]
    assert scenes[0]["log_id"] == scenes[2]["log_id"] != scenes[1]["log_id"]
    write(tmp_path / folder / "train_rand.txt", "2,1,4\n")
    assert bad(tmp_path).reason == "bad-mapping"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("calib/000000.txt", "P2: 1 2\n", "bad-calibration"),
        ("calib/000000.txt", "", "bad-calibration"),
        ("label_2/000000.txt", "Car 1\n", "bad-label"),
        ("label_2/000000.txt", b"\xff\xfe", "unreadable"),
    ],
)
def test_damage(tmp_path: Path, name: str, text: str | bytes, reason: str) -> None:
    write(write_object(tmp_path) / name, text)
    found = bad(tmp_path)
    assert found.reason == reason and name in found.detail
    assert len(read(tmp_path, "training/000001")[1]) == 3  # the others are read


@pytest.mark.parametrize(
    "name", ["image_2/000000.png", "velodyne/000000.bin", "calib/000000.txt", "label_2/000000.txt"]
)
def test_links_out_of_the_source_are_refused(tmp_path: Path, name: str) -> None:
    path = write_object(tmp_path / "root") / name
    path.rename(tmp_path / "secret")
    path.symlink_to(tmp_path / "secret")
    assert bad(tmp_path / "root").reason == "outside-source"


@pytest.mark.parametrize(
    "name",
    [
        "training/image_02/0001/000000.png",
        "training/velodyne/0001/000000.bin",
        "training/image_2/000000_10.png",
        "train/a",
    ],
)
def test_other_kitti_benchmarks_are_not_taken(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "")
    assert not KittiObjectReader.matches(str(tmp_path))
    with pytest.raises(NotFound, match="no KITTI object frames"):
        KittiObjectReader(str(tmp_path))


# --- the real excerpt ---


@pytest.fixture(scope="module")
def real(test_data: Path) -> dict[str, tuple[Path, list[Row], list[Row]]]:
    """By stem the split, the readings and the boxes of a frame."""
    source = test_data / "kitti_object"
    assert find_reader(str(source)) is KittiObjectReader
    return {name.split("/")[1]: (source / "training", *read(source, name)[1:]) for name in names(source)}


def test_real_counts(real: dict[str, tuple[Path, list[Row], list[Row]]]) -> None:
    split = next(iter(real.values()))[0]
    files = [str(path) for folder in ("image_2", "velodyne") for path in split.glob(f"{folder}/*")]
    readings = [reading for _, found, _ in real.values() for reading in found]
    assert sorted(reading["uri"] for reading in readings) == sorted(files) and len(files) == 14
    assert Counter(r["channel"] for r in readings) == Counter(Path(file).parent.name for file in files)
    words = Counter(label[0] for file in split.glob("label_2/*.txt") for label in labels(file))
    assert Counter(box["category"] for _, _, found in real.values() for box in found) == words
    for stem, (_, _, found) in real.items():
        assert len(found) == len(labels(split / "label_2" / f"{stem}.txt"))


def matched(stem: str, frame: tuple[Path, list[Row], list[Row]]) -> list[tuple[list[str], Row]]:
    split, _, boxes = frame
    own = {tuple(box["bbox_xyxy"]): box for box in boxes}
    return [(line, own[tuple(map(float, line[4:8]))]) for line in labels(split / "label_2" / f"{stem}.txt")]


def test_real_boxes_land_on_the_pixels_of_the_devkit(real: dict[str, tuple[Path, list[Row], list[Row]]]) -> None:
    corners = 0
    for stem, frame in real.items():
        known = calibration(frame[0] / "calib" / f"{stem}.txt")
        image = frame[1][0]
        for line, box in matched(stem, frame):
            attributes = json.loads(box["attributes"])
            if line[0] == "DontCare":
                assert box["ego_SE3_object"] is None and attributes == {}
                continue
            assert [attributes[name] for name in ("truncation", "occlusion", "alpha")] == [float(v) for v in line[1:4]]
            expected, depth = pixels(corners_rect0(line), known["P2"])
            found, _ = our_pixels(our_corners(box), image)
            assert np.abs(found - expected)[depth > 1].max() < 0.1
            corners += int((depth > 1).sum())
    assert corners > 150


def test_real_points_land_on_the_pixels_of_the_devkit(real: dict[str, tuple[Path, list[Row], list[Row]]]) -> None:
    for stem in ("000000", "000031"):
        split, (image, lidar), _ = real[stem]
        known = calibration(split / "calib" / f"{stem}.txt")
        points = np.fromfile(lidar["uri"], np.float32).reshape(-1, 4)[:, :3].astype(np.float64)
        pose = known["Tr_velo_to_cam"].reshape(3, 4)
        rect0 = (points @ pose[:, :3].T + pose[:, 3]) @ known["R0_rect"].reshape(3, 3).T
        expected, depth = pixels(rect0, known["P2"])
        found, _ = our_pixels(moved(matrix(lidar["ego_SE3_sensor"]), points), image)
        assert (depth > 1).sum() > 10_000 and np.abs(found - expected)[depth > 1].max() < 0.1


def test_real_near_boxes_hold_points(real: dict[str, tuple[Path, list[Row], list[Row]]]) -> None:
    counts = []
    for stem, frame in real.items():
        near = [box for line, box in matched(stem, frame) if line[0] != "DontCare" and float(line[13]) < 30]
        points = np.fromfile(frame[1][1]["uri"], np.float32).reshape(-1, 4)[:, :3].astype(np.float64)
        points = moved(matrix(frame[1][1]["ego_SE3_sensor"]), points)
        counts += [points_inside(points, box) for box in near if json.loads(box["attributes"])["occlusion"] < 3]
    assert len(counts) >= 12 and np.mean(np.array(counts) > 0) >= 0.95
