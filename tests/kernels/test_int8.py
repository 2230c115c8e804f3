"""Numbers in 8 bits, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.linalg import hadamard

from kernels.int8 import quantize_rows, scale_sums

Floats = NDArray[np.float32]
ELEMENTS = st.floats(-(2.0**100), 2.0**100, width=32)
MATRICES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=70), elements=ELEMENTS)


def turned(values: Floats) -> NDArray[np.float64]:
    """Each row times the Hadamard matrix over its 64 parts, or fewer."""
    k = values.shape[1]
    parts = next(each for each in (64, 32, 16, 8, 4, 2, 1) if k % each == 0)
    matrix = np.kron(hadamard(parts), np.eye(k // parts)) / np.sqrt(parts)
    return values.astype(np.float64) @ matrix


@settings(max_examples=100, deadline=None)
@given(MATRICES)
def test_half_a_step_off_at_most_and_the_largest_is_127(values: Floats) -> None:
    values = values * np.float32(2.0**-10) ** np.arange(len(values), dtype=np.float32)[:, None]  # and very small ones
    whole, steps = quantize_rows(values)
    expected = turned(values)
    largest = np.abs(expected).max(axis=1)
    seen = steps > 0
    assert (largest[~seen] < 1.01e-30).all() and not whole[~seen].any()
    assert (np.abs(whole[seen]).max(axis=1, initial=0) == 127).all()
    np.testing.assert_allclose(steps[seen], largest[seen] / 127, rtol=1e-5)
    off = np.abs(whole * steps[:, None].astype(np.float64) - expected)
    assert (off <= 0.501 * steps[:, None])[seen].all()


@pytest.mark.parametrize("k", [7, 96, 768])
def test_products_stay_though_a_few_numbers_are_large(k: int) -> None:
    """Those of trained transformers are: tens of times the others, in the same places of every row."""
    rng = np.random.default_rng(k)
    left, right = rng.normal(size=(30, k)).astype(np.float32), rng.normal(size=(20, k)).astype(np.float32)
    left[:, :: max(1, k // 3)] *= 30
    (whole, rows), (other, columns) = quantize_rows(left), quantize_rows(right)
    sums = whole.astype(np.int32) @ other.T.astype(np.int32)
    products = scale_sums(np.ascontiguousarray(sums), rows, columns, np.zeros(20, np.float32))
    exact = left @ right.T
    cosine = (products * exact).sum() / (np.linalg.norm(products) * np.linalg.norm(exact))
    assert cosine > 0.9998
    if k % 64 == 0:  # rounded as they are
        steps = np.abs(left).max(axis=1, keepdims=True) / 127
        plain = np.rint(left / steps) * steps @ right.T
        assert np.linalg.norm(plain - exact) > 2 * np.linalg.norm(products - exact)


@settings(max_examples=100, deadline=None)
@given(MATRICES)
def test_a_row_does_not_depend_on_others(values: Floats) -> None:
    whole, steps = quantize_rows(values)
    for i in range(len(values)):
        alone, step = quantize_rows(values[i : i + 1])
        np.testing.assert_array_equal(alone[0], whole[i])
        assert step[0] == steps[i]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_in_its_row_alone(bad: float) -> None:
    values = np.ones((3, 40), np.float32)
    values[1, 7] = bad
    whole, steps = quantize_rows(values)
    scaled = scale_sums(whole.astype(np.int32), steps, np.ones(40, np.float32), np.zeros(40, np.float32))
    assert np.isfinite(scaled[[0, 2]]).all() and not np.isfinite(scaled[1]).any()


@pytest.mark.parametrize(("n", "m"), [(0, 5), (1, 1), (7, 33), (50, 128)])
def test_sums_are_scaled_as_numpy_would(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    sums = rng.integers(-(2**30), 2**30, (n, m), dtype=np.int32)
    rows, columns, bias = (rng.normal(size=size).astype(np.float32) for size in (n, m, m))
    expected = sums.astype(np.float64) * rows[:, None] * columns + bias
    np.testing.assert_allclose(scale_sums(sums, rows, columns, bias), expected, rtol=1e-5, atol=100)
