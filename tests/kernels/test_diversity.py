"""Diversity and representativeness: against plain definitions, and the laws they are chosen for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.diversity import Vectors, distinct, energy_coefficient, vendi


def unit(n: int, d: int, seed: int) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def plain_vendi(vectors: Vectors) -> float:
    kernel = vectors.astype(np.float64) @ vectors.astype(np.float64).T / len(vectors)
    values = np.linalg.eigvalsh(kernel)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def plain_energy(x: Vectors, y: Vectors) -> float:
    def mean(a: Vectors, b: Vectors) -> float:
        return float(np.mean([[np.linalg.norm(i.astype(np.float64) - j) for j in b] for i in a]))

    return (2 * mean(x, y) - mean(x, x) - mean(y, y)) / (2 * mean(x, y))


@pytest.mark.parametrize(("n", "d"), [(1, 3), (5, 3), (7, 20), (40, 8)])
def test_against_the_definitions(n: int, d: int) -> None:
    rows, others = unit(n, d, 1), unit(n + 3, d, 2)
    assert vendi(rows) == pytest.approx(plain_vendi(rows))
    assert vendi(rows, np.full(n, 3.0)) == pytest.approx(plain_vendi(rows))
    assert energy_coefficient(rows, others) == pytest.approx(plain_energy(rows, others), abs=1e-9)


def test_the_edges() -> None:
    assert vendi(np.empty((0, 4), np.float32)) == 0 and vendi(np.eye(5, dtype=np.float32)) == pytest.approx(5)
    assert distinct(np.array([[0.0, 1], [-0.0, 1], [1, 0], [0, 1]], np.float32)).tolist() == [0, 2]
    with pytest.raises(ValueError, match="a sample of 0"):
        energy_coefficient(np.empty((0, 2), np.float32), unit(2, 2, 0))


@given(st.integers(1, 12), st.integers(2, 6), st.lists(st.integers(0, 11), max_size=20), st.integers(0, 999))
def test_copies_never_raise_diversity(n: int, d: int, copied: list[int], seed: int) -> None:
    rows = unit(n, d, seed)
    more = np.concatenate([rows, rows[[place % n for place in copied]]]) if copied else rows
    order = np.random.default_rng(seed).permutation(len(more))
    assert vendi(more[order]) <= vendi(rows) + 1e-9
    assert vendi(more) / len(more) <= vendi(rows) / n + 1e-9, "nor what a clip adds on average"


@given(st.integers(3, 20), st.integers(2, 5), st.integers(0, 999))
def test_a_sample_that_is_the_population_stands_for_it_best(n: int, d: int, seed: int) -> None:
    """The population itself, in any order, is nearest; the more of a sample is one far outlier, the farther it is."""
    population = unit(n, d, seed)
    order = np.random.default_rng(seed).permutation(n)
    assert energy_coefficient(population[order], population) == 0.0
    outlier = -population.mean(axis=0, keepdims=True)
    outlier *= 3 / max(float(np.linalg.norm(outlier)), 1e-6)
    steps = [
        energy_coefficient(np.concatenate([np.repeat(population, 6, 0), outlier.repeat(k * n, 0)]), population)
        for k in range(4)
    ]
    assert steps[0] == pytest.approx(0, abs=1e-9)
    assert all(left < right for left, right in pairwise(steps))


@given(st.integers(0, 999))
def test_it_is_within_its_range_and_does_not_care_who_is_first(seed: int) -> None:
    x, y = unit(6, 4, seed), unit(9, 4, seed + 1)
    found = energy_coefficient(x, y)
    assert 0 <= found <= 1 and found == pytest.approx(energy_coefficient(y, x))
