"""The search finds nearly the best of the grid with few trials, and tells what limits: on simulated pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.tune.model import HAND_OVER, Outcome, predicted
from jobs.tune.search import FEWEST_TRIALS, GRID_SHARE, Search, planned
from jobs.tune.space import Knob, Setting, Space
from tests.jobs.tune.pipelines import PLANTED, SPACE, START, planted

UNITS = 8192
CASES = [*((stage, seed) for seed, stage in enumerate(PLANTED)), ("decode", 21), ("workers", 22), (HAND_OVER, 23)]


def test_nearly_the_best_of_the_grid_and_the_planted_bottleneck_by_few_trials() -> None:
    assert len(CASES) == 10
    shares, named = {}, {}
    for stage, seed in CASES:
        pipeline = planted(stage, seed)
        search = Search(SPACE, START, planned(SPACE, UNITS))
        trials = len(list(search.run(pipeline.trial)))
        assert trials <= GRID_SHARE * SPACE.size
        assert search.best is not None
        best = max(pipeline.rate(setting, UNITS) for setting in SPACE.settings())
        shares[stage, seed] = pipeline.rate(search.best.setting, UNITS) / best
        named[stage, seed] = search.best.limit == stage
    assert min(shares.values()) >= 0.9, shares
    assert sum(named.values()) >= 9, named


def test_what_fails_is_not_tried_again_with_more() -> None:
    pipeline = replace(planted("workers", 3), weights_gb=3.0)
    search = Search(SPACE, START, planned(SPACE, UNITS))
    outcomes = list(search.run(pipeline.trial))
    failed = [outcome.setting for outcome in outcomes if outcome.failed]
    assert failed and search.best is not None and not search.best.failed
    for number, outcome in enumerate(outcomes):
        worse = [each.setting for each in outcomes[:number] if each.failed]
        probing = number <= len(SPACE.knobs)
        assert probing or not any(SPACE.strains_no_less(outcome.setting, each) for each in worse)


def test_an_interrupted_search_keeps_its_best() -> None:
    pipeline, search = planted("decode", 1), Search(SPACE, START, planned(SPACE, UNITS))
    for number, _ in enumerate(search.run(pipeline.trial)):
        if number == 7:
            break
    assert search.best is not None and len(search.outcomes) == 8
    assert search.best.rate == max(outcome.rate for outcome in search.outcomes)


def test_where_every_trial_fails_there_is_no_best() -> None:
    search = Search(SPACE, START, planned(SPACE, UNITS))
    outcomes = list(search.run(lambda setting, units: Outcome(setting, units, 0.0, {}, 1.0, "no such encoder")))
    assert search.best is None and all(outcome.failed for outcome in outcomes)


def test_the_utilization_law_tells_of_settings_not_tried() -> None:
    """Two stages whose capacities go with one knob each: all four corners follow from three."""
    space = Space((Knob("a", (1, 8)), Knob("b", (1, 8))))

    def outcome(a: int, b: int) -> Outcome:
        first, second = 10.0 * a, 40.0 * b
        rate = min(first, second)
        return Outcome({"a": a, "b": b}, 1, rate, {"first": rate / first, "second": rate / second}, 1.0)

    told = predicted(space, [outcome(1, 1), outcome(8, 1), outcome(1, 8)], [{"a": 8, "b": 8}])
    assert told[0] == pytest.approx(80, rel=0.05)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(16, 100_000))
def test_plans_stay_within_their_share_of_the_grid(first: int, second: int, units: int) -> None:
    space = Space((Knob("a", range(1, first + 1)), Knob("b", range(1, second + 1))))
    plan = planned(space, units)
    assert 1 <= plan.trials <= max(GRID_SHARE * space.size, FEWEST_TRIALS)
    assert plan.trials <= space.size or plan.finalists
    assert plan.units[-1] == units and plan.all_units <= plan.trials * units
    assert len(plan.units) == len(plan.finalists) + 1


def test_settings_keep_to_the_grid() -> None:
    space = Space((Knob("a", (1, 4, 16)), Knob("b", (5,))))
    assert space.size == 3 == len(list(space.settings()))
    assert space.nearest({"a": 12, "b": 1}) == {"a": 16, "b": 5}
    assert space.nearest({}) == {"a": 4, "b": 5}
    assert space.probes({"a": 4, "b": 5}) == [{"a": 4, "b": 5}, {"a": 1, "b": 5}]


def test_a_limit_is_a_stage_that_is_busy() -> None:
    def limit(busy: Mapping[str, float], setting: Setting = {}) -> str:  # noqa: B006
        return Outcome(setting, 1, 1.0, busy, 1.0).limit

    assert limit({"decode": 0.9, "gpu": 0.95}) == "gpu"
    assert limit({"decode": 0.3, "gpu": 0.2}) == HAND_OVER == limit({})
