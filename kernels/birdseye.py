"""Bird's-eye view of a sweep: a raster seen from above, forward up and left to the left, as maps and pictures are.

The channels are those of MV3D (Chen et al. 2017, CVPR, section 3.1): height and intensity of the highest point of a
cell, and the density `min(1, log(count + 1) / log(64))`; and the occupancy of PIXOR (Yang et al. 2018, CVPR).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit
from kernels.blocks import BLOCK, checked_points, to_columns

HEIGHT, INTENSITY, DENSITY, OCCUPANCY = range(4)

_FULL = 63
_DENSITIES = (np.log(np.arange(_FULL + 1) + 1.0) / np.log(_FULL + 1.0)).astype(np.float32)
_LOW = 0xFFFFFFFF


def birds_eye_view(
    points: NDArray[np.float32],
    x_range_m: tuple[float, float],
    y_range_m: tuple[float, float],
    cell_m: float,
    z_range_m: tuple[float, float] = (-3.0, 5.0),
) -> NDArray[np.float32]:
    """Points float32 (n, >= 3) of a frame with x forward, y left, z up as raster float32 (4, rows, columns).

    Channels HEIGHT: metres of the highest point above the low end of `z_range_m`; INTENSITY: column 3 of that point
    (the first of equally high ones; 0 where it is not finite or not there); DENSITY 0..1; OCCUPANCY 0 or 1. Empty cells
    are 0. Row 0 is the far end of `x_range_m`, column 0 the left end (large y) of `y_range_m`. Ranges are half-open and
    hold a whole number of cells; points outside, NaN and Inf are left out. The cell of a point is
    `floor((x - low) / cell_m)` in float32, counted from the low ends. Raises ValueError for other points and ranges.
    """
    return BirdsEyeRaster(x_range_m, y_range_m, cell_m, z_range_m).draw(points)


class BirdsEyeRaster:
    """`birds_eye_view` of one sweep after the other in the same memory: a third faster, as most of a raster is empty.

    Arguments, values and errors are those of `birds_eye_view`.
    """

    def __init__(
        self,
        x_range_m: tuple[float, float],
        y_range_m: tuple[float, float],
        cell_m: float,
        z_range_m: tuple[float, float] = (-3.0, 5.0),
    ) -> None:
        rows, columns = _cells(x_range_m, cell_m), _cells(y_range_m, cell_m)
        if not z_range_m[0] < z_range_m[1] or rows * columns >= 2**31:
            raise ValueError(f"z_range_m must rise and cells be less than 2^31: {z_range_m}, {rows} x {columns}")
        lows = (x_range_m[0], y_range_m[0], z_range_m[0])
        self._bounds = np.array([*lows, z_range_m[1] - z_range_m[0], cell_m], np.float32)
        self._image = np.zeros((4, rows, columns), np.float32)
        self._occupied = np.empty(0, np.int32)

    def draw(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """The raster float32 (4, rows, columns) of points (n, >= 3), not to be written to; good until the next call."""
        points, (_, rows, columns) = checked_points(points), self._image.shape
        flat = self._image.reshape(4, rows * columns)
        self._occupied = _fill(points, self._bounds, (rows, columns), flat, self._occupied)
        return self._image


def _cells(range_m: tuple[float, float], cell_m: float) -> int:
    count = (range_m[1] - range_m[0]) / cell_m if cell_m > 0 else np.nan
    if not (0.5 < count < 2**24 and abs(count - round(count)) < 1e-3):
        raise ValueError(f"{range_m} m is not a whole number of cells of {cell_m} m")
    return round(count)


@jit
def _find_cells(
    points: NDArray[np.float32],
    first: int,
    bounds: NDArray[np.float32],
    grid: tuple[int, int],
    columns: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    cells: NDArray[np.int32],
) -> int:
    """The cells of the points from `first` on, -1 outside; leaves the heights in the third of `columns`. Gives how many
    are inside."""
    x_low, y_low, z_low, z_span, cell_m = bounds
    rows, wide = np.float32(grid[0]), np.float32(grid[1])
    last, width, zero, count = np.int32(grid[0] * grid[1] - 1), np.int32(grid[1]), np.float32(0), 0
    xs, ys, heights = columns
    to_columns(points, first, len(cells), xs, ys, heights)
    for j in range(len(cells)):
        x, y, height = (xs[j] - x_low) / cell_m, (ys[j] - y_low) / cell_m, heights[j] - z_low
        inside = (zero <= x) & (x < rows) & (zero <= y) & (y < wide) & (zero <= height) & (height < z_span)
        heights[j] = abs(height)  # not -0.0: its bits do not order
        cells[j] = last - np.int32(x) * width - np.int32(y) if inside else np.int32(-1)
        count += inside
    return count


@jit
def _find_runs(
    cells: NDArray[np.int32], heights: NDArray[np.int32], first: int, runs: NDArray[np.int32], best: NDArray[np.int64]
) -> int:
    """Neighbours along a scan line mostly share a cell: per run its cell, its end, and height | first to have it.

    Runs are numbered from 1. `heights` are the bits of floats >= 0, which order as the floats do. Without branches:
    every point overwrites the record of its run.
    """
    run, before, top = np.uint64(0), np.int32(-2), np.int64(0)
    for j in range(len(cells)):
        same = np.int64(cells[j] == before)
        before = cells[j]
        top = max(top & -same, (np.int64(heights[j]) << 32) | np.int64(_LOW - (first + j)))
        run += np.uint64(1 - same)
        runs[0, run], runs[1, run], best[run] = before, j + 1, top
    return int(run)


@jit
def _merge(
    points: NDArray[np.float32],
    runs: NDArray[np.int32],
    best: NDArray[np.int64],
    image: NDArray[np.float32],
    occupied: NDArray[np.int32],
    found: int,
) -> int:
    """Runs into the raster, where DENSITY counts points. Without branches: whether a cell is new is a coin toss."""
    height, intensity, count, occupancy = image[0].view(np.int32), image[1], image[2], image[3]
    has_intensity = points.shape[1] > 3
    for run in range(1, len(best)):
        cell = runs[0, run]
        if cell < 0:
            continue
        above, new = best[run] >> 32, count[cell] == 0
        higher = new | (above > height[cell])
        value = points[_LOW - (best[run] & _LOW), 3] if has_intensity else np.float32(0)
        occupied[found] = cell
        found += new
        height[cell] = max(above, height[cell])
        intensity[cell] = (value if np.isfinite(value) else np.float32(0)) if higher else intensity[cell]
        count[cell] += np.float32(runs[1, run] - runs[1, run - 1])
        occupancy[cell] = 1
    return found


@jit
def _fill(
    points: NDArray[np.float32],
    bounds: NDArray[np.float32],
    grid: tuple[int, int],
    image: NDArray[np.float32],
    stale: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Clear the cells of the last sweep, draw this one; gives its occupied cells."""
    for channel in image:
        for cell in stale:
            channel[cell] = 0
    occupied, found = np.empty(len(points) + 1, np.int32), 0
    xs, ys, heights = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    cells, runs, best = np.empty(BLOCK, np.int32), np.zeros((2, BLOCK + 1), np.int32), np.empty(BLOCK + 1, np.int64)
    for first in range(0, len(points), BLOCK):
        own = cells[: len(points) - first]
        if _find_cells(points, first, bounds, grid, (xs, ys, heights), own):
            count = _find_runs(own, heights.view(np.int32), first, runs, best)
            found = _merge(points, runs, best[: count + 1], image, occupied, found)
    density = image[2]
    for cell in occupied[:found]:
        density[cell] = _DENSITIES[min(np.int32(density[cell]), _FULL)]
    return occupied[:found]
