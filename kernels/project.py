"""Points and boxes in a pinhole camera: x right, y down, z forward; pixels from the top left corner of the full image.

A box is a pose `dst_SE3_object` and `size_lwh`: its centre is the origin of the object frame, length along x (forward),
width along y (left), height along z (up). Lens distortion is not applied: pixels are those of a rectified image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.se3 import SE3

Array = NDArray[np.float64]

_CORNERS = np.array([[x, y, z] for x in (1, -1) for y in (1, -1) for z in (1, -1)], np.float64) / 2
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
    """Points (n, 3) of any frame in the camera's image of width x height pixels; `intrinsic` is 3 x 3, or 9 numbers.

    A point is visible when it is in front of the camera and its pixel lies in [0, width) x [0, height).
    """
    in_camera = camera_SE3_points.transform(np.asarray(points, np.float64).reshape(-1, 3))
    depth = in_camera[:, 2]
    front = depth >= MIN_DEPTH_M
    pixels = np.full((len(in_camera), 2), np.nan)
    pixels[front] = (in_camera[front] @ np.asarray(intrinsic, np.float64).reshape(3, 3)[:2].T) / depth[front, None]
    with np.errstate(invalid="ignore"):
        visible = front & (pixels >= 0).all(axis=1) & (pixels < (width, height)).all(axis=1)
    return Projection(pixels, depth, visible)


def box_corners(dst_SE3_object: SE3, size_lwh: ArrayLike) -> Array:
    """The corners (8, 3) of a box in frame dst: front before back, then left before right, then top before bottom."""
    return dst_SE3_object.transform(_CORNERS * np.asarray(size_lwh, np.float64))


def points_in_box(points: ArrayLike, dst_SE3_object: SE3, size_lwh: ArrayLike) -> NDArray[np.bool_]:
    """Which points (n, 3) of frame dst are inside the box or on its faces: bool (n,)."""
    in_object = dst_SE3_object.inverse().transform(np.asarray(points, np.float64).reshape(-1, 3))
    within: NDArray[np.bool_] = np.all(np.abs(in_object) <= np.asarray(size_lwh, np.float64) / 2, axis=1)
    return within


def points_in_boxes(points: ArrayLike, dst_SE3_objects: list[SE3], sizes_lwh: ArrayLike) -> NDArray[np.int64]:
    """How many of the points (n, 3) of frame dst each of b boxes holds: int64 (b,); sizes are (b, 3)."""
    xyz = np.asarray(points, np.float64).reshape(-1, 3)
    sizes = np.asarray(sizes_lwh, np.float64).reshape(len(dst_SE3_objects), 3)
    counts = [points_in_box(xyz, pose, size).sum() for pose, size in zip(dst_SE3_objects, sizes, strict=True)]
    return np.array(counts, np.int64)
