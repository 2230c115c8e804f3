"""What is chosen is good and unlike itself: a determinantal point process, the candidates' weights being qualities."""

from __future__ import annotations

from typing import ClassVar

from kernels.candidates import Candidates, Picked, Vectors
from kernels.dpp import dpp


class DppStrategy:
    """Gains are logarithms of what each pick multiplied the determinant by."""

    name: ClassVar[str] = "dpp"

    def select(self, candidates: Candidates, vectors: Vectors, budget: int, seed: int) -> Picked:
        """See `miner.strategies.Strategy`."""
        return dpp(vectors, budget, candidates)
