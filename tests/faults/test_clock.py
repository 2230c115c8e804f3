"""The clock of the machine goes back between and during runs: versions are ordered by number, nothing waits for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from miner.executor import LocalExecutor
from miner.lake import Lake, create
from tests.recordings import write_frames

HOUR_NS = 3600 * 10**9


def fill(lake: Lake, source: Path) -> None:
    lake.ingest(source, dataset="drives")
    lake.cut()
    lake.embed(["hashing"], "whole")
    lake.index()


@pytest.mark.timeout(60)
def test_a_clock_that_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, source = create(tmp_path / "lake", LocalExecutor(threads=1)), tmp_path / "source"
    write_frames(source / "a", 3)
    fill(lake, source)
    before = {table: lake.store.version(table) for table in lake.store.tables()}
    real_ns, real, calls = time.time_ns, time.time, [0]

    def going_back_ns() -> int:
        """An hour back at first, and a second more with each question."""
        calls[0] += 1
        return real_ns() - HOUR_NS - calls[0] * 10**9

    monkeypatch.setattr(time, "time_ns", going_back_ns)
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    write_frames(source / "b", 3, seed=1)
    fill(lake, source)
    assert calls[0] > 5, "nobody looked at the clock: the test shows nothing"
    after = {table: lake.store.version(table) for table in lake.store.tables()}
    assert all(after[table] > before[table] for table in ("scenes", "sample_data", "clips", "embeddings/hashing"))
    for table in ("scenes", "embeddings/hashing"):
        versions = [commit.version for commit in lake.store.commits(table)]
        assert versions == sorted(versions) and versions[-1] == after[table]
    assert lake.store.count("scenes") == 2 and len(lake.search("x")) == 2
    assert [check for check in lake.verify() if not check.ok] == []
    again = [lake.ingest(source, dataset="drives"), lake.cut(), lake.embed(["hashing"]), *lake.index()]
    assert not any(report.changed for report in again)
