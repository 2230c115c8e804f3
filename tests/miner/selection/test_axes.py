"""Axes, cells and how shares become whole clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.errors import UnknownName, UsageError
from miner.selection.axes import Axes, apportion, demands, matching
from miner.selection.spec import Spec
from tests.fleets import fleet

FILTERS = {"crowd": {"some": "count('vehicle.car') >= 1", "none": "count('vehicle.car') = 0"}}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    lake = fleet(tmp_path_factory.mktemp("fleet"), scenes=20, clips=4)
    return lake.store.scan("clip_facts").sort_by("clip_id")


def wanted(facts: pa.Table, target: dict[str, Any], budget: int = 40) -> list[Any]:
    spec = Spec.load({"budget": budget, "targets": [target], "axes": FILTERS})
    return demands(spec, Axes(facts, spec.axes), facts, np.ones(len(facts), np.bool_))


@given(st.lists(st.floats(0, 50), min_size=1, max_size=12))
def test_apportioned(shares: list[float]) -> None:
    wanted = np.array(shares)
    counts = apportion(wanted)
    assert counts.sum() == round(float(wanted.sum()))
    assert (np.abs(counts - wanted) < 1 + 1e-6).all()


def test_axes_of_labels_columns_classes_and_filters(facts: pa.Table) -> None:
    axes = Axes(facts, FILTERS)
    assert {"weather", "light", "class", "location", "vehicle", "crowd"} <= set(axes.names())
    rows = facts.to_pylist()
    for name, has in {
        "weather": lambda row, value: any(each["name"] == f"weather: {value}" for each in row["categories"]),
        "class": lambda row, value: any(each["name"] == value for each in row["categories"]),
        "location": lambda row, value: row["location"] == value,
    }.items():
        axis = axes.axis(name)
        assert axis.values and axis.members.any(axis=0).all()
        assert axis.members.tolist() == [[has(row, value) for value in axis.values] for row in rows]
    assert (axes.axis("crowd").members.sum(axis=1) == 1).all()
    with pytest.raises(UnknownName, match="Did you mean 'weather'"):
        axes.axis("wether")


def test_nested_shares(facts: pa.Table) -> None:
    cells = wanted(
        facts, {"over": ["weather", "light"], "shares": {"rain": {"night": 0.25, "day": 0.25}, "clear": 0.5}}
    )
    assert {each.cell.name: each.cell.target for each in cells} == {
        "weather: rain, light: night": 10,
        "weather: rain, light: day": 10,
        "weather: clear": 20,
    }
    assert cells[2].members.sum() == matching(facts, "count('weather: clear') > 0").sum()


def test_shares_that_follow_from_what_there_is(facts: pa.Table) -> None:
    same = wanted(facts, {"over": ["location"], "shares": "uniform"}, 30)
    assert [each.cell.target for each in same] == [10, 10, 10]
    lake = wanted(facts, {"over": ["location"], "shares": "lake"}, len(facts))
    assert [each.cell.target for each in lake] == [int(each.members.sum()) for each in lake]


def test_a_value_that_no_clip_has(facts: pa.Table) -> None:
    [cell] = wanted(facts, {"over": ["weather"], "shares": {"rainy": 0.5}})
    assert not cell.members.any() and cell.hint == "no clip has weather: rainy; did you mean 'rain'?"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ({"over": ["weather"], "shares": {"rain": 0.7, "clear": 0.6}}, "add up to 1.3"),
        ({"over": ["weather"], "shares": {"rain": {"day": 0.5}}}, "deeper than the axes: weather"),
        ({"over": ["weather"], "shares": {"rain": "half"}}, "'half', expected a number"),
        ({"over": ["weather"], "shares": {"rain": -0.1}}, "Each is 0 to 1"),
        ({"over": ["weather"], "shares": {}}, "add up to 0"),
        ({"over": ["speed"], "shares": {"fast": 0.1}}, "unknown axis 'speed'"),
    ],
)
def test_shares_that_make_no_sense(facts: pa.Table, target: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        wanted(facts, target)


def test_a_filter_on_readings_is_refused(facts: pa.Table) -> None:
    with pytest.raises(UsageError, match="channel is no column of a clip"):
        matching(facts, "channel = 'CAM'")
