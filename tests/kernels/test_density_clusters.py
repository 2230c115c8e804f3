"""Density clusters beside scikit-learn's HDBSCAN, on planted groups, and what holds for any rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.density_clusters import density_clusters
from kernels.neighbors import knn
from tests.footages import around, mixture, unit


def clusters(vectors: np.ndarray, min_size: int = 3, k: int = 15) -> np.ndarray:
    near, scores = knn(vectors, min(k, max(len(vectors) - 1, 1)))
    return density_clusters(near, 1 - scores.astype(np.float64), min_size)


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


@pytest.mark.parametrize("spread", [0.4, 0.7])
def test_planted_groups_are_found_as_by_hdbscan(spread: float) -> None:
    from sklearn.cluster import HDBSCAN

    rng = np.random.default_rng(0)
    label = np.concatenate([rng.integers(8, size=400), np.repeat(8 + np.arange(4), [4, 6, 10, 20])])
    vectors = around(unit(rng.normal(size=(12, 48)))[label], spread, rng)
    found = clusters(vectors)
    assert found.max() == 11 and all(len(set(found[label == group])) == 1 for group in range(8, 12))
    rival = HDBSCAN(min_cluster_size=3, min_samples=3, copy=True).fit_predict(vectors)
    assert (found < 0).mean() < 0.02 and same_partition(found[found >= 0], rival[found >= 0])


def test_rows_like_no_others_are_in_no_cluster() -> None:
    rng = np.random.default_rng(1)
    groups = np.concatenate([around(np.repeat(unit(rng.normal(size=(1, 16))), 20, axis=0), 0.2, rng) for _ in range(3)])
    alone = unit(rng.normal(size=(5, 16)))
    found = clusters(np.concatenate([groups, alone]))
    assert (found[60:] == -1).all() and len(set(found[:60])) == 3 and (found[:60] >= 0).all()


def test_parts_that_no_neighbour_joins_are_clusters() -> None:
    rng = np.random.default_rng(2)
    apart = np.concatenate([around(np.repeat(unit(np.eye(4)[[i]]), 12, axis=0), 0.1, rng) for i in range(3)])
    found = clusters(apart, 6, k=8)
    assert (found >= 0).mean() > 0.8 and same_partition(found[found >= 0], np.repeat(np.arange(3), 12)[found >= 0])


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 50), st.integers(2, 6))
def test_laws(seed: int, count: int, min_size: int) -> None:
    """Clusters are numbered from 0 by their first rows and have about the least size."""
    rng = np.random.default_rng(seed)
    vectors = mixture(count, 4, rng, dim=8, spread=0.5)
    found = clusters(vectors, min_size)
    assert len(found) == count
    numbers = [label for label in dict.fromkeys(found.tolist()) if label >= 0]
    assert numbers == list(range(len(numbers)))
    assert all((found == label).sum() >= min_size / 2 for label in numbers)
    assert (clusters(vectors, min_size) == found).all()


def test_limits() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        density_clusters(np.zeros((4, 1), np.int64), np.zeros((4, 1)), 1)
