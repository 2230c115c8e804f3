"""Spherical k-means against a plain loop, and the buckets built on it."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.buckets import by_label, fit_buckets
from kernels.kmeans import kmeans, nearest
from tests.kernels.test_neighbors import unit


def test_a_step_is_that_of_a_plain_loop() -> None:
    vectors = unit(np.random.default_rng(0), 200, 6)
    start = kmeans(vectors, 7, seed=3, iterations=0)
    moved = kmeans(vectors, 7, seed=3, iterations=1)
    labels = [max(range(7), key=lambda c: float(vector @ start[c])) for vector in vectors]
    assert nearest(vectors, start).tolist() == labels
    for c in range(7):
        total = sum(vectors[i].astype(float) for i in range(200) if labels[i] == c)
        np.testing.assert_allclose(moved[c], total / np.linalg.norm(total), atol=1e-6)


def test_finds_well_parted_clusters() -> None:
    rng = np.random.default_rng(1)
    centres = np.eye(6, 32, dtype=np.float32)
    vectors = np.repeat(centres, 50, axis=0) + 0.1 * unit(rng, 300, 32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    best = max((kmeans(vectors, 6, seed) for seed in range(8)), key=lambda c: (vectors @ c.T).max(axis=1).sum())
    labels = nearest(vectors, best).reshape(6, 50)
    assert (labels == labels[:, :1]).all() and len(np.unique(labels)) == 6


def test_objective_never_falls_and_seeds_repeat() -> None:
    vectors = unit(np.random.default_rng(2), 500, 8)
    scores = [float((vectors @ kmeans(vectors, 10, 0, steps).T).max(axis=1).sum()) for steps in range(6)]
    assert scores == sorted(scores)
    assert np.array_equal(kmeans(vectors, 10, 4), kmeans(vectors, 10, 4))


def test_few_equal_and_no_rows() -> None:
    vectors = np.repeat(unit(np.random.default_rng(3), 1, 5), 9, axis=0)
    centres = kmeans(vectors, 4)
    assert len(centres) == 1 and np.allclose(centres, vectors[:1], atol=1e-6)
    assert len(kmeans(vectors[:2], 4)) == 1 and len(kmeans(vectors[:0], 4)) == 0
    assert nearest(vectors[:0], vectors).tolist() == []
    with pytest.raises(ValueError):
        kmeans(vectors, 0)


def test_buckets_hold_near_rows_and_every_row_has_one() -> None:
    rng = np.random.default_rng(4)
    vectors = np.repeat(unit(rng, 100, 96), 30, axis=0) + 0.2 * unit(rng, 3000, 96)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    buckets = fit_buckets(vectors, 60)
    labels = buckets.of(vectors)
    assert 40 <= len(buckets.centres) <= 80 and labels.min() >= 0 and labels.max() < len(buckets.centres)
    assert np.array_equal(labels, np.concatenate([buckets.of(part) for part in np.split(vectors, 3)]))
    clips = labels.reshape(100, 30)
    assert (clips == clips[:, :1]).mean() > 0.9
    order, bounds = by_label(labels, len(buckets.centres))
    assert all((labels[order[bounds[i] : bounds[i + 1]]] == i).all() for i in range(len(buckets.centres)))
    assert sorted(order) == list(range(3000))
    near = buckets.near(5, 4)
    assert near[0] == 5 and len(np.unique(near)) == 4


def test_buckets_of_equal_rows() -> None:
    vectors = np.repeat(unit(np.random.default_rng(5), 1, 8), 100, axis=0)
    assert len(np.unique(fit_buckets(vectors, 5).of(vectors))) == 1
