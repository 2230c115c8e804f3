"""Compaction: rows, lineage and answers stay; fragments, old versions and litter go; never what a run may commit."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from miner import compact as compaction
from miner.compact import Compacted, seconds_of
from miner.digests import load_digests
from miner.errors import Conflict, NotFound, UsageError
from miner.executor import LocalExecutor
from miner.key_indexes import index_keys, keys_lag
from miner.lake import Lake, create
from miner.lease import lease
from miner.lineage import Run
from miner.store import Store
from miner.versions import cleaned_to, content_version
from tests.miner.test_store import clips
from tests.recordings import write_drives
from tests.tables import contents


def fill(lake: Lake, source: Path, times: int) -> Path:
    """Ingest, cut, embed and index a source that grows by a drive each time."""
    for number in range(times):
        write_drives(source, scenes=number + 1, frames=3)
        lake.ingest(source)
        lake.cut(2)
        lake.embed(["hashing"], views="whole")
        lake.index()
    return source


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of one drive each: three fragments in most tables."""
    root = tmp_path_factory.mktemp("filled")
    fill(create(root / "lake", LocalExecutor(threads=2)), root / "source", 3)
    return root


@pytest.fixture
def lake(filled: Path, tmp_path: Path) -> Lake:
    """A copy of it, beside its source."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return create(tmp_path / "lake", LocalExecutor(threads=2))


@pytest.fixture(scope="module")
def compacted(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Another copy, of which nothing is kept but what is needed now. Only to be read."""
    root = tmp_path_factory.mktemp("compacted")
    shutil.copytree(filled, root, dirs_exist_ok=True)
    lake = create(root / "lake", LocalExecutor(threads=2))
    lake.compact("0")
    return lake


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(str(tmp_path / "small"))
    store.ensure("clips")
    return store


def versions(lake: Lake) -> dict[str, int]:
    return {table: lake.store.version(table) for table in lake.store.tables() if table != "leases"}


def changed(done: list[Compacted]) -> list[str]:
    return [each.table for each in done if each.changed]


def stamp(run_id: str) -> dict[str, str]:
    return Run("cut", run_id=run_id).stamp()


def files(store: Store, table: str) -> set[str]:
    root = Path(store.uri, f"{table}.lance")
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_rows_lineage_and_answers_stay_and_the_same_again_does_nothing(lake: Lake, tmp_path: Path) -> None:
    before = contents(lake.uri)
    answer = lake.search("a truck", k=9).to_dict()["hits"]
    done = {each.table: each for each in lake.compact("0")}
    sample_data = done["sample_data"]
    assert (sample_data.fragments_before, sample_data.fragments_after) == (3, 1)
    assert sample_data.versions_removed > 5 and sample_data.bytes_freed > 10_000
    assert len(lake.store.versions("sample_data")) == 1
    assert contents(lake.uri) == before
    assert create(lake.uri).search("a truck", k=9).to_dict()["hits"] == answer
    assert all(check.ok for check in lake.verify()), lake.verify()
    kept = versions(lake)
    assert changed(lake.compact("0")) == []
    lake.ingest(tmp_path / "source")
    assert not any(report.changed for report in (lake.cut(), lake.embed(["hashing"]), *lake.index()))
    assert versions(lake) == kept


def test_compaction_is_in_the_lineage_and_says_what_it_cleaned(lake: Lake) -> None:
    before = lake.store.version("scenes")
    lake.compact("0", table="scenes")
    [event] = lake.store.scan("lineage", filter="job = 'compact'").to_pylist()
    assert event["outputs"] == [{"table": "scenes", "first": before + 1, "last": lake.store.version("scenes")}]
    assert json.loads(event["cost"])["cleaned_to"]["scenes"] == cleaned_to(lake.store)["scenes"] > 0
    assert lake.store.dataset("scenes").tags.list()[f"run-{event['run_id']}"]["version"] == event["outputs"][0]["last"]


