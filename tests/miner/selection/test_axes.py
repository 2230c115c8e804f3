"""Axes, cells and how shares become whole clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.errors import UnknownName, UsageError
from miner.schema import CONCEPTS, SCORES, check
from miner.selection.axes import Axes, apportion, demands
from miner.selection.pool import Pool
from miner.selection.spec import ConceptIs, Spec
from miner.snapshot import Snapshot
from tests.fleets import DIM, fleet

FILTERS = {"crowd": {"some": "count('vehicle.car') >= 1", "none": "count('vehicle.car') = 0"}}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    lake = fleet(tmp_path_factory.mktemp("fleet"), scenes=20, clips=4)
    return Pool(Snapshot.now(lake.store), Spec.load({"budget": 1}))


def wanted(pool: Pool, target: dict[str, Any], budget: int = 40) -> list[Any]:
    spec = Spec.load({"budget": budget, "targets": [target], "axes": FILTERS})
    return demands(spec, Axes(pool.facts, spec.axes, pool.matches), pool.matches, np.ones(len(pool.facts), np.bool_))


@given(st.lists(st.floats(0, 50), min_size=1, max_size=12))
def test_apportioned(shares: list[float]) -> None:
    wanted = np.array(shares)
    counts = apportion(wanted)
    assert counts.sum() == round(float(wanted.sum()))
    assert (np.abs(counts - wanted) < 1 + 1e-6).all()


def test_axes_of_labels_columns_classes_and_filters(pool: Pool) -> None:
    axes = Axes(pool.facts, FILTERS, pool.matches)
    assert {"weather", "light", "class", "location", "vehicle", "crowd"} <= set(axes.names())
    rows = pool.facts.to_pylist()
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


def test_nested_shares(pool: Pool) -> None:
    cells = wanted(pool, {"over": ["weather", "light"], "shares": {"rain": {"night": 0.25, "day": 0.25}, "clear": 0.5}})
    assert {each.cell.name: each.cell.target for each in cells} == {
        "weather: rain, light: night": 10,
        "weather: rain, light: day": 10,
        "weather: clear": 20,
    }
    assert cells[2].members.sum() == pool.matches("count('weather: clear') > 0").sum()


def test_shares_that_follow_from_what_there_is(pool: Pool) -> None:
    same = wanted(pool, {"over": ["location"], "shares": "uniform"}, 30)
    assert [each.cell.target for each in same] == [10, 10, 10]
    lake = wanted(pool, {"over": ["location"], "shares": "lake"}, len(pool.facts))
    assert [each.cell.target for each in lake] == [int(each.members.sum()) for each in lake]


def test_a_value_that_no_clip_has(pool: Pool) -> None:
    [cell] = wanted(pool, {"over": ["weather"], "shares": {"rainy": 0.5}})
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
def test_shares_that_make_no_sense(pool: Pool, target: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        wanted(pool, target)


def test_a_filter_on_readings_is_refused(pool: Pool) -> None:
    with pytest.raises(UsageError, match="channel is no column of a clip"):
        pool.matches("channel = 'CAM'")


def test_concepts_and_scores_as_conditions(tmp_path: Path) -> None:
    """A clip shows a concept as much as its best row does, by the concept's own calibration."""
    lake = fleet(tmp_path, scenes=4, clips=5)
    direction = np.eye(DIM, dtype=np.float32)[0]
    concept = {"name": "gate", "encoder": "hashing", "encoder_version": "1", "origin": "lake", "prompts": ["a gate"],
               "opposites": [], "labels": [], "direction": direction.tolist(), "method": "contrast", "slope": 4.0,
               "offset": -1.0, "positives": 0, "negatives": 0, "table_version": 1}  # fmt: skip
    clips = lake.store.scan("clips", ["clip_id"])["clip_id"].to_pylist()
    scores = [{"clip_id": clip, "scorer": "rarity", "version": "1", "table_version": 1, "value": float(place)}
              for place, clip in enumerate(clips)]  # fmt: skip
    for table, schema, rows in (("concepts", CONCEPTS, [concept]), ("scores", SCORES, scores)):
        lake.store.ensure(table)
        lake.store.append(table, check(pa.Table.from_pylist(rows, schema=schema), schema))
    pool = Pool(Snapshot.now(lake.store), Spec.load({"budget": 1}))
    found = pool.matches(ConceptIs(concept="gate", at_least=0.3))
    rows = lake.store.scan("embeddings/hashing", ["scene_id", "timestamp_ns", "vector"]).to_pylist()
    for place, clip in enumerate(pool.facts.to_pylist()):
        own = [row["vector"][0] for row in rows if row["scene_id"] == clip["scene_id"]
               and clip["start_ns"] <= row["timestamp_ns"] < clip["end_ns"]]  # fmt: skip
        assert found[place] == (1 / (1 + np.exp(-(4 * max(own) - 1))) >= 0.3)
    assert 0 < found.sum() < len(found)
    high = pool.matches("score('rarity') >= 15")
    assert {pool.facts["clip_id"][place].as_py() for place in np.flatnonzero(high)} == set(clips[15:])
    made = lake.select({"budget": 3, "quotas": [{"where": {"concept": "gate", "at_least": 0.3}, "at_least": 2}]})
    assert made.selection.report["cells"][0]["chosen"] >= 2
    with pytest.raises(UnknownName, match="concept 'gates'"):
        pool.matches(ConceptIs(concept="gates"))


@pytest.mark.parametrize(
    ("over", "shares", "most"),
    [
        (["location", "vehicle", "split"], "uniform", 14),
        (["weather"], {f"value {i}": 0.0 for i in range(60)}, 50),
        (["scene"], "lake", 10),
    ],
)
def test_too_many_cells_are_refused(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, over: list[str], shares: Any, most: int
) -> None:
    """Of the 24 combinations of towns, cars and splits that there could be, 15 are there: those count."""
    if most == 14:
        monkeypatch.setattr("miner.selection.axes.MAX_CELLS", 15)
        assert len(wanted(pool, {"over": over, "shares": shares})) == 15
    monkeypatch.setattr("miner.selection.axes.MAX_CELLS", most)
    with pytest.raises(UsageError, match=r"more than \d+ cells|20 values, at most 10"):
        wanted(pool, {"over": over, "shares": shares})
