"""Greedy k-center against the plain method, the optimum by trying all choices, and its laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.candidates import Candidates
from kernels.k_center import k_center
from tests.kernels.test_neighbors import unit

CLOSE = 2e-3  # radians: what float32 cosines near 1 can tell


def angles(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(float)
    return np.arccos(np.clip(wide @ wide.T, -1, 1))


def optimum(far: NDArray[np.float64], k: int, chosen: list[int]) -> float:
    """The least radius of any k rows besides those chosen."""
    return min(far[:, [*chosen, *rows]].min(axis=1).max() for rows in itertools.combinations(range(len(far)), k))


def assert_greedy(far: NDArray[np.float64], picks: list[int], gains: list[float], chosen: list[int]) -> None:
    """Each pick was the farthest, to within rounding, and its gain how far."""
    for step, row in enumerate(picks):
        before = [*chosen, *picks[:step]]
        if before:
            distance = far[:, before].min(axis=1)
            assert distance[row] >= distance.max() - CLOSE and gains[step] == pytest.approx(distance[row], abs=CLOSE)


def test_radius_is_at_most_twice_the_optimum_of_500_small_cases() -> None:
    rng = np.random.default_rng(0)
    for case in range(500):
        n, k = int(rng.integers(2, 11)), int(rng.integers(1, 4))
        vectors = unit(rng, n, int(rng.integers(2, 6)))
        vectors = vectors[rng.integers(0, n, n)] if case % 3 == 0 else vectors
        chosen = rng.choice(n, case % 2, replace=False).tolist()
        k = min(k, n - len(chosen))
        found = k_center(vectors, k, Candidates(preselected=np.array(chosen, np.int64)), seed=case)
        far = angles(vectors)
        best = optimum(far, k, chosen)
        assert found.radius == pytest.approx(far[:, [*chosen, *found.rows]].min(axis=1).max(), abs=CLOSE)
        assert found.lower_bound <= best + CLOSE and found.radius <= 2 * best + CLOSE
        assert found.lower_bound >= found.radius / 2 - CLOSE
        assert_greedy(far, found.rows.tolist(), found.gains.tolist(), chosen)


def test_blocks_pick_what_single_steps_pick() -> None:
    """More rows than a block, more picks than one block can be sure of."""
    rng = np.random.default_rng(1)
    vectors = unit(rng, 9000, 24)
    vectors[4000:4500] = vectors[4000]
    found = k_center(vectors, 300, seed=3)
    nearest = vectors @ vectors[found.rows[0]]
    plain = [int(found.rows[0])]
    for _ in range(299):
        plain.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, vectors @ vectors[plain[-1]])
    assert found.radius == pytest.approx(float(np.arccos(nearest.min())), abs=CLOSE)
    assert len({*plain} & {*found.rows.tolist()}) > 290
    assert (np.diff(found.gains[1:]) <= CLOSE).all()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 45), st.booleans(), st.booleans(), st.integers(0, 3))
def test_laws(seed: int, n: int, k: int, masked: bool, weighted: bool, limit: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng, max(n, 1), 5)[rng.integers(0, max(n, 1), n)] if seed % 2 else unit(rng, n, 5)
    groups = rng.integers(0, 6, n)
    asked = Candidates(
        mask=rng.random(n) < 0.6 if masked else None,
        weights=rng.random(n) + 0.1 if weighted else None,
        groups=groups if limit else None,
        limit=limit or None,
        preselected=rng.choice(n, min(n, 2), replace=False) if seed % 3 == 0 else None,
    )
    found = k_center(vectors, k, asked, seed=7)
    again = k_center(vectors, k, asked, seed=7)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    rows, chosen, allowed = found.rows, asked.chosen, asked.counted(n)
    assert len(np.unique(rows)) == len(rows) <= k and allowed[rows].all() and not np.isin(rows, chosen).any()
    free = allowed & ~np.isin(np.arange(n), chosen)
    if limit:
        used = np.bincount(groups[[*chosen, *rows]], minlength=6)
        before = np.bincount(groups[chosen], minlength=6)
        assert (used <= np.maximum(limit, before)).all()
        room = np.maximum(limit - before, 0)
        assert len(rows) == min(k, int(np.minimum(np.bincount(groups[free], minlength=6), room).sum()))
    else:
        assert len(rows) == min(k, int(free.sum()))
    if len(rows) + len(chosen) and n:
        near = angles(vectors)[:, [*chosen, *rows]].min(axis=1)
        assert found.radius == pytest.approx((near * asked.weighted(n)).max(), abs=CLOSE)
        assert found.lower_bound <= found.radius + CLOSE


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_weights_and_limits_keep_the_lower_bound_true(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, weights = unit(rng, 8, 3), rng.random(8) + 0.2
    found = k_center(vectors, 2, Candidates(weights=weights, groups=np.arange(8) % 2, limit=limit))
    far = angles(vectors) * weights[:, None]
    m = len(found.rows)
    assert found.lower_bound <= optimum(far, m, []) + CLOSE


def test_equal_rows_come_in_order_and_cover_at_once() -> None:
    vectors = np.repeat(unit(np.random.default_rng(2), 3, 64), 1000, axis=0)
    found = k_center(vectors, 8, Candidates(preselected=np.array([500])))
    assert sorted(found.rows[:2].tolist()) == [1000, 2000] and found.rows[2:].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.radius == found.lower_bound == 0 and not found.gains[2:].any()


@pytest.mark.parametrize(
    "wrong",
    [
        Candidates(mask=np.ones(3, np.bool_)),
        Candidates(mask=np.ones(4)),
        Candidates(weights=np.array([1, 1, -1, 1.0])),
        Candidates(groups=np.zeros(4, np.int64)),
        Candidates(limit=2),
        Candidates(preselected=np.array([4])),
    ],
)
def test_refuses(wrong: Candidates) -> None:
    vectors = unit(np.random.default_rng(0), 4, 3)
    with pytest.raises(ValueError):
        k_center(vectors, 2, wrong)
    for bad in (lambda: k_center(vectors, -1), lambda: k_center(vectors * np.nan, 1)):
        with pytest.raises(ValueError):
            bad()
