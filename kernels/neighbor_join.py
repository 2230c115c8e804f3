"""A graph of nearest neighbours made better by itself: who is near to one that is near to me is likely near to me.

One round of NN-descent (Dong, Moses and Li 2011, "Efficient k-nearest neighbor graph construction for generic
similarity measures"), without sampling: for a graph that is nearly right already, few rows are new to a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit
from kernels.neighbors import Found, Rows

_LANES = 64

Scores = NDArray[np.float32]


def joined_neighbors(vectors: NDArray[np.float32], owner: Rows, found: Found) -> Found:
    """`found` (n, k), nearest first, padded with -1, after each row was compared with the neighbours of its neighbours.

    Its neighbours are also those that it is a neighbour of, up to k of them. Rows of the same `owner` (n,) are no
    neighbours. No score gets lower. Scores are float32 sums; of equal ones who was there first stays.
    """
    near, scores = found[0].copy(), found[1].copy()
    _join(vectors, owner, found[0], _reversed(found[0]), near, scores)
    return near, scores


def merged(one: Found, other: Found) -> Found:
    """The best k of two graphs of the same rows, both (n, k), nearest first, padded with -1; no neighbour twice."""
    near, scores = one[0].copy(), one[1].copy()
    _merge(near, scores, *other)
    return near, scores


def _reversed(near: Rows) -> Rows:
    """For each row up to k rows that it is a neighbour of, (n, k), ascending, -1 where there are no more."""
    n, k = near.shape
    back = np.full((n, k), -1, np.int64)
    _reverse(near, back, np.zeros(n, np.int64))
    return back


@jit
def _reverse(near: Rows, back: Rows, count: Rows) -> None:
    for i in range(near.shape[0]):
        for j in near[i]:
            if j >= 0 and count[j] < back.shape[1]:
                back[j, count[j]] = i
                count[j] += 1


@jit
def _join(vectors: Scores, owner: Rows, near: Rows, back: Rows, best: Rows, scores: Scores) -> None:
    n, k = near.shape
    seen = np.full(n, -1, np.int64)
    lanes = np.empty(_LANES, np.float32)
    for i in range(n):
        seen[i] = i
        for j in near[i]:
            if j >= 0:
                seen[j] = i
        for side in range(2 * k):
            j = near[i, side] if side < k else back[i, side - k]
            if j < 0:
                continue
            for step in range(-1, k):
                other = j if step < 0 else near[j, step]
                if other < 0 or seen[other] == i:
                    continue
                seen[other] = i
                if owner[other] != owner[i]:
                    _insert(best[i], scores[i], other, _product(vectors[i], vectors[other], lanes))


@jit
def _merge(best: Rows, scores: Scores, near: Rows, others: Scores) -> None:
    for i in range(near.shape[0]):
        for step in range(near.shape[1]):
            row = near[i, step]
            if row >= 0 and not (best[i] == row).any():
                _insert(best[i], scores[i], row, others[i, step])


@jit
def _insert(best: Rows, scores: Scores, row: int, score: float) -> None:
    place = len(best)
    while place > 0 and (best[place - 1] < 0 or scores[place - 1] < score):
        place -= 1
    for at in range(len(best) - 1, place, -1):
        best[at], scores[at] = best[at - 1], scores[at - 1]
    if place < len(best):
        best[place], scores[place] = row, score


@jit
def _product(a: Scores, b: Scores, lanes: Scores) -> float:
    whole = len(a) - len(a) % _LANES
    lanes[:] = 0
    for start in range(0, whole, _LANES):
        for lane in range(_LANES):
            lanes[lane] += a[start + lane] * b[start + lane]
    total = np.float32(0)
    for lane in range(_LANES):
        total += lanes[lane]
    for at in range(whole, len(a)):
        total += a[at] * b[at]
    return float(total)
