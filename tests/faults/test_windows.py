"""Every crash window, hit on purpose: killed right there, the same command again ends as if nothing had been."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from miner import lease as leases
from miner.compact import OPEN
from miner.errors import Conflict
from miner.executor import LocalExecutor
from miner.failpoints import NAMES
from miner.lake import Lake, open
from miner.lease import holder
from miner.lineage import unrecorded
from miner.store import Store
from miner.verify import verify
from tests.faults.workers import LIMIT_S, Worker, run
from tests.recordings import write_drives
from tests.tables import Damage, contents, damage

pytestmark = pytest.mark.fault
INGEST = {
    "worker:block": "slow",
    "worker:written": "slow",
    "commit:before": "",
    "commit:checked": "slow",
    "commit:between-tables": "",
    "quarantine:before": "slow",
    "commit:after": "slow",
    "lineage:before": "slow",
    "lineage:after": "slow",
    "reduce:before": "slow",
    "reduce:committed": "slow",
    "reduce:after": "",
    "index:between-tables": "slow",
    "digests:before": "slow",
}
COMPACT = {
    "compact:between-tables": "slow",
    "compact:before-cleanup": "",
    "digests:before": "slow",
    "lineage:before": "slow",
    "lineage:after": "slow",
}
# Windows of other commands, in their tests.
ELSEWHERE = ("dataset:", "export:", "replace:", "migrate:", "restore:", "index:part", "index:sealed")


def marked(windows: dict[str, str]) -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.slow] if speed else []) for name, speed in windows.items()]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = write_drives(tmp_path_factory.mktemp("source"), scenes=3, frames=4)
    (source / "drive_01" / "frame_000002.jpg").write_bytes(b"")
    return source


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    run("ingest", lake, source=source)
    return lake


@pytest.fixture(scope="module")
def fragmented(source: Path, undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same lake, taken in drive by drive, with litter of a dead run."""
    root = tmp_path_factory.mktemp("fragmented")
    for drive in sorted(source.iterdir()):
        shutil.copytree(drive, root / "source" / drive.name)
        run("ingest", root / "lake", source=root / "source")
    store = Store.open(str(root / "lake"))
    store.write("scenes", store.scan("scenes"))
    return root


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.end()


def assert_sound(lake: Path) -> None:
    """Nothing is damaged, every run is in the lineage, nobody holds a table."""
    store = Store.open(str(lake))
    assert [check for check in verify(store) if not check.ok] == []
    assert [table for table in {*store.tables()} - {*OPEN} if unrecorded(store, table)] == []
    assert store.count("leases") == 0


def test_every_window_is_hit() -> None:
    assert {name for name in NAMES if not name.startswith(ELSEWHERE)} == {*INGEST} | {*COMPACT}


