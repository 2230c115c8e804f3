"""What a strategy is: a way to choose, of many rows with vectors, those to train on.

One file each; `embeddings/plugins.py` names them in the group `miner.strategies`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from embeddings.plugins import load_plugin
from kernels.candidates import Candidates, Picked, Vectors


@runtime_checkable
class Strategy(Protocol):
    """Made without arguments; holds no state."""

    name: ClassVar[str]

    def select(self, candidates: Candidates, vectors: Vectors, budget: int, seed: int) -> Picked:
        """At most `budget` of the unit rows `vectors` (n, d), in the order they were picked, and what each gained.

        Fewer only where `candidates` leave no more. The same arguments, the same answer. Raises ValueError as
        `Candidates.checked`.
        """
        ...


def load_strategy(name: str) -> Strategy:
    """The strategy of that name. Raises UnknownPlugin, which lists the known ones."""
    strategy: Strategy = load_plugin("miner.strategies", name)()
    return strategy
