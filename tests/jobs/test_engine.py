"""The contract every executor keeps, run through both: exactly once, isolation of bad units, equal tables."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.engine import RayExecutor
from miner.errors import Conflict, MinerError
from miner.executor import MAX_ATTEMPTS, Executor, LocalExecutor
from miner.indexes.coded import FaissIndex
from miner.indexes.flat import FlatIndex
from miner.indexes.load import load_index
from miner.lake import Lake, create
from miner.lineage import Run
from miner.schema import embeddings_schema
from miner.store import Store
from tests.jobs.stages import DiesWithoutLease, OneClipStage, write_scenes
from tests.miner.test_indexes import DIM, TABLE, rows_of, unit
from tests.recordings import write_drives
from tests.tables import contents, read


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(str(tmp_path / "lake"))


def fill(lake: Lake, source: Path) -> None:
    lake.ingest(source)
    lake.cut()
    lake.embed(["hashing"])
    lake.index()


def test_executors_give_equal_tables(tmp_path: Path, ray_executor: RayExecutor) -> None:
    source = write_drives(tmp_path / "source", scenes=4, frames=12)
    (source / "drive_01" / "frame_000003.jpg").write_bytes(b"<html>not a picture</html>")
    fill(create(tmp_path / "local", LocalExecutor(threads=2)), source)
    fill(create(tmp_path / "ray", ray_executor), source)
    local, ray = contents(tmp_path / "local"), contents(tmp_path / "ray")
    assert local == ray
    assert len(local["sample_data"]) == 48
    assert len(local["assets"]) == 47
    assert [row["reason"] for row in local["quarantine"]] == ["not-an-image"]


def test_second_run_changes_nothing(executor: Executor, store: Store) -> None:
    ids = write_scenes(store, 40)
    first = executor.map(OneClipStage(), store, Run("test"))
    versions = {table: store.version(table) for table in store.tables()}
    second = executor.map(OneClipStage(), store, Run("test"))
    assert (first.written, second.written, second.changed) == (40, 0, False)
    assert versions == {table: store.version(table) for table in store.tables()}
    assert sorted(store.scan("clips", ["scene_id"])["scene_id"].to_pylist()) == ids


def test_only_new_units_are_worked_on(executor: Executor, store: Store) -> None:
    write_scenes(store, 5)
    executor.map(OneClipStage(), store, Run("test"))
    more = [{"scene_id": "f" * 32, "dataset": "d", "log_id": "l", "name": "n", "start_ns": 0, "end_ns": 1}]
    import pyarrow as pa

    store.append("scenes", pa.Table.from_pylist(more))
    report = executor.map(OneClipStage(), store, Run("test"))
    assert (report.written, report.done_before) == (1, 5)


@pytest.mark.parametrize("fault", ["fail", "raise", "bad-input"])
@pytest.mark.parametrize("count", [1, 2])
def test_bad_units_are_quarantined_alone(executor: Executor, store: Store, fault: str, count: int) -> None:
    ids = write_scenes(store, 30)
    stage = OneClipStage(tuple(ids[7 : 7 + 9 * count : 9]), fault)
    report = executor.map(stage, store, Run("test"))
    assert (report.units, report.written, report.quarantined) == (30, 30 - count, count)
    rows = store.scan("quarantine").to_pylist()
    assert sorted(row["key"] for row in rows) == list(stage.victims)
    assert {row["reason"] for row in rows} == {{"fail": "fail", "raise": "error", "bad-input": "bad-taste"}[fault]}
    assert fault != "raise" or "cannot digest it" in rows[0]["detail"]
    assert executor.map(stage, store, Run("test")).changed is False


@pytest.mark.fault
@pytest.mark.parametrize("loads", [False, True], ids=["task", "actor"])
def test_a_worker_that_is_killed_once_costs_nothing(
    ray_executor: RayExecutor, store: Store, tmp_path: Path, loads: bool
) -> None:
    ids = write_scenes(store, 12)
    stage = OneClipStage((ids[4],), "die-once", str(tmp_path / "died"), loads=loads)
    report = ray_executor.map(stage, store, Run("test"))
    assert (tmp_path / "died").exists()
    assert (report.written, report.quarantined, store.count("quarantine")) == (12, 0, 0)
    assert sorted(read(store.uri, "clips")["scene_id"].to_pylist()) == ids
    assert ray_executor.map(stage, store, Run("test")).changed is False


@pytest.mark.fault
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("loads", "victims"),
    [
        pytest.param(False, 1, marks=pytest.mark.slow, id="task"),
        pytest.param(True, 2, marks=pytest.mark.slow, id="two-in-actors"),
    ],
)
def test_units_that_kill_their_worker_are_quarantined_alone(
    ray_executor: RayExecutor, store: Store, loads: bool, victims: int
) -> None:
    ids = write_scenes(store, 12)
    stage = OneClipStage(tuple(ids[2 : 2 + 7 * victims : 7]), "die", loads)
    report = ray_executor.map(stage, store, Run("test"))
    rows = store.scan("quarantine").to_pylist()
    assert sorted(row["key"] for row in rows) == list(stage.victims)
    assert {(row["reason"], row["attempts"]) for row in rows} == {("worker-died", MAX_ATTEMPTS)}
    assert (report.written, report.quarantined) == (12 - victims, victims)
    assert store.count("clips") == 12 - victims
    assert ray_executor.map(stage, store, Run("test")).changed is False


@pytest.mark.fault
@pytest.mark.parametrize("fault", ["hang", "hang-in-c"])
def test_a_unit_that_hangs_in_a_ray_worker_is_quarantined(ray_executor: RayExecutor, store: Store, fault: str) -> None:
    ids = write_scenes(store, 6)
    quick = replace(ray_executor, unit_timeout_s=0.4)
    report = quick.map(OneClipStage((ids[2],), fault), store, Run("test"))
    [row] = read(store.uri, "quarantine").to_pylist()
    assert (row["key"], row["reason"]) == (ids[2], "timed-out") and f"{ids[2]}.bin: not done after 0.4 s" in row[
        "detail"
    ]
    assert (report.written, store.count("clips")) == (5, 5)


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_unit_that_holds_the_interpreter_ends_its_worker(ray_executor: RayExecutor, store: Store) -> None:
    ids = write_scenes(store, 4)
    quick = replace(ray_executor, unit_timeout_s=1.0)
    report = quick.map(OneClipStage((ids[2],), "hang-with-the-lock"), store, Run("test"))
    [row] = read(store.uri, "quarantine").to_pylist()
    assert (row["key"], row["reason"], report.written) == (ids[2], "worker-died", 3)


@pytest.mark.parametrize(
    ("fault", "loads", "told"),
    [
        ("no-weights", True, "no file one.pt\nPut it there"),
        pytest.param("broken", True, "'no such layer'\nFull trace: ", marks=pytest.mark.slow),
        ("broken", False, "'no such layer'\nFull trace: "),
    ],
    ids=["no-weights", "broken-actor", "broken-task"],
)
def test_a_worker_that_cannot_start_is_told_once(
    executor: Executor, store: Store, fault: str, loads: bool, told: str
) -> None:
    write_scenes(store, 40)
    started = time.monotonic()
    with pytest.raises(MinerError) as raised:
        executor.map(OneClipStage(fault=fault, loads=loads), store, Run("test"))
    assert told in str(raised.value) and "Traceback" not in str(raised.value)
    assert time.monotonic() - started < 60, "it was tried again and again"
    assert (store.count("clips"), store.count("quarantine")) == (0, 0)
    assert executor.map(OneClipStage(), store, Run("test")).written == 40


@pytest.mark.parametrize("fault", ["forget", "empty"])
def test_a_stage_that_loses_a_unit_is_caught(store: Store, fault: str) -> None:
    ids = write_scenes(store, 6)
    report = LocalExecutor(threads=1).map(OneClipStage((ids[2],), fault), store, Run("test"))
    [row] = store.scan("quarantine").to_pylist()
    assert report.written == 5 and report.quarantined == 1
    assert "lost 1 units" in row["detail"]


def test_a_broken_stage_stops_instead_of_filling_the_quarantine(executor: Executor, store: Store) -> None:
    ids = write_scenes(store, 40)
    with pytest.raises(MinerError, match="not one of 40 units got through"):
        executor.map(OneClipStage(tuple(ids), "raise"), store, Run("test"))
    assert store.count("quarantine") == 0
    assert store.count("clips") == 0


def test_two_bad_units_that_came_later_do_not_stop_the_stage(store: Store) -> None:
    ids = write_scenes(store, 10)
    late = OneClipStage(tuple(ids[8:]), "raise")
    assert LocalExecutor().map(late, store, Run("test")).quarantined == 2
    store.delete("quarantine", "true")
    report = LocalExecutor().map(late, store, Run("test"))
    assert (report.written, report.quarantined) == (0, 2)


def test_an_absent_disk_does_not_fill_the_quarantine(store: Store) -> None:
    ids = write_scenes(store, 20)
    with pytest.raises(MinerError, match="not one of 20 files could be read"):
        LocalExecutor().map(OneClipStage(tuple(ids), "missing-file"), store, Run("test"))
    assert store.count("quarantine") == 0
    assert LocalExecutor().map(OneClipStage(tuple(ids[:19]), "missing-file"), store, Run("test")).quarantined == 19


def test_quarantined_units_are_tried_again_when_asked(executor: Executor, store: Store) -> None:
    ids = write_scenes(store, 6)
    executor.map(OneClipStage((ids[3],), "fail"), store, Run("test"))
    assert executor.map(OneClipStage(), store, Run("test")).written == 0
    executor.retry_quarantined = True
    try:
        report = executor.map(OneClipStage(), store, Run("test"))
    finally:
        executor.retry_quarantined = False
    assert (report.written, store.count("quarantine"), store.count("clips")) == (1, 0, 6)


def test_an_error_of_the_store_stops_the_workers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(store, 2000)
    worked: list[int] = []

    class Counting(OneClipStage):
        def _clips(self, units, wanted):  # type: ignore[no-untyped-def]
            worked.append(len(units))
            return super()._clips(units, wanted)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "commit", full)
    with pytest.raises(MinerError, match=r"no space left for .*lake .*MB free"):
        LocalExecutor(threads=1).map(Counting(block_size=10), store, Run("test"))
    assert sum(worked) < 2000


def test_memory_nobody_has_is_told_at_once(ray_executor: RayExecutor, store: Store) -> None:
    write_scenes(store, 2)
    with pytest.raises(
        MinerError, match=r"asks for 1 CPU, 0 GPU, 900000\.0 GB memory a worker; no node .* 2 CPU, 1 GPU"
    ):
        replace(ray_executor, memory_gb=9e5).map(OneClipStage(), store, Run("test"))
    assert replace(ray_executor, memory_gb=0.1).map(OneClipStage(), store, Run("test")).written == 2


def test_a_gpu_nobody_has_is_told_at_once(ray_executor: RayExecutor, store: Store) -> None:
    write_scenes(store, 2)
    with pytest.raises(
        MinerError, match="asks for 0 CPU, 2 GPU a worker; no node of the cluster has so much: 2 CPU, 1 GPU"
    ):
        ray_executor.map(OneClipStage(num_gpus=2.0), store, Run("test"))


@pytest.mark.parametrize("num_gpus", [1.0, 0.5])
def test_a_stage_with_gpus_leaves_what_one_without_leaves(
    ray_executor: RayExecutor, store: Store, tmp_path: Path, num_gpus: float
) -> None:
    write_scenes(store, 40)
    other = Store.create(str(tmp_path / "other"))
    write_scenes(other, 40)
    report = ray_executor.map(OneClipStage(num_gpus=num_gpus, loads=True), store, Run("test"))
    LocalExecutor(threads=1).map(OneClipStage(), other, Run("test"))
    assert report.written == 40 and contents(store.uri) == contents(other.uri)


def test_an_index_of_vectors_is_built_in_parts(executor: Executor, store: Store) -> None:
    store.ensure(TABLE, embeddings_schema("hashing", "1", DIM))
    for first in (0, 150):
        store.append(TABLE, rows_of(unit(150, first), first))
    [*_, report] = Lake(store, executor).index("faiss:IVF-SQ8")
    assert report.changed and report.stage == "vectors"
    index, flat = load_index(store, TABLE), FlatIndex.load(store, TABLE)
    assert isinstance(index, FaissIndex) and not index.notes and len(index.stored.codes) == 300
    np.testing.assert_array_equal(index.exhaustive(unit(2, 5), 9)[0], flat.search(unit(2, 5), 9)[0])


def test_a_reduction_that_lost_its_lease_does_not_begin_anew(ray_executor: RayExecutor, tmp_path: Path) -> None:
    store, reduction = Store.create(str(tmp_path / "lake")), DiesWithoutLease(str(tmp_path / "died"))
    with pytest.raises(Conflict, match="lost"):
        ray_executor.reduce(reduction, store, Run("test"))
    assert (tmp_path / "died").exists() and not store.has_commit("clips", {"miner.stage": reduction.name}, 0)
    ray_executor.reduce(reduction, store, Run("test"))
    assert store.has_commit("clips", {"miner.stage": reduction.name}, 0)
