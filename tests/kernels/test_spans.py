"""Span joins against loops over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.spans import Ints, Spans, instants, locate, nearest, overlaps

EPOCH_NS = 1_532_402_927_612_460_000
TIMES = st.lists(st.integers(-9, 9), max_size=12)


def ints(values: list[int]) -> Ints:
    return np.array(values, np.int64)


@st.composite
def spans(draw: st.DrawFn) -> Spans:
    """Spans of up to three groups, some empty or reversed, near zero or near a real time."""
    rows = draw(st.lists(st.tuples(st.integers(-9, 9), st.integers(-3, 6), st.integers(-1, 1)), max_size=12))
    base = EPOCH_NS
    return Spans(
        ints([base + start for start, _, _ in rows]),
        ints([base + start + length for start, length, _ in rows]),
        ints([group for _, _, group in rows]),
    )


def all_pairs(left: Spans, right: Spans) -> list[tuple[int, int]]:
    def meet(i: int, j: int) -> bool:
        same = left.groups is None or right.groups is None or left.groups[i] == right.groups[j]
        return bool(same and max(left.starts[i], right.starts[j]) < min(left.ends[i], right.ends[j]))

    return [(i, j) for i in range(len(left.starts)) for j in range(len(right.starts)) if meet(i, j)]


@given(spans(), spans())
def test_overlaps_are_all_pairs(left: Spans, right: Spans) -> None:
    assert list(zip(*(found.tolist() for found in overlaps(left, right)), strict=True)) == all_pairs(left, right)


@given(spans(), spans())
def test_overlaps_are_symmetric(left: Spans, right: Spans) -> None:
    one, other = overlaps(left, right), overlaps(right, left)
    assert sorted(zip(*one, strict=True)) == sorted(zip(other[1], other[0], strict=True))


@given(spans(), TIMES, TIMES)
def test_instants_fall_in_spans(windows: Spans, times: list[int], groups: list[int]) -> None:
    size = min(len(times), len(groups))
    points = instants(EPOCH_NS + ints(times[:size]), ints(groups[:size]) // 4)
    expected = all_pairs(points, windows)
    try:
        found = locate(windows, points.starts, points.groups)
    except ValueError:
        assert len({i for i, _ in expected}) < len(expected)
        return
    assert [(i, j) for i, j in enumerate(found.tolist()) if j >= 0] == expected


def test_ungrouped() -> None:
    windows = Spans(ints([0, 10, 20]), ints([10, 20, 30]))
    assert locate(windows, ints([-1, 0, 9, 10, 29, 30])).tolist() == [-1, 0, 0, 1, 2, -1]
    with pytest.raises(ValueError):
        locate(Spans(ints([0, 5]), ints([10, 15])), ints([7]))


@given(TIMES, TIMES, st.integers(0, 6))
def test_nearest_is_the_smallest_distance(times: list[int], queries: list[int], tolerance: int) -> None:
    expected = []
    for query in queries:
        distances = [(abs(time - query), time, i) for i, time in enumerate(times) if abs(time - query) <= tolerance]
        expected.append(min(distances)[2] if distances else -1)
    assert nearest(ints(times), ints(queries), tolerance).tolist() == expected


def test_large_joins_are_quick() -> None:
    """A million readings of 100 scenes over 10,000 windows: no quadratic step."""
    rng = np.random.default_rng(0)
    times = EPOCH_NS + np.sort(rng.integers(0, 10**12, 1_000_000))
    starts = EPOCH_NS + np.arange(10_000) * 10**8
    i, j = overlaps(instants(times), Spans(starts, starts + 10**8))
    assert np.array_equal(i, np.arange(len(times))) and np.array_equal(j, (times - EPOCH_NS) // 10**8)
