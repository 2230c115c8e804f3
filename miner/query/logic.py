"""AND, OR and NOT over probabilities that are taken as independent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miner.query.tree import And, Concept, Count, Frames, Node, Not, Or, Text, leaves

Floats = NDArray[np.float64]
Truth = Concept | Text | Count | Frames


def probability(node: Node, of: Callable[[Truth], Any]) -> Floats:
    """The probability of a logical tree, given those of its leaves: arrays of one shape, NaN where one is not known.

    AND is the product, OR the complement of the product of complements, NOT the complement. What is not known makes AND
    and NOT unknown; an OR goes by what is known.
    """
    if isinstance(node, And):
        product = probability(node.parts[0], of)
        for part in node.parts[1:]:
            product = product * probability(part, of)
        return product
    if isinstance(node, Or):
        parts = np.stack([probability(part, of) for part in node.parts])
        none: Floats = np.prod(1 - np.nan_to_num(parts, nan=0.0), axis=0)
        return np.where(np.isnan(parts).all(axis=0), np.nan, 1 - none)
    if isinstance(node, Not):
        return 1 - probability(node.part, of)
    if not isinstance(node, Concept | Text | Count | Frames):
        raise TypeError(f"{type(node).__name__} has no probability")
    value: Floats = np.asarray(of(node), np.float64)
    return value


def required(node: Node) -> list[Count]:
    """The counts without which nothing is true: those at the root or joined to it by AND."""
    if isinstance(node, And):
        return [count for part in node.parts for count in required(part)]
    return [node] if isinstance(node, Count) else []


def leads(node: Node, holds: bool = True) -> list[Concept | Text] | None:
    """The concepts one of which is near wherever a logical tree holds (or, if not `holds`, does not); None for a tree
    that may do so anywhere, as one does that denies a concept or counts annotations."""
    if isinstance(node, Not):
        return leads(node.part, not holds)
    if isinstance(node, And | Or):
        found = [leads(part, holds) for part in node.parts]
        known = [each for each in found if each is not None]
        one_is_enough = isinstance(node, And) == holds  # each part has to be so, so any of them leads there
        if not known or (len(known) < len(found) and not one_is_enough):
            return None
        return list(dict.fromkeys(leaf for each in known for leaf in each))
    if isinstance(node, Frames):
        some = {">": True, "<=": False, "<": False}.get(node.comparison, True) == holds
        always = node.number == 0 and node.comparison in (">=", "=", "<")
        return [node.of] if some and not always else None
    return [node] if holds and isinstance(node, Concept | Text) else None


def concepts_of(node: Node) -> list[Concept | Text]:
    """All concepts of a logical tree, each once."""
    inner = (leaf.of if isinstance(leaf, Frames) else leaf for leaf in leaves(node))
    return list(dict.fromkeys(leaf for leaf in inner if isinstance(leaf, Concept | Text)))
