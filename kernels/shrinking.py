"""Greedy choice by blocks, exactly, where every pick can only lower what the other rows are worth.

One pick at a time, each against all n rows, is bound by memory. But worth only falls: among the few thousand rows worth
most, the greedy choice is certain until it is worth no more than the best of the other rows was. So picks are made
inside that block, which stays in the cache, and then applied to all rows together by one matrix product.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.candidates import Free, Picked, Rows, Vectors

_BLOCKS = (8192, 512)  # rows: the inner block stays in the second-level cache, the outer one in the third
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
    run = _Run(free, goal, [], [])
    _pick(run, _Part(np.arange(len(vectors)), vectors, state), -np.inf, budget, _BLOCKS)
    return Picked(np.array(run.rows, np.int64), np.array(run.gains, np.float32))


def apply(vectors: Vectors, directions: Vectors, goal: Shrinking, state: State, block: Rows | None = None) -> None:
    """Change the state (n,) of rows by picks of `directions` (picks, d), in place; `block` (n,): their numbers."""
    for start in range(0, len(vectors), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        products = (vectors[rows] @ directions.T).T
        state[rows] = goal.changed(state[rows], products, rows if block is None else block[rows])


class _Run(NamedTuple):
    """What is picked from by what goal, the picks so far, and their gains."""

    free: Free
    goal: Shrinking
    rows: list[int]
    gains: list[float]


class _Part(NamedTuple):
    """Some rows: their numbers (m,), vectors (m, d) and state (m,)."""

    rows: Rows
    vectors: Vectors
    state: State


def _pick(run: _Run, part: _Part, floor: float, most: int, blocks: tuple[int, ...]) -> Vectors:
    """Pick in a part while nothing outside, worth `floor` at most, can be better; the directions of the picks.

    The first is picked in any case: the caller knows that it is the best.
    """
    directions = np.empty((0, part.vectors.shape[1]), np.float32)
    while len(directions) < most and len(part.rows):
        worth = np.where(run.free.rows[part.rows], run.goal.worth(part.state, part.rows), -np.inf)
        best = int(worth.argmax())
        if worth[best] == -np.inf or (len(directions) and worth[best] <= floor):
            break
        if blocks:
            inside, below = _block(worth, blocks[0])
            block = _Part(part.rows[inside], part.vectors[inside], part.state[inside])
            new = _pick(run, block, max(floor, below), most - len(directions), blocks[1:])
        else:
            run.rows.append(int(part.rows[best]))
            run.gains.append(float(worth[best]))
            run.free.take(run.rows[-1])
            new = run.goal.direction(run.rows[-1], part.vectors[best])[None]
        apply(part.vectors, new, run.goal, part.state, part.rows)
        directions = np.concatenate([directions, new])
    return directions


def _block(worth: NDArray[np.floating], size: int) -> tuple[Rows, float]:
    """Places of the `size` rows worth most, ascending, the first best among them; the best worth of the others."""
    if len(worth) <= size:
        return np.arange(len(worth)), -np.inf
    order = np.argpartition(worth, len(worth) - size - 1)
    floor = worth[order[len(worth) - size - 1]]
    return np.union1d(order[len(worth) - size :], [worth.argmax()]), float(floor)
