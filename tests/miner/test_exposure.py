"""How much driving rates are relative to: by condition, against plain loops, and what the commands say of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jobs.tail_page import page, tail_text
from miner.exposure import Conditions, rate
from miner.lake import Lake
from tests.fleets import LIGHTS, WEATHERS, fleet


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """60 drives of 30 s at 10 m/s, each of one weather and light."""
    return fleet(tmp_path_factory.mktemp("fleet"), scenes=60, clips=30)


@given(st.integers(0, 500), st.floats(600, 1e7), st.floats(1000, 1e9))
def test_limits_hold_what_a_poisson_number_can_come_from(count: int, seconds: float, metres: float) -> None:
    found = {name: value or 0.0 for name, value in rate(count, seconds, metres).items()}
    assert found["low"] <= max(found["per_hour"], found["low"]) <= found["high"]
    assert found["per_km_high"] / found["high"] == pytest.approx(1000 / metres / (3600 / seconds))
    assert stats.poisson.cdf(count, found["high"] * seconds / 3600) < 0.1


def test_driving_adds_up_by_condition(lake: Lake) -> None:
    tail = lake.tail("label")
    expected: dict[tuple[str, str], float] = {}
    labels = []
    for row in lake.store.scan("clip_facts").to_pylist():
        names = {each["name"] for each in row["categories"]}
        cell = next((w, x) for w in WEATHERS for x in LIGHTS if {f"weather: {w}", f"light: {x}"} <= names)
        labels.append(row | {"categories": cell})
        expected[cell] = expected.get(cell, 0.0) + (row["end_ns"] - row["start_ns"]) / 1e9
    hours = {tuple(each["cell"].values()): each["hours"] for each in tail.conditions}
    assert hours == pytest.approx({cell: seconds / 3600 for cell, seconds in expected.items()})
    of = {row["clip_id"]: row["event_id"] for row in lake.store.scan("events").to_pylist()}
    both = {(of[row["clip_id"]], *row["categories"]) for row in labels}
    assert sum(each["events"] for each in tail.conditions) == len(both) >= tail.events, "copies in other weather"
    assert sum(each["km"] for each in tail.conditions) == pytest.approx(tail.km) == pytest.approx(60 * 0.29)
    rain = next(entry for entry in tail.entries if entry["name"] == "weather: rain")
    here = [each["events"] for each in rain["conditions"] if each["cell"]["weather"] == "rain"]
    assert max(here) <= rain["events"] <= sum(here)


def test_what_is_oftener_in_a_condition_says_so(lake: Lake) -> None:
    tail = lake.tail("label")
    document = tail.to_dict()
    assert "oftener" not in tail_text(document), "that clear weather is oftener in clear weather is no news"
    [clear] = [entry for entry in document["entries"] if entry["name"] == "weather: clear"]
    clear["name"] = "deer"
    [line] = [each for each in tail_text(document).splitlines() if "  deer  " in each]
    assert "oftener in weather: clear, light: day: " in line
    shown = page(lake.store, tail)
    assert "Driving by condition: " in shown and "in 100 km" in shown


def test_hits_have_rates_in_all_and_in_their_condition(lake: Lake) -> None:
    hits = lake.rare(5)
    tail = lake.tail("label")
    for hit in hits:
        evidence = hit.evidence
        assert evidence["per_hour_low"] < evidence["per_hour_high"] and evidence["per_km"] >= 0
        assert "of them in weather: " in hit.why
    assert any("in_cell_per_hour" in hit.evidence for hit in hits) == any(
        each["per_hour"] is not None for each in tail.conditions
    )


def test_a_cell_that_is_hardly_driven_has_no_rate() -> None:
    cells = Conditions(
        ("light",), (("day",), ("night",)), np.array([[True, False], [True, True]]), np.array([7200.0, 60.0]),
        np.array([np.nan, np.nan]),
    )  # fmt: skip
    day, night = cells.rates([0, 1])
    assert (day["events"], day["per_hour"], day["km"]) == (2, 1.0, None)
    assert (night["events"], night["hours"], night["per_hour"]) == (1, 60 / 3600, None)


def test_a_lake_without_conditions_has_none(tmp_path: Path) -> None:
    made = fleet(tmp_path, scenes=4, clips=3)
    made.store.delete("clip_facts", "true")
    tail = made.tail("label")
    assert tail.conditions == [] and tail.hours == pytest.approx(12 / 3600)
