"""Points by blocks of columns: compilers vectorise arithmetic on columns, not on rows of x, y, z, intensity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

BLOCK = 512  # the columns of a block and what is made of them stay in the first-level cache


def checked_points(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """`points` float32 (n, >= 3) with rows one after another in memory. Raises ValueError for another shape or type."""
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype != np.float32:
        raise ValueError(f"points must be float32 (n, >= 3), got {points.dtype} {points.shape}")
    return np.ascontiguousarray(points)


@jit
def to_columns(points: NDArray[Any], first: int, count: int, x: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> None:
    """Copy the first three columns of `count` points from `first` on, of points (n, >= 3) in C order, to x, y, z, each
    of at least that many."""
    width = points.shape[1]
    flat, start = points.reshape(points.size), first * width
    if width == 4:  # a stride known while compiling: four times as fast
        for j in range(count):
            x[j], y[j], z[j] = flat[start + 4 * j], flat[start + 4 * j + 1], flat[start + 4 * j + 2]
    else:
        for j in range(count):
            x[j], y[j], z[j] = flat[start + width * j], flat[start + width * j + 1], flat[start + width * j + 2]
