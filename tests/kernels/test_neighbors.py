"""Exact top-k against a plain oracle, and its laws: independent of tiles, row order, shards, and stable under ties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.neighbors import knn, merge_top_k, radius_pairs, radius_pairs_between, rescored, top_k


def oracle(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None = None
) -> tuple[list[list[int]], list[list[float]]]:
    """One pair at a time: sort (-score, row) of the allowed rows."""
    rows = [i for i in range(len(vectors)) if mask is None or mask[i]]
    found, scores = [], []
    for query in queries:
        pairs = sorted(
            (-float(np.float32(sum((query.astype(float) * vectors[i].astype(float)).tolist()))), i) for i in rows
        )
        found.append([i for _, i in pairs[:k]])
        scores.append([-score for score, _ in pairs[:k]])
    return found, scores


def unit(rng: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float32], int, NDArray[np.bool_] | None]:
    """Queries, vectors with many equal rows, k and a mask."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dim, rows = draw(st.integers(1, 33)), draw(st.integers(0, 60))
    distinct = unit(rng, draw(st.integers(1, 60)), dim)
    vectors = distinct[rng.integers(0, len(distinct), rows)]
    mask = draw(st.sampled_from([None, rng.random(rows) < 0.5]))
    return unit(rng, draw(st.integers(0, 4)), dim), vectors, draw(st.integers(1, 70)), mask


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 70))
def test_equals_the_oracle_for_any_tile(problem, tile: int) -> None:  # type: ignore[no-untyped-def]
    queries, vectors, k, mask = problem
    indices, scores = top_k(queries, vectors, k, mask, tile)
    expected_indices, expected_scores = oracle(queries, vectors, k, mask)
    allowed = len(vectors) if mask is None else int(mask.sum())
    assert indices.shape == scores.shape == (len(queries), min(k, allowed))
    assert indices.dtype == np.int64 and scores.dtype == np.float32
    np.testing.assert_allclose(scores, np.array(expected_scores).reshape(scores.shape), rtol=0, atol=1e-7)
    whole = top_k(queries, vectors, k, mask)
    assert np.array_equal(indices, whole[0]) and np.array_equal(scores, whole[1])
    if len(np.unique(vectors, axis=0)) == len(vectors):  # no ties: the order is the oracle's
        assert indices.tolist() == expected_indices


