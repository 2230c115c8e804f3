"""The graph by buckets against the exact one: recall on data with and without structure, groups, copies, seeds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.knn_graph import knn_graph
from kernels.neighbors import knn
from tests.kernels.test_neighbors import unit


def recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    hits = [len({*a.tolist()} & {*b[b >= 0].tolist()}) for a, b in zip(found, true, strict=True)]
    return sum(hits) / int((true >= 0).sum())


def clips(rng: np.random.Generator, scenes: int, frames: int, spread: float, dim: int = 48) -> NDArray[np.float32]:
    """Scenes of some frames each about a centre of their own, all in a cone."""
    centres = unit(rng, scenes, dim) + 0.8 * unit(rng, 1, dim)
    vectors = np.repeat(centres, frames, axis=0) + spread * unit(rng, scenes * frames, dim)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("spread", [0.2, 3.0])
def test_recall_is_what_was_asked_for(spread: float) -> None:
    """Of clips, and of rows so spread that hardly a bucket helps."""
    vectors = clips(np.random.default_rng(0), 300, 20, spread)
    true, true_scores = knn(vectors, 10)
    found, scores = knn_graph(vectors, 10)
    assert found.dtype == np.int64 and scores.dtype == np.float32 and found.shape == scores.shape == (6000, 10)
    assert recall(found, true) >= 0.985
    assert (np.diff(scores, axis=1) <= 0).all() and not (found == np.arange(6000)[:, None]).any()
    exact = np.einsum("nd,nkd->nk", vectors.astype(float), vectors[found].astype(float))
    np.testing.assert_allclose(scores, exact, atol=1e-5)
    assert scores.mean() == pytest.approx(true_scores.mean(), abs=1e-3)


def test_neighbours_of_other_groups() -> None:
    vectors = clips(np.random.default_rng(1), 300, 20, 0.4)
    groups = np.arange(6000) // 20
    found, _ = knn_graph(vectors, 7, groups)
    assert not (groups[found] == groups[:, None]).any()
    assert recall(found, knn(vectors, 7, groups)[0]) >= 0.985


def test_rows_whose_buckets_hold_too_few_look_everywhere() -> None:
    """One group fills nearly all: its rows must go far for others, and there are only three of them."""
    vectors = clips(np.random.default_rng(2), 250, 20, 0.1)
    groups = np.zeros(5000, np.int64)
    groups[[10, 2000, 4000]] = [1, 2, 3]
    found, scores = knn_graph(vectors, 5, groups)
    expected = knn(vectors, 5, groups)
    assert np.array_equal(found, expected[0]) and np.array_equal(scores == -np.inf, expected[1] == -np.inf)


def test_same_seed_same_graph_and_equal_rows() -> None:
    vectors = clips(np.random.default_rng(3), 250, 20, 0.2)
    vectors[1000:2500] = vectors[1000]  # black frames
    first, second = knn_graph(vectors, 4, seed=5), knn_graph(vectors, 4, seed=5)
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    np.testing.assert_allclose(first[1][1000:2500], 1, atol=1e-6)


def test_few_rows_are_exact_and_none_are_none() -> None:
    vectors = unit(np.random.default_rng(4), 500, 16)
    for found, expected in zip(knn_graph(vectors, 600), knn(vectors, 600), strict=True):
        assert np.array_equal(found, expected)
    assert knn_graph(vectors[:0], 3)[0].shape == (0, 3)


@pytest.mark.parametrize("rows", [10, 5000])
def test_refuses(rows: int) -> None:
    vectors = unit(np.random.default_rng(5), rows, 8)
    for wrong in (
        lambda: knn_graph(vectors, 0),
        lambda: knn_graph(vectors, 1, np.zeros(3, np.int64)),
        lambda: knn_graph(vectors * np.nan, 1),
    ):
        with pytest.raises(ValueError):
            wrong()
