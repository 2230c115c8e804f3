"""The contract every executor keeps, run through both: exactly once, isolation of bad units, equal tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.engine import RayExecutor
from miner.errors import MinerError
from miner.executor import MAX_ATTEMPTS, Executor, LocalExecutor
from miner.lake import Lake, create
from miner.lineage import Run
from miner.store import Store
from tests.jobs.stages import OneClipStage, write_scenes
from tests.recordings import write_drives
from tests.tables import contents


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


@pytest.mark.parametrize("fault", ["fail", "raise"])
def test_a_bad_unit_is_quarantined_alone(executor: Executor, store: Store, fault: str) -> None:
    ids = write_scenes(store, 30)
    report = executor.map(OneClipStage(ids[7], fault), store, Run("test"))
    assert (report.units, report.written, report.quarantined) == (30, 29, 1)
    [row] = store.scan("quarantine").to_pylist()
    assert row["key"] == ids[7]
    assert row["reason"] == {"fail": "bad-taste", "raise": "error"}[fault]
    assert fault == "fail" or f"cannot digest {ids[7]}" in row["detail"]
    assert executor.map(OneClipStage(ids[7], fault), store, Run("test")).changed is False


@pytest.mark.fault
@pytest.mark.parametrize("loads", [False, True], ids=["task", "actor"])
def test_a_unit_that_kills_its_worker_is_quarantined_alone(
    ray_executor: RayExecutor, store: Store, loads: bool
) -> None:
    ids = write_scenes(store, 9)
    report = ray_executor.map(OneClipStage(ids[4], "die", loads), store, Run("test"))
    assert (report.written, report.quarantined) == (8, 1)
    [row] = store.scan("quarantine").to_pylist()
    assert (row["key"], row["reason"], row["attempts"]) == (ids[4], "worker-died", MAX_ATTEMPTS)
    assert sorted(store.scan("clips", ["scene_id"])["scene_id"].to_pylist()) == [each for each in ids if each != ids[4]]


def test_a_stage_that_loses_a_unit_is_caught(store: Store) -> None:
    ids = write_scenes(store, 6)
    report = LocalExecutor(threads=1).map(OneClipStage(ids[2], "forget"), store, Run("test"))
    [row] = store.scan("quarantine").to_pylist()
    assert report.written + report.quarantined == 6
    assert "lost 1 units" in row["detail"]


def test_a_broken_stage_stops_instead_of_filling_the_quarantine(executor: Executor, store: Store) -> None:
    write_scenes(store, 200)
    with pytest.raises(MinerError, match="failed alike"):
        executor.map(AlwaysBroken(), store, Run("test"))
    assert store.count("quarantine") == 0
    assert store.count("clips") == 0


class AlwaysBroken(OneClipStage):
    """Raises for every block."""

    def _clips(self, units, wanted):  # type: ignore[no-untyped-def]
        raise RuntimeError("the disk of the model is on fire")


def test_a_gpu_nobody_has_is_told_at_once(ray_executor: RayExecutor, store: Store) -> None:
    write_scenes(store, 2)
    with pytest.raises(MinerError, match="asks for 1 GPU"):
        ray_executor.map(OneClipStage(num_gpus=1.0), store, Run("test"))
