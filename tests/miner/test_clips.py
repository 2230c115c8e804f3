"""Windows of scenes: a law over random times, and what the cut stage makes of real tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.clips import CutStage, Recipe, choose_recipe
from miner.errors import UsageError
from miner.executor import LocalExecutor
from miner.lake import Lake, create
from miner.lineage import Run
from miner.schema import CLIPS, SAMPLE_DATA, SCENES, check
from miner.store import Store
from tests.recordings import write_drives

SECOND = 10**9


def lake_of(folder: Path, scenes: Mapping[str, Sequence[float]]) -> Store:
    """A lake of scenes with readings at these seconds."""
    store = Store.create(str(folder / "lake"))
    store.ensure("scenes")
    store.ensure("sample_data")
    for scene_id, seconds in scenes.items():
        times = [round(each * SECOND) for each in seconds]
        scene: dict[str, Any] = {"scene_id": scene_id, "dataset": "d", "log_id": "l", "name": scene_id}
        scene |= {"start_ns": min(times, default=0), "end_ns": max(times, default=0) + 1}
        store.append("scenes", check(pa.Table.from_pylist([scene], SCENES), SCENES))
        reading = {"scene_id": scene_id, "channel": "CAM", "modality": "camera", "is_key_frame": True}
        reading |= {"uri": "u", "fileformat": "jpg"}
        rows = [{"sample_data_id": f"{scene_id}-{n}", "timestamp_ns": at, **reading} for n, at in enumerate(times)]
        store.append("sample_data", check(pa.Table.from_pylist(rows, SAMPLE_DATA), SAMPLE_DATA))
    return store


def cut(store: Store, window_s: float = 10.0) -> list[tuple[str, float, float]]:
    """The clips of a store after cutting it: scene, first and last second."""
    LocalExecutor(threads=1).map(CutStage(Recipe(window_s)), store, Run("cut"))
    rows = store.scan("clips").sort_by([("scene_id", "ascending"), ("start_ns", "ascending")]).to_pylist()
    return [(row["scene_id"], row["start_ns"] / SECOND, row["end_ns"] / SECOND) for row in rows]


def windows(times: list[int], start: int, end: int, window_s: float) -> pa.Table:
    unit = {"key": ["s"], "scene_id": ["s"], "start_ns": [start], "end_ns": [end], "times": [times]}
    stage = CutStage(Recipe(window_s))
    return stage.apply(Store.at("unused"))(pa.table(unit), frozenset({"clips"})).rows["clips"]


@given(
    times=st.lists(st.integers(0, 10**12), min_size=1, max_size=40),
    window_s=st.floats(0.1, 3600),
    early=st.integers(0, 10**10),
    late=st.integers(0, 10**10),
)
def test_every_reading_is_in_exactly_one_clip(times: list[int], window_s: float, early: int, late: int) -> None:
    """Whether or not the scene's own span reaches as far as its readings."""
    start, end = max(0, min(times) - early), max(times) + 1 + late
    clips = windows(times, start, end, window_s).to_pylist()
    for time in times:
        assert sum(clip["start_ns"] <= time < clip["end_ns"] for clip in clips) == 1
    for clip in clips:
        assert any(clip["start_ns"] <= time < clip["end_ns"] for time in times), "a clip without a reading"
        assert (clip["start_ns"] - start) % round(window_s * SECOND) == 0, "off the grid"
        assert 0 < clip["end_ns"] - clip["start_ns"] <= round(window_s * SECOND)
        assert clip["end_ns"] <= end
    assert len({clip["clip_id"] for clip in clips}) == len(clips)
    assert check(pa.Table.from_pylist(clips, CLIPS), CLIPS).num_rows == len(clips)


def test_windows_stand_on_the_scenes_own_grid(tmp_path: Path) -> None:
    store = lake_of(tmp_path, {"a": [3, 7, 12.9, 13, 20], "b": [0, 9.999]})
    assert cut(store) == [("a", 3, 13), ("a", 13, 20.000000001), ("b", 0, 9.999000001)]


def test_a_gap_gives_no_clip(tmp_path: Path) -> None:
    store = lake_of(tmp_path, {"a": [0, 1, 31, 32]})
    assert cut(store) == [("a", 0, 10), ("a", 30, 32.000000001)]


def test_a_scene_without_readings_is_quarantined(tmp_path: Path) -> None:
    store = lake_of(tmp_path, {"a": [0], "empty": [], "z": [0, 11]})
    assert [scene for scene, _, _ in cut(store)] == ["a", "z", "z"]
    [row] = store.scan("quarantine").to_pylist()
    assert (row["stage"], row["key"], row["scene_id"], row["reason"]) == ("cut", "empty", "empty", "no-readings")


def test_ids_follow_from_scene_recipe_and_start(tmp_path: Path) -> None:
    seconds = {"a": [0, 1, 11], "b": [5]}
    here, there = lake_of(tmp_path / "x", seconds), lake_of(tmp_path / "y", {"b": [5], "c": [0], "a": [0, 1, 11]})
    cut(here)
    cut(there)
    ids = {store.uri: store.scan("clips", filter="scene_id != 'c'")["clip_id"].to_pylist() for store in (here, there)}
    assert sorted(ids[here.uri]) == sorted(ids[there.uri]) and len(set(ids[here.uri])) == 3
    other = lake_of(tmp_path / "z", seconds)
    cut(other, 5)
    assert set(other.scan("clips")["clip_id"].to_pylist()).isdisjoint(ids[here.uri])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    lake.ingest(write_drives(tmp_path / "source", scenes=2, frames=3))
    return lake


@pytest.mark.parametrize("window_s", [0.1, 1 / 3, 0.7, 5, 12.3456789, 3600])
def test_the_recipe_of_a_lake_is_its_own(lake: Lake, window_s: float) -> None:
    assert lake.cut(window_s).written == 2
    assert lake.cut(window_s).changed is False
    assert lake.cut().changed is False, "no length given means the lake's"
    assert choose_recipe(lake.store, None) == Recipe(window_s)


def test_another_recipe_is_refused(lake: Lake) -> None:
    lake.cut(2)
    with pytest.raises(UsageError, match=r"cut by window=2s, not window=3s\nOne recipe is active"):
        lake.cut(3)
    assert set(lake.store.scan("clips")["recipe"].to_pylist()) == {"window=2s"}


def test_an_unknown_recipe_is_refused(lake: Lake) -> None:
    lake.store.ensure("clips")
    row = {"clip_id": "c", "scene_id": "s", "start_ns": 0, "end_ns": 1, "recipe": "at-every-turn"}
    lake.store.append("clips", pa.Table.from_pylist([row], CLIPS))
    with pytest.raises(UsageError, match="unknown recipe 'at-every-turn'"):
        lake.cut()


@pytest.mark.parametrize("window_s", [0, -1, 0.09, 3601, float("nan"), float("inf")])
def test_a_window_of_no_use_is_refused(lake: Lake, window_s: float) -> None:
    with pytest.raises(UsageError, match=r"expected 0\.1 to 3600 seconds"):
        lake.cut(window_s)
    assert not lake.store.exists("clips")
