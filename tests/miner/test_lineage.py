"""Who wrote what: events of runs that end well, and of runs that die before they could say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

import miner
from miner.clips import CutStage
from miner.errors import MinerError
from miner.executor import LocalExecutor
from miner.index import reductions
from miner.lake import Lake, create
from miner.lineage import Run, Span, record, recover, unrecorded
from miner.schema import CLIPS
from miner.store import Store
from tests.recordings import write_drives

RUN = Run("cut", {"recipe": "window=10s"}, "2000.1", seed=7)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three scenes of two readings, nothing cut yet."""
    lake = create(tmp_path / "lake", LocalExecutor(threads=2))
    lake.ingest(write_drives(tmp_path / "source", scenes=3, frames=2))
    return lake


def events(lake: Lake, **fields: Any) -> list[dict[str, Any]]:
    rows = lake.store.scan("lineage").to_pylist()
    return [row for row in rows if all(row[name] == value for name, value in fields.items())]


def cut_and_die(store: Store, run: Run, scene_ids: list[str], groups: int = 1) -> list[int]:
    """Clips of some scenes committed as a run does, which then dies: no event, no tag. Gives the versions."""
    store.ensure("clips")
    versions = []
    for group in range(groups):
        part = scene_ids[group::groups]
        rows = [{"clip_id": f"clip of {each}", "scene_id": each, "start_ns": 0, "end_ns": 10**10} for each in part]
        table = pa.Table.from_pylist([{**row, "recipe": "window=10s"} for row in rows], CLIPS)
        stamp = run.stamp(stage="cut", group=group)
        versions.append(store.commit("clips", store.write("clips", table), stamp, store.version("clips")))
    return versions


def test_one_event_per_run_and_output(lake: Lake) -> None:
    lake.cut()
    lake.embed(["hashing"], views="whole")
    rows = events(lake)
    assert sorted((row["job"], output["table"]) for row in rows for output in row["outputs"]) == [
        ("cut", "clips"),
        ("embed", "assets"),
        ("embed", "embeddings/hashing"),
        ("ingest", "sample_data"),
        ("ingest", "scenes"),
    ]
    assert len({row["run_id"] for row in rows}) == 3
    assert {row["status"] for row in rows} == {"complete"}
    assert len({row["event_id"] for row in rows}) == len(rows)


def test_an_event_says_how(lake: Lake) -> None:
    before = lake.store.version("sample_data")
    lake.cut(5)
    [event] = events(lake, job="cut")
    assert json.loads(event["config"]) == {"recipe": "window=5s"}
    assert (event["code_version"], event["seed"]) == (miner.__version__, None)
    cost = json.loads(event["cost"])
    assert (cost["units"], cost["rows"], cost["quarantined"]) == (3, {"clips": 3}, 0)
    assert cost["seconds"] > 0 and cost["worker_seconds"] > 0
    inputs = {span["table"]: (span["first"], span["last"]) for span in event["inputs"]}
    assert inputs["sample_data"] == (before, before)


def test_the_tag_of_a_run_opens_the_version_it_wrote(lake: Lake, tmp_path: Path) -> None:
    [event] = [row for row in events(lake) if row["outputs"][0]["table"] == "scenes"]
    more = write_drives(tmp_path / "more", scenes=2, frames=2)
    lake.ingest(more)
    lake.index()
    tagged = lance.dataset(f"{lake.uri}/scenes.lance", version=f"run-{event['run_id']}")
    assert tagged.version == event["outputs"][0]["last"]
    assert (tagged.count_rows(), lake.store.count("scenes")) == (3, 5)


def test_seed_and_settings_of_a_run_are_kept(lake: Lake) -> None:
    version = lake.store.version("scenes")
    record(lake.store, RUN, [Span("sample_data", 1, 2)], [Span("scenes", version, version)], {"seconds": 1.5})
    [event] = events(lake, run_id=RUN.run_id)
    assert (event["seed"], event["code_version"], json.loads(event["config"])) == (7, "2000.1", RUN.config)
    assert event["inputs"] == [{"table": "sample_data", "first": 1, "last": 2}]


