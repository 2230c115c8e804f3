"""Rows to choose from: which may be chosen, how much each counts, groups with a limit, and what is chosen already."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


class Picked(NamedTuple):
    """Rows in the order they were picked, int64 (m,), and what each gained when it was, float32 (m,).

    `cover`, where a method tells: how far any row is from the nearest picked one, and what no choice of as many gets
    below.
    """

    rows: Rows
    gains: NDArray[np.float32]
    cover: tuple[float, float] | None = None


@dataclass(frozen=True)
class Candidates:
    """Of n rows, all arrays (n,) but `preselected` (p,); what is None does not limit.

    `mask`: the rows that may be picked and are to be stood for. `weights` >= 0: how much each counts. `groups`
    integers, such as the number of a drive: at most `limit` rows of each are picked, those preselected included.
    `preselected`: rows that are chosen already and stand for others from the start; they are never picked, and need not
    be in `mask`.
    """

    mask: NDArray[np.bool_] | None = None
    weights: NDArray[np.floating] | None = None
    groups: NDArray[np.integer] | None = None
    limit: int | None = None
    preselected: NDArray[np.integer] | None = None

    def checked(self, vectors: Vectors, budget: int) -> Candidates:
        """Itself. Raises ValueError where a part does not fit `vectors` (n, d), or vectors or budget are unusable."""
        if budget < 0:
            raise ValueError(f"budget must not be negative, got {budget}")
        if vectors.ndim != 2 or not np.isfinite(np.sum(vectors, dtype=np.float64)):
            raise ValueError(f"vectors must be (n, d) and finite, got {vectors.shape}")
        n = len(vectors)
        for name in ("mask", "weights", "groups"):
            part = getattr(self, name)
            if part is not None and part.shape != (n,):
                raise ValueError(f"{name} must be ({n},), got {part.shape}")
        if self.mask is not None and self.mask.dtype != np.bool_:
            raise ValueError(f"mask must be of booleans, got {self.mask.dtype}")
        if self.weights is not None and not (np.isfinite(self.weights).all() and (self.weights >= 0).all()):
            raise ValueError("weights must be finite and not negative")
        if (self.limit is None) != (self.groups is None) or (self.limit is not None and self.limit < 0):
            raise ValueError(f"groups and a limit of 0 or more go together, got limit {self.limit}")
        chosen = self.chosen
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < n:
            raise ValueError(f"preselected rows must be 0 to {n - 1}, got {chosen.min()} to {chosen.max()}")
        return self

    @property
    def chosen(self) -> Rows:
        """The preselected rows, none twice."""
        return np.unique(np.asarray(() if self.preselected is None else self.preselected, np.int64))

    def counted(self, n: int) -> NDArray[np.bool_]:
        """Which of the `n` rows are to be stood for."""
        return np.ones(n, np.bool_) if self.mask is None else self.mask

    def weighted(self, n: int) -> Vectors:
        """How much each of the `n` rows counts, float32 (n,): 0 outside the mask."""
        weights = np.ones(n, np.float32) if self.weights is None else self.weights.astype(np.float32)
        return weights if self.mask is None else np.where(self.mask, weights, np.float32(0))


class Free:
    """Which rows may still be picked: `rows` (n,) bool, which `take` keeps up to date."""

    def __init__(self, candidates: Candidates, n: int) -> None:
        self.rows = candidates.counted(n).copy()
        self._groups = None if candidates.groups is None else np.unique(candidates.groups, return_inverse=True)[1]
        self._left = np.zeros(0, np.int64)
        if self._groups is not None and candidates.limit is not None:
            used = np.bincount(self._groups[candidates.chosen], minlength=int(self._groups.max(initial=-1)) + 1)
            self._left = candidates.limit - used
            self.rows &= self._left[self._groups] > 0
        self.rows[candidates.chosen] = False

    def among(self, rows: Rows) -> Free:
        """The same of some rows alone, which are numbered anew: what is taken there is not taken here."""
        some = copy(self)
        some.rows, some._left = self.rows[rows], self._left.copy()
        some._groups = None if self._groups is None else self._groups[rows]
        return some

    def take(self, row: int) -> None:
        """Picked: the row is free no more, and its group when that is full."""
        self.rows[row] = False
        if self._groups is not None:
            group = self._groups[row]
            self._left[group] -= 1
            if not self._left[group]:
                self.rows[self._groups == group] = False
