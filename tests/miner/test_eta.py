"""Estimates of when a stage is done, from made-up arrivals of blocks: no clock is read."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.eta import Eta


def arrivals(
    blocks: int, workers: int, took_s: Callable[[int], float], start_s: float = 0.0
) -> Iterator[tuple[float, int]]:
    """When each block of ten units is given back, and units done by then: who is free takes the next."""
    free, ends = [start_s] * workers, []
    for block in range(blocks):
        ends.append(heapq.heappop(free) + took_s(block))
        heapq.heappush(free, ends[-1])
    return ((end_s, 10 * (number + 1)) for number, end_s in enumerate(sorted(ends)))


def error_at_a_fifth(points: list[tuple[float, int]], before: int = 0) -> float:
    """By how much the whole time is estimated wrongly when 20 % of the units are done, as a part of it."""
    total, end_s = points[-1][1], points[-1][0]
    eta = Eta(before + total, before, 0.0)
    for now_s, done in points:
        eta.add(before + done, now_s)
        if done >= 0.2 * total:
            left_s = eta.left_s(now_s)
            assert left_s is not None
            return abs(now_s + left_s - end_s) / end_s
    raise AssertionError("20 % of the units never came")


@pytest.mark.parametrize("workers", [1, 2, 8, 64])
@pytest.mark.parametrize("start_s", [0.0, 20.0])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_after_a_fifth_of_the_work_the_end_is_known_to_a_fifth(workers: int, start_s: float, noise: float) -> None:
    random = np.random.default_rng(workers)
    took_s = [float(abs(random.normal(5, 5 * noise))) for _ in range(20 * workers)]
    assert error_at_a_fifth(list(arrivals(len(took_s), workers, lambda block: took_s[block], start_s))) <= 0.2


def test_a_ragged_burst_is_no_rate() -> None:
    eta = Eta(4000, 0, 0.0)
    for now_s, done in ((5.6, 500), (6.0, 1000)):  # of two workers: not 1,250 a second
        eta.add(done, now_s)
    assert eta.rate == pytest.approx(1000 / 6.0)
    for now_s, done in ((9.9, 1500), (10.1, 2000)):
        eta.add(done, now_s)
    assert eta.rate == pytest.approx(1000 / 4.2)


def test_what_was_done_before_counts_for_nothing() -> None:
    points = list(arrivals(100, 2, lambda block: 1.0))
    assert error_at_a_fifth(points, before=10_000) == pytest.approx(error_at_a_fifth(points)) and (
        error_at_a_fifth(points) <= 0.05
    )


def test_a_block_that_hangs_for_long_does_not_change_the_rate() -> None:
    eta = Eta(1000, 0, 0.0)
    for number in range(1, 41):
        eta.add(10 * number, number + (60.0 if number > 20 else 0.0))
    assert eta.rate == pytest.approx(10.0)


def test_a_rate_that_changed_is_followed() -> None:
    eta, now_s = Eta(10_000, 0, 0.0), 0.0
    for number in range(1, 101):
        now_s += 1.0 if number <= 50 else 4.0
        eta.add(10 * number, now_s)
    assert eta.rate == pytest.approx(2.5)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 10)), max_size=60))
def test_it_never_goes_wrong(steps: list[tuple[int, float]]) -> None:
    done, now_s = 5, 0.0
    eta = Eta(5 + sum(units for units, _ in steps) + 1, done, now_s)
    for units, passed_s in steps:
        done, now_s = done + units, now_s + passed_s
        eta.add(done, now_s)
        left_s, rate = eta.left_s(now_s), eta.rate
        assert (left_s is None) == (rate is None)
        assert left_s is None or left_s >= 0
        assert rate is None or rate > 0
    eta.add(done + 1, now_s)
    assert eta.left_s(now_s) == 0.0


def test_nothing_is_known_before_anything_came() -> None:
    eta = Eta(10, 4, 0.0)
    assert eta.left_s(5.0) is None and eta.rate is None
    eta.add(5, 2.0)
    assert (eta.rate, eta.left_s(2.0)) == (0.5, 10.0)
