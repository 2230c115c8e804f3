"""Graphs of neighbours, merged and made better."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.neighbor_join import joined_neighbors, merged
from kernels.neighbors import Found, knn


def unit(n: int, d: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def poor(vectors: NDArray[np.float32], owner: NDArray[np.int64], k: int, seed: int) -> Found:
    """A graph of k neighbours of which each is kept by chance: nearest first, the rest -1."""
    near, scores = knn(vectors, k, owner)
    lost = np.random.default_rng(seed).random(near.shape) < 0.5
    near, scores = np.where(lost, -1, near), np.where(lost, -np.inf, scores).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(near, order, 1), np.take_along_axis(scores, order, 1)


@given(st.integers(2, 60), st.integers(1, 8), st.sampled_from([3, 64, 130]), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_join_finds_the_best_of_what_is_two_steps_away(n: int, k: int, d: int, grouped: bool, seed: int) -> None:
    vectors, owner = unit(n, d, seed), np.arange(n) // (3 if grouped else 1)
    near, scores = poor(vectors, owner, k, seed)
    got = joined_neighbors(vectors, owner, (near, scores))
    for i in range(n):
        mine = {*near[i].tolist(), *np.flatnonzero((near == i).any(axis=1))[:k].tolist()} - {-1}
        reach = mine | {int(far) for j in mine for far in near[j]} - {-1}
        reach = {j for j in reach if owner[j] != owner[i]}
        best = np.sort([vectors[i] @ vectors[j] for j in reach])[::-1][:k]
        found = got[1][i][got[0][i] >= 0]
        np.testing.assert_allclose(found, best, atol=1e-5)
        assert len({*got[0][i].tolist()} - {-1}) == len(found)
        np.testing.assert_allclose(found, vectors[got[0][i][: len(found)]] @ vectors[i], atol=1e-5)


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_merged_graphs_are_the_best_of_both(n: int, k: int, seed: int) -> None:
    vectors, owner = unit(n, 5, seed), np.arange(n)
    one, other = (poor(vectors, owner, k, seed + place) for place in range(2))
    near, scores = merged(one, other)
    for i in range(n):
        both = {*zip(one[0][i].tolist(), one[1][i].tolist(), strict=True)}
        both |= {*zip(other[0][i].tolist(), other[1][i].tolist(), strict=True)}
        best = sorted((pair for pair in both if pair[0] >= 0), key=lambda pair: -pair[1])[:k]
        np.testing.assert_array_equal(scores[i][: len(best)], np.array([score for _, score in best], np.float32))
        assert {row for row, _ in best} == {*near[i].tolist()} - {-1}
