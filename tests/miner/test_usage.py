"""What blocks are said to use: of the CPU in even parts, of files what was read, of the lake what was written."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import miner
from miner.executor import LocalExecutor
from miner.lineage import Run
from miner.store import Store
from miner.usage import Clock, Meter, Usage
from tests.jobs.stages import OneClipStage, write_scenes
from tests.recordings import write_drives

amounts = st.integers(0, 10**9)
usages = st.builds(Usage, **{each.name: amounts for each in fields(Usage)})


@given(usages, usages, usages)
def test_usages_add_up(one: Usage, two: Usage, three: Usage) -> None:
    assert one + Usage() == one
    assert (one + two) + three == one + (two + three) and one + two == two + one
    assert (one + two).busy_s == one.busy_s + two.busy_s


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=40))
def test_blocks_at_work_share_the_cpu_evenly_and_nothing_is_lost(steps: list[tuple[bool, float]]) -> None:
    now_s, at_work = [0.0], []
    clock, shares, used_s = Clock(lambda: now_s[0]), [], 0.0
    for begins, passed_s in steps:
        now_s[0] += passed_s
        used_s += passed_s if at_work else 0.0
        if begins or not at_work:
            at_work.append(clock.running())
            shares.append(at_work[-1].__enter__())
        else:
            at_work.pop(0).__exit__(None, None, None)
    for block in at_work:
        block.__exit__(None, None, None)
    assert sum(share.cpu_s for share in shares) == pytest.approx(used_s)


def test_two_blocks_at_once_are_told_half_each() -> None:
    now_s = [0.0]
    clock = Clock(lambda: now_s[0], lambda: 10 * now_s[0])
    now_s[0] = 0.5
    with clock.running() as one:
        now_s[0] = 2.5
        with clock.running() as two:
            now_s[0] = 5.5
        now_s[0] = 6.5
    now_s[0] = 100.0  # nobody is at work
    assert (one.cpu_s, two.cpu_s) == (2.0 + 1.5 + 1.0, 1.5)
    assert (one.part, two.part) == (4.5 / 6.0, 0.5) and (one.idle_s, two.idle_s) == (5.0, 0.0)


def test_a_gpu_waits_while_its_worker_does_something_else() -> None:
    meter = Meter()
    for phase in ("prepare", "apply", "write"):
        with meter.phase(phase):  # type: ignore[arg-type]
            pass
    usage = meter.usage(8, cpu_s=1.5, gpus=0.5, idle_s=4.0)
    assert usage.gpu_s == 0.5 * usage.apply_s
    assert usage.gpu_wait_s == pytest.approx(0.5 * (4.0 + usage.prepare_s + usage.write_s))
    assert (usage.units, usage.blocks, usage.cpu_s) == (8, 1, 1.5)
    assert meter.usage(8).gpu_s == meter.usage(8).gpu_wait_s == 0
    half = meter.usage(8, gpus=0.5, idle_s=4.0, part=0.5)  # another block was at work on the same GPU
    assert half.gpu_s == usage.gpu_s / 2 and half.gpu_wait_s - 2.0 == pytest.approx((usage.gpu_wait_s - 2.0) / 2)


def test_threads_have_the_gpus_of_their_process_together(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    write_scenes(store, 64)
    report = LocalExecutor(threads=4).map(OneClipStage(num_gpus=0.5, pause_s=0.004), store, Run("test"))
    assert 0 < report.usage.gpu_s and report.cost.gpu_s <= 0.5 * report.seconds


def test_what_is_read_and_written_is_counted(tmp_path: Path) -> None:
    lake = miner.create(tmp_path / "lake", LocalExecutor(threads=2))
    ingested = lake.ingest(write_drives(tmp_path / "drives", scenes=2, frames=3))
    lake.cut()
    report = lake.embed(["hashing"])
    files = lake.store.scan("assets", ["num_bytes"])["num_bytes"]
    assert (report.usage.units, report.usage.bytes_read) == (6, pc.sum(files).as_py())
    assert report.usage.bytes_written == _data_bytes(lake.uri, "assets", "embeddings/hashing")
    assert ingested.usage.bytes_written == _data_bytes(lake.uri, "scenes", "sample_data", "annotations")
    assert min(report.usage.prepare_s, report.usage.apply_s, report.usage.write_s, report.usage.cpu_s) > 0
    assert 1 <= report.workers <= 2 and report.commit_s > 0
    costs = [json.loads(row["cost"]) for row in lake.store.scan("lineage").to_pylist() if row["job"] == "embed"]
    assert costs and all(cost["usage"] == report.usage.to_dict() for cost in costs)


def _data_bytes(uri: str, *tables: str) -> int:
    return sum(file.stat().st_size for table in tables for file in Path(uri, f"{table}.lance").glob("data/*"))


def test_what_failed_was_spent_too(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    ids = write_scenes(store, 8)
    report = LocalExecutor(threads=2).map(OneClipStage((ids[3],), "raise"), store, Run("test"))
    assert (report.written, report.quarantined) == (7, 1)
    assert report.usage.units > 8  # the bad unit was tried again, and so was who shared its block


@given(st.integers(1, 1000), st.floats(0, 100), st.floats(0, 100))
def test_two_halves_of_a_block_are_one_block(units: int, first_s: float, second_s: float) -> None:
    whole = Meter().usage(units, first_s + second_s)
    halves = replace(Meter().usage(0, first_s), blocks=0).joined(Meter().usage(units, second_s))
    assert halves == whole
    first = replace(Meter().usage(0, first_s), blocks=0).joined(Meter().usage(units, second_s).as_first(1.0, 2.0))
    assert first == whole.as_first(1.0, 2.0)


def test_nothing_to_do_uses_nothing(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    write_scenes(store, 2)
    LocalExecutor().map(OneClipStage(), store, Run("test"))
    report = LocalExecutor().map(OneClipStage(), store, Run("test"))
    assert (report.usage, report.workers, report.driver_cpu_s) == (Usage(), 0, 0.0)
