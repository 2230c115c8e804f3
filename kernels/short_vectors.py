"""Short vectors whose inner products are never below those of the long ones: most pairs are ruled out by them alone.

A row is kept as its parts along the few axes in which rows are largest, and one number, the length of what is left:
the inner product of two leftovers is at most the product of their lengths (Cauchy and Schwarz).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

_LENGTH = 64
_LEARNT_FROM = 4096  # rows
_AT_ONCE = 8192


def short_axes(vectors: Vectors) -> Vectors:
    """Orthonormal axes, float32 (d, 63), along which `vectors` (n, d) are largest; for d <= 128 none: (d, 0)."""
    if vectors.shape[1] <= 2 * _LENGTH:
        return np.empty((vectors.shape[1], 0), np.float32)
    sample = vectors[:: max(1, len(vectors) // _LEARNT_FROM)].astype(np.float64)
    return np.ascontiguousarray(np.linalg.eigh(sample.T @ sample)[1][:, 1 - _LENGTH :], np.float32)


def shortened(vectors: Vectors, axes: Vectors) -> Vectors:
    """`vectors` (n, d) as (n, 64), to within rounding; themselves, where there are no axes."""
    if not axes.shape[1]:
        return vectors
    short = np.empty((len(vectors), _LENGTH), np.float32)
    for start in range(0, len(vectors), _AT_ONCE):
        some = vectors[start : start + _AT_ONCE]
        along = some @ axes
        left = np.einsum("nd,nd->n", some, some, dtype=np.float64) - np.einsum(
            "nd,nd->n", along, along, dtype=np.float64
        )
        short[start : start + len(some)] = np.column_stack([along, np.sqrt(np.maximum(left, 0))])
    return short
