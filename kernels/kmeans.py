"""Spherical k-means: centres of directions (Dhillon and Modha 2001), and to which of them each row belongs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

_AT_ONCE = 2048


def kmeans(vectors: Vectors, k: int, seed: int = 0, iterations: int = 5) -> Vectors:
    """At most `k` centres, unit float32 (k', d), of unit rows `vectors` (n, d).

    Starts from k rows drawn without replacement; a centre that loses all its rows starts again from another. Centres
    left without rows at the end are dropped, so that k' < k where rows are few or equal. The same seed, the same
    centres; time O(iterations n k d). Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    random = np.random.default_rng(seed)
    centres = vectors[np.sort(random.choice(len(vectors), min(k, len(vectors)), replace=False))].copy()
    for step in range(iterations if len(centres) else 0):
        labels = nearest(vectors, centres)
        centres, filled = _moved(vectors, labels, centres)
        if step < iterations - 1:
            lost = np.flatnonzero(~filled)
            centres[lost] = vectors[random.integers(0, len(vectors), len(lost))]
        else:
            centres = centres[filled]
    return centres


def nearest(vectors: Vectors, centres: Vectors) -> Labels:
    """The centre (k, d) of largest inner product with each row of `vectors` (n, d): int64 (n,), ties to the first."""
    labels = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), _AT_ONCE):
        some = vectors[start : start + _AT_ONCE]
        labels[start : start + len(some)] = (some @ centres.T).argmax(axis=1)
    return labels


def _moved(vectors: Vectors, labels: Labels, centres: Vectors) -> tuple[Vectors, NDArray[np.bool_]]:
    """The directions of the sums of each centre's rows, and which centres have rows."""
    order = np.argsort(labels, kind="stable")
    filled, starts = np.unique(labels[order], return_index=True)
    sums = np.add.reduceat(vectors[order], starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    moved = centres.copy()
    moved[filled] = np.where(lengths > 0, sums / np.maximum(lengths, np.finfo(np.float32).tiny), centres[filled])
    return moved, np.isin(np.arange(len(centres)), filled)
