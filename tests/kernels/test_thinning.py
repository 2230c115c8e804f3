"""Thinning against a plain loop and the independent set of listed pairs; its check against broken answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import thinning
from kernels.independent_set import Kept, independent_set
from kernels.neighbors import Pairs, radius_pairs
from kernels.thinning import NO_EDGES, Edges, Space, faults, near_pairs, thin
from tests.footages import mixture, unit


def oracle(spaces: list[Space], order: np.ndarray, edges: Edges) -> np.ndarray:
    """Kept rows (n,), one at a time."""
    listed = {*zip(edges.left.tolist(), edges.right.tolist(), strict=True)}
    kept: list[int] = []
    for row in order.tolist():
        rows = np.full(len(kept), row)
        near = near_pairs(spaces, rows, np.array(kept, np.int64)) if kept else np.zeros(0, np.bool_)
        if not near.any() and not any((row, other) in listed or (other, row) in listed for other in kept):
            kept.append(row)
    return np.isin(np.arange(len(order)), kept)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.floats(0, 0.6))
def test_is_the_greedy_set_and_keeps_its_promises(seed: int, count: int, eps: float) -> None:
    rng = np.random.default_rng(seed)
    camera, lidar = mixture(count, 3, rng, dim=6, spread=0.7), mixture(count, 2, rng, dim=4, spread=0.7)
    camera[rng.random(count) < 0.2] = 0
    lidar[rng.random(count) < 0.3] = 0
    spaces = [Space(camera, 1 - eps), Space(lidar, 1 - eps)]
    order = rng.permutation(count)
    ends = rng.integers(max(count, 1), size=(2, count // 6))
    edges = Edges(*ends[:, ends[0] != ends[1]])
    kept = thin(spaces, order, edges)
    assert (kept.kept == oracle(spaces, order, edges)).all()
    found = faults(spaces, kept, edges)
    assert not len(found.uncovered) and not len(found.close.left)


def test_is_the_independent_set_of_the_listed_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors, priority = mixture(700, 20, rng, spread=0.3), rng.random(700)
    parts = list(radius_pairs(vectors, 0.95))
    pairs = Pairs(*(np.concatenate([part[side] for part in parts]) for side in range(3)))
    expected = independent_set(pairs, 700, priority)
    order = np.argsort(-priority, kind="stable")
    found = thin([Space(vectors, 0.95)], order)
    assert (found.kept == expected.kept).all() and 20 < found.kept.sum() < 650
    monkeypatch.setattr(thinning, "_BLOCK", 37)
    monkeypatch.setattr(thinning, "_TILE", 50)
    assert (thin([Space(vectors, 0.95)], order).keeper == found.keeper).all()


def test_the_check_finds_what_is_broken() -> None:
    vectors = unit(np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1]]))
    spaces = [Space(vectors, 0.99)]
    good = thin(spaces, np.arange(4))
    assert good.keeper.tolist() == [0, 0, 2, 2]
    uncovered = faults(spaces, Kept(np.array([True, False, True, False]), np.array([0, 2, 2, 2])))
    assert uncovered.uncovered.tolist() == [1]
    close = faults(spaces, Kept(np.array([True, True, True, False]), np.array([0, 1, 2, 2])))
    assert list(zip(close.close.left, close.close.right, strict=True)) == [(0, 1)]
    gone = faults(spaces, Kept(np.array([False, False, True, False]), np.array([1, 0, 2, 2])))
    assert gone.uncovered.tolist() == [0, 1]
    linked = faults(spaces, good, Edges(np.array([0]), np.array([2])))
    assert linked.close.left.tolist() == [0]
    with pytest.raises(ValueError, match="once each"):
        thin(spaces, np.zeros(4, np.int64))
    with pytest.raises(ValueError, match="must join rows"):
        thin(spaces, np.arange(4), Edges(np.array([0]), np.array([9])))
    assert thin([Space(vectors[:0], 0.5)], np.arange(0), NO_EDGES).keeper.tolist() == []
