"""Rows drawn at random in proportion to their weights: what every other strategy must beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from kernels.candidates import Candidates, Free, Picked, Vectors


class RandomStrategy:
    """Without replacement, as many of a group as its limit allows. Gains are 0."""

    name: ClassVar[str] = "random"

    def select(self, candidates: Candidates, vectors: Vectors, budget: int, seed: int) -> Picked:
        """See `miner.strategies.Strategy`. By -log(u) / weight (Efraimidis and Spirakis 2006); weight 0 comes last."""
        asked = candidates.checked(vectors, budget)
        n = len(vectors)
        waits = np.random.default_rng(seed).exponential(size=n)
        weights = np.ones(n) if asked.weights is None else asked.weights.astype(np.float64)
        order = np.lexsort((waits / np.where(weights > 0, weights, 1), weights == 0))
        free = Free(asked, n)
        rows: list[int] = []
        for row in order.tolist():
            if len(rows) == budget:
                break
            if free.rows[row]:
                free.take(row)
                rows.append(row)
        return Picked(np.array(rows, np.int64), np.zeros(len(rows), np.float32))
