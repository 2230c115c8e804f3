"""Predictions from given measurements: exact where units cost the same, intervals that hold what they should."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.estimate import Measured, calibrate, half_width, predict
from miner.reporting import cost_of
from miner.usage import Meter, Usage
from tests.miner.test_summary import report


def block(units: int, cpu_s: float, **more: float) -> Usage:
    """One block, as a worker measures it."""
    return replace(Meter().usage(units, cpu_s), prepare_s=0.5 * cpu_s, apply_s=0.5 * cpu_s, **more)


@given(st.lists(st.integers(1, 100), min_size=2, max_size=10), st.floats(0.01, 10), st.integers(1, 8))
def test_what_costs_the_same_each_time_is_told_exactly(sizes: list[int], cpu_s: float, workers: int) -> None:
    usage = reduce(add, (block(size, cpu_s * size, bytes_read=10 * size) for size in sizes))
    known = calibrate([Measured(usage, 2, commit_s=0.0, driver_cpu_s=3.0)])
    found = predict(known, 1000, workers)
    assert found.cost.cpu_s == pytest.approx(1000 * cpu_s + 3.0)
    assert found.cost.bytes_read == pytest.approx(10_000)
    assert found.seconds == pytest.approx(1000 * cpu_s / workers)
    assert (found.low, found.high) == pytest.approx((0.9, 1.1))  # never narrower than what runs differ by


def test_what_is_once_is_not_multiplied_by_units() -> None:
    usage = replace(block(10, 20.0), start_cpu_s=8.0, start_s=6.0)
    known = calibrate([Measured(usage, workers=2, commit_s=0.0, driver_cpu_s=1.0)])
    assert predict(known, 100, 4).cost.cpu_s == pytest.approx(100 * 2.0 + 1.0 + 4 * 4.0)
    assert predict(known, 100, 4).seconds == pytest.approx(100 * 2.0 / 4 + 3.0)
    assert predict(known, 0, 4).cost.cpu_s == 0


def test_what_first_blocks_take_more_is_once_for_each_worker() -> None:
    cold = [block(10, 20.0).as_first(start_s=1.0, start_cpu_s=3.0) for _ in range(2)]
    usage = reduce(add, [*cold, *(block(10, 10.0) for _ in range(6))])
    known = calibrate([Measured(usage, workers=2, commit_s=0.0, driver_cpu_s=0.0)])
    assert known.unit.cpu_s == pytest.approx(1.0) and known.start_cpu_s == pytest.approx(3.0 + 10.0)
    assert predict(known, 80, 2).cost.cpu_s == pytest.approx(usage.cpu_s + usage.start_cpu_s)
    # Where all blocks are first ones, as of tasks, each is as good as another.
    assert calibrate([Measured(cold[0] + cold[1], 2, 0.0, 0.0)]).unit.cpu_s == pytest.approx(2.0)


def test_a_gpu_is_paid_for_while_its_worker_loads() -> None:
    first = Meter().usage(10, 1.0, gpus=0.5, idle_s=4.0)
    first = replace(first, apply_s=2.0, gpu_s=1.0).as_first(start_s=6.0, start_cpu_s=1.0, gpus=0.5)
    assert first.cost.gpu_s == pytest.approx(0.5 * (2.0 + 4.0 + 6.0))
    known = calibrate([Measured(first, workers=1, commit_s=0.0, driver_cpu_s=0.0)])
    assert predict(known, 10, 1).cost.gpu_s == pytest.approx(first.cost.gpu_s)
    assert predict(known, 100, 1).cost.gpu_s == pytest.approx(10 * 0.5 * (2.0 + 4.0) + 0.5 * 6.0)


def test_who_prepares_for_others_sets_the_pace_too() -> None:
    usage = replace(block(10, 1.0), prepare_s=40.0, apply_s=5.0)
    known = calibrate([Measured(usage, workers=1, commit_s=0.0, driver_cpu_s=0.0, decoders=4)])
    assert predict(known, 100, 1).seconds == pytest.approx(100 * 4.0 / 4)
    assert predict(known, 100, 1, decoders=5).seconds == pytest.approx(100 * 4.0 / 5)
    none = calibrate([Measured(usage, workers=1, commit_s=0.0, driver_cpu_s=0.0)])
    assert predict(none, 100, 1, decoders=5).seconds == predict(none, 100, 1).seconds  # workers prepare themselves


def test_the_interval_holds_the_truth_nine_times_in_ten() -> None:
    random, held = np.random.default_rng(7), 0
    for _ in range(400):
        sizes = random.integers(20, 60, 12)
        usage = reduce(add, (block(int(n), abs(random.normal(n, 0.3 * n))) for n in sizes))
        half = half_width(usage)
        assert half is not None
        held += abs(usage.cpu_s / usage.units - 1.0) <= half * usage.cpu_s / usage.units
    assert 0.85 <= held / 400 <= 0.97


def test_one_block_has_no_interval() -> None:
    found = predict(calibrate([Measured(block(10, 1.0), 1, 0.0, 0.0)]), 5, 1)
    assert (found.low, found.high) == (None, None)


def test_runs_are_weighed_by_their_units() -> None:
    small, large = Measured(block(10, 10.0), 1, 0.0, 1.0), Measured(block(90, 45.0), 1, 0.0, 3.0)
    known = calibrate([small, large])
    assert known.unit.cpu_s == pytest.approx(0.55) and known.run_cpu_s == 2.0
    assert (known.units, known.runs) == (100, 2)


def test_what_lineage_keeps_calibrates_as_the_report_does() -> None:
    one = report(usage={"cpu_s": 16.0, "prepare_s": 12.0, "apply_s": 4.0, "gpu_s": 2.0, "gpu_wait_s": 1.0})
    one = replace(one, usage=one.usage + block(20, 4.0), driver_cpu_s=0.5, commit_s=0.25)
    assert Measured.of_cost(cost_of(one)) == Measured.of_report(one)
    assert Measured.of_cost({"seconds": 1.0, "units": 5}) is None  # of a release that measured nothing
    instant = replace(one, usage=replace(block(5, 0.0), prepare_s=4e-4, bytes_read=10), commit_s=4e-4)
    assert Measured.of_cost(cost_of(instant)) is None  # in lineage it took no time, so that no rate can be told
    known = calibrate([Measured.of_report(one)])
    assert known.gpus == pytest.approx(2.0 / 6.0)
    assert predict(known, 240, 1).cost.gpu_s == pytest.approx(6.0)
