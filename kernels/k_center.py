"""Greedy k-center: rows such that the one farthest from them is near, with a certificate of how near is possible.

The farthest row is picked, again and again (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance").
Distances are angles in radians, which are a metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.candidates import Candidates, Free, Picked, Rows, Vectors
from kernels.shrinking import State, apply, shrinking_greedy

_AT_ONCE = 256


class Cover(NamedTuple):
    """Rows in the order they were picked (m,), how far each was from those before it, (m,); pi for the very first.

    No row is farther than `radius` from the picked and preselected ones, and no other choice of m rows brings that
    below `lower_bound`: half the radius where neither weights nor a group limit stand in the way. With weights,
    distances are multiplied by them.
    """

    rows: Rows
    gains: NDArray[np.float32]
    radius: float
    lower_bound: float


def k_center(vectors: Vectors, k: int, candidates: Candidates | None = None, seed: int = 0) -> Cover:
    """At most `k` of the unit rows `vectors` (n, d), each the farthest from those before and from the preselected.

    Starts from the preselected rows, or from one drawn at random by `seed`. Equal distances: the lower row. Fewer than
    k where no more rows may be picked. The picks are those of the step-by-step method but for distances that differ by
    less than float32 can tell; angles below sqrt(2 eps sqrt d) count as 0. Time O(n d k). Raises ValueError as
    `Candidates`.
    """
    asked = (candidates or Candidates()).checked(vectors, k)
    n, d = vectors.shape
    free, goal = Free(asked, n), _Farthest(asked.weighted(n), d)
    state = np.full(n, -1, np.float32)
    chosen = asked.chosen
    for start in range(0, len(chosen), _AT_ONCE):
        apply(vectors, vectors[chosen[start : start + _AT_ONCE]], goal, state)
    first = _first(k if not len(chosen) else 0, free, seed)
    if len(first.rows):
        apply(vectors, vectors[first.rows], goal, state)
    rest = shrinking_greedy(vectors, k - len(first.rows), free, goal, state)
    rows, gains = (np.concatenate([first[part], rest[part]]) for part in (0, 1))
    radius = float(goal.worth(state, slice(None)).max(initial=0))
    farthest = int(np.argmax(goal.worth(state, slice(None)))) if n else 0
    return Cover(rows, gains, radius, _lower_bound(Picked(rows, gains), radius, goal.weights, farthest))


@dataclass(frozen=True)
class _Farthest:
    """State: the largest cosine to a picked row, -1 before. Worth: weight times angle."""

    weights: NDArray[np.float32]
    dim: int

    def worth(self, state: State, rows: Rows | slice) -> NDArray[np.floating]:
        near = np.finfo(np.float32).eps * self.dim**0.5  # the same row, as exactly as a product of float32 can tell
        cosine: NDArray[np.floating] = np.where(state > 1 - near, np.float32(1), np.maximum(state, np.float32(-1)))
        angle: NDArray[np.floating] = np.arccos(cosine) * self.weights[rows]
        return angle

    def direction(self, row: int, vector: Vectors) -> Vectors:
        return vector

    def changed(self, state: State, products: Vectors, rows: Rows | slice) -> State:
        highest: State = np.maximum(state, products.max(axis=0))
        return highest


def _first(k: int, free: Free, seed: int) -> Picked:
    """One of the free rows, drawn by the seed; none for k = 0."""
    rows = np.flatnonzero(free.rows)
    if not len(rows) or not k:
        return Picked(np.empty(0, np.int64), np.empty(0, np.float32))
    row = int(rows[np.random.default_rng(seed).integers(len(rows))])
    free.take(row)
    return Picked(np.array([row]), np.array([np.pi], np.float32))


def _lower_bound(picks: Picked, radius: float, weights: NDArray[np.float32], farthest: int) -> float:
    """Of the picks and the farthest row, one more than picks, two must share a centre, or keep to a preselected one.

    They are all at least as far apart as the nearest two were when the later one was picked.
    """
    own = np.append(weights[picks.rows], weights[farthest]) if radius else np.zeros(1)
    if not own.all():
        return 0.0
    apart = np.append(picks.gains, radius) / own
    apart[:-1][picks.gains == np.float32(np.pi)] = np.pi  # the very first, or as far as can be
    return float(apart.min() * own.min() / 2)
