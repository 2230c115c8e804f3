"""Facility location against plain greedy over the whole matrix, and the form that looks at less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels import facility_location as module
from kernels.candidates import Candidates, Free
from kernels.facility_location import facility_location
from tests.kernels.test_neighbors import unit


def likeness(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(float)
    return (1 + wide @ wide.T) / 2


def goal(like: NDArray[np.float64], weights: NDArray[np.float64], rows: list[int]) -> float:
    return float((like[:, rows].max(axis=1, initial=0) * weights).sum())


def assert_greedy(like: NDArray[np.float64], weights: NDArray[np.float64], picked, asked: Candidates) -> None:  # type: ignore[no-untyped-def]
    """Each pick gains as much as any row that was free then could have, to within rounding."""
    rows, chosen = [int(row) for row in asked.chosen], asked.chosen
    free = asked.counted(len(like)) & ~np.isin(np.arange(len(like)), chosen)
    for row, gain in zip(picked.rows.tolist(), picked.gains.tolist(), strict=True):
        now = goal(like, weights, rows)
        open_rows = [r for r in np.flatnonzero(free).tolist() if _has_room(asked, rows, r)]
        best = max(goal(like, weights, [*rows, r]) for r in open_rows) - now
        rows.append(row)
        assert row in open_rows and goal(like, weights, rows) - now >= best - 1e-4
        assert gain == pytest.approx(best, abs=1e-3)
        free[row] = False


def _has_room(asked: Candidates, rows: list[int], row: int) -> bool:
    return asked.groups is None or (asked.groups[rows] == asked.groups[row]).sum() < (asked.limit or 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 25), st.integers(0, 12), st.booleans(), st.booleans(), st.integers(0, 2))
def test_is_greedy(seed: int, n: int, k: int, masked: bool, weighted: bool, limit: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng, max(n, 1), 5)[rng.integers(0, max(n, 1), n)] if seed % 2 else unit(rng, n, 5)
    asked = Candidates(
        mask=rng.random(n) < 0.6 if masked else None,
        weights=rng.random(n) if weighted else None,
        groups=rng.integers(0, 5, n) if limit else None,
        limit=limit or None,
        preselected=rng.choice(n, min(n, 2), replace=False) if seed % 3 == 0 else None,
    )
    weights = asked.weighted(n).astype(float)
    picked = facility_location(vectors, k, asked)
    assert_greedy(likeness(vectors), weights, picked, asked)
    assert all(np.array_equal(a, b) for a, b in zip(picked, facility_location(vectors, k, asked), strict=True))
    if not limit:
        assert len(picked.rows) == min(k, int((asked.counted(n) & ~np.isin(np.arange(n), asked.chosen)).sum()))
    elsewhere = facility_location(vectors, k, asked, sample=1, seed=seed)  # of two or 4 k rows at a time
    assert len(elsewhere.rows) == len(np.unique(elsewhere.rows)) and not np.isin(elsewhere.rows, asked.chosen).any()
    assert asked.counted(n)[elsewhere.rows].all()
    taken = np.concatenate([asked.chosen, elsewhere.rows])
    free = Free(replace(asked, preselected=taken), n).rows
    assert len(elsewhere.rows) == k or not free.any()


@pytest.mark.parametrize("memory", [400_000_000, 1])
def test_equals_exact_greedy_with_and_without_room(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMORY", memory)
    rng = np.random.default_rng(0)
    vectors = np.repeat(unit(rng, 60, 16), 10, axis=0) + 0.5 * unit(rng, 600, 16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    like, weights = likeness(vectors), np.ones(600)
    rows: list[int] = []
    for _ in range(40):
        best = np.zeros(600) if not rows else like[:, rows].max(axis=1)
        rows.append(int(np.maximum(like - best[:, None], 0).sum(axis=0).argmax()))
    picked = facility_location(vectors, 40)
    assert goal(like, weights, picked.rows.tolist()) == pytest.approx(goal(like, weights, rows), rel=1e-3)
    assert picked.gains.sum() == pytest.approx(goal(like, weights, picked.rows.tolist()), rel=1e-5)


@pytest.mark.parametrize("seed", [2, 3, 12])
def test_what_is_asked_for_together_stays_while_room_is_made(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMORY", 1)
    rng = np.random.default_rng(seed)
    vectors = unit(rng, 30, 8)[rng.integers(0, 30, 1200)] + 0.2 * unit(rng, 1200, 8)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    like, weights = likeness(vectors), np.ones(1200)
    picked = facility_location(vectors, 50)
    reached = [goal(like, weights, picked.rows[:count].tolist()) for count in range(51)]
    assert np.allclose(np.diff(reached), picked.gains, atol=1e-3)
    rows: list[int] = []
    for _ in range(50):
        best = like[:, rows].max(axis=1, initial=0)
        rows.append(int(np.maximum(like - best[:, None], 0).sum(axis=0).argmax()))
    assert reached[-1] == pytest.approx(goal(like, weights, rows), abs=1e-2)


def test_a_sample_comes_near() -> None:
    rng = np.random.default_rng(1)
    vectors = np.repeat(unit(rng, 100, 16), 20, axis=0) + 0.4 * unit(rng, 2000, 16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    like, weights = likeness(vectors), np.ones(2000)
    exact = goal(like, weights, facility_location(vectors, 100).rows.tolist())
    sampled = facility_location(vectors, 100, sample=800, seed=3)
    assert goal(like, weights, sampled.rows.tolist()) > 0.98 * exact
    assert np.array_equal(sampled.rows, facility_location(vectors, 100, sample=800, seed=3).rows)


def test_equal_rows_are_picked_once_and_lowest_first() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    assert facility_location(vectors, 4).rows.tolist() == [0, 5, 10, 1]
