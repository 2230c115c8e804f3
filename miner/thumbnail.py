"""Small pictures of readings: a frame as it is, a sweep from above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.birdseye import DENSITY, HEIGHT, birds_eye_view
from miner.decode import Recordings
from miner.decode.sweep import Sweep
from miner.errors import BadInput
from miner.moment import pose_of

Pixels = NDArray[np.uint8]

WIDTH_PX = 360
BIRDS_EYE_M = 45.0
_DOT_PX = 2  # single pixels would hardly be seen
_CELL_M = 2 * BIRDS_EYE_M * _DOT_PX / WIDTH_PX
_LOWEST_M, _SHOWN_HEIGHT_M = -10.0, 4.0
# Five colours of matplotlib's viridis, dark to light: equal steps of height look like equal steps.
_COLOURS = np.array([[72, 40, 120], [49, 104, 142], [31, 158, 137], [109, 205, 89], [253, 231, 37]], np.float32)


def thumbnail(recordings: Recordings, reading: Mapping[str, Any]) -> Pixels:
    """A reading (a row of `sample_data`) as uint8 RGB, about WIDTH_PX wide. Raises BadInput."""
    read = recordings.read(reading)
    return from_above(_placed(read, reading)) if isinstance(read, Sweep) else _shrunk(read.decode(WIDTH_PX))


def ego_points(recordings: Recordings, reading: Mapping[str, Any]) -> NDArray[np.float32]:
    """The points (n, >= 3) of a sweep in its ego frame, or the sensor's if it is not calibrated. Raises BadInput."""
    read = recordings.read(reading)
    if not isinstance(read, Sweep):
        raise BadInput("wrong-modality", f"{reading['uri']}: not a LiDAR sweep")
    return _placed(read, reading)


def _placed(sweep: Sweep, reading: Mapping[str, Any]) -> NDArray[np.float32]:
    mount = pose_of(reading["ego_SE3_sensor"])
    if mount is None:
        return sweep.points
    placed = sweep.points.copy()
    placed[:, :3] = mount.transform(sweep.points[:, :3])
    return placed


def from_above(points: NDArray[np.float32]) -> Pixels:
    """Points (n, >= 3) within BIRDS_EYE_M, x up and y to the left, coloured by height: (WIDTH_PX, WIDTH_PX, 3)."""
    span = (-BIRDS_EYE_M, BIRDS_EYE_M)
    xyz = np.ascontiguousarray(points[:, :3])
    raster = birds_eye_view(xyz, span, span, _CELL_M, (_LOWEST_M, _LOWEST_M + 40.0))
    seen = raster[DENSITY] > 0
    ground = np.percentile(raster[HEIGHT][seen], 10) if seen.any() else 0.0
    share = ((raster[HEIGHT] - ground) / _SHOWN_HEIGHT_M).clip(0, 1) * (len(_COLOURS) - 1)
    left = np.minimum(share.astype(int), len(_COLOURS) - 2)
    colour = _COLOURS[left] + (share - left)[..., None] * (_COLOURS[left + 1] - _COLOURS[left])
    light = np.where(seen, 0.45 + 0.55 * raster[DENSITY].clip(0, 1), 0.0)[..., None]
    pixels: Pixels = (colour * light).astype(np.uint8).repeat(_DOT_PX, 0).repeat(_DOT_PX, 1)
    return pixels


def _shrunk(pixels: Pixels) -> Pixels:
    step = max(1, min(round(pixels.shape[1] / WIDTH_PX), pixels.shape[0]))
    height, width = (side // step * step for side in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // step, step, width // step, step, 3)
    small: Pixels = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
    return small
