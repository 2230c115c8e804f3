"""The grid of cells that points fall in, and what voxelization hands back; the same for the CPU and for the GPU.

A cell is named by 32 bits, so a grid has fewer than 2^32 - 1 cells. Axes are x, y, z in arguments and z, y, x in
`coords`, as in spconv and OpenPCDet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

MAX_CELLS = 2**32 - 2
_MAX_CELL = 2**24  # float32 has no fractions beyond
_WINDOW = (2897, 2897, 511)


class Dropped(NamedTuple):
    """Points in no cell: x, y or z is NaN or infinite; outside of the bounds."""

    not_finite: int
    outside: int


class Means(NamedTuple):
    """m voxels in first-seen order: means f32 (m, features), coords i32 (m, 3), counts i32 (m,)."""

    means: Floats
    coords: Ints
    counts: Ints
    dropped: Dropped


class Voxels(NamedTuple):
    """m voxels in first-seen order: voxels f32 (m, max points, features) with zeros behind the last point, coords i32
    (m, 3), counts i32 (m,) of the points kept."""

    voxels: Floats
    coords: Ints
    counts: Ints
    dropped: Dropped


class Numbers(NamedTuple):
    """m voxels in first-seen order: voxel_of_point i32 (n,), -1 for none; coords i32 (m, 3), counts i32 (m,)."""

    voxel_of_point: Ints
    coords: Ints
    counts: Ints
    dropped: Dropped


class Pillars(NamedTuple):
    """m pillars in first-seen order: features f32 (m, max points, F + 5), coords i32 (m, 3) with z = 0, counts (m,)."""

    features: Floats
    coords: Ints
    counts: Ints
    dropped: Dropped


class Grid(NamedTuple):
    """Cells of `size_m` from the corner `lower_m`: those from number `first` to `first + shape`. Axes are x, y, z."""

    lower_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    first: tuple[int, int, int]
    shape: tuple[int, int, int]

    def scale(self) -> Floats:
        """lower_m, size_m, first and first + shape as f32 (12,)."""
        last = [first + cells for first, cells in zip(self.first, self.shape, strict=True)]
        return np.array([*self.lower_m, *self.size_m, *self.first, *last], np.float32)

    def strides(self) -> NDArray[np.uint32]:
        """Keys per row and per layer, and the number that makes the key of cell `first` 0 modulo 2^32: u32 (3,)."""
        row, layer = self.shape[0], self.shape[0] * self.shape[1]
        bias = -(self.first[0] + self.first[1] * row + self.first[2] * layer)
        return np.array([row, layer, bias % 2**32], np.uint32)


def bounded_grid(voxel_size: Sequence[float], bounds: Sequence[float]) -> Grid:
    """The grid of spconv: x, y, z of the lower corner, then of the upper; whole cells, their number rounded in float32.

    Raises ValueError where there is no cell, or too many.
    """
    size, corners = np.array(voxel_size, np.float32), np.array(bounds, np.float32).reshape(2, 3)
    with np.errstate(all="ignore"):
        cells = np.floor(((corners[1] - corners[0]) / size).astype(np.float64) + 0.5)
    if not (np.isfinite(corners).all() and np.isfinite(cells).all() and (cells >= 1).all()):
        raise ValueError(f"bounds must hold a cell of {list(voxel_size)} m on each axis, got {list(bounds)}")
    return _checked(corners[0].tolist(), size.tolist(), [0, 0, 0], cells.tolist())


def window_grid(voxel_size: Sequence[float]) -> Grid:
    """The cells around the origin of the frame, as many as have a key: at 0.1 m 290 m x 290 m x 51 m."""
    return _checked([0, 0, 0], np.array(voxel_size, np.float32).tolist(), [-(n // 2) for n in _WINDOW], _WINDOW)


def fitted_grid(voxel_size: Sequence[float], first: Sequence[float], last: Sequence[float]) -> Grid:
    """The cells `first` to `last`, counted from the origin of the frame, with some around them where keys suffice.

    Raises ValueError where they are too many.
    """
    size = np.array(voxel_size, np.float32).tolist()
    shape = [high - low + 1 for low, high in zip(first, last, strict=True)]
    room = [cells // 8 for cells in shape]
    wide = [cells + 2 * around for cells, around in zip(shape, room, strict=True)]
    if np.prod(wide) <= MAX_CELLS:
        return _checked([0, 0, 0], size, [low - around for low, around in zip(first, room, strict=True)], wide)
    return _checked([0, 0, 0], size, first, shape)


def as_voxel_size(voxel_size: float | Sequence[float]) -> tuple[float, float, float]:
    """One edge length for all axes, or three. Raises ValueError where one is not a positive number of metres."""
    edges = tuple(map(float, voxel_size)) if isinstance(voxel_size, Sequence | np.ndarray) else (float(voxel_size),) * 3
    if len(edges) != 3 or not all(np.isfinite(np.float32(edge)) and np.float32(edge) > 0 for edge in edges):
        raise ValueError(f"voxel_size must be one or three positive numbers of metres, got {voxel_size}")
    return edges


def as_bounds(bounds: Sequence[float] | None) -> tuple[float, ...] | None:
    """x, y, z of the lower corner, then of the upper, in m."""
    if bounds is None:
        return None
    if len(bounds) != 6:
        raise ValueError(f"bounds must be x, y, z of the lower corner, then of the upper, got {len(bounds)} numbers")
    return tuple(map(float, bounds))


def _checked(lower_m: Sequence[float], size_m: Sequence[float], first: Sequence[float], shape: Sequence[float]) -> Grid:
    ends = [abs(start) for start in first] + [abs(start + cells) for start, cells in zip(first, shape, strict=True)]
    if max(ends) > _MAX_CELL or np.prod(shape) > MAX_CELLS:
        extent = " x ".join(f"{cells:.0f}" for cells in shape)
        raise ValueError(
            f"{extent} cells of {list(size_m)} m are more than fit in 32 bits: give bounds, or a larger voxel_size"
        )
    lower, size = tuple(map(float, lower_m)), tuple(map(float, size_m))
    return Grid(lower, size, tuple(map(int, first)), tuple(map(int, shape)))  # type: ignore[arg-type]