def test_a_dry_run_says_it_and_writes_nothing(lake: Lake) -> None:
    before = versions(lake)
    foreseen = {each.table: each for each in lake.compact("0", dry_run=True)}
    assert versions(lake) == before
    done = {each.table: each for each in lake.compact("0")}
    assert {table for table, each in foreseen.items() if each.changed} <= set(changed([*done.values()]))
    assert foreseen["clips"].fragments_after == done["clips"].fragments_after == 1
    assert 0 < foreseen["clips"].versions_removed <= done["clips"].versions_removed


def test_versions_are_kept_for_the_retention_and_longer_if_tagged(store: Store) -> None:
    for number in range(4):
        store.append("clips", clips(number, number + 1))
    store.tag("clips", "mine", 3)
    store.tag("clips", "run-0123456789ab", 2)  # no run of the lineage: somebody's own
    lake = Lake(store)
    lake.compact("7d")
    assert {2, 3, 4, 5} <= set(store.versions("clips"))
    assert changed(lake.compact("7d")) == []
    lake.compact("0")
    assert store.versions("clips") == [2, 3, store.version("clips")]
    assert len(store.scan("clips", version=3)) == 2


def test_what_ran_within_the_retention_can_be_gone_back_to(store: Store) -> None:
    """A version counts from when another followed it: the one that was current long since goes last."""
    for number in range(3):
        store.append("clips", clips(number, number + 1))
    time.sleep(1.2)
    store.append("clips", clips(3, 4))
    Lake(store).compact("1s")
    assert [version for version in store.versions("clips") if version < 6] == [4, 5]


def test_litter_of_dead_runs_goes(store: Store) -> None:
    store.append("clips", clips(0, 2))
    before = files(store, "clips")
    store.write("clips", clips(2, 4))
    [litter] = files(store, "clips") - before
    [done] = Lake(store).compact("7d", table="clips")
    assert done.files_removed == 1
    assert litter not in files(store, "clips")
    assert store.count("clips") == 2


def test_nothing_of_a_live_run_goes(store: Store) -> None:
    """What it has written and not committed looks like litter; its lease says that it is none."""
    with lease(store, ["clips"], "alive"):
        fragments, seen = store.write("clips", clips(0, 3)), store.version("clips")
        impatient = Lake(store, LocalExecutor(wait=False))
        with pytest.raises(Conflict, match="held by run alive"):
            impatient.compact("0", table="clips")
        store.commit("clips", fragments, stamp("alive"), seen)
    impatient.compact("0", table="clips")
    assert len(store.scan("clips")) == 3


@pytest.mark.parametrize("tagged", [False, True], ids=["cleaned", "tagged"])
@pytest.mark.parametrize("committing", [False, True], ids=["before-the-check", "after-the-check"])
def test_a_stalled_run_never_commits_files_that_are_gone(store: Store, tagged: bool, committing: bool) -> None:
    """Its lease was lost, compact took its files for litter, and it wakes up: whether its version is there or not."""
    store.append("clips", clips(0, 3))
    store.append("clips", clips(3, 6), stamp("before"))
    fragments, seen = store.write("clips", clips(6, 9)), store.version("clips")
    if tagged:
        store.tag("clips", "mine", seen)
    lake = Lake(store)
    lake.compact("0", table="clips")
    store.append("clips", clips(9, 12), stamp("next"))
    lake.compact("0", table="clips")
    commit: Callable[[], int] = lambda: store.commit("clips", fragments, stamp("stalled"), seen)  # noqa: E731
    if committing:
        commit = lambda: store._at("clips").append(store._sealed(fragments), seen, stamp("stalled"))  # noqa: E731
    with pytest.raises(Conflict):
        commit()
    assert len(store.scan("clips")) == 9


def test_an_index_that_is_being_built_is_no_litter(store: Store) -> None:
    store.append("clips", clips(0, 3))
    lake = Lake(store, LocalExecutor(wait=False))
    with lease(store, ["clips"], "compacting"), pytest.raises(Conflict):
        lake.index()


