"""Points in a pinhole camera: x right, y down, z forward; pixels from the top left corner of the full image.

Lens distortion is not applied: pixels are those of a rectified image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._jit import jit
from kernels.se3 import SE3

Array = NDArray[np.float64]

MIN_DEPTH_M = 0.1


class Projection(NamedTuple):
    """Points in an image: `pixels` (n, 2) as u, v; `depth_m` (n,) along the optical axis; `visible` (n,) bool.

    Pixels of points nearer than MIN_DEPTH_M or behind the camera are NaN.
    """

    pixels: Array
    depth_m: Array
    visible: NDArray[np.bool_]


def project_points(
    points: ArrayLike, camera_SE3_points: SE3, intrinsic: ArrayLike, width: int, height: int
) -> Projection:
    """Points (n, >= 3) of any frame in the camera's image of width x height pixels; `intrinsic` is 3 x 3, or 9 numbers.

    A point is visible when it is in front of the camera and its pixel lies in [0, width) x [0, height). Points with NaN
    or Inf are not. Raises ValueError for other shapes.
    """
    rows = np.ascontiguousarray(points)
    rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise ValueError(f"points must be (n, >= 3), got {rows.shape}")
    pose = np.column_stack([camera_SE3_points.rotation, camera_SE3_points.translation])
    found = Projection(np.empty((len(rows), 2)), np.empty(len(rows)), np.empty(len(rows), np.bool_))
    _project(rows, pose, np.asarray(intrinsic, np.float64).reshape(3, 3), (float(width), float(height)), found)
    return found


@jit
def _project(points: NDArray[Any], pose: Array, intrinsic: Array, size: tuple[float, float], found: Projection) -> None:
    k, m = intrinsic[0], intrinsic[1]
    for i in range(len(points)):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        right = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]
        down = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]
        depth = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3]
        u = (k[0] * right + k[1] * down + k[2] * depth) / depth
        v = (m[0] * right + m[1] * down + m[2] * depth) / depth
        in_front = depth >= MIN_DEPTH_M
        found.depth_m[i] = depth
        found.pixels[i, 0], found.pixels[i, 1] = (u, v) if in_front else (np.nan, np.nan)
        found.visible[i] = in_front and 0.0 <= u < size[0] and 0.0 <= v < size[1]
