"""Duplicates thinned out in bounded memory: what is kept, and who stands for the rest, with no list of all near pairs.

Rows are taken by priority; one is kept unless it is near one that is kept already. That is the greedy maximal
independent set of `kernels.independent_set`, found by comparing blocks of rows with the kept ones only: O(n kept d)
time, O(kept d) memory. Near means near in every space that has both rows; float32 products choose, and where their
rounding could decide, the pair is scored again in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.independent_set import Kept
from kernels.neighbors import pair_scores

Rows = NDArray[np.int64]
Bools = NDArray[np.bool_]
_BLOCK, _TILE = 512, 16_384


class Space(NamedTuple):
    """Unit `vectors` (n, d) of one kind, rows of zeros for what it has no vector of; near are scores of `min_score`."""

    vectors: NDArray[np.float32]
    min_score: float


class Edges(NamedTuple):
    """Pairs of rows that are near for another reason, (e,) each."""

    left: Rows
    right: Rows


@dataclass(frozen=True)
class Neighbours:
    """The rows that rows have edges to: those of row i from `starts[i]` to `starts[i + 1]`, as they were listed."""

    starts: Rows
    rows: Rows

    @classmethod
    def of(cls, edges: Edges, count: int) -> Neighbours:
        """Of edges among `count` rows. Raises ValueError for others."""
        for ends in edges:
            if len(ends) and not 0 <= ends.min() <= ends.max() < count:
                raise ValueError(f"edges must join rows 0 to {count - 1}, got {ends.min()} and {ends.max()}")
        own, other = np.stack(edges, axis=1).ravel(), np.stack(edges[::-1], axis=1).ravel()
        order = np.argsort(own, kind="stable")
        return cls(np.searchsorted(own[order], np.arange(count + 1)), other[order])

    def to(self, row: int) -> list[int]:
        """Of one row."""
        found: list[int] = self.rows[self.starts[row] : self.starts[row + 1]].tolist()
        return found


NO_EDGES = Edges(np.empty(0, np.int64), np.empty(0, np.int64))


class Faults(NamedTuple):
    """What is wrong with a `Kept`: removed rows whose keeper is not near or not kept, and near pairs of kept rows."""

    uncovered: Rows
    close: Edges


def thin(spaces: Sequence[Space], order: Rows, edges: Edges = NO_EDGES) -> Kept:
    """What to keep of n rows, taken in `order` (n,): a kept row has no kept one near it, a removed one has its keeper.

    The keeper of a removed row is the first in that order of the kept rows near it. A row without a vector in any space
    is near by `edges` only. Raises ValueError for an order that is not one of all rows.
    """
    count = len(order)
    if not np.array_equal(np.sort(order), np.arange(count)):
        raise ValueError(f"order must hold 0 to {count - 1} once each")
    keeper, kept = np.full(count, -1, np.int64), np.zeros(count, np.bool_)
    settle(spaces, (np.arange(count), keeper, kept), Neighbours.of(edges, count), order)
    return Kept(kept, keeper)


def settle(spaces: Sequence[Space], state: tuple[Rows, Rows, Bools], neighbours: Neighbours, order: Rows) -> Rows:
    """Take some rows of the spaces in `order`, of all that there are; gives those that are kept.

    `state`, changed in place: the number of each row among all (m,), the number of its keeper or -1 (m,), and which of
    all are kept (n,). What rows that were taken before stand for has its keeper already (see `covered`).
    """
    number, keeper, kept = state
    found = np.empty(0, np.int64)
    for first in range(0, len(order), _BLOCK):
        rows = order[first : first + _BLOCK]
        left = rows[keeper[rows] < 0]
        place = covered(spaces, left, found)
        keeper[left[place >= 0]] = number[found[place[place >= 0]]]
        within = near_of(spaces, rows, rows)
        new: list[int] = []
        for place_of, row in enumerate(rows):
            if keeper[row] < 0:
                stands = [each for each in new if within[place_of, each]]
                others = [each for each in neighbours.to(int(number[row])) if kept[each]]
                keeper[row] = number[rows[stands[0]]] if stands else others[0] if others else number[row]
                if keeper[row] == number[row]:
                    new.append(place_of)
                    kept[number[row]] = True
        found = np.concatenate([found, rows[new]])
    return found


def covered(spaces: Sequence[Space], rows: Rows, others: Rows) -> Rows:
    """For each of `rows` (r,) the place in `others` (o,) of the first that is near it, -1 for none: (r,)."""
    place = np.full(len(rows), -1, np.int64)
    for first in range(0, len(rows), _BLOCK):
        some = place[first : first + _BLOCK]
        for start, tile in zip(range(0, len(others), _TILE), _tiles(others), strict=True):
            left = np.flatnonzero(some < 0)
            near = near_of(spaces, rows[first + left], tile)
            hit = near.any(axis=1)
            some[left[hit]] = start + near[hit].argmax(axis=1)
    return place


def faults(spaces: Sequence[Space], kept: Kept, edges: Edges = NO_EDGES) -> Faults:
    """Check a `Kept` pair by pair, independently of how it was found: nothing is wrong where both parts are empty."""
    removed = np.flatnonzero(~kept.kept)
    own = {(min(pair), max(pair)) for pair in zip(edges.left.tolist(), edges.right.tolist(), strict=True)}
    near = near_pairs(spaces, removed, kept.keeper[removed])
    listed = [(min(pair), max(pair)) in own for pair in zip(removed, kept.keeper[removed], strict=True)]
    covered = kept.kept[kept.keeper[removed]] & (near | np.array(listed, np.bool_))
    rows = np.flatnonzero(kept.kept)
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first in range(0, len(rows), _BLOCK):
        some = rows[first : first + _BLOCK]
        for tile in _tiles(rows[first:]):
            one, other = np.nonzero(near_of(spaces, some, tile) & (some[:, None] < tile[None, :]))
            left.append(some[one])
            right.append(tile[other])
    both = kept.kept[edges.left] & kept.kept[edges.right]
    close = Edges(np.concatenate([*left, edges.left[both]]), np.concatenate([*right, edges.right[both]]))
    return Faults(removed[~covered], close)


def near_pairs(spaces: Sequence[Space], left: Rows, right: Rows) -> Bools:
    """Which pairs of rows are near in every space that has both, and one has: (p,), scored in float64."""
    near, seen = np.ones(len(left), np.bool_), np.zeros(len(left), np.bool_)
    for vectors, min_score in spaces:
        both = vectors[left].any(axis=1) & vectors[right].any(axis=1)
        near &= ~both | (pair_scores(vectors, left, right) >= np.float64(min_score))
        seen |= both
    return near & seen


def near_of(spaces: Sequence[Space], rows: Rows, others: Rows) -> Bools:
    """Which of `rows` (r,) are near which of `others` (o,): (r, o)."""
    near, seen = None, np.zeros((len(rows), len(others)), np.bool_)
    for space in spaces:
        some, them = space.vectors[rows], space.vectors[others]
        there = np.asarray(some.any(axis=1)), np.asarray(them.any(axis=1))
        close = _close(space, (rows, some), (others, them))
        if there[0].all() and there[1].all():
            near, seen[:] = close if near is None else near & close, True
            continue
        both = np.logical_and.outer(*there)
        near = (close | ~both) if near is None else near & (close | ~both)
        seen |= both
    return seen if near is None else near & seen


def _close(space: Space, some: tuple[Rows, NDArray[np.float32]], them: tuple[Rows, NDArray[np.float32]]) -> Bools:
    """Pairs of score at least `min_score` in one space: a rough product, and float64 for those it leaves in doubt."""
    rough = some[1] @ them[1].T
    slack = (rough.dtype.type(space.vectors.shape[1] + 4)) * np.finfo(np.float32).eps
    close = rough >= np.float32(space.min_score - slack)
    one, other = np.nonzero(close)
    doubtful = rough[one, other] <= space.min_score + slack
    one, other = one[doubtful], other[doubtful]
    exact = pair_scores(space.vectors, some[0][one], them[0][other]) >= np.float64(space.min_score)
    close[one, other] = exact
    return close


def _tiles(rows: Rows) -> Iterator[Rows]:
    return (rows[first : first + _TILE] for first in range(0, len(rows), _TILE))
