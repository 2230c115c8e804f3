"""Range image of a sweep: the spherical projection of RangeNet++ (Milioto et al. 2019, IROS, equation 1).

Cells are those of float64 arithmetic: angles are first found in float32 by a polynomial, which vectorises, and once
more in float64 for the few points that lie so near an edge of their cell that float32 cannot tell the side.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit
from kernels.blocks import BLOCK, checked_points, to_columns

NEAREST_M = 1e-3
HDL64_ELEVATION_RAD = (math.radians(-25.0), math.radians(3.0))

_OUTSIDE, _UNSURE = np.int32(-1), np.int32(-2)
_MARGIN = np.float32(1e-6)  # of an angle in radians and of a count of cells; float32 is off by less than half of it
_F0, _F1 = np.float32(0), np.float32(1)
_PI, _HALF_PI, _QUARTER_PI = np.float32(math.pi), np.float32(math.pi / 2), np.float32(math.pi / 4)
_TAN_EIGHTH_PI = np.float32(math.tan(math.pi / 8))
_ATAN = np.array([8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1], np.float32)
_NEAREST_M, _FARTHEST_M = np.float32(NEAREST_M), np.float32(1e18)
_NOTHING = np.int64(2**63 - 1)

_Column = NDArray[np.float32]


class RangeImage(NamedTuple):
    """Arrays (rows, columns) of the nearest point of each cell.

    depth_m float32, its distance, 0 where there is none; intensity float32, its column 3 (0 where that is not finite or
    not there); point int32, its row in the sweep, -1 where there is none.
    """

    depth_m: NDArray[np.float32]
    intensity: NDArray[np.float32]
    point: NDArray[np.int32]


def range_image(
    points: NDArray[np.float32],
    rows: int = 64,
    columns: int = 2048,
    elevation_rad: tuple[float, float] = HDL64_ELEVATION_RAD,
    ring: NDArray[np.integer] | None = None,
) -> RangeImage:
    """Points float32 (n, >= 3) of a sensor frame (x forward, y left, z up) as image of rows x columns.

    Columns are equal steps of azimuth from +pi (behind, by the left, ahead in the middle) to -pi. Rows are equal steps
    of elevation from the high end of `elevation_rad`, which is in, to the low end, which is out; or with `ring` (n,)
    the ring numbers as given. The nearest point wins, the first of equally near ones; a distance is
    `sqrt(x * x + y * y + z * z)` in float32. Left out: points outside of the rows, nearer than NEAREST_M (no return) or
    as far as 1e18 m, NaN and Inf. Raises ValueError for other shapes and ranges.
    """
    points = checked_points(points)
    low, high = elevation_rad
    if not (rows > 0 < columns and rows * columns < 2**31 and -math.pi / 2 <= low < high <= math.pi / 2):
        raise ValueError(f"expected rows, columns and rising elevations, got {rows} x {columns}, {elevation_rad}")
    if ring is not None and (ring.shape != (len(points),) or not np.issubdtype(ring.dtype, np.integer)):
        raise ValueError(f"ring must be {len(points)} integers, got {ring.dtype} {ring.shape}")
    rings = np.empty(0, np.int32) if ring is None else np.where((ring >= 0) & (ring < rows), ring, -1).astype(np.int32)
    nearest, shape = np.full(rows * columns + 1, _NOTHING), (rows, columns)
    _nearest(points, rings, shape, (low, high), nearest)
    image = RangeImage(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.int32))
    _unpack(nearest[:-1], points, image.depth_m.view(np.int32).ravel(), image.intensity.ravel(), image.point.ravel())
    return image


@jit
def _angle(y: np.float32, x: np.float32) -> np.float32:
    """atan2(y, x) in float32 without branches, right to 3e-7 rad (Cephes atanf, Moshier 1989)."""
    wide, long = abs(y), abs(x)
    short, most = min(wide, long), max(wide, long)
    over = short > _TAN_EIGHTH_PI * most
    t = (short - most if over else short) / (short + most if over else most)
    square = t * t
    angle = (((_ATAN[0] * square + _ATAN[1]) * square + _ATAN[2]) * square + _ATAN[3]) * square * t + t
    angle = angle + _QUARTER_PI if over else angle
    angle = _HALF_PI - angle if wide > long else angle
    angle = _PI - angle if x < _F0 else angle
    return np.float32(-angle if y < _F0 else angle)


@jit
def _whole(position: np.float32, count: np.float32, margin: np.float32) -> np.int32:
    """The cell of a position in units of cells: _OUTSIDE of 0..count, or _UNSURE within `margin` of an edge."""
    near = (position > -margin) & (position < count + margin)
    cell = np.int32(position if near else _F0)
    rest = position - np.float32(cell)
    sure = (rest > margin) & (rest < _F1 - margin)
    return (cell if sure else _UNSURE) if near else _OUTSIDE


@jit
def _locate(
    block: tuple[_Column, _Column, _Column],
    ring: NDArray[np.int32],
    size: tuple[int, int],
    elevation: tuple[float, float],
    cells: NDArray[np.int32],
) -> None:
    """The cell of each point of a block as far as float32 tells: _UNSURE, or the spare one for what is left out.

    Leaves the depths in the last column of `block`.
    """
    x, y, z = block
    rows, columns, spare = np.float32(size[0]), np.float32(size[1]), np.int32(size[0] * size[1])
    per_rad, per_turn = np.float32(size[0] / (elevation[1] - elevation[0])), np.float32(size[1] / (2 * math.pi))
    row_margin, column_margin = _MARGIN * (per_rad + rows), _MARGIN * (per_turn + columns)
    high, by_ring = np.float32(elevation[1]), len(ring) > 0
    for j in range(len(cells)):
        flat = x[j] * x[j] + y[j] * y[j]
        row = _whole((high - _angle(z[j], np.sqrt(flat))) * per_rad, rows, row_margin)
        column = _whole((_PI - _angle(y[j], x[j])) * per_turn, columns, column_margin)
        row = ring[j] if by_ring else row
        z[j] = np.sqrt(flat + z[j] * z[j])
        seen = (row != _OUTSIDE) & (z[j] >= _NEAREST_M) & (z[j] < _FARTHEST_M)
        cell = row * np.int32(size[1]) + column if (row >= 0) & (column >= 0) else _UNSURE
        cells[j] = cell if seen else spare


@jit
def _exact(point: NDArray[np.float32], row: int, size: tuple[int, int], elevation: tuple[float, float]) -> int:
    """The cell of a point in float64, the spare one outside; in `row` where that is not negative."""
    x, y, z = np.float64(point[0]), np.float64(point[1]), np.float64(point[2])
    if row < 0:
        below = (elevation[1] - math.atan2(z, math.sqrt(x * x + y * y))) * (size[0] / (elevation[1] - elevation[0]))
        if not 0.0 <= below < size[0]:
            return size[0] * size[1]
        row = int(below)
    return row * size[1] + int((math.pi - math.atan2(y, x)) * (size[1] / (2 * math.pi))) % size[1]  # -pi is +pi


@jit
def _nearest(
    points: NDArray[np.float32],
    ring: NDArray[np.int32],
    size: tuple[int, int],
    elevation: tuple[float, float],
    nearest: NDArray[np.int64],
) -> None:
    """The smallest `bits of the depth | index` of each cell; the bits of floats >= 0 order as the floats do.

    What is left out goes to a spare cell at the end, and what is not nearer is written again: both are cheaper than a
    branch that is hard to foresee.
    """
    x, y, z = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    cells, bits = np.empty(BLOCK, np.int32), z.view(np.int32)
    for first in range(0, len(points), BLOCK):
        count = min(BLOCK, len(points) - first)
        to_columns(points, first, count, x, y, z)
        _locate((x, y, z), ring[first : first + count], size, elevation, cells[:count])
        for j in range(count):
            if cells[j] < 0:
                cells[j] = _exact(points[first + j], ring[first + j] if len(ring) else -1, size, elevation)
            cell = np.uint32(cells[j])
            found = (np.int64(bits[j]) << 32) | (first + j)
            nearest[cell] = min(nearest[cell], found)


@jit
def _unpack(
    nearest: NDArray[np.int64],
    points: NDArray[np.float32],
    depth: NDArray[np.int32],
    intensity: NDArray[np.float32],
    point: NDArray[np.int32],
) -> None:
    """Words of `bits of the depth | index` to the three images."""
    flat, width, has_intensity = points.reshape(points.size), np.uint64(points.shape[1]), points.shape[1] > 3
    for cell in range(len(nearest)):
        word, seen = nearest[cell], nearest[cell] != _NOTHING
        depth[cell] = word >> 32 if seen else 0
        point[cell] = np.int32(word)  # the low half; of _NOTHING that is -1
        value = flat[np.uint64(np.uint32(word)) * width + np.uint64(3)] if seen & has_intensity else _F0
        intensity[cell] = value if np.isfinite(value) else _F0
