"""What KITTI's devkits do with labels and calibration, in plain NumPy, to hold our tables against.

Object devkit, computeBox3D.m and projectToImage.m: corners of a box in rectified camera 0, pixels by P2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

# Corners as front or back, left or right, top or bottom.
SIGNS = np.array([[a, b, c] for a in (1, -1) for b in (1, -1) for c in (1, -1)], np.float64)


def calibration(*files: Path) -> dict[str, Array]:
    """All numbers of some files by key; of several, the key has the file's stem before it."""
    found = {}
    for file in files:
        for line in file.read_text().splitlines():
            key, _, text = line.partition(":")
            if text and key != "calib_time":
                found[key if len(files) == 1 else f"{file.stem}/{key}"] = np.array(text.split(), np.float64)
    return found


def labels(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines() if line.strip()]


def corners_rect0(label: list[str]) -> Array:
    """The corners (8, 3) of a label in rectified camera 0, in the order of SIGNS."""
    height, width, length, x, y, z, yaw = map(float, label[8:15])
    forward, to_left, up = SIGNS.T
    xs, ys, zs = length / 2 * forward, np.where(up > 0, -height, 0.0), width / 2 * to_left
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return np.asarray((turn @ np.stack([xs, ys, zs])).T + np.array([x, y, z]))


def pixels(points_rect0: Array, projection: Array) -> tuple[Array, Array]:
    """Pixels (n, 2) and depth (n,) of points (n, 3), by a projection (3, 4)."""
    homogeneous = np.column_stack([points_rect0, np.ones(len(points_rect0))]) @ projection.reshape(3, 4).T
    return homogeneous[:, :2] / homogeneous[:, 2:], homogeneous[:, 2]


def matrix(pose: dict[str, Any]) -> Array:
    """A stored pose as a matrix (4, 4)."""
    found = np.eye(4)
    found[:3, :3] = Rotation.from_quat(pose["rotation_wxyz"], scalar_first=True).as_matrix()
    found[:3, 3] = pose["translation"]
    return found


def moved(dst_M_src: Array, points: Array) -> Array:
    return np.asarray(points @ dst_M_src[:3, :3].T + dst_M_src[:3, 3])


def our_corners(box: dict[str, Any]) -> Array:
    """The corners (8, 3) of a row of `annotations` in the ego frame, in the order of SIGNS."""
    return moved(matrix(box["ego_SE3_object"]), SIGNS / 2 * box["size_lwh"])


def our_pixels(points_ego: Array, camera: dict[str, Any]) -> tuple[Array, Array]:
    """Pixels (n, 2) and depth (n,) in the picture of a row of `sample_data`."""
    in_camera = moved(np.linalg.inv(matrix(camera["ego_SE3_sensor"])), points_ego)
    on_plane = in_camera @ np.reshape(camera["intrinsic"], (3, 3)).T
    return on_plane[:, :2] / on_plane[:, 2:], in_camera[:, 2]


def points_inside(points_ego: Array, box: dict[str, Any]) -> int:
    local = moved(np.linalg.inv(matrix(box["ego_SE3_object"])), points_ego)
    return int((np.abs(local) <= np.array(box["size_lwh"]) / 2).all(axis=1).sum())
