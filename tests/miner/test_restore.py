"""Going back to an older version: what it takes with it, damaged manifests, and that the next ingest makes it whole."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from miner.digests import manifest
from miner.errors import Conflict, Damaged, NotFound
from miner.executor import LocalExecutor
from miner.failpoints import VARIABLE
from miner.fragments import merge_fragments
from miner.lake import Lake, create
from miner.lease import lease
from miner.store import Store, one_of
from tests.miner.test_compact import fill, stamp
from tests.miner.test_store import clips
from tests.recordings import write_drives
from tests.tables import contents


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of three drives, taken in by three runs."""
    root = tmp_path_factory.mktemp("filled")
    fill(create(root / "lake", LocalExecutor(threads=2)), root / "source", 3)
    return root


@pytest.fixture
def lake(filled: Path, tmp_path: Path) -> Lake:
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return create(tmp_path / "lake", LocalExecutor(threads=2))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(str(tmp_path / "small"))
    store.ensure("clips")
    return store


def refill(lake: Lake, source: Path) -> None:
    """What the messages say to run after a restore."""
    lake.ingest(source)
    lake.cut(2)
    lake.embed(["hashing"], views="whole")
    lake.index()


def appends(store: Store, table: str) -> list[int]:
    return [commit.version for commit in store.history(table) if commit.operation == "Append"][::-1]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "table",
    [
        "sample_data",
        "embeddings/hashing",
        *(pytest.param(name, marks=SLOW) for name in ("scenes", "clips", "assets")),
    ],
)
def test_what_a_restore_takes_the_next_run_brings_again(lake: Lake, filled: Path, tmp_path: Path, table: str) -> None:
    """Every table, gone back to after the first of three runs."""
    version = next(v for v in lake.store.versions(table) if lake.store.dataset(table, v).count_rows())
    rows = lake.store.count(table)
    foreseen = lake.restore(table, version, dry_run=True)
    assert lake.store.count(table) == rows
    done = lake.restore(table, version)
    assert done == foreseen and done.changed and done.back == 0
    assert done.lost == rows - done.rows == rows - lake.store.count(table) > 0
    assert not lake.restore(table, version).changed
    failed = [check.detail for check in lake.verify() if not check.ok]
    assert failed and all(done.next_step.partition(" SOURCE")[0] in detail for detail in failed)
    refill(lake, tmp_path / "source")
    assert _moved(contents(lake.uri), tmp_path / "source", filled / "source") == contents(filled / "lake")
    assert all(check.ok for check in lake.verify()), lake.verify()


def test_scenes_that_lose_readings_are_not_done_any_more(lake: Lake) -> None:
    first = appends(lake.store, "sample_data")[0]
    done = lake.restore("sample_data", first)
    left = lake.store.scan("scenes", ["scene_id"])["scene_id"].to_pylist()
    assert (len(left), done.scenes_to_read_again) == (1, 2)
    assert {*lake.store.scan("sample_data", ["scene_id"])["scene_id"].to_pylist()} == {*left}
    assert "miner ingest" in done.next_step


def test_a_restore_is_in_the_lineage(lake: Lake) -> None:
    first = appends(lake.store, "sample_data")[0]
    lake.restore("sample_data", first)
    rows = lake.store.scan("lineage", filter="job = 'restore'").to_pylist()
    assert {event["outputs"][0]["table"] for event in rows} == {"scenes", "sample_data"}
    assert all(event["inputs"] == [{"table": "sample_data", "first": first, "last": first}] for event in rows)


def test_deleted_rows_come_back(store: Store) -> None:
    version = store.append("clips", clips(0, 9), stamp("a"))
    store.delete("clips", "clip_id = 'c4'")
    done = Lake(store).restore("clips", version)
    assert (done.lost, done.back, store.count("clips")) == (0, 1, 9)


