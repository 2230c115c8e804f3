"""The kept set against a plain greedy loop, its promise by brute force, and what the promise check itself finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.independent_set import Kept, broken_promises, independent_set
from kernels.neighbors import Pairs, radius_pairs
from tests.kernels.test_neighbors import unit


def near_pairs(vectors: NDArray[np.float32], min_score: float) -> Pairs:
    parts = list(radius_pairs(vectors, min_score))
    if not parts:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    return Pairs(*(np.concatenate([part[i] for part in parts]) for i in range(3)))


def plain(scores: NDArray[np.float64], min_score: float, order: list[int], fixed: list[int]) -> list[int]:
    """Taken in order, a row is kept unless one kept already is near."""
    kept = list(fixed)
    for row in order:
        if row not in kept and not any(scores[row, other] >= min_score for other in kept):
            kept.append(row)
    return sorted(set(kept))


@st.composite
def drives(draw: st.DrawFn) -> tuple[NDArray[np.float32], float, NDArray[np.float64] | None, list[int]]:
    """Slowly drifting frames and copies, a threshold, priorities with ties, preselected rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(0, 50))
    steps = rng.normal(size=(rows, 8)) * draw(st.sampled_from([0.1, 0.3, 1.0]))
    vectors = unit(rng, rows, 8) * 0.1 + np.cumsum(steps, axis=0).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    vectors = vectors[np.sort(rng.integers(0, rows, rows))] if rows and draw(st.booleans()) else vectors
    priority = draw(st.sampled_from([None, rng.integers(0, 5, rows).astype(float)]))
    fixed = rng.choice(rows, min(rows, draw(st.integers(0, 3))), replace=False).tolist()
    return vectors.astype(np.float32), draw(st.sampled_from([0.5, 0.9, 0.99])), priority, fixed


@settings(max_examples=200, deadline=None)
@given(drives())
def test_is_the_plain_greedy_set_and_keeps_its_promise(drive) -> None:  # type: ignore[no-untyped-def]
    vectors, min_score, priority, fixed = drive
    n = len(vectors)
    found = independent_set(near_pairs(vectors, min_score), n, priority, np.array(fixed, np.int64))
    scores = (vectors.astype(float) @ vectors.T.astype(float)).astype(np.float32)
    order = sorted(range(n), key=lambda row: (0 if priority is None else -priority[row], row))
    assert np.flatnonzero(found.kept).tolist() == plain(scores, min_score, order, fixed)
    kept = np.flatnonzero(found.kept)
    for row in range(n):
        if found.kept[row]:
            assert found.keeper[row] == row
        else:
            assert scores[row, found.keeper[row]] == pytest.approx(scores[row, kept].max(), abs=1e-6)
    broken = broken_promises(vectors, found, min_score)
    assert not len(broken.uncovered)
    assert {*broken.close.left.tolist(), *broken.close.right.tolist()} <= set(fixed)


def test_a_slow_drift_leaves_nobody_without_a_keeper() -> None:
    """Each frame is near the next few only: the rule "near any earlier row" keeps one and loses the rest."""
    angles = np.arange(60) * 0.05
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = independent_set(near_pairs(vectors, np.cos(0.12)), 60)
    assert np.flatnonzero(found.kept).tolist() == list(range(0, 60, 3))


def test_broken_promises_are_found() -> None:
    angles = np.arange(6) * 0.1
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    kept = np.array([True, True, False, False, True, False])
    broken = broken_promises(vectors, Kept(kept, np.array([0, 1, 1, 0, 4, 3])), float(np.cos(0.15)))
    assert broken.uncovered.tolist() == [3, 5]  # too far; kept by one that is removed itself
    assert (broken.close.left.tolist(), broken.close.right.tolist()) == ([0], [1])


def test_refuses() -> None:
    pairs = Pairs(np.array([0]), np.array([3]), np.ones(1, np.float32))
    with pytest.raises(ValueError):
        independent_set(pairs, 3)
    with pytest.raises(ValueError):
        independent_set(pairs, 4, np.ones(3))
    for row in (4, -1):
        with pytest.raises(ValueError):
            independent_set(pairs, 4, preselected=np.array([row]))
