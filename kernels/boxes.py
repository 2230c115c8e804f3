"""Oriented boxes and the points in them.

A box is a pose `dst_SE3_object` and `size_lwh`: its centre is the origin of the object frame, length along x (forward),
width along y (left), height along z (up).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._jit import jit
from kernels.se3 import SE3

Array = NDArray[np.float64]

_CORNERS = np.array([[x, y, z] for x in (1, -1) for y in (1, -1) for z in (1, -1)], np.float64) / 2
_LARGEST_M = 1e15
_BINS = 512
_AT_ONCE = 64  # boxes in one word
# The lowest bit of a word by its number: the six top bits of a de Bruijn product are unlike for all 64 of them.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT = np.argsort((np.uint64(1) << np.arange(64, dtype=np.uint64)) * _DE_BRUIJN >> np.uint64(58)).astype(np.int64)


class BoxPoints(NamedTuple):
    """`counts` int64 (b,): points in each of b boxes; `box` int32 (n,): the first box that holds a point, or -1."""

    counts: NDArray[np.int64]
    box: NDArray[np.int32]


class _Boxes(NamedTuple):
    """b boxes: a point p of frame dst is at `rotation @ p + shift` (b, 3, 3), (b, 3) from the centre; half (b, 3).

    low and high (b, 2): bounds of x and y of what may be inside, with room for rounding.
    """

    rotation: Array
    shift: Array
    half: Array
    low: Array
    high: Array


def box_corners(dst_SE3_object: SE3, size_lwh: ArrayLike) -> Array:
    """The corners (8, 3) of a box in frame dst: front before back, then left before right, then top before bottom."""
    return dst_SE3_object.transform(_CORNERS * np.asarray(size_lwh, np.float64))


def points_in_box(points: ArrayLike, dst_SE3_object: SE3, size_lwh: ArrayLike) -> NDArray[np.bool_]:
    """Which points (n, >= 3) of frame dst are inside the box or on its faces: bool (n,)."""
    inside: NDArray[np.bool_] = assign_points(points, [dst_SE3_object], np.asarray(size_lwh)).box == 0
    return inside


def points_in_boxes(points: ArrayLike, dst_SE3_objects: Sequence[SE3], sizes_lwh: ArrayLike) -> NDArray[np.int64]:
    """How many of the points (n, >= 3) of frame dst each of b boxes holds: int64 (b,); sizes are (b, 3)."""
    return assign_points(points, dst_SE3_objects, sizes_lwh).counts


def assign_points(points: ArrayLike, dst_SE3_objects: Sequence[SE3], sizes_lwh: ArrayLike) -> BoxPoints:
    """Points (n, >= 3) of frame dst to b boxes with sizes (b, 3): inside or on the faces, by float64 arithmetic.

    A point in several boxes counts for each. NaN and Inf are in no box; a box of a negative or NaN size, or one above
    1e15 m, holds nothing. Takes O(n + points near boxes); memory is O(n + b). Raises ValueError for other shapes and
    for poses that are not finite.
    """
    rows = np.ascontiguousarray(points)
    rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise ValueError(f"points must be (n, >= 3), got {rows.shape}")
    boxes = _prepare(dst_SE3_objects, np.asarray(sizes_lwh, np.float64).reshape(len(dst_SE3_objects), 3))
    found = BoxPoints(np.zeros(len(dst_SE3_objects), np.int64), np.full(len(rows), -1, np.int32))
    for first in range(0, len(dst_SE3_objects), _AT_ONCE):
        _assign(rows, _Boxes(*(part[first : first + _AT_ONCE] for part in boxes)), first, found)
    return found


def _prepare(poses: Sequence[SE3], sizes: Array) -> _Boxes:
    rotation = np.array([pose.rotation for pose in poses]).reshape(-1, 3, 3)
    centre = np.array([pose.translation for pose in poses]).reshape(-1, 3)
    if not (np.isfinite(rotation).all() and (np.abs(centre) <= _LARGEST_M).all()):
        raise ValueError("a pose is not finite or too far away")
    half = np.where((sizes >= 0) & (sizes <= _LARGEST_M), sizes / 2, -1.0)
    reach = np.einsum("bij,bj->bi", np.abs(rotation), np.maximum(half, 0))
    reach += 1e-9 * (np.abs(centre).max(axis=1, initial=0) + reach.max(axis=1, initial=0))[:, None]
    shift = -np.einsum("bji,bj->bi", rotation, centre)
    low, high = (np.ascontiguousarray((centre + sign * reach)[:, :2]) for sign in (-1, 1))
    return _Boxes(np.ascontiguousarray(rotation.transpose(0, 2, 1)), shift, half, low, high)


@jit
def _bins(low: Array, high: Array) -> tuple[float, float, NDArray[np.uint64]]:
    """Equal bins over the boxes' bounds on one axis: start, bins per metre, and which boxes (bits) reach into each."""
    start = low.min()
    span = high.max() - start
    per_m = (_BINS - 1) / span if span > 0.0 else 0.0
    reached = np.zeros(_BINS, np.uint64)
    for box in range(len(low)):
        for place in range(int((low[box] - start) * per_m), int((high[box] - start) * per_m) + 1):
            reached[place] |= np.uint64(1) << np.uint64(box)
    return start, per_m, reached


@jit
def _holds(boxes: _Boxes, box: int, x: float, y: float, z: float) -> bool:
    inside = True
    for axis in range(3):
        r = boxes.rotation[box, axis]
        inside &= abs(r[0] * x + r[1] * y + r[2] * z + boxes.shift[box, axis]) <= boxes.half[box, axis]
    return inside


@jit
def _assign(points: NDArray[Any], boxes: _Boxes, first: int, found: BoxPoints) -> None:
    """Up to 64 boxes: two look-ups tell which of them a point may be in, mostly none."""
    x_start, x_per_m, in_x = _bins(boxes.low[:, 0], boxes.high[:, 0])
    y_start, y_per_m, in_y = _bins(boxes.low[:, 1], boxes.high[:, 1])
    x_end, y_end = boxes.high[:, 0].max(), boxes.high[:, 1].max()
    for i in range(len(points)):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        if not (x_start <= x <= x_end and y_start <= y <= y_end):
            continue
        near = in_x[np.uint64((x - x_start) * x_per_m)] & in_y[np.uint64((y - y_start) * y_per_m)]
        while near:
            box = _BIT[((near & (~near + np.uint64(1))) * _DE_BRUIJN) >> np.uint64(58)]
            near &= near - np.uint64(1)
            if _holds(boxes, box, x, y, z):
                found.counts[first + box] += 1
                if found.box[i] < 0:
                    found.box[i] = first + box
