"""Rows by nearness in buckets of about equal size: what near things can be looked for in, instead of everywhere.

Directions from the mean, in the few dimensions in which the rows differ most, are clustered twice: coarsely, then each
coarse cell by itself, so that time grows little faster than the number of rows. Buckets are fitted to a sample and tell
the bucket of any row: shards that share them can be joined bucket by bucket.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.kmeans import Labels, Vectors, kmeans, nearest

_DIMENSIONS = 64
_LEARNT_FROM = 4096  # rows, for the dimensions
_AT_ONCE = 8192


@dataclass(frozen=True)
class Buckets:
    """`mean` (d,) and `basis` (d, m) make a row's direction; `coarse` (c, m) and `centres` (b, m) are of unit length.

    The centres of coarse cell i are numbers `first[i]` to `first[i + 1]`.
    """

    mean: Vectors
    basis: Vectors
    coarse: Vectors
    first: Labels
    centres: Vectors

    def of(self, vectors: Vectors) -> Labels:
        """The bucket of each row of `vectors` (n, d): int64 (n,)."""
        directions = _directions(vectors, self.mean, self.basis)
        cells, labels = nearest(directions, self.coarse), np.empty(len(vectors), np.int64)
        for cell, rows in _members(cells, len(self.coarse)):
            centres = self.centres[self.first[cell] : self.first[cell + 1]]
            labels[rows] = self.first[cell] + nearest(directions[rows], centres)
        return labels

    def near(self, bucket: int, count: int) -> Labels:
        """The `count` buckets nearest to one, itself first: int64 (count,)."""
        if count == 1:
            return np.array([bucket])
        likeness = self.centres @ self.centres[bucket]
        likeness[bucket] = np.inf
        return np.argsort(-likeness, kind="stable")[:count]


def fit_buckets(vectors: Vectors, count: int, seed: int = 0) -> Buckets:
    """About `count` buckets for rows like the unit rows `vectors` (n, d), n >= 1. The same seed, the same buckets."""
    sample = vectors[:: max(1, len(vectors) // _LEARNT_FROM)].astype(np.float64)
    mean = sample.mean(axis=0)
    _, axes = np.linalg.eigh((sample - mean).T @ (sample - mean))
    mean, basis = mean.astype(np.float32), np.ascontiguousarray(axes[:, ::-1][:, :_DIMENSIONS], np.float32)
    directions = _directions(vectors, mean, basis)
    coarse = kmeans(directions[:: max(1, len(vectors) // (100 * count))], max(1, round(count**0.5)), seed)
    parts, first = [], [0]
    for _, rows in _members(nearest(directions, coarse), len(coarse)):
        share = max(1, round(count * len(rows) / len(vectors)))
        parts.append(kmeans(directions[rows], share, seed) if len(rows) else np.zeros((1, basis.shape[1]), np.float32))
        first.append(first[-1] + len(parts[-1]))
    return Buckets(mean, basis, coarse, np.array(first), np.concatenate(parts))


def by_label(labels: Labels, count: int) -> tuple[Labels, Labels]:
    """Rows ordered by label (n,), and where each of `count` labels starts and ends in that order (count + 1,)."""
    order = np.argsort(labels, kind="stable")
    return order, np.searchsorted(labels[order], np.arange(count + 1))


def _members(labels: Labels, count: int) -> list[tuple[int, Labels]]:
    order, bounds = by_label(labels, count)
    return [(i, order[low:high]) for i, (low, high) in enumerate(itertools.pairwise(bounds))]


def _directions(vectors: Vectors, mean: Vectors, basis: Vectors) -> NDArray[np.float32]:
    directions = np.empty((len(vectors), basis.shape[1]), np.float32)
    for start in range(0, len(vectors), _AT_ONCE):
        some = (vectors[start : start + _AT_ONCE] - mean) @ basis
        directions[start : start + len(some)] = some
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions /= np.where(lengths > 0, lengths, 1)
    return directions
