"""Kernel sums against a loop over all pairs, and widths that give the shares they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import density
from kernels.density import concentration_of, kernel_sums, kernel_sums_and_medians
from tests.footages import unit


def test_sums_are_those_of_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, references = unit(rng.normal(size=(23, 7))), unit(rng.normal(size=(40, 7)))
    own, theirs = rng.integers(5, size=23), rng.integers(5, size=40)
    widths = np.array([0.5, 3.0, 50.0])
    expected = np.zeros((23, 3))
    for i in range(23):
        for j in range(40):
            if own[i] != theirs[j]:
                expected[i] += np.exp(widths * (float(queries[i].astype(float) @ references[j]) - 1))
    found = kernel_sums(queries, references, widths, (own, theirs))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    monkeypatch.setattr(density, "_PRODUCTS_AT_ONCE", 100)
    np.testing.assert_allclose(kernel_sums(queries, references, widths, (own, theirs)), found, rtol=1e-12)
    assert kernel_sums(queries[:0], references, widths, (own[:0], theirs)).shape == (0, 3)
    assert not kernel_sums(queries, references[:0], widths, (own, theirs[:0])).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 50))
def test_medians_are_those_of_the_oracle(seed: int, count: int, nearest: int) -> None:
    rng = np.random.default_rng(seed)
    queries, references = unit(rng.normal(size=(9, 3))), unit(rng.normal(size=(count, 3)))
    references[count // 2 :] = references[: count - count // 2]  # every second one twice: as near as the last one
    own, theirs, values = rng.integers(3, size=9), rng.integers(3, size=count), rng.normal(size=count)
    widths = np.array([2.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(density, "_PRODUCTS_AT_ONCE", 100)  # a few queries at a time
        sums, found = kernel_sums_and_medians(queries, references, widths, (own, theirs), values, nearest)
    np.testing.assert_allclose(sums, kernel_sums(queries, references, widths, (own, theirs)), rtol=1e-12)
    for query, group, median in zip(queries, own, found, strict=True):
        others = theirs != group
        if not others.any():
            assert np.isnan(median)
            continue
        near = references[others].astype(float) @ query.astype(float)
        last = np.sort(near)[-min(nearest, len(near))]
        assert median == pytest.approx(np.median(values[others][near >= last - 1e-9]), abs=1e-12)


def test_the_median_query_has_the_share() -> None:
    rng = np.random.default_rng(1)
    vectors, groups = unit(rng.normal(size=(400, 16))), np.arange(400) // 4
    shares = np.array([0.002, 0.02, 0.2])
    found = concentration_of(vectors, vectors, (groups, groups), shares)
    assert (np.diff(found) < 0).all()
    around = kernel_sums(vectors, vectors, found, (groups, groups)) / 396
    np.testing.assert_allclose(np.median(around, axis=0), shares, rtol=1e-6)


def test_a_share_nobody_can_have_gives_a_limit() -> None:
    same = unit(np.ones((3, 4)))
    found = concentration_of(same, same, (np.arange(3), np.arange(3)), np.array([0.01, 1.5]))
    assert found[0] == pytest.approx(1e5) and found[1] == pytest.approx(0.1)
