"""Several processes on one lake: ingests of one source, compaction beside ingest and update, readers beside both."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lance
import pytest

from miner.digests import seal
from miner.errors import Damaged
from miner.executor import LocalExecutor
from miner.fragments import merge_fragments
from miner.lake import create, open
from miner.lineage import Run
from miner.store import Store
from tests.faults.workers import Worker, run
from tests.miner.test_store import clips
from tests.recordings import write_drives
from tests.tables import Damage, contents, damage

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = write_drives(tmp_path_factory.mktemp("source"), scenes=4, frames=4)
    (source / "drive_01" / "frame_000002.jpg").write_bytes(b"")
    return source


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    run("ingest", lake, source=source)
    return lake


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    workers = [Worker() for _ in range(3)]
    yield workers
    for worker in workers:
        worker.end()


def assert_two_at_once(workers: list[Worker], source: Path, lake: Path, undisturbed: Path) -> None:
    both = [worker.ask("ingest", lake, source=source) for worker in workers[:2]]
    assert [worker.answer() for worker in both] == [0, 0], [worker.said for worker in both]
    assert (found := damage(lake, undisturbed)) == Damage(), found.details


def test_two_ingests_of_one_source(workers: list[Worker], source: Path, undisturbed: Path, tmp_path: Path) -> None:
    for trial in range(2):
        assert_two_at_once(workers, source, tmp_path / f"lake{trial}", undisturbed)


@pytest.mark.slow
def test_two_ingests_of_one_source_twenty_times(
    workers: list[Worker], source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    for trial in range(20):
        assert_two_at_once(workers, source, tmp_path / f"lake{trial}", undisturbed)


@pytest.mark.slow
def test_three_that_do_not_wait(workers: list[Worker], source: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Each ends with 0 or 5; whoever is turned away may come again, and in the end each reading is there once."""
    lake = tmp_path / "lake"
    left, codes = [*workers], []
    for _ in range(50):
        for worker in left:
            worker.ask("ingest", lake, source=source, wait=False)
        answers = {worker: worker.answer() for worker in left}
        codes += [*answers.values()]
        left = [worker for worker, code in answers.items() if code]
        if not left:
            break
    assert {*codes} <= {0, 5} and codes.count(0) == 3, [worker.said for worker in workers]
    assert (found := damage(lake, undisturbed)) == Damage(), found.details


def test_compaction_beside_an_ingest(workers: list[Worker], source: Path, undisturbed: Path, tmp_path: Path) -> None:
    """In two parts, so that there is something to compact."""
    lake, growing = tmp_path / "lake", tmp_path / source.name  # the name is the dataset
    create(lake)
    compacting = workers[1].ask("compact", lake, retain="0")
    drives = sorted(source.iterdir())
    for part in (drives[:2], drives[2:]):
        for drive in part:
            shutil.copytree(drive, growing / drive.name)
        assert workers[0].ask("ingest", lake, source=growing).answer() == 0, workers[0].said
        assert compacting.answer() == 0, compacting.said
        compacting.ask("compact", lake, retain="0")
    assert compacting.answer() == 0, compacting.said
    run("compact", lake, retain="0")
    assert _placed(contents(lake), growing, source) == contents(undisturbed)
    assert all(check.ok for check in open(lake).verify())


def _placed(tables: dict[str, list[dict[str, object]]], here: Path, there: Path) -> dict[str, list[dict[str, object]]]:
    columns = ("uri", "detail")
    return {
        table: [
            {
                name: str(value).replace(str(here), str(there)) if name in columns else value
                for name, value in row.items()
            }
            for row in rows
        ]
        for table, rows in tables.items()
    }


def test_compaction_against_updates_loses_none(tmp_path: Path) -> None:
    """Without any lease, as on the tables that have none: Lance's own conflicts, and our retries of them."""
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("clips")
    store.append("clips", clips(0, 200))
    done = threading.Event()

    def update(first: int) -> int:
        return sum(store.upsert("clips", clips(n, n + 5, f"by {first}")) for n in range(first, first + 50, 5))

    def compact() -> int:
        rounds = 0
        while not done.is_set():
            merge_fragments(store, "clips", 10_000)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(4) as pool:
        rounds = pool.submit(compact)
        updated = [*pool.map(update, (0, 50, 100))]
        done.set()
        assert rounds.result() > 0
    assert updated == [50, 50, 50]
    rows = {row["clip_id"]: row["recipe"] for row in store.scan("clips").to_pylist()}
    assert len(rows) == store.count("clips") == 200
    assert all(rows[f"c{n}"] == (f"by {n // 50 * 50}" if n < 150 else "r") for n in range(200))


def test_search_while_tables_are_rewritten_and_cleaned(undisturbed: Path, tmp_path: Path) -> None:
    """Every table is written anew and cleaned at once, nothing old is kept: each answer is that of the quiet lake."""
    shutil.copytree(undisturbed, tmp_path / "lake")
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    tables = ("scenes", "sample_data", "clips", "embeddings/hashing", "annotations")
    hits = lake.search("a truck", k=5).to_dict()["hits"]
    until, rounds = time.monotonic() + 4.0, 0

    def search() -> int:
        answers = 0
        while time.monotonic() < until:
            assert open(lake.uri).search("a truck", k=5).to_dict()["hits"] == hits
            answers += 1
        return answers

    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(search)
        while time.monotonic() < until:
            for table in tables:
                store = lake.store
                store.replace(table, store.scan(table), "true", Run("rewrite").stamp())
                seal(store, [table])
                old = [version for version in store.versions(table) if version < store.version(table)]
                if old:  # as compact does it, without its care: readers are to be hit as often as can be
                    store.dataset(table).cleanup_old_versions(versions=old, error_if_tagged_old_versions=False)
            lake.compact("0")
            rounds += 1
        assert answers.result() > 0 and rounds > 0
    assert contents(lake.uri) == contents(undisturbed)


def test_a_scan_opens_anew_once_then_says_what_is_wrong(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("clips")
    store.append("clips", clips(0, 3))
    opened: list[int] = []

    def read(dataset: lance.LanceDataset) -> int:
        """A version whose files go between its opening and its reading: the first time only."""
        opened.append(dataset.version)
        if len(opened) == 1:
            store.replace("clips", clips(0, 3, "new"), "true", {})
            store.dataset("clips").cleanup_old_versions(versions=[dataset.version])
        return len(dataset.to_table())

    assert store._read("clips", None, read) == 3
    assert opened[0] < opened[1] and len(opened) == 2
    next((tmp_path / "lake" / "clips.lance" / "data").iterdir()).unlink()
    for look in (store.scan, lambda table: [*store.batches(table)]):
        with pytest.raises(Damaged, match="a file of it went while it was read") as told:
            look("clips")
        assert "miner compact" in told.value.hint and "miner verify" in told.value.hint


def test_versions_that_go_between_two_looks_at_them(tmp_path: Path) -> None:
    """History is read version by version, while others clean up."""
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("clips")
    for number in range(20):
        store.append("clips", clips(number, number + 1), {"miner.run_id": str(number)})
    history, chance = store.history("clips"), random.Random(7)
    seen = [next(history).version for _ in range(3)]
    gone = chance.sample(range(2, 15), 5)
    store.dataset("clips").cleanup_old_versions(versions=gone)
    seen += [commit.version for commit in history]
    assert seen == [version for version in range(21, 0, -1) if version not in gone]
