"""Facility location: rows such that every row has one like it, on the average, picked by the gain of each.

The goal is the sum over all rows i of weight_i times the largest likeness of i to a picked row. Likeness is (1 +
cosine) / 2, 0 to 1, so that what a first pick gains is linear in its vector and known without a single pair. Greedy
picks among all rows reach at least 1 - 1/e of the best goal (Nemhauser, Wolsey and Fisher 1978).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit
from kernels.candidates import Candidates, Free, Picked, Rows, Vectors
from kernels.lazy_greedy import lazy_greedy

_ROWS_AT_ONCE = 512
_LANES = 16
_MEMORY = 800_000_000  # bytes of likenesses kept
_POOL_OF_PICKS = 4  # candidates for each pick at least


def facility_location(
    vectors: Vectors,
    k: int,
    candidates: Candidates | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Picked:
    """At most `k` of the unit rows `vectors` (n, d) by greedy facility location, and what each gained: exactly greedy.

    With a `sample` of fewer rows than count, drawn by `seed`, these alone are to be stood for, each with the weight of
    n / sample rows: where weights are equal, the mean likeness of one set is then known to within sqrt(ln(2 / delta) /
    (2 sample)) with probability 1 - delta (Hoeffding). Picks are from the sample and as many others, or 4 k; from more
    when these are used up. Ties: the lower row. Memory beyond the input: 0.8 GB, O(n), and copies of the rows to pick
    from and to stand for, where these are not all. Raises ValueError as `Candidates`.
    """
    asked = (candidates or Candidates()).checked(vectors, k)
    rng = np.random.default_rng(seed)
    weights = asked.weighted(len(vectors))
    counted = np.flatnonzero(weights)
    drawn = counted if sample is None else counted[_drawn(rng, len(counted), max(1, sample))]
    stood_for, weights = _rows(vectors, drawn), weights[drawn] * np.float32(len(counted) / max(1, len(drawn)))
    found = Picked(np.empty(0, np.int64), np.empty(0, np.float32))
    while len(found.rows) < k:
        taken = np.concatenate([asked.chosen, found.rows])
        free = Free(replace(asked, preselected=taken), len(vectors))
        pool, left = np.flatnonzero(free.rows), k - len(found.rows)
        if not len(pool):
            break
        if len(drawn) < len(counted):
            others = np.setdiff1d(pool, drawn)
            few = _drawn(rng, len(others), max(len(drawn), _POOL_OF_PICKS * left))
            pool = np.union1d(pool[np.isin(pool, drawn)], others[few])
        goal = _Dense(_rows(vectors, pool), stood_for, weights)
        bounds = goal.first_gains()
        goal.stand_for(vectors[taken])
        rows, gains, _ = lazy_greedy(bounds, left, free.among(pool), goal)
        found = Picked(np.concatenate([found.rows, pool[rows]]), np.concatenate([found.gains, gains]))
    return found


def _drawn(rng: np.random.Generator, count: int, most: int) -> Rows:
    """At most so many of the numbers below `count`, ascending."""
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def _rows(vectors: Vectors, rows: Rows) -> Vectors:
    """Some rows, ascending; without a copy where they are all."""
    return vectors if len(rows) == len(vectors) else vectors[rows]


class _Dense:
    """Likeness of any row to those to be stood for, made when asked for and kept while there is room."""

    def __init__(self, vectors: Vectors, stood_for: Vectors, weights: Vectors) -> None:
        self._vectors, self._stood_for, self._weights = vectors, stood_for, weights
        self._best = np.full(len(stood_for), -0.5, np.float32)  # of cosine / 2
        room = max(128, _MEMORY // max(1, 4 * len(stood_for)))
        self._likeness = np.empty((min(room, len(vectors)), len(stood_for)), np.float32)
        self._row_in = np.full(len(self._likeness), -1, np.int64)
        self._place = np.full(len(vectors), -1, np.int64)
        self._order = np.arange(len(vectors))
        self._next = 0

    def first_gains(self) -> NDArray[np.float64]:
        """What each row gains where nothing is picked: (n,). With something picked it is a bound."""
        total = self._weights @ self._stood_for
        first: NDArray[np.float64] = (self._weights.sum(dtype=np.float64) + self._vectors @ total) / 2
        self._order = np.argsort(-first, kind="stable")
        return first * (1 + 1e-5)  # never below what a sum in another order gives

    def gains(self, rows: Rows) -> NDArray[np.float64]:
        self._load(rows)
        gains = np.empty(len(rows))
        _more(self._likeness, self._place[rows], self._best, self._weights, gains)
        return gains

    def pick(self, row: int) -> None:
        self._load(np.array([row]))
        np.maximum(self._best, self._likeness[self._place[row]], out=self._best)

    def stand_for(self, chosen: Vectors) -> None:
        """As if rows (m, d) had been picked that are not among those to pick from."""
        at_once = max(1, _MEMORY // (16 * max(1, len(self._stood_for))))
        for start in range(0, len(chosen), at_once):
            likeness = self._stood_for @ (chosen[start : start + at_once] / 2).T
            np.maximum(self._best, likeness.max(axis=1), out=self._best)

    def _load(self, asked: Rows) -> None:
        """Make those of the `asked` rows that are not kept, in place of the oldest others."""
        rows, room = asked[self._place[asked] < 0], len(self._likeness)
        if not len(rows):
            return
        if len(rows) < _ROWS_AT_ONCE and room == len(self._vectors):  # all will fit: products are large
            others = self._order[self._place[self._order] < 0]
            others = others[~np.isin(others, rows)]
            rows = np.concatenate([rows, others[: _ROWS_AT_ONCE - len(rows)]])
        places = (self._next + np.arange(min(len(rows) + len(asked), room))) % room
        places = places[~np.isin(self._row_in[places], asked)][: len(rows)]
        self._next = int(places[-1] + 1) % room
        self._place[self._row_in[places][self._row_in[places] >= 0]] = -1
        self._row_in[places], self._place[rows] = rows, places
        wanted = self._vectors[rows] / 2
        if places[-1] - places[0] == len(places) - 1:
            np.matmul(wanted, self._stood_for.T, out=self._likeness[places[0] : places[-1] + 1])
        else:
            self._likeness[places] = wanted @ self._stood_for.T


@jit
def _more(
    likeness: NDArray[Any], places: NDArray[Any], best: NDArray[Any], weights: NDArray[Any], gains: NDArray[Any]
) -> None:
    """What rows of likeness add to the best, weighted. Sums in lanes: the compiler may not reorder a sum by itself."""
    whole = len(best) - len(best) % _LANES
    lanes = np.zeros(_LANES, np.float32)
    for i in range(len(places)):
        row = likeness[places[i]]
        lanes[:] = 0
        for start in range(0, whole, _LANES):
            for lane in range(_LANES):
                more = row[start + lane] - best[start + lane]
                lanes[lane] += (more if more > 0 else np.float32(0)) * weights[start + lane]
        total = 0.0
        for lane in range(_LANES):
            total += lanes[lane]
        for j in range(whole, len(best)):
            total += max(row[j] - best[j], np.float32(0)) * weights[j]
        gains[i] = total
