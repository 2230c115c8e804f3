"""Greedy choice for submodular goals: gains only fall, so few need to be known anew at each pick (Minoux 1978)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.candidates import Free, Picked, Rows

_MOST_AT_ONCE = 64


class Gaining(Protocol):
    """A goal that grows with every pick, by less the later it comes."""

    def gains(self, rows: Rows) -> NDArray[np.float64]:
        """What each of `rows` (m,) would add now."""
        ...

    def pick(self, row: int) -> None:
        """Take a row."""
        ...


def lazy_greedy(bounds: NDArray[np.float64], budget: int, free: Free, goal: Gaining) -> Picked:
    """Pick the `free` row of the largest gain, until the `budget` is spent or none is free: what plain greedy picks.

    `bounds` (n,) are at least what the rows gain at first. The row of the largest bound is asked for its gain, and is
    the best if that is not below the bounds of the others. Several are asked at once, more the longer it takes. Equal
    gains: the lower row, as far as floating point tells them equal.
    """
    bounds = np.where(free.rows, bounds, -np.inf)
    known_at = np.full(len(bounds), -1)
    rows: list[int] = []
    gains: list[float] = []
    at_once = 1
    while len(rows) < budget and len(bounds):
        best = int(bounds.argmax())
        if bounds[best] == -np.inf:
            break
        if known_at[best] < len(rows):
            asked = _stale(bounds, known_at, len(rows), at_once)
            bounds[asked], known_at[asked] = goal.gains(asked), len(rows)
            at_once = min(_MOST_AT_ONCE, at_once * 2)
            continue
        gains.append(float(bounds[best]))
        rows.append(best)
        goal.pick(best)
        free.take(best)
        bounds[~free.rows] = -np.inf
        at_once = max(1, at_once // 2)
    return Picked(np.array(rows, np.int64), np.array(gains, np.float32))


def _stale(bounds: NDArray[np.float64], known_at: Rows, now: int, most: int) -> Rows:
    """Of the `most` rows of the largest bounds, ascending, those whose gains are not known: the best is one of them."""
    most = min(most, len(bounds))
    rows = np.union1d(np.argpartition(bounds, len(bounds) - most)[len(bounds) - most :], [bounds.argmax()])
    stale: Rows = rows[(known_at[rows] < now) & (bounds[rows] > -np.inf)]
    return stale
