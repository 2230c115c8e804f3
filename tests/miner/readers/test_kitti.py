"""Calibration and labels of KITTI: every rule on numbers that can be checked by hand, every kind of bad line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.se3 import SE3
from miner.errors import BadInput
from miner.readers.kitti import Calibration, frame_files, label_rows, read_labels, turn
from miner.readers.kitti_object import read_calibration
from tests.kitti import LABELS, OBJECT_CALIB, write
from tests.kitti_oracle import corners_rect0, our_corners

PLACE = {"scene_id": "s", "sample_id": "f", "timestamp_ns": 7, "sample_data_id": "i"}


def rows_of(folder: Path, text: str, place: dict[str, Any] = PLACE, calib: str = OBJECT_CALIB) -> list[dict[str, Any]]:
    labels = read_labels(write(folder / "label.txt", text), folder)
    return label_rows(labels, place, read_calibration(write(folder / "calib.txt", calib), folder))


def test_a_car_ahead(tmp_path: Path) -> None:
    car, area = rows_of(tmp_path, LABELS)
    # 10 m ahead and 2 m right of the LiDAR, which is 1 m before and 0.5 m above the IMU, the ego frame; its middle is
    # half its height above the wheels. It looks along the ego's own x.
    np.testing.assert_allclose(car["ego_SE3_object"]["translation"], [11, -2, -1.5 + 0.75 + 0.5], atol=1e-12)
    np.testing.assert_allclose(car["ego_SE3_object"]["rotation_wxyz"], [1, 0, 0, 0], atol=1e-12)
    assert car["size_lwh"] == [4.0, 1.6, 1.5] and car["bbox_xyxy"] == [600, 170, 800, 290]
    assert json.loads(car["attributes"]) == {"truncation": 0.25, "occlusion": 1, "alpha": -1.4}
    assert (car["category"], car["sample_data_id"], car["timestamp_ns"]) == ("Car", "i", 7)
    assert (car["source"], car["version"]) == ("kitti", "label_2")
    assert area["category"] == "DontCare" and area["bbox_xyxy"] == [503.89, 169.71, 590.61, 190.13]
    assert area["size_lwh"] is None and area["ego_SE3_object"] is None and area["attributes"] == "{}"
    assert area["annotation_id"] != car["annotation_id"]


@pytest.mark.parametrize(("yaw", "heading"), [(0.0, -90), (-np.pi / 2, 0), (np.pi / 2, 180), (np.pi, 90)])
def test_yaw(tmp_path: Path, yaw: float, heading: float) -> None:
    (car,) = rows_of(tmp_path, f"Car 0 0 0 0 0 1 1 1.5 1.6 4 0 0 10 {yaw}")
    found = SE3.from_wxyz(*car["ego_SE3_object"].values()).rotation
    np.testing.assert_allclose(found, turn("z", np.radians(heading)), atol=1e-12)


@settings(max_examples=40)
@given(numbers=st.tuples(*[st.floats(0, 9)] * 3, *[st.floats(-90, 90)] * 3, st.floats(-3.2, 3.2)))
def test_boxes_are_those_of_the_devkit(numbers: tuple[float, ...]) -> None:
    line = f"Van 0 0 0 0 0 1 1 {' '.join(map(repr, numbers))}"
    with tempfile.TemporaryDirectory() as folder:
        (box,) = rows_of(Path(folder), line)
    x, y, z = corners_rect0(line.split()).T  # right, down, forward of the LiDAR; the IMU is behind and below
    np.testing.assert_allclose(our_corners(box), np.stack([z + 1, -x, -y + 0.5], axis=1), atol=1e-9)


def test_a_score_and_a_label_without_a_box_in_space(tmp_path: Path) -> None:
    text = "Car -1 -1 -10 1 2 3 4 1 1 1 0 0 9 0 0.75\nCar 0.5 2 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10 0.5\n"
    whole, flat = rows_of(tmp_path, text)
    assert json.loads(whole["attributes"]) == {"alpha": -10.0, "occlusion": -1, "score": 0.75, "truncation": -1.0}
    assert json.loads(flat["attributes"]) == {"occlusion": 2, "score": 0.5, "truncation": 0.5}
    assert flat["ego_SE3_object"] is None and flat["bbox_xyxy"] == [1, 2, 3, 4]


def test_without_a_picture_or_calibration(tmp_path: Path) -> None:
    (car,) = rows_of(tmp_path, LABELS, PLACE | {"sample_data_id": None})
    assert car["bbox_xyxy"] is None and car["ego_SE3_object"] is not None
    car, _ = label_rows(read_labels(write(tmp_path / "a.txt", LABELS), tmp_path), PLACE, Calibration())
    assert car["ego_SE3_object"] is None and car["size_lwh"] == [4.0, 1.6, 1.5] and car["bbox_xyxy"] is not None
    assert json.loads(car["attributes"])["flags"] == ["no-calibration"]


@pytest.mark.parametrize(
    "line",
    [
        "Car 0 0 0 1 2 3 4 1 1 1 0 0",
        "Car 0 0 0 1 2 3 4 1 1 1 0 0 9 0 0.5 7",
        "Car 0 0 0 1 2 3 4 1 1 one 0 0 9 0",
        "Car 0 0 0 1 2 3 4 1 1 nan 0 0 9 0",
        "Car 0 inf 0 1 2 3 4 1 1 1 0 0 9 0",
        "Car 0 0 0 1 2 3 4 1 1 1 1e300 0 9 0",
        "Car 0 0 0 1 2 3 4 1 -1 1 0 0 9 0",
        "Car",
        "{}",
    ],
)
def test_bad_labels(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "l.txt", f"{LABELS}\n{line}\n")
    with pytest.raises(BadInput, match="bad-label") as caught:
        read_labels(path, tmp_path)
    assert str(path) in caught.value.detail and "line 4" in caught.value.detail


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("P2: 700", "P2: 7x0", "line 3"),
        ("P2: 700", "P2:", "line 3"),
        ("P2: 700", "P2: nan", "line 3"),
        ("P2: 700", "P2: -700", "line 3"),
        ("P2: 700 0", "P2: 700 0 0", "line 3"),
        ("42 0 700", "42 9 700", "line 3"),
        ("R0_rect: 1", "R0_rect: 2", "line 5"),
        ("R0_rect: 1", "R0_rect: -1", "line 5"),
        ("R0_rect: 1", "R0_rect: 1e200", "line 5"),
        ("Tr_imu_to_velo: 1 0 0 -1", "Tr_imu_to_velo: 1 0 0 inf", "line 7"),
        ("Tr_velo_to_cam: 0", "Tr_velo_to_cam: 0.1", "line 6"),
        ("Tr_velo_to_cam:", "Tr_velo_to_cam", "line 6"),
        ("Tr_velo_to_cam:", "velo_to_cam:", "'Tr_velo_to_cam'"),
        (OBJECT_CALIB, "", "'R0_rect'"),
    ],
)
def test_bad_calibration(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert old in OBJECT_CALIB
    path = write(tmp_path / "c.txt", OBJECT_CALIB.replace(old, new))
    with pytest.raises(BadInput, match="bad-calibration") as caught:
        read_calibration(path, tmp_path)
    assert str(path) in caught.value.detail and line in caught.value.detail


def test_calibration_without_the_imu(tmp_path: Path) -> None:
    text = "".join(line for line in OBJECT_CALIB.splitlines(True) if "imu" not in line)
    (car, _) = rows_of(tmp_path, LABELS, calib=text)
    np.testing.assert_allclose(car["ego_SE3_object"]["translation"], [10, -2, -0.75], atol=1e-12)


@st.composite
def damaged(draw: st.DrawFn, text: str) -> bytes:
    content = bytearray(text.encode())
    for _ in range(draw(st.integers(1, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])


@settings(max_examples=80)
@given(labels=damaged(LABELS), calib=damaged(OBJECT_CALIB))
def test_damaged_text_is_rows_or_bad_input(labels: bytes, calib: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for text, damage in ((labels, OBJECT_CALIB.encode()), (LABELS.encode(), calib)):
            write(folder / "l.txt", text), write(folder / "c.txt", damage)
            try:
                rows = label_rows(
                    read_labels(folder / "l.txt", folder), PLACE, read_calibration(folder / "c.txt", folder)
                )
            except BadInput as bad:
                assert str(folder) in bad.detail
                continue
            poses = [row["ego_SE3_object"] for row in rows if row["ego_SE3_object"]]
            assert all(np.isfinite([*pose["translation"], *pose["rotation_wxyz"]]).all() for pose in poses)


def test_files_by_frame(tmp_path: Path) -> None:
    for name in ("0010.png", "2.PNG", "2.jpg", "3.jpeg", "4.txt", "x5.png", ".6.png", "7.png.part", "\u0664.png"):
        write(tmp_path / "data" / name, "")
    (tmp_path / "data" / "8.png").mkdir()
    found = frame_files(tmp_path / "data", ("png", "jpg", "jpeg"))
    assert {frame: path.name for frame, path in found.items()} == {2: "2.PNG", 3: "3.jpeg", 10: "0010.png"}
    assert list(found) == [2, 3, 10]
    assert frame_files(tmp_path / "none", ("png",)) == frame_files(tmp_path / "data" / "4.txt", ("png",)) == {}
