"""The directions of a query, sensor by sensor, and which part of it owns which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from miner.concepts.known import Concepts
from miner.query.logic import concepts_of, leads
from miner.query.scan import Direction
from miner.query.sought import Sought, seek
from miner.query.sources import Sources
from miner.query.tree import LOGICAL, RANKING, Concept, Disagree, Fuse, Node, Text, Weighted

Key = Concept | Text | tuple[str, str]  # a concept, a sensor's vector, or one kind of parts behind it


@dataclass(frozen=True)
class Terms:
    """A query's parts: `sought` by vector, `logical` by probability, `disagree`; `column` is where a key's direction
    stands among the `directions` of its sensor. What is found is near to one of the `leads` of a sensor."""

    sought: tuple[Sought, ...]
    logical: tuple[Weighted, ...]
    disagree: tuple[Weighted, ...]
    concepts: Concepts
    directions: Mapping[str, list[Direction]]
    leads: Mapping[str, list[Direction]]
    column: Mapping[Key, tuple[str, int]] = field(repr=False)

    @classmethod
    def of(cls, sources: Sources, tree: Node, sensors: Sequence[str]) -> Terms:
        """Everything encoded and every concept known. Raises as the encoders and the concepts do."""
        parts = parts_of(tree)
        sought = tuple(seek(sources, [part for part in parts if isinstance(part.part, RANKING)], sensors))
        logical = tuple(part for part in parts if isinstance(part.part, LOGICAL))
        concepts = Concepts(sources)
        directions: dict[str, list[Direction]] = {sensor: [] for sensor in sensors}
        column: dict[Key, tuple[str, int]] = {}

        def add(key: Key, sensor: str, direction: Direction) -> None:
            column[key] = sensor, len(directions[sensor])
            directions[sensor].append(direction)

        for each in sought:
            add(("vector", each.sensor), each.sensor, Direction(each.vector, each.asks))
            for kind, vector in each.kinds.items():
                add((kind, each.sensor), each.sensor, Direction(vector, "text" if kind.endswith("text") else "image"))
        wanted = list(dict.fromkeys(leaf for part in logical for leaf in concepts_of(part.part)))
        for leaf, known in zip(wanted, concepts.known(wanted), strict=True):
            add(leaf, "camera", Direction(known.direction, "text"))
        disagree = tuple(part for part in parts if isinstance(part.part, Disagree))
        near: dict[str, list[Direction]] = {sensor: [] for sensor in sensors}
        for key in _leading(sought, logical):
            sensor, place = column[key]
            near[sensor].append(directions[sensor][place])
        return cls(sought, logical, disagree, concepts, directions, near, column)


def _leading(sought: Sequence[Sought], logical: Sequence[Weighted]) -> list[Key]:
    """What clips that are found are near to."""
    vectors: list[Key] = [("vector", each.sensor) for each in sought if each.weight > 0]
    found = [leads(part.part) or [] for part in logical if part.weight > 0]
    return [*vectors, *dict.fromkeys(leaf for each in found for leaf in each)]


def parts_of(tree: Node) -> tuple[Weighted, ...]:
    """The parts of a sum; the tree itself where it is none."""
    return tree.parts if isinstance(tree, Fuse) else (Weighted(tree),)


def is_one_vector(tree: Node, sensors: Sequence[str]) -> bool:
    """Whether a query is the search for one vector, which an index answers by itself."""
    return len(sensors) == 1 and all(isinstance(part.part, RANKING) for part in parts_of(tree))
