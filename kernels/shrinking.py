"""Greedy choice by blocks, exactly, where every pick can only lower what the other rows are worth.

One pick at a time, each against all n rows, is bound by memory. But worth only falls: among the few thousand rows worth
most, the greedy choice is certain until it is worth no more than the best of the other rows was. So picks are made
inside that block, which stays in the cache. The other rows hear of them later, by one matrix product for many, and only
when what they were worth before would make them the next pick: most never do (lazy evaluation, Minoux 1978).
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    """Pick the `free` row worth most, again and again, up to the `budget` or till none is free. Equal worth: the lower.

    `state` (n,) is changed in place, as far as picks had to be told to rows: none is worth more than it says, and that
    of the row worth most, picked or free, is true. Time O(n d budget), memory beyond the input O(n).
    """
    run, part = _Run(free, goal, [], []), _Part(goal, np.arange(len(vectors)), vectors, state)
    _pick(run, part, -np.inf, budget, _BLOCKS)
    while len(part.rows) and part.behind([int(part.worth.argmax())]):
        part.tell(_block(part.worth, _BLOCKS[0])[0])
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


@dataclass
class _Part:
    """Some rows: their numbers (m,), vectors (m, d) and state (m,), what they are worth by it (m,), the `directions`
    (picks, d) of all picks made from them, and how many of these each row was told, `told` (m,)."""

    goal: Shrinking
    rows: Rows
    vectors: Vectors
    state: State
    worth: NDArray[np.floating] = field(init=False)
    directions: Vectors = field(init=False)
    told: Rows = field(init=False)

    def __post_init__(self) -> None:
        self.worth = self.goal.worth(self.state, self.rows)
        self.directions = np.empty((0, self.vectors.shape[1]), np.float32)
        self.told = np.zeros(len(self.rows), np.int64)

    def behind(self, places: Rows | list[int]) -> bool:
        """Whether any of some rows was not told all picks."""
        return bool((self.told[places] < len(self.directions)).any())

    def tell(self, places: Rows) -> None:
        """Tell some rows (ascending) the picks that they were not told, those that lack the same ones together."""
        lacking = places[self.told[places] < len(self.directions)]
        for told in np.unique(self.told[lacking]):
            same = lacking[self.told[lacking] == told]
            some = slice(None) if len(same) == len(self.rows) else same  # no copy of all
            state = self.state[some]
            apply(self.vectors[some], self.directions[told:], self.goal, state, self.rows[some])
            self.state[some], self.worth[some] = state, self.goal.worth(state, self.rows[some])
        self.told[lacking] = len(self.directions)

    def join(self, block: _Part, places: Rows) -> None:
        """Take over what became of the rows at `places`, which knew all, in a part of their own."""
        self.state[places], self.worth[places] = block.state, block.worth
        self.told[places] = len(self.directions) + block.told
        self.directions = np.concatenate([self.directions, block.directions])


def _pick(run: _Run, part: _Part, floor: float, most: int, blocks: tuple[int, ...]) -> None:
    """Pick in a part while nothing outside, worth `floor` at most, can be better.

    The first is picked in any case: the caller knows that it is the best.
    """
    while len(part.directions) < most and len(part.rows):
        worth = np.where(run.free.rows[part.rows], part.worth, -np.inf)
        best = int(worth.argmax())
        if worth[best] == -np.inf or (len(part.directions) and worth[best] <= floor):
            break
        inside, below = _block(worth, blocks[0]) if blocks else (np.arange(len(worth)), -np.inf)
        if part.behind([best]):
            part.tell(inside)
        elif blocks:
            part.tell(inside)
            block = _Part(run.goal, part.rows[inside], part.vectors[inside], part.state[inside])
            _pick(run, block, max(floor, below), most - len(part.directions), blocks[1:])
            part.join(block, inside)
        else:
            _take(run, part, best)


def _take(run: _Run, part: _Part, place: int) -> None:
    """Pick the row at a place."""
    run.rows.append(int(part.rows[place]))
    run.gains.append(float(part.worth[place]))
    run.free.take(run.rows[-1])
    new = run.goal.direction(run.rows[-1], part.vectors[place])[None]
    part.directions = np.concatenate([part.directions, new])
    part.tell(np.arange(len(part.rows)))


def _block(worth: NDArray[np.floating], size: int) -> tuple[Rows, float]:
    """Places of the `size` rows worth most, ascending, the first best among them; the best worth of the others."""
    if len(worth) <= size:
        return np.arange(len(worth)), -np.inf
    order = np.argpartition(worth, len(worth) - size - 1)
    floor = worth[order[len(worth) - size - 1]]
    return np.union1d(order[len(worth) - size :], [worth.argmax()]), float(floor)
