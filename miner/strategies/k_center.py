"""No row far from what is chosen: the farthest is picked, again and again."""

from __future__ import annotations

from typing import ClassVar

from kernels.candidates import Candidates, Picked, Vectors
from kernels.k_center import k_center


class KCenterStrategy:
    """Gains are distances in radians to what was chosen before, times weights; it tells its `cover`."""

    name: ClassVar[str] = "k_center"

    def select(self, candidates: Candidates, vectors: Vectors, budget: int, seed: int) -> Picked:
        """See `miner.strategies.Strategy`."""
        found = k_center(vectors, budget, candidates, seed)
        return Picked(found.rows, found.gains, (found.radius, found.lower_bound))
