"""Motion compensation: a spinning LiDAR measures each point at its own time, from where the car was then."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit
from kernels.blocks import checked_points
from kernels.se3 import SE3, PoseTrack, wxyz_to_matrix, wxyz_to_vector

Array = NDArray[np.float64]


def deskew(
    points: NDArray[np.float32],
    point_times_ns: NDArray[np.int64],
    global_SE3_ego: PoseTrack,
    ego_SE3_sensor: SE3,
    at_ns: int,
) -> NDArray[np.float32]:
    """Points float32 (n, >= 3), each of the sensor frame at its own time, in the sensor frame at `at_ns`.

    Ego poses between those known: translations by lerp, rotations by slerp (constant speed). Further columns are
    copied; the order of points is kept; NaN and Inf make NaN or Inf. Times int64 (n,) are absolute, in the clock of the
    poses (`azimuth_times_ns` where a format has none). Raises ValueError for other shapes and for times outside of the
    track: a pose is not guessed.
    """
    points = checked_points(points)
    times = np.asarray(point_times_ns, np.int64)
    if times.shape != (len(points),):
        raise ValueError(f"expected {len(points)} times, got {times.shape}")
    known = global_SE3_ego.times_ns
    [translation], [wxyz] = global_SE3_ego.at([at_ns])
    if len(times):
        global_SE3_ego.at([times.min(), times.max()])
    # In the frame of the result from here on: the large global coordinates cancel before anything is interpolated.
    turn = wxyz_to_matrix(wxyz)
    rotations = turn.T @ wxyz_to_matrix(global_SE3_ego.rotations_wxyz)
    translations = (np.asarray(global_SE3_ego.translations, np.float64) - translation) @ turn
    sensor_SE3_ego = ego_SE3_sensor.inverse()
    moved = points.copy()
    _move(
        moved,
        times,
        np.asarray(known, np.int64),
        (translations @ sensor_SE3_ego.rotation.T + sensor_SE3_ego.translation, sensor_SE3_ego.rotation @ rotations),
        (_turns(global_SE3_ego.rotations_wxyz), ego_SE3_sensor.rotation, ego_SE3_sensor.translation),
    )
    return moved


def azimuth_times_ns(
    points: NDArray[np.float32],
    start_ns: int,
    end_ns: int,
    first_azimuth_rad: float = math.pi,
    clockwise: bool = True,
) -> NDArray[np.int64]:
    """Times int64 (n,) of points (n, >= 2) of one turn at constant speed, from their azimuth alone.

    The turn starts at `start_ns` at `first_azimuth_rad` and ends at `end_ns`; `clockwise` is seen from above. The
    defaults are those of KITTI's Velodyne, which starts behind the car and passes its left side first. Where a format
    gives times by point, take those: the seam cannot be told from azimuth, a point of its far side gets the other end.
    A point that is not finite gets `start_ns`.
    """
    azimuth = np.arctan2(points[:, 1].astype(np.float64), points[:, 0].astype(np.float64))
    turned = (first_azimuth_rad - azimuth) if clockwise else (azimuth - first_azimuth_rad)
    share = np.nan_to_num(np.mod(turned, 2 * math.pi) / (2 * math.pi))
    return start_ns + np.rint(share * (end_ns - start_ns)).astype(np.int64)


def _turns(rotations_wxyz: Array) -> Array:
    """From each pose to the next, in the frame of the first: unit axis and angle in rad, (n - 1, 4)."""
    q = np.asarray(rotations_wxyz, np.float64)
    conjugate, after = q[:-1] * [1, -1, -1, -1], q[1:]
    w = np.sum(q[:-1] * after, axis=-1, keepdims=True)
    v = conjugate[:, :1] * after[:, 1:] + after[:, :1] * conjugate[:, 1:] + np.cross(conjugate[:, 1:], after[:, 1:])
    vectors = wxyz_to_vector(np.concatenate([w, v], axis=-1))
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.concatenate([vectors / np.where(angle > 0, angle, 1.0), angle], axis=-1)


@jit
def _turned(x: float, y: float, z: float, axis: Array, angle: float) -> tuple[float, float, float]:
    """Rodrigues' formula."""
    sine, rest = math.sin(angle), 1.0 - math.cos(angle)
    cx, cy, cz = axis[1] * z - axis[2] * y, axis[2] * x - axis[0] * z, axis[0] * y - axis[1] * x
    return (
        x + sine * cx + rest * (axis[1] * cz - axis[2] * cy),
        y + sine * cy + rest * (axis[2] * cx - axis[0] * cz),
        z + sine * cz + rest * (axis[0] * cy - axis[1] * cx),
    )


@jit
def _move(
    points: NDArray[np.float32],
    times: NDArray[np.int64],
    known: NDArray[np.int64],
    out_SE3_ego: tuple[Array, Array],
    within: tuple[Array, Array, Array],
) -> None:
    """In place. `within`: turns from pose to pose, and rotation and translation of ego_SE3_sensor."""
    translations, rotations = out_SE3_ego
    turns, r, t = within
    left = 0
    for i in range(len(points)):
        if not (left + 1 < len(known) and known[left] <= times[i] <= known[left + 1]):
            left = max(min(np.searchsorted(known, times[i]), len(known) - 1) - 1, 0)
        right = min(left + 1, len(known) - 1)
        share = (times[i] - known[left]) / max(known[right] - known[left], 1)
        u, v, w = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        x = r[0, 0] * u + r[0, 1] * v + r[0, 2] * w + t[0]
        y = r[1, 0] * u + r[1, 1] * v + r[1, 2] * w + t[1]
        z = r[2, 0] * u + r[2, 1] * v + r[2, 2] * w + t[2]
        if right > left:
            x, y, z = _turned(x, y, z, turns[left], share * turns[left, 3])
        a, low, high = rotations[left], translations[left], translations[right]
        for axis in range(3):
            shift = low[axis] + share * (high[axis] - low[axis])
            points[i, axis] = a[axis, 0] * x + a[axis, 1] * y + a[axis, 2] * z + shift