@settings(max_examples=50, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_row_order_changes_only_the_numbers(problem, random) -> None:  # type: ignore[no-untyped-def]
    queries, vectors, k, _ = problem
    order = np.array(random.sample(range(len(vectors)), len(vectors)), np.int64)
    indices, scores = top_k(queries, vectors, k)
    shuffled, shuffled_scores = top_k(queries, vectors[order], k)
    assert np.array_equal(scores, shuffled_scores)
    assert np.array_equal(vectors[indices], vectors[order][shuffled])


@settings(max_examples=50, deadline=None)
@given(problems())
def test_candidates_are_scored_as_all_rows_are(problem) -> None:  # type: ignore[no-untyped-def]
    queries, vectors, k, mask = problem
    rows = np.random.default_rng(len(vectors)).permutation(
        np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    )
    for query, indices, scores in zip(queries, *top_k(queries, vectors, k, mask), strict=True):
        found = rescored(query, rows, vectors[rows], k)
        np.testing.assert_array_equal(found[0], indices)
        np.testing.assert_array_equal(found[1], scores)


@settings(max_examples=50, deadline=None)
@given(problems(), st.integers(1, 5))
def test_merged_shards_are_the_whole(problem, shards: int) -> None:  # type: ignore[no-untyped-def]
    queries, vectors, k, _ = problem
    bounds = np.linspace(0, len(vectors), shards + 1).astype(int)
    parts = []
    for low, high in itertools.pairwise(bounds):
        indices, scores = top_k(queries, vectors[low:high], k)
        parts.append((indices + low, scores))
    indices, scores = merge_top_k(parts, k)
    whole = top_k(queries, vectors, k)
    assert np.array_equal(indices, whole[0]) and np.array_equal(scores, whole[1])


def test_many_equal_rows_come_in_row_order() -> None:
    """Thousands of black frames: matrix products of equal rows may differ in the last bit by place in the tile."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(unit(rng, 1, 1280), 5000, axis=0)
    vectors[::7] = unit(rng, 1, 1280)
    best = vectors[0] if vectors[0] @ vectors[1] < 1 else vectors[1]
    for tile in (33, 1000, 65_536):
        indices, scores = top_k(best[None], vectors, 500, tile=tile)
        assert indices[0].tolist() == list(range(0, 3500, 7))
        assert len(np.unique(scores)) == 1


def test_scores_that_differ_by_less_than_a_matrix_product_can_tell() -> None:
    """Rows that differ in their last bits only: rounding inside the product must not choose among them."""
    rng = np.random.default_rng(2)
    base = unit(rng, 1, 640)
    vectors = (base + rng.normal(scale=2e-6, size=(3000, 640)).astype(np.float32)).astype(np.float32)
    exact = (vectors.astype(np.float64) @ base[0].astype(np.float64)).astype(np.float32)
    for tile in (7, 500, 65_536):
        indices, scores = top_k(base, vectors, 40, tile=tile)
        assert np.array_equal(indices[0], np.lexsort((np.arange(3000), -exact))[:40])
        assert np.array_equal(scores[0], exact[indices[0]])


def test_wide_and_large() -> None:
    rng = np.random.default_rng(1)
    vectors, queries = unit(rng, 3000, 512), unit(rng, 300, 512)
    indices, _ = top_k(queries, vectors, 10, tile=700)
    exact = queries.astype(np.float64) @ vectors.astype(np.float64).T
    assert np.array_equal(indices, np.argsort(-exact, axis=1)[:, :10])


@pytest.mark.parametrize(
    ("queries", "vectors", "k", "mask"),
    [
        (np.ones((1, 2)), np.ones((3, 2)), 0, None),
        (np.ones((1, 2)), np.ones((3, 3)), 1, None),
        (np.ones(2), np.ones((3, 2)), 1, None),
        (np.ones((1, 2)), np.ones((3, 2)), 1, np.ones(2, np.bool_)),
        (np.ones((1, 2)), np.ones((3, 2)), 1, np.ones(3)),
        (np.full((1, 2), np.nan), np.ones((3, 2)), 1, None),
        (np.full((1, 2), np.inf), np.ones((3, 2)), 1, None),
        (np.ones((1, 2)), np.full((3, 2), np.nan), 1, None),
    ],
)
def test_refuses(queries, vectors, k, mask) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        top_k(queries.astype(np.float32), vectors.astype(np.float32), k, mask)


def test_nothing_to_merge() -> None:
    with pytest.raises(ValueError):
        merge_top_k([], 3)


def all_pairs(vectors: NDArray[np.float32], min_score: float, tile: int) -> list[tuple[int, int, float]]:
    parts = list(radius_pairs(vectors, min_score, tile))
    assert all(len(part.left) and part.scores.dtype == np.float32 and part.left.dtype == np.int64 for part in parts)
    return sorted((int(i), int(j), float(s)) for part in parts for i, j, s in zip(*part, strict=True))


@settings(max_examples=80, deadline=None)
@given(problems(), st.integers(1, 70), st.sampled_from([-1.1, -0.2, 0.0, 0.3, 0.9, 1.1]))
def test_pairs_are_those_of_the_oracle_for_any_tile(problem, tile: int, min_score: float) -> None:  # type: ignore[no-untyped-def]
    _, vectors, _, _ = problem
    found = all_pairs(vectors, min_score, tile)
    indices, scores = top_k(vectors, vectors, len(vectors) or 1)
    expected = [
        (i, int(j), float(score))
        for i in range(len(vectors))
        for j, score in zip(indices[i], scores[i], strict=True)
        if i < j and score >= min_score
    ]
    assert found == sorted(expected)


def test_pairs_exactly_at_the_threshold() -> None:
    """The boundary is the score itself, though a matrix product may round it to either side."""
    rng = np.random.default_rng(3)
    vectors = np.concatenate([unit(rng, 40, 640)] * 3) + rng.normal(scale=1e-7, size=(120, 640)).astype(np.float32)
    scores = sorted(score for _, _, score in all_pairs(vectors, 0.5, 64))
    for threshold in (scores[0], scores[len(scores) // 2], scores[-1], float(np.nextafter(scores[-1], 2))):
        wanted = sum(score >= threshold for score in scores)
        assert {len(all_pairs(vectors, threshold, tile)) for tile in (7, 64, 1024)} == {wanted}


@settings(max_examples=80, deadline=None)
@given(problems(), st.integers(1, 70), st.booleans())
def test_a_self_join_is_top_k_with_a_mask_per_row(problem, tile: int, grouped: bool) -> None:  # type: ignore[no-untyped-def]
    _, vectors, k, _ = problem
    groups = np.arange(len(vectors)) // 3 % 5 if grouped else None
    owner = np.arange(len(vectors)) if groups is None else groups
    indices, scores = knn(vectors, k, groups, tile)
    assert indices.shape == scores.shape == (len(vectors), k)
    assert indices.dtype == np.int64 and scores.dtype == np.float32
    for i in range(len(vectors)):
        [expected], [expected_scores] = top_k(vectors[i : i + 1], vectors, k, owner != owner[i])
        found = len(expected)
        assert np.array_equal(indices[i, :found], expected) and np.array_equal(scores[i, :found], expected_scores)
        assert (indices[i, found:] == -1).all() and (scores[i, found:] == -np.inf).all()


@pytest.mark.parametrize("call", [lambda v: knn(v, 2), lambda v: radius_pairs(v, 0.5)])
@pytest.mark.parametrize("vectors", [np.ones(3), np.array([[1.0, np.nan]]), np.array([[np.inf, 0]])])
def test_joins_refuse(call, vectors) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        call(vectors.astype(np.float32))


def test_joins_refuse_other_arguments() -> None:
    vectors = unit(np.random.default_rng(0), 4, 8)
    for wrong in (lambda: knn(vectors, 0), lambda: knn(vectors, 1, np.arange(3)), lambda: knn(vectors, 1, np.ones(4))):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(ValueError):
        radius_pairs(vectors, float("nan"))


@pytest.mark.parametrize("noise", [0.05, 3.0])
def test_long_vectors_lose_no_pair_to_the_short_ones(noise: float) -> None:
    """Rows near a few axes, and rows that no few axes hold."""
    rng = np.random.default_rng(4)
    vectors = unit(rng, 60, 12) @ unit(rng, 12, 300)
    vectors = np.repeat(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 10, axis=0) + noise * unit(
        rng, 600, 300
    )
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    exact = (vectors.astype(np.float64) @ vectors.T.astype(np.float64)).astype(np.float32)
    for min_score in (0.2, 0.9, 0.997):
        found = all_pairs(vectors, min_score, 128)
        left, right = np.nonzero(np.triu(exact >= min_score, 1))
        assert [(i, j) for i, j, _ in found] == list(zip(left.tolist(), right.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(1, 70), st.integers(1, 4), st.sampled_from([-0.2, 0.3, 0.9]))
def test_pairs_of_shards_and_between_them_are_all(problem, tile: int, shards: int, min_score: float) -> None:  # type: ignore[no-untyped-def]
    _, vectors, _, _ = problem
    bounds = np.linspace(0, len(vectors), shards + 1).astype(int)
    parts = [(low, vectors[low:high]) for low, high in itertools.pairwise(bounds)]
    found = []
    for i, (low, one) in enumerate(parts):
        found += [(a + low, b + low, s) for a, b, s in all_pairs(one, min_score, tile)]
        for high, other in parts[i + 1 :]:
            for pairs in radius_pairs_between(one, other, min_score, tile):
                found += [(int(a) + low, int(b) + high, float(s)) for a, b, s in zip(*pairs, strict=True)]
    assert sorted(found) == all_pairs(vectors, min_score, tile)
