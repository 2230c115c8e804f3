"""What to keep of things some of which are near one another: a maximal independent set of the graph of near pairs.

No two kept are near, and everything removed is near one that is kept. Greedy by priority: taken in that order, a row is
kept unless it is near one kept already: the one maximal independent set that nothing of higher priority was lost to.
(Removing all that are near *any* earlier row, kept or not, leaves rows that nothing kept stands for.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit
from kernels.neighbors import Pairs, pair_scores, radius_pairs

Rows = NDArray[np.int64]


class Kept(NamedTuple):
    """`kept` (n,) bool, and `keeper` (n,) int64: of a kept row itself, of a removed one the nearest kept row."""

    kept: NDArray[np.bool_]
    keeper: Rows


class Broken(NamedTuple):
    """Where the promise of a `Kept` fails: removed rows whose keeper is not near, pairs of kept rows that are near."""

    uncovered: Rows
    close: Pairs


def independent_set(
    pairs: Pairs, n: int, priority: NDArray[Any] | None = None, preselected: NDArray[np.integer] | None = None
) -> Kept:
    """The greedy maximal independent set of `n` rows whose near `pairs` are given, the highest `priority` (n,) first.

    Equal priorities, and all where there are none: the lower row first. `preselected` rows (what training has already)
    are kept whatever is near them, even one another. The keeper of a removed row is its kept row of highest score, ties
    to the lower row. Time and memory O(n + pairs). Raises ValueError for rows outside 0 to n, or other lengths.
    """
    chosen = np.asarray(preselected if preselected is not None else (), np.int64)
    if priority is not None and np.shape(priority) != (n,):
        raise ValueError(f"priority must be ({n},), got {np.shape(priority)}")
    for rows in (pairs.left, pairs.right, chosen):
        if len(rows) and not 0 <= rows.min() <= rows.max() < n:
            raise ValueError(f"rows must be 0 to {n - 1}, got {rows.min()} to {rows.max()}")
    order = np.argsort(-np.asarray(priority, np.float64), kind="stable") if priority is not None else np.arange(n)
    offsets, near, scores = _adjacent(pairs, n)
    state = np.zeros(n, np.int8)
    state[chosen] = _KEPT
    _take(order, offsets, near, state)
    keeper = np.arange(n, dtype=np.int64)
    _stand_in(offsets, near, scores, state, keeper)
    return Kept(state == _KEPT, keeper)


def broken_promises(vectors: NDArray[np.float32], kept: Kept, min_score: float) -> Broken:
    """Check `kept` against unit `vectors` (n, d): nothing is broken where both parts are empty. Exact.

    For rows kept because they were preselected, pairs among these are no fault: leave them out before.
    """
    removed = np.flatnonzero(~kept.kept)
    scores = pair_scores(vectors, removed, kept.keeper[removed])
    covered = kept.kept[kept.keeper[removed]] & (scores >= np.float64(min_score))
    rows = np.flatnonzero(kept.kept)
    parts = list(radius_pairs(vectors[rows], min_score))
    left, right = (np.concatenate([np.empty(0, np.int64), *(part[side] for part in parts)]) for side in (0, 1))
    scores = np.concatenate([np.empty(0, np.float32), *(part.scores for part in parts)])
    return Broken(removed[~covered], Pairs(rows[left], rows[right], scores))


_KEPT, _REMOVED = 1, 2


def _adjacent(pairs: Pairs, n: int) -> tuple[Rows, Rows, NDArray[np.float32]]:
    """Offsets (n + 1,) into the neighbours of each row and their scores, both (2 pairs,), neighbours ascending."""
    own, other = np.concatenate([pairs.left, pairs.right]), np.concatenate([pairs.right, pairs.left])
    order = np.lexsort((other, own))
    offsets = np.searchsorted(own[order], np.arange(n + 1))
    return offsets, other[order], np.concatenate([pairs.scores, pairs.scores])[order]


@jit
def _take(order: NDArray[Any], offsets: NDArray[Any], near: NDArray[Any], state: NDArray[Any]) -> None:
    for row in range(len(state)):
        if state[row] == _KEPT:
            _remove(near[offsets[row] : offsets[row + 1]], state)
    for row in order:
        if state[row] == 0:
            state[row] = _KEPT
            _remove(near[offsets[row] : offsets[row + 1]], state)


@jit
def _remove(rows: NDArray[Any], state: NDArray[Any]) -> None:
    for row in rows:
        if state[row] == 0:
            state[row] = _REMOVED


@jit
def _stand_in(
    offsets: NDArray[Any], near: NDArray[Any], scores: NDArray[Any], state: NDArray[Any], keeper: NDArray[Any]
) -> None:
    for row in range(len(state)):
        if state[row] == _REMOVED:
            best = np.float32(-np.inf)
            for place in range(offsets[row], offsets[row + 1]):
                if state[near[place]] == _KEPT and scores[place] > best:
                    best, keeper[row] = scores[place], near[place]
