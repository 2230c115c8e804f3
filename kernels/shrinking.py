"""Greedy choice by blocks, exactly, where every pick can only lower what the other rows are worth.

One pick at a time, each against all n rows, is bound by memory. But worth only falls: among the few thousand rows worth
most, the greedy choice is certain until it is worth no more than the best of the other rows was. So picks are made
inside that block, which stays in the cache, and then applied to all rows together by one matrix product.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.candidates import Free, Picked, Rows, Vectors

_BLOCK = 2048
_PICKS = 128
_AT_ONCE = 8192

State = NDArray[np.floating]


class Shrinking(Protocol):
    """What rows are worth, as a function of a state per row that the picks' inner products with the row change."""

    def worth(self, state: State, rows: Rows | slice) -> NDArray[np.floating]:
        """What `rows` in `state` are worth, (m,) each."""
        ...

    def direction(self, row: int, vector: Vectors) -> Vectors:
        """Pick `row`, which is `vector` (d,): another (d,), whose inner products with rows tell how it changes them."""
        ...

    def changed(self, state: State, products: Vectors, rows: Rows | slice) -> State:
        """The `state` (m,) of `rows` after picks with `products` (picks, m); never worth more than before."""
        ...


def shrinking_greedy(vectors: Vectors, budget: int, free: Free, goal: Shrinking, state: State) -> Picked:
    """Pick the `free` row worth most, change `state` (n,) in place, and again, up to the `budget` or till none is free.

    Equal worth: the lower row first. Time O(n d budget), memory beyond the input O(n).
    """
    picks: list[int] = []
    gains: list[float] = []
    while len(picks) < min(budget, len(vectors)):
        worth = np.where(free.rows, goal.worth(state, slice(None)), -np.inf)
        first = len(picks)
        directions = _pick_inside(vectors, min(_PICKS, budget - first), (free, goal, state, worth), picks, gains)
        if len(picks) == first:
            break
        apply(vectors, directions, goal, state)
    return Picked(np.array(picks, np.int64), np.array(gains, np.float32))


def apply(vectors: Vectors, directions: Vectors, goal: Shrinking, state: State) -> None:
    """Change the state (n,) of all rows by picks of these `directions` (picks, d), in place."""
    for start in range(0, len(vectors), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        state[rows] = goal.changed(state[rows], (vectors[rows] @ directions.T).T, rows)


def _pick_inside(
    vectors: Vectors,
    most: int,
    now: tuple[Free, Shrinking, State, NDArray[np.floating]],
    picks: list[int],
    gains: list[float],
) -> Vectors:
    """Pick in the block of rows worth most while that is certain, at most `most` times; the directions of the picks."""
    free, goal, state, worth = now
    block, floor = _block(worth)
    inside, own, worth = vectors[block], state[block], worth[block]
    directions: list[Vectors] = []
    while len(directions) < most:
        best = int(worth.argmax())
        if worth[best] == -np.inf or (directions and worth[best] <= floor):
            break
        picks.append(int(block[best]))
        gains.append(float(worth[best]))
        free.take(picks[-1])
        directions.append(goal.direction(picks[-1], inside[best]))
        own = goal.changed(own, (inside @ directions[-1])[None], block)
        worth = np.where(free.rows[block], goal.worth(own, block), -np.inf)
    return np.array(directions, np.float32).reshape(-1, vectors.shape[1])


def _block(worth: NDArray[np.floating]) -> tuple[Rows, float]:
    """The rows worth most, ascending, the first of the best among them; and what the best of the others is worth."""
    if len(worth) <= _BLOCK:
        return np.arange(len(worth)), -np.inf
    order = np.argpartition(worth, len(worth) - _BLOCK - 1)
    floor = worth[order[len(worth) - _BLOCK - 1]]
    return np.union1d(order[len(worth) - _BLOCK :], [worth.argmax()]), float(floor)