def test_indexes_stay_up_to_date(compacted: Lake) -> None:
    store = compacted.store
    assert not any(keys_lag(store, table) for table in ("scenes", "sample_data", "embeddings/hashing", "clip_facts"))
    [manifest] = store.scan("indexes").to_pylist()
    assert manifest["table_version"] == store.version("embeddings/hashing")
    assert compacted.search("a truck").to_dict()["index_id"] == manifest["index_id"]


def test_digests_go_with_their_files(compacted: Lake) -> None:
    gone = [file for file in load_digests(compacted.store) if not Path(compacted.uri, file).exists()]
    assert gone == []
    assert all(check.ok for check in compacted.verify())


def test_an_index_of_other_rows_keeps_its_version(lake: Lake, tmp_path: Path) -> None:
    """Vectors came after the index was built: the manifest tells of an older version, which stays to be compared."""
    [manifest] = lake.store.scan("indexes").to_pylist()
    write_drives(tmp_path / "source", scenes=5, frames=3)
    lake.ingest(tmp_path / "source")
    lake.embed(["hashing"])
    lake.compact("0", table="embeddings/hashing")
    assert manifest["table_version"] in lake.store.versions("embeddings/hashing")
    assert lake.store.scan("indexes").to_pylist() == [manifest]


def test_the_same_rows_have_the_same_content_version(store: Store) -> None:
    written = store.append("clips", clips(0, 3), stamp("a"))
    assert content_version(store, "clips") == written
    index_keys(store, "clips")
    store.fence("clips")
    assert content_version(store, "clips") == written
    written = store.append("clips", clips(3, 6), stamp("b"))
    lake = Lake(store)
    lake.compact("0")
    assert store.versions("clips") == [store.version("clips")] != [written]
    assert content_version(store, "clips") == written
    index_keys(store, "clips")
    lake.compact("0")
    assert content_version(store, "clips") == written
    store.restore("clips", store.append("clips", clips(6, 9)) - 1, stamp("c"))
    assert content_version(store, "clips") == written
    assert content_version(store, "clip_facts") == 0


def test_tables_without_a_lease_are_compacted_beside_their_writers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_OPEN_RETAIN_S", 0.0)
    rows = [{"stage": "cut", "key": str(n), "scene_id": "s", "reason": "r", "detail": ""} for n in range(40)]
    store.ensure("quarantine")
    for row in rows:
        store.append("quarantine", pa.Table.from_pylist([{**row, "attempts": 1, "run_id": "r"}]))
    pending = store.write(
        "quarantine", pa.Table.from_pylist([{**rows[0], "key": "late", "attempts": 1, "run_id": "r"}])
    )
    seen = store.version("quarantine")
    [done] = Lake(store).compact("0", table="quarantine")
    assert (done.fragments_before, done.fragments_after) == (40, 1)
    store.commit("quarantine", pending, stamp("r"), store.version("quarantine"))
    assert store.count("quarantine") == 41 and store.versions("quarantine")[0] == seen


def test_any_lance_client_reads_on(compacted: Lake) -> None:
    dataset = lance.dataset(f"{compacted.uri}/sample_data.lance")
    assert dataset.has_stable_row_ids and dataset.count_rows() == 9


def test_what_it_does_not_take(lake: Lake) -> None:
    with pytest.raises(NotFound, match="no table 'cars' to compact"):
        lake.compact(table="cars")
    with pytest.raises(UsageError, match="no length of time: 'a week'"):
        lake.compact("a week")
    assert [seconds_of(text) for text in ("0", "2", "36h", "1.5d", "30s")] == [0, 172800, 129600, 129600, 30]


def test_a_lake_of_many_fragments_is_told_of_compaction(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(report.notes for report in lake.index())
    monkeypatch.setattr(compaction, "MANY_FRAGMENTS", 3)
    [note] = [note for report in lake.index() for note in report.notes]
    assert "miner compact" in note and "3 fragments" in note
