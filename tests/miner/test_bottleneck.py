"""What limits a stage: planted service times, and laws of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.bottleneck import Resources, Service, limit

seconds = st.floats(0.001, 10)
services = st.builds(Service, seconds, seconds, seconds, seconds, seconds)
resources = st.builds(Resources, st.integers(1, 64), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 64))


@pytest.mark.parametrize(
    ("service", "on", "phase", "resource", "rate"),
    [
        (Service(0.3, 0.1, 0.1), Resources(2), "prepare", "CPU", 4),
        (Service(0.1, 0.3, 0.1), Resources(2), "apply", "CPU", 4),
        (Service(0.1, 0.3, 0.1), Resources(2, gpus=1), "apply", "GPU", 4),
        (Service(0.1, 0.1, 0.3), Resources(2), "write", "lake", 4),
        (Service(0.1, 0.1, 0.1, commit_s=0.5), Resources(2), "commit", "lake", 2),
        (Service(0.1, 0.1, 0.1, commit_s=0.1, driver_s=0.4), Resources(2), "driver", "driver", 2),
        (Service(0.5, 0.1, 0.0), Resources(2, gpus=1, decoders=4), "prepare", "CPU", 8),
        (Service(0.5, 0.3, 0.1), Resources(2, gpus=1, decoders=4), "apply", "GPU", 5),
        (Service(0.1, 0.2, 0.1, cpu_s=0.4), Resources(8, cpus=2), "apply", "CPU", 5),
    ],
)
def test_the_planted_bottleneck_is_named(
    service: Service, on: Resources, phase: str, resource: str, rate: float
) -> None:
    found = limit(service, on)
    assert (found.phase, found.resource) == (phase, resource)
    assert found.rate == pytest.approx(rate)


@given(services, resources)
def test_loads_are_of_the_rate_and_one_station_is_full(service: Service, on: Resources) -> None:
    found = limit(service, on)
    together = ("prepare", "apply", "write") if not on.decoders else ("apply", "write")
    stations = [sum(found.loads[phase] for phase in together), found.loads["commit"] + found.loads["driver"]]
    stations += [found.loads["prepare"]] if on.decoders else []
    assert max(stations) == pytest.approx(1)


@given(services, resources, st.integers(1, 8))
def test_more_servers_never_slow_it_down_and_more_work_never_speeds_it_up(
    service: Service, on: Resources, more: int
) -> None:
    rate = limit(service, on).rate
    assert limit(service, replace(on, workers=on.workers + more)).rate >= rate * (1 - 1e-9)
    assert limit(replace(service, apply_s=service.apply_s + more), on).rate <= rate * (1 + 1e-9)


def test_nothing_to_do_has_no_limit() -> None:
    with pytest.raises(ValueError, match="nothing limits"):
        limit(Service(), Resources(2))