@pytest.mark.parametrize("window", marked(INGEST))
def test_an_ingest_killed_there_goes_on(
    window: str, source: Path, undisturbed: Path, worker: Worker, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    assert worker.ask("ingest", lake, f"{window}=kill", source=source).answer() == -signal.SIGKILL, worker.said
    run("ingest", lake, source=source)
    assert damage(lake, undisturbed) == Damage()
    assert_sound(lake)


@pytest.mark.parametrize("window", marked(COMPACT))
def test_a_compaction_killed_there_goes_on(window: str, fragmented: Path, worker: Worker, tmp_path: Path) -> None:
    shutil.copytree(fragmented, tmp_path, dirs_exist_ok=True)
    lake = tmp_path / "lake"
    before = contents(lake)
    turn = 1 if window == "digests:before" else 2  # it comes by there once, at its end; elsewhere once a table
    assert worker.ask("compact", lake, f"{window}=kill@{turn}", retain="0").answer() == -signal.SIGKILL, worker.said
    assert contents(lake) == before
    assert [check for check in verify(Store.open(str(lake))) if not check.ok] == []
    run("compact", lake, retain="0")
    assert contents(lake) == before
    assert_sound(lake)
    opened = open(lake)
    assert {len(opened.store.dataset(table).get_fragments()) for table in ("scenes", "clips", "sample_data")} == {1}
    assert not any(each.changed for each in opened.compact("0"))


def test_an_index_build_that_is_killed_leaves_the_old_one(
    source: Path, fragmented: Path, worker: Worker, tmp_path: Path
) -> None:
    """Key indexes of some tables have the new rows, of others not, facts and manifest neither: answers are right."""
    shutil.copytree(fragmented, tmp_path, dirs_exist_ok=True)
    lake, growing = tmp_path / "lake", tmp_path / "source"
    write_drives(growing, scenes=4, frames=4)
    (growing / "drive_01" / "frame_000002.jpg").write_bytes(b"")
    window = "index:between-tables=kill@3"
    assert worker.ask("ingest", lake, window, source=growing).answer() == -signal.SIGKILL, worker.said
    hits = open(lake).search("a truck", k=20).to_dict()["hits"]
    run("ingest", lake, source=growing)
    assert open(lake).search("a truck", k=20).to_dict()["hits"] == hits
    run("compact", lake, retain="0")
    assert_sound(lake)
    for table in ("scenes", "sample_data", "embeddings/hashing"):
        folder = lake / f"{table}.lance"
        there = {
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.parent.name in ("data", "_indices")
        }
        tracked = Store.open(str(lake)).dataset(table).tracked_files().read_all()["path"].to_pylist()
        assert {path for path in there if path.endswith(".lance")} <= {*tracked}, "litter"


def until_it_waits(lake: Path, table: str) -> None:
    """Until a run holds a table and has written files that no version has: it waits at its failpoint."""
    deadline = time.monotonic() + LIMIT_S
    store = Store.at(str(lake))
    while time.monotonic() < deadline:
        if store.exists("leases") and holder(store, table) and any((lake / f"{table}.lance").glob("data/*.lance")):
            time.sleep(0.3)
            return
        time.sleep(0.05)
    raise AssertionError("the run never came by its failpoint")


def test_compact_while_a_run_is_about_to_commit(
    source: Path, undisturbed: Path, worker: Worker, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    worker.ask("ingest", lake, "commit:before=wait:4@1", source=source)
    until_it_waits(lake, "scenes")
    with pytest.raises(Conflict, match="held by run") as refused:
        Lake(Store.open(str(lake)), LocalExecutor(wait=False)).compact("0", table="scenes")
    assert refused.value.exit_code == 5
    told: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        waiting = Lake(Store.open(str(lake)), LocalExecutor(notify=told.append))
        done = pool.submit(waiting.compact, "0", "scenes")
        assert worker.answer() == 0, worker.said
        done.result(LIMIT_S)
    assert told and "waiting for it to end" in told[0]
    assert contents(lake) == contents(undisturbed)
    run("ingest", lake, source=source)
    assert contents(lake) == contents(undisturbed)
    assert_sound(lake)


@pytest.mark.parametrize("window", ["commit:before", pytest.param("commit:checked", marks=pytest.mark.slow)])
def test_a_run_stopped_for_longer_than_its_lease(
    window: str, source: Path, undisturbed: Path, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has passed all its checks and written its files; compact takes the tables over and the files for litter."""
    lake = tmp_path / "lake"
    worker.ask("ingest", lake, f"{window}=wait:2@1", source=source)
    until_it_waits(lake, "scenes")
    worker.stop(signal.SIGSTOP)
    monkeypatch.setattr(leases, "EXPIRY_S", 1.0)
    time.sleep(1.2)
    taken = open(lake)
    done = {each.table: each for each in taken.compact("0")}
    assert done["scenes"].files_removed > 0
    monkeypatch.undo()
    worker.stop(signal.SIGCONT)
    assert worker.answer() == 5, worker.said
    for table in taken.store.tables():
        taken.store.scan(table)
    assert taken.store.count("scenes") == 0
    run("ingest", lake, source=source)
    assert damage_but_cleaned(lake, undisturbed) == ()
    assert_sound(lake)


def damage_but_cleaned(lake: Path, undisturbed: Path) -> tuple[str, ...]:
    """As `damage`, but compaction may have cleaned away versions that lineage names: `verify` knows which."""
    return tuple(each for each in damage(lake, undisturbed).details if not each.startswith("lineage: "))