def test_nothing_of_a_replaced_scene_comes_back(store: Store) -> None:
    """Its rows before and after have the same keys: half of the old ones beside half of the new ones are neither."""
    version = store.append("clips", clips(0, 9, "old"), stamp("a"))
    store.delete("clips", "scene_id = 's1'")
    store.append("clips", clips(3, 6, "new"), stamp("b"))
    store.append("clips", clips(9, 12, "new"), stamp("c"))
    done = Lake(store).restore("clips", version)
    assert (done.lost, done.back) == (6, 3)
    assert sorted(store.scan("clips")["clip_id"].to_pylist()) == ["c0", "c1", "c2", "c6", "c7", "c8"]
    assert not Lake(store).restore("clips", version).changed
    assert store.count("clips") == 6


def test_a_restore_of_scenes_brings_none_without_readings(lake: Lake) -> None:
    gone = lake.store.scan("scenes", ["scene_id"])["scene_id"][0].as_py()
    version = lake.store.version("scenes")
    for table in ("scenes", "sample_data"):
        lake.store.delete(table, one_of("scene_id", [gone]))
    lake.restore("scenes", version)
    assert gone not in lake.store.scan("scenes", ["scene_id"])["scene_id"].to_pylist()
    assert lake.store.count("scenes") == 2


def test_versions_are_listed(lake: Lake) -> None:
    newest, *older = lake.versions("clips")
    assert newest.version == lake.store.version("clips") and newest.rows == lake.store.count("clips")
    written = next(known for known in older if known.operation == "Append")
    assert written.job == "cut" and f"run-{written.run_id}" in written.tags and written.time.startswith("20")
    with pytest.raises(NotFound, match="no table 'cars'"):
        lake.versions("cars")
    with pytest.raises(NotFound, match="no version 99"):
        lake.restore("clips", 99)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "flipped": lambda data: data[:100] + bytes([data[100] ^ 0x20]) + data[101:],
}


def damage(store: Store, table: str, version: int, how: str) -> Path:
    path = Path(store.uri, manifest(table, version))
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    return path


@pytest.mark.parametrize("how", ["cut", "flipped", *(pytest.param(how, marks=SLOW) for how in ("empty", "zeros"))])
def test_a_damaged_newest_version_is_put_aside(lake: Lake, tmp_path: Path, how: str) -> None:
    """The readings of the fourth drive are lost with it, so its scene is to be read again."""
    store, table = lake.store, "sample_data"
    write_drives(tmp_path / "source", scenes=4, frames=3)
    lake.ingest(tmp_path / "source")
    whole, newest = contents(lake.uri), store.version(table)
    path = damage(store, table, newest, how)
    newest_known, *others = lake.versions(table)
    assert newest_known.damage and not any(known.damage for known in others)
    good = others[0].version
    done = lake.restore(table, good)
    assert (done.lost, done.put_aside, done.scenes_to_read_again) == (None, (newest,), 1)
    assert path.with_name(f"{path.name}.damaged").exists()
    assert store.version(table) > newest, "the number of the damaged version is taken by nobody's rows"
    assert (store.count(table), store.count("scenes")) == (9, 3)
    assert not lake.restore(table, good).changed, lake.versions(table)
    lake.ingest(tmp_path / "source")
    assert contents(lake.uri) == whole
    lake.cut(), lake.embed(["hashing"]), lake.index()
    assert all(check.ok for check in lake.verify()), lake.verify()
    lake.compact("0", table=table)
    assert path.with_name(f"{path.name}.damaged").exists()


@pytest.mark.parametrize("how", ["cut", "zeros"])
def test_a_damaged_table_says_how_to_mend_it(store: Store, how: str) -> None:
    damage(store, "clips", store.append("clips", clips(0, 3)), how)
    for look in (store.version, store.count, store.scan, store.exists):
        with pytest.raises(Damaged, match=r"'clips' of .* is damaged:") as told:
            look("clips")
        assert "miner restore" in told.value.hint


@pytest.mark.parametrize("table", ["lineage", *(pytest.param(name, marks=SLOW) for name in ("leases", "digests"))])
def test_the_books_can_be_restored_too(lake: Lake, tmp_path: Path, table: str) -> None:
    newest = lake.store.version(table)
    damage(lake.store, table, newest, "cut")
    broken = Lake(Store.at(lake.uri))
    broken.restore(table, broken.versions(table)[1].version)
    again = create(lake.uri, LocalExecutor(threads=2))
    refill(again, tmp_path / "source")
    assert all(check.ok for check in again.verify()), again.verify()


