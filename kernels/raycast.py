"""Rays against a ground plane and solids: boxes (also tapered to a wedge, gable or pyramid), ellipsoids, cylinders.

One caster for cameras and LiDAR: the rays of a sensor leave one origin and form a grid, and each solid is tried only
in its window of that grid. The box test clips the ray by planes (Kay and Kajiya 1986, slab method).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

Array = NDArray[np.float64]

BOX, ELLIPSOID, CYLINDER = 0, 1, 2
GROUND, SKY = -1, -2
ROUND = 6  # the face of a curved surface; 0 to 5 are -x, +x, -y, +y, -z, +z


class Shapes(NamedTuple):
    """m solids. A point p of the local frame is at `rotation @ p + centre`.

    centre f64 (m, 3) m, rotation f64 (m, 3, 3), half f64 (m, 3) m half extents, taper f64 (m, 2): the share of x and
    y extents missing at the top of a box (0 box, 1 ridge or tip), kind i8 (m,): BOX, ELLIPSOID or CYLINDER (axis z).
    """

    centre: Array
    rotation: Array
    half: Array
    taper: Array
    kind: NDArray[np.int8]


class Hits(NamedTuple):
    """The nearest hit of each ray, arrays (rows, cols).

    distance f64 m along the unit direction, inf for the sky; solid i32 its row, GROUND or SKY; face i8 of it.
    """

    distance: Array
    solid: NDArray[np.int32]
    face: NDArray[np.int8]


@jit
def _hit_box(
    start: tuple[float, float, float], step: tuple[float, float, float], taper: tuple[float, float]
) -> tuple[float, int]:
    near, far, face = -math.inf, math.inf, -1
    for side in range(6):
        axis, sign = side // 2, -1.0 + 2.0 * (side % 2)
        lean = 0.5 * taper[axis] if axis < 2 else 0.0
        room = 1.0 - lean - sign * start[axis] - lean * start[2]
        speed = sign * step[axis] + lean * step[2]
        if speed > 0.0:
            far = min(far, room / speed)
        elif speed < 0.0:
            if room / speed > near:
                near, face = room / speed, side
        elif room < 0.0:
            return math.inf, -1
    return (near, face) if 0.0 < near <= far else (math.inf, -1)


@jit
def _hit_ellipsoid(start: tuple[float, float, float], step: tuple[float, float, float]) -> tuple[float, int]:
    a = step[0] ** 2 + step[1] ** 2 + step[2] ** 2
    b = start[0] * step[0] + start[1] * step[1] + start[2] * step[2]
    c = start[0] ** 2 + start[1] ** 2 + start[2] ** 2 - 1.0
    root = b * b - a * c
    if root < 0.0:
        return math.inf, -1
    near = (-b - math.sqrt(root)) / a
    return (near, ROUND) if near > 0.0 else (math.inf, -1)


@jit
def _hit_cylinder(start: tuple[float, float, float], step: tuple[float, float, float]) -> tuple[float, int]:
    near, far, face = -math.inf, math.inf, -1
    if step[2] != 0.0:
        sign = 1.0 if step[2] < 0.0 else -1.0
        near, far, face = (sign - start[2]) / step[2], (-sign - start[2]) / step[2], 5 if sign > 0.0 else 4
    elif abs(start[2]) > 1.0:
        return math.inf, -1
    a = step[0] ** 2 + step[1] ** 2
    b = start[0] * step[0] + start[1] * step[1]
    c = start[0] ** 2 + start[1] ** 2 - 1.0
    root = b * b - a * c
    if root < 0.0 or (a == 0.0 and c > 0.0):
        return math.inf, -1
    if a > 0.0:
        far = min(far, (-b + math.sqrt(root)) / a)
        if (-b - math.sqrt(root)) / a > near:
            near, face = (-b - math.sqrt(root)) / a, ROUND
    return (near, face) if 0.0 < near <= far else (math.inf, -1)


@jit
def _unit(rotation: Array, half: Array, v: Array) -> tuple[float, float, float]:
    """`v` in the frame where the solid fills [-1, 1] on each axis."""
    return (
        (rotation[0, 0] * v[0] + rotation[1, 0] * v[1] + rotation[2, 0] * v[2]) / half[0],
        (rotation[0, 1] * v[0] + rotation[1, 1] * v[1] + rotation[2, 1] * v[2]) / half[1],
        (rotation[0, 2] * v[0] + rotation[1, 2] * v[1] + rotation[2, 2] * v[2]) / half[2],
    )


@jit
def raycast(origin: Array, directions: Array, shapes: Shapes, windows: NDArray[np.int32]) -> Hits:
    """The nearest hit of each ray on the plane z = 0 (from above) or on a solid (from outside).

    origin f64 (3,), directions f64 (rows, cols, 3) unit, all in the frame of `shapes`; windows i32 (m, 4)
    holds row0, row1, col0, col1 (half-open) of the rays that can meet each solid. Columns count modulo cols, so a
    window of a full turn may wrap. A solid around the origin is not seen.
    """
    rows, cols = directions.shape[:2]
    distance = np.full((rows, cols), np.inf)
    solid = np.full((rows, cols), SKY, np.int32)
    face = np.full((rows, cols), -1, np.int8)
    for row in range(rows):
        for col in range(cols):
            if directions[row, col, 2] < 0.0 < origin[2]:
                distance[row, col] = -origin[2] / directions[row, col, 2]
                solid[row, col] = GROUND
    for i in range(len(shapes.kind)):
        rotation, half, kind = shapes.rotation[i], shapes.half[i], shapes.kind[i]
        taper = (shapes.taper[i, 0], shapes.taper[i, 1])
        start = _unit(rotation, half, origin - shapes.centre[i])
        for row in range(windows[i, 0], windows[i, 1]):
            for column in range(windows[i, 2], windows[i, 3]):
                col = column % cols
                step = _unit(rotation, half, directions[row, col])
                if kind == BOX:
                    near, side = _hit_box(start, step, taper)
                elif kind == ELLIPSOID:
                    near, side = _hit_ellipsoid(start, step)
                else:
                    near, side = _hit_cylinder(start, step)
                if near < distance[row, col]:
                    distance[row, col], solid[row, col], face[row, col] = near, i, side
    return Hits(distance, solid, face)


_CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_EDGES = np.array([[i, i ^ bit] for bit in (1, 2, 4) for i in range(8) if not i & bit])
_NEAR_M = 0.05


def corners(shapes: Shapes) -> Array:
    """The corners of the boxes around the solids, f64 (m, 8, 3), in the frame of `shapes`."""
    local = _CORNERS[None] * shapes.half[:, None]
    turned: Array = (shapes.rotation[:, None] @ local[..., None])[..., 0]
    return turned + shapes.centre[:, None]


def image_windows(points: Array, intrinsic: Array, size_hw: tuple[int, int]) -> NDArray[np.int32]:
    """Windows of pixels that boxes can cover, i32 (m, 4); empty where a box is outside the image.

    points f64 (m, 8, 3) from `corners`, in the camera frame (z forward, x right, y down); intrinsic f64 (3, 3). Edges
    are clipped at a near plane, so that a box beside the camera gets a window no larger than it needs.
    """
    first, second = points[:, _EDGES[:, 0]], points[:, _EDGES[:, 1]]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (_NEAR_M - first[..., 2:]) / (second[..., 2:] - first[..., 2:])
        crossing = np.where((share > 0) & (share < 1), first + share * (second - first), np.nan)
        known = np.concatenate([np.where(points[..., 2:] >= _NEAR_M, points, np.nan), crossing], axis=1)
        u = intrinsic[0, 0] * known[..., 0] / known[..., 2] + intrinsic[0, 2]
        v = intrinsic[1, 1] * known[..., 1] / known[..., 2] + intrinsic[1, 2]
    height, width = size_hw
    seen = np.isfinite(u)
    low, high = np.where(seen, 1.0, np.inf), np.where(seen, 1.0, -np.inf)
    bounds = [
        np.where(seen, v, low).min(1).clip(0, height),
        (np.where(seen, v, high).max(1) + 1).clip(0, height),
        np.where(seen, u, low).min(1).clip(0, width),
        (np.where(seen, u, high).max(1) + 1).clip(0, width),
    ]
    return np.stack([np.floor(bound) for bound in bounds], axis=1).astype(np.int32)


def turn_windows(points: Array, rows: int, cols: int) -> NDArray[np.int32]:
    """Windows of a full turn of `cols` columns that boxes can cover, i32 (m, 4), all rows.

    points f64 (m, 8, 3) from `corners`, in the frame of the spinning sensor; column c looks along azimuth
    2 pi c / cols.
    """
    middle = points.mean(1)
    azimuth_rad = np.arctan2(middle[:, 1], middle[:, 0])
    around = np.arctan2(points[..., 1], points[..., 0]) - azimuth_rad[:, None]
    around = (around + np.pi) % (2 * np.pi) - np.pi
    low, high = around.min(1), around.max(1)
    whole = high - low >= np.pi
    step_rad = 2 * np.pi / cols
    first = np.floor((azimuth_rad + low) / step_rad) + cols
    last = np.ceil((azimuth_rad + high) / step_rad) + cols + 1
    first, last = np.where(whole, 0, first), np.where(whole, cols, np.minimum(last, first + cols))
    zeros = np.zeros(len(points))
    return np.stack([zeros, zeros + rows, first, last], axis=1).astype(np.int32)