def test_a_reduction_has_its_event(lake: Lake) -> None:
    lake.cut()
    lake.index()
    [event] = events(lake, job="index")
    assert [span["table"] for span in event["outputs"]] == ["clip_facts"]
    assert {span["table"] for span in event["inputs"]} == {"scenes", "sample_data", "annotations", "clips"}
    lake.index()
    assert len(events(lake, job="index")) == 1


def test_a_run_that_died_is_found_by_the_next(lake: Lake) -> None:
    scene_ids = lake.store.scan("scenes", ["scene_id"])["scene_id"].to_pylist()
    first, last = cut_and_die(lake.store, RUN, scene_ids[:2], groups=2)
    assert [span for _, span in unrecorded(lake.store, "clips")] == [Span("clips", first, last)]
    report = lake.cut()
    assert (report.written, report.done_before) == (1, 2)
    [event] = events(lake, run_id=RUN.run_id)
    assert event["status"] == "interrupted"
    assert event["outputs"] == [{"table": "clips", "first": first, "last": last}]
    assert (event["job"], event["seed"], event["code_version"]) == ("cut", 7, "2000.1")
    assert json.loads(event["config"]) == RUN.config
    assert lance.dataset(f"{lake.uri}/clips.lance", version=f"run-{RUN.run_id}").count_rows() == 2
    assert [row["status"] for row in events(lake, job="cut") if row["run_id"] != RUN.run_id] == ["complete"]


def test_a_dead_run_is_recorded_once_even_if_nothing_is_left_to_do(lake: Lake) -> None:
    cut_and_die(lake.store, RUN, lake.store.scan("scenes", ["scene_id"])["scene_id"].to_pylist())
    assert lake.cut().changed is False
    assert [row["status"] for row in events(lake, job="cut")] == ["interrupted"]
    versions = {table: lake.store.version(table) for table in lake.store.tables()}
    assert lake.cut().changed is False
    recover(lake.store, "clips")
    assert versions == {table: lake.store.version(table) for table in lake.store.tables()}


def test_an_interrupted_run_that_lives_to_say_so_keeps_what_is_done(lake: Lake) -> None:
    """A failure in the middle of a run commits what is finished; the next run records it and does the rest."""
    with pytest.raises(MinerError, match="RuntimeError: power cut"):
        Dying(threads=1).map(CutStage(), lake.store, RUN)
    assert lake.store.count("clips") == 1
    assert lake.cut().written == 2
    [event] = events(lake, run_id=RUN.run_id)
    cost = json.loads(event["cost"])
    assert (event["status"], cost["stage"], cost["usage"]["units"]) == ("interrupted", "cut", 1)
    assert cost["worker_seconds"] > 0
    ids = lake.store.scan("clips", ["clip_id"])["clip_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 3


class Dying(LocalExecutor):
    """Does one unit of a chunk and then falls over."""

    def run_blocks(self, stage, store, blocks):  # type: ignore[no-untyped-def]
        yield from super().run_blocks(stage, store, [blocks[0].slice(0, 1)])
        raise RuntimeError("power cut")


def test_an_index_run_that_died_gets_its_event(lake: Lake) -> None:
    """Killed between its commit and its event: the rows are no longer stale, the event is written all the same."""
    lake.index()
    store = lake.store
    [reduction] = [each for each in reductions(store) if each.name == "facts"]
    versions = [Span(name, store.version(name), store.version(name)) for name in reduction.reads]
    died = Run("index", run_id="died")
    store.replace("clip_facts", reduction.compute(store), "true", died.stamp(owned="true", source=repr(versions)))
    lake.index()
    [event] = [row for row in store.scan("lineage").to_pylist() if row["run_id"] == "died"]
    assert (event["status"], event["outputs"][0]["table"]) == ("interrupted", "clip_facts")
