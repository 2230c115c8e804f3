"""What limits a stage: planted times, and laws of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.bottleneck import SATURATED, Service, best_rate, limiting, loads, pools

seconds = st.floats(0.001, 10)
services = st.builds(Service, seconds, seconds, seconds, seconds)
shares = st.dictionaries(st.sampled_from(["prepare", "apply", "write", "start", "commit"]), st.floats(0.0, 0.5))


@pytest.mark.parametrize(
    ("shares", "apart", "phase"),
    [
        ({}, False, None),
        ({"prepare": 0.3, "apply": 0.2, "write": 0.1, "commit": 0.6}, False, None),  # 0.6 each
        ({"prepare": 0.3, "apply": 0.2, "write": 0.2, "commit": 0.6}, False, "prepare"),  # 0.7 of the workers
        ({"prepare": 0.3, "apply": 0.2, "write": 0.2, "commit": 0.8}, False, "commit"),
        ({"start": 0.5, "prepare": 0.1, "apply": 0.1}, False, "start"),
        ({"prepare": 0.7, "apply": 0.4, "write": 0.2}, True, "prepare"),
        ({"prepare": 0.7, "apply": 0.4, "write": 0.4}, True, "apply"),
    ],
)
def test_the_longest_phase_of_the_busiest_servers_limits(
    shares: dict[str, float], apart: bool, phase: str | None
) -> None:
    assert limiting(shares, pools(apart)) == phase


@given(shares, st.booleans())
def test_something_limits_where_servers_are_busy(shares: dict[str, float], apart: bool) -> None:
    by_pool = loads(shares, pools(apart))
    assert sum(by_pool.values()) == pytest.approx(sum(shares.values()))
    assert (limiting(shares, pools(apart)) is None) == (max(by_pool.values(), default=0.0) < SATURATED)


def test_from_where_on_it_limits_more_servers_are_worth_as_much_as_no_waits() -> None:
    assert SATURATED / 2 == pytest.approx(1 - SATURATED)


@pytest.mark.parametrize(
    ("service", "workers", "decoders", "rate"),
    [
        (Service(0.3, 0.1, 0.1), 2, 0, 4),
        (Service(0.1, 0.1, 0.1, commit_s=0.5), 2, 0, 2),
        (Service(0.5, 0.1, 0.0), 2, 4, 8),
        (Service(0.5, 0.3, 0.1), 2, 4, 5),
    ],
)
def test_the_busiest_servers_set_the_rate(service: Service, workers: int, decoders: int, rate: float) -> None:
    assert best_rate(service, workers, decoders) == pytest.approx(rate)


@given(services, st.integers(1, 64), st.integers(0, 64), st.integers(1, 8))
def test_more_servers_never_slow_it_down_and_more_work_never_speeds_it_up(
    service: Service, workers: int, decoders: int, more: int
) -> None:
    rate = best_rate(service, workers, decoders)
    assert best_rate(service, workers + more, decoders) >= rate * (1 - 1e-9)
    assert best_rate(replace(service, apply_s=service.apply_s + more), workers, decoders) <= rate * (1 + 1e-9)


def test_nothing_to_do_has_no_limit() -> None:
    with pytest.raises(ValueError, match="nothing limits"):
        best_rate(Service(), 2)
