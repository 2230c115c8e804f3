"""Stages with GPUs on Ray: tasks prepare, actors apply, and the tables are those of a run on threads.

The cluster's GPU is in Ray's books only.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jobs.engine import RayExecutor
from miner.errors import MinerError
from miner.executor import MAX_ATTEMPTS, Executor, LocalExecutor
from miner.lake import Lake, create
from miner.lineage import Run
from miner.store import Store
from tests.jobs.stages import OneClipStage, write_scenes
from tests.recordings import write_drives
from tests.tables import contents, read


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(str(tmp_path / "lake"))


def made(folder: Path, executor: Executor, source: Path, encoder: str, **sizes: float) -> Lake:
    lake = create(folder, executor)
    Lake(lake.store, LocalExecutor(threads=1)).ingest(source)
    lake.embed([encoder], **sizes)
    return lake


def test_halves_leave_what_threads_leave(tmp_path: Path, ray_executor: RayExecutor) -> None:
    source = write_drives(tmp_path / "source", scenes=3, frames=8)
    (source / "drive_01" / "frame_000003.jpg").write_bytes(b"<html>not a picture</html>")
    (source / "drive_02" / "frame_000001.jpg").unlink()
    local = made(tmp_path / "local", LocalExecutor(threads=2), source, "hashing")
    few = replace(ray_executor, num_workers=1, decode_workers=1)
    ray = made(tmp_path / "ray", few, source, "hashing", num_gpus=0.5, block_size=5)
    assert contents(local.uri) == contents(ray.uri)
    assert (ray.store.count("assets"), ray.store.count("quarantine")) == (22, 1)
    assert not ray.embed(["hashing"], num_gpus=0.5).changed


@pytest.mark.slow
def test_a_gpu_that_torch_does_not_see_is_not_replaced_by_a_cpu(tmp_path: Path, ray_executor: RayExecutor) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    source = write_drives(tmp_path / "source", scenes=1, frames=2)
    with pytest.raises(MinerError, match=r"num_gpus = 0\.5.* sees none on"):
        made(tmp_path / "lake", ray_executor, source, "lite", num_gpus=0.5)
    assert not Lake(Store.open(str(tmp_path / "lake"))).store.count("assets")


@pytest.mark.fault
@pytest.mark.parametrize("early", [True, False], ids=["prepare", "apply"])
def test_a_half_that_is_killed_once_costs_nothing(
    ray_executor: RayExecutor, store: Store, tmp_path: Path, early: bool
) -> None:
    ids = write_scenes(store, 12)
    stage = OneClipStage((ids[4],), "die-once", str(tmp_path / "died"), loads=True, num_gpus=0.5, early=early)
    report = ray_executor.map(stage, store, Run("test"))
    assert (tmp_path / "died").exists()
    assert (report.written, report.quarantined, store.count("quarantine")) == (12, 0, 0)
    assert sorted(read(store.uri, "clips")["scene_id"].to_pylist()) == ids
    assert ray_executor.map(stage, store, Run("test")).changed is False


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("early", [True, False], ids=["prepare", "apply"])
def test_units_that_kill_one_half_are_quarantined_alone(ray_executor: RayExecutor, store: Store, early: bool) -> None:
    ids = write_scenes(store, 12)
    stage = OneClipStage((ids[2], ids[9]), "die", loads=True, num_gpus=0.5, early=early)
    report = ray_executor.map(stage, store, Run("test"))
    rows = store.scan("quarantine").to_pylist()
    assert sorted(row["key"] for row in rows) == list(stage.victims)
    assert {(row["reason"], row["attempts"]) for row in rows} == {("worker-died", MAX_ATTEMPTS)}
    assert (report.written, report.quarantined, store.count("clips")) == (10, 2, 10)


@pytest.mark.fault
def test_bad_and_stuck_units_of_the_first_half_are_quarantined(ray_executor: RayExecutor, store: Store) -> None:
    ids = write_scenes(store, 6)
    quick = replace(ray_executor, unit_timeout_s=0.4)
    report = quick.map(OneClipStage((ids[0],), "hang-in-c", num_gpus=1.0, early=True), store, Run("test"))
    [row] = read(store.uri, "quarantine").to_pylist()
    assert (row["key"], row["reason"], report.written) == (ids[0], "timed-out", 5)
    store.delete("quarantine", "true")
    report = ray_executor.map(OneClipStage((ids[0],), "raise", num_gpus=1.0, early=True), store, Run("test"))
    [row] = read(store.uri, "quarantine").to_pylist()
    assert (row["reason"], report.written) == ("error", 0) and "cannot digest it" in row["detail"]
