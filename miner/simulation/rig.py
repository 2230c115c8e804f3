"""The recording vehicle: where its sensors sit, what they see, and when they fire.

Ego frame: origin on the ground below the rear axle, x forward, y left, z up. Cameras follow OpenCV (z forward, x right,
y down), their pixel (row, col) covers [col, col + 1) x [row, row + 1). The LiDAR has x right, y forward, z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LIDAR = "LIDAR_TOP"
KEY_FRAME_HZ = 2.0
_EGO_R_FORWARD_CAMERA = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class Mount:
    """A sensor: its place in the ego frame (m), heading, horizontal field of view, delay after the beat of its rate."""

    translation: tuple[float, float, float]
    yaw_deg: float
    view_deg: float
    delay_ms: int


CAMERAS: dict[str, Mount] = {
    "CAM_FRONT": Mount((1.70, 0.0, 1.51), 0.0, 70.0, 12),
    "CAM_FRONT_LEFT": Mount((1.57, 0.50, 1.51), 55.0, 70.0, 4),
    "CAM_FRONT_RIGHT": Mount((1.57, -0.50, 1.51), -55.0, 70.0, 20),
    "CAM_BACK": Mount((0.0, 0.0, 1.57), 180.0, 110.0, 37),
    "CAM_BACK_LEFT": Mount((1.03, 0.48, 1.56), 110.0, 70.0, 47),
    "CAM_BACK_RIGHT": Mount((1.03, -0.48, 1.56), -110.0, 70.0, 28),
}
LIDAR_MOUNT = Mount((0.94, 0.0, 1.84), -90.0, 360.0, 0)


def turn_z(yaw_rad: float | Array) -> Array:
    """Rotation matrices (..., 3, 3) about z."""
    yaw_rad = np.asarray(yaw_rad, np.float64)
    c, s, o = np.cos(yaw_rad), np.sin(yaw_rad), np.zeros_like(yaw_rad)
    rows = [[c, -s, o], [s, c, o], [o, o, o + 1]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def ego_SE3_sensor(channel: str) -> tuple[Array, Array]:
    """Rotation (3, 3) and translation (3,) in metres of a sensor in the ego frame."""
    mount = LIDAR_MOUNT if channel == LIDAR else CAMERAS[channel]
    turn = turn_z(np.radians(mount.yaw_deg))
    return (turn if channel == LIDAR else turn @ _EGO_R_FORWARD_CAMERA), np.array(mount.translation)


def intrinsic(channel: str, width: int, height: int) -> Array:
    """The camera matrix (3, 3) in pixels: square pixels, the principal point in the middle, no distortion."""
    focal = 0.5 * width / np.tan(np.radians(CAMERAS[channel].view_deg) / 2)
    return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def lidar_elevations_rad(beams: int) -> Array:
    """Elevations of the beams (beams,), ring 0 lowest, evenly from -30.67 to 10.67 degrees as in a Velodyne HDL-32E."""
    return np.radians(np.linspace(-30.67, 10.67, beams)) if beams > 1 else np.zeros(1)