def test_an_old_damaged_version_does_not_stand_in_the_way_of_compaction(store: Store) -> None:
    versions = [store.append("clips", clips(n, n + 1), stamp(str(n))) for n in range(3)]
    damage(store, "clips", versions[0], "cut")
    lake = Lake(store)
    with pytest.raises(Damaged, match="an old version is damaged") as told:
        lake.compact("0", table="clips")
    assert "miner restore" in told.value.hint
    assert lake.restore("clips", versions[-1]).put_aside == (versions[0],)
    lake.compact("0", table="clips")
    assert store.count("clips") == 3


def test_a_version_whose_files_are_gone_is_refused(store: Store) -> None:
    version = store.append("clips", clips(0, 3), stamp("a"))
    next(Path(store.uri, "clips.lance", "data").iterdir()).unlink()
    store.append("clips", clips(3, 4), stamp("b"))
    with pytest.raises(Damaged, match=r"needs data/.* which is gone"):
        Lake(store).restore("clips", version)


def test_a_restore_needs_the_lease(store: Store) -> None:
    version = store.append("clips", clips(0, 3), stamp("a"))
    store.append("clips", clips(3, 6), stamp("b"))
    with lease(store, ["clips"], "alive"), pytest.raises(Conflict, match="held by run alive"):
        Lake(store, LocalExecutor(wait=False)).restore("clips", version)


def test_computed_rows_are_computed_again_after_a_restore(lake: Lake) -> None:
    version = next(
        commit.version for commit in [*lake.store.history("clip_facts")][::-1] if "miner.owned" in commit.properties
    )
    lake.restore("clip_facts", version)
    assert [report.changed for report in lake.index()] == [True, False]


def test_rows_of_any_random_walk_come_back(store: Store) -> None:
    """Appends, deletes, updates, compaction, restores: each version is what it was when it is gone back to."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance, lake = random.Random(seed), Lake(store)
    held: dict[int, list[str]] = {}
    for step in range(12):
        action = chance.choice(["append", "append", "delete", "compact"])
        if action == "append":
            store.append("clips", clips(step * 3, step * 3 + 3), stamp(str(step)))
        elif action == "delete":
            store.delete("clips", f"clip_id = 'c{chance.randrange(step * 3 + 1)}'")
        else:
            merge_fragments(store, "clips", 1000)
        held[store.version("clips")] = sorted(store.scan("clips")["clip_id"].to_pylist())
    for version in chance.sample(sorted(held), 3):
        now, then = {*store.scan("clips")["clip_id"].to_pylist()}, {*held[version]}
        done = lake.restore("clips", version)
        assert (done.lost, done.back) == (len(now - then), len(then - now))
        lost = {f"s{int(clip[1:]) // 3}" for clip in now - then}
        mixed = {clip for clip in then if f"s{int(clip[1:]) // 3}" in lost and then - now & {clip}}
        if not mixed:
            assert sorted(store.scan("clips")["clip_id"].to_pylist()) == held[version]


@pytest.mark.parametrize("window", ["restore:between-tables"])
def test_a_restore_that_dies_is_done_again(lake: Lake, monkeypatch: pytest.MonkeyPatch, window: str) -> None:
    first = appends(lake.store, "sample_data")[0]
    monkeypatch.setenv(VARIABLE, f"{window}=error")
    with pytest.raises(Exception, match=window):
        lake.restore("sample_data", first)
    assert (lake.store.count("scenes"), lake.store.count("sample_data")) == (1, 9)
    monkeypatch.delenv(VARIABLE)
    lake.restore("sample_data", first)
    assert (lake.store.count("scenes"), lake.store.count("sample_data")) == (1, 3)


def _moved(tables: dict[str, list[dict[str, object]]], here: Path, there: Path) -> dict[str, list[dict[str, object]]]:
    """Contents with the source's place replaced: the copy of the lake was filled up from the copy of the source."""
    return {
        table: [{**row, "uri": str(row["uri"]).replace(str(here), str(there))} if "uri" in row else row for row in rows]
        for table, rows in tables.items()
    }
