"""AND, OR, NOT over probabilities: laws, and what is not known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from miner.query.logic import Truth, concepts_of, leads, probability, required
from miner.query.text import parse_query
from miner.query.tree import And, Concept, Count, Frames, Node, Not, Or, Text, leaves
from tests.miner.query.trees import LOGICAL


def of(tree: Node, seed: int, crisp: bool = False) -> tuple[dict[Truth, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    values = {leaf: rng.integers(0, 2, 8).astype(float) if crisp else rng.random(8) for leaf in leaves(tree)}
    return values, probability(tree, values.__getitem__)  # type: ignore[arg-type]


@given(LOGICAL, st.integers(0, 9))
def test_probabilities_stay_probabilities(tree: Node, seed: int) -> None:
    values, found = of(tree, seed)
    assert found.shape == (8,) and (found >= 0).all() and (found <= 1).all()
    np.testing.assert_allclose(probability(Not(tree), values.__getitem__), 1 - found)  # type: ignore[arg-type]


@given(LOGICAL, st.integers(0, 9))
def test_what_is_certain_is_plain_logic(tree: Node, seed: int) -> None:
    values, found = of(tree, seed, crisp=True)

    def plain(node: Node, at: int) -> bool:
        if isinstance(node, And | Or):
            parts = [plain(part, at) for part in node.parts]
            return all(parts) if isinstance(node, And) else any(parts)
        return not plain(node.part, at) if isinstance(node, Not) else bool(values[node][at])  # type: ignore[index]

    assert [bool(each) for each in found] == [plain(tree, at) for at in range(8)]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_de_morgan(values: list[float]) -> None:
    a, b = Concept("a"), Concept("b")
    one, other = Not(And((a, b))), Or((Not(a), Not(b)))
    given_values = dict(zip((a, b), map(np.array, values), strict=True))
    np.testing.assert_allclose(probability(one, given_values.get), probability(other, given_values.get))


def test_what_is_not_known() -> None:
    known = {Concept("a"): np.array([np.nan, 0.5]), Concept("b"): np.array([0.5, 0.5])}

    def found(text: str) -> list[float]:
        return [float(each) for each in probability(parse_query(text), known.get)]

    assert np.isnan(found("a")[0]) and np.isnan(found("not a")[0]) and np.isnan(found("a and b")[0])
    assert found("a or b") == [0.5, 0.75] and found("a and b")[1] == 0.25 and np.isnan(found("a or a")[0])


def test_what_must_hold_and_what_is_named() -> None:
    tree = parse_query('count(a) > 1 and (count(b) > 2 or c) and (count(d) = 0 and not "e") and frames(c) > 1')
    assert [count.concept for count in required(tree)] == ["a", "d"]
    assert [getattr(leaf, "name", None) or leaf.text for leaf in concepts_of(tree)] == ["c", "e"]  # type: ignore[union-attr]


def test_what_leads_to_where_a_tree_holds() -> None:
    """By the truth table of each: where it holds although none of its leads is near, nothing leads."""
    a, b = Text("a"), Text("b")
    assert leads(And((a, Not(b)))) == [a] and leads(Or((a, b))) == [a, b]
    assert leads(Or((a, Not(b)))) is None and leads(Not(And((a, b)))) is None
    assert leads(Not(Or((Not(a), b)))) == [a] and leads(Not(Not(a))) == [a]
    assert leads(Or((a, Count("car", ">=", 1)))) is None and leads(And((a, Count("car", ">=", 1)))) == [a]
    for comparison, number, holds in [
        (">", 0, True),
        (">=", 1, True),
        ("=", 2, True),
        ("<", 3, False),
        ("<=", 0, False),
    ]:
        frames = Frames(a, comparison, number)  # type: ignore[arg-type]
        assert (leads(frames) == [a]) is holds and (leads(Not(frames)) == [a]) is not holds
    for comparison in (">=", "=", "<"):  # always, in clips without one, never
        assert leads(Frames(a, comparison, 0)) is None  # type: ignore[arg-type]
