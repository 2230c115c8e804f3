"""Lakes of other schema versions: read, not written to, migrated whatever kills it, and then gone on with."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from miner.errors import Conflict, SchemaError, UsageError
from miner.executor import LocalExecutor
from miner.failpoints import VARIABLE
from miner.key_indexes import index_keys
from miner.lake import Lake, create, open
from miner.lease import lease
from miner.lineage import Run, Span, record
from miner.migrate import foresee, migrate
from miner.quarantine import Chosen, listing, show
from miner.schema import CLIPS, SCENES, SCHEMA_VERSION, TABLES, check
from miner.store import Store
from tests.recordings import write_drives
from tests.tables import contents

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "tests" / "lakes" / "schema-1.tar.xz"
NEW = {"scenes": {"reader"}, "quarantine": {"reader", "time_ns"}}
HINT = r"has schema version 1, this release writes version 2\n.*miner migrate .* --dry-run"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A lake of schema version 1: two drives of three frames, one of them empty and in quarantine."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "lake-schema-1"


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def without_new(lake: Path) -> dict[str, list[dict[str, Any]]]:
    """The tables as they were before the columns of later versions."""
    return {
        table: [{name: value for name, value in row.items() if name not in NEW.get(table, ())} for row in rows]
        for table, rows in contents(lake).items()
    }


def rows_of(lake: Path, table: str) -> list[dict[str, Any]]:
    return list(lance.dataset(f"{lake}/{table}.lance").to_table().to_pylist())


# -- an older lake -----------------------------------------------------------------------------------------------------


def test_an_older_lake_is_read(old: Path) -> None:
    before = files(old)
    lake = open(old, LocalExecutor(threads=1))
    facts = lake.describe()
    assert (facts["scenes"], facts["readings"], facts["quarantine"]) == (2, 6, {"empty-file": 1})
    hits = lake.search("a truck", k=2)
    assert [hit.rank for hit in hits] == [1, 2]
    assert lake.show("drive_00")["kind"] == "scene"
    assert all(found.ok for found in lake.verify())
    [failed] = listing(lake.store, Chosen(reader=None), 10)["records"]
    assert (failed["reason"], failed["scene"], failed["reader"], failed["time_ns"]) == (
        "empty-file",
        "drive_01",
        None,
        None,
    )
    assert show(lake.store, failed["key"])["records"][0]["run"]["config"]["source"] == "/data/drives"
    assert files(old) == before


def test_an_older_lake_is_not_written_to(old: Path, tmp_path: Path) -> None:
    source, before = write_drives(tmp_path / "drives", scenes=3, frames=3), files(old)
    lake = open(old, LocalExecutor(threads=1))
    for write in (lambda: lake.ingest(source), lake.cut, lambda: lake.embed(["hashing"]), lake.index):
        with pytest.raises(UsageError, match=HINT):
            write()
    with pytest.raises(UsageError, match=HINT):
        create(old)
    assert files(old) == before


def test_a_dry_run_says_what_would_change_and_changes_nothing(old: Path) -> None:
    before = files(old)
    found = open(old).migrate(dry_run=True).to_dict()
    assert (found["version"], found["target"], found["needed"]) == (1, 2, True)
    told = {(each["table"], column["name"]): column["known"] for each in found["tables"] for column in each["columns"]}
    assert told == {("scenes", "reader"): 2, ("quarantine", "reader"): 0, ("quarantine", "time_ns"): 1}
    assert files(old) == before


def test_migrate(old: Path) -> None:
    before, versions = contents(old), {table: Store.open(str(old)).version(table) for table in NEW}
    lake = open(old)
    assert lake.migrate().needed
    assert without_new(old) == before, "old rows are as they were"
    assert {row["reader"] for row in rows_of(old, "scenes")} == {"images"}
    [failed], events = rows_of(old, "quarantine"), rows_of(old, "lineage")
    assert failed["time_ns"] in {event["event_time_ns"] for event in events if event["run_id"] == failed["run_id"]}
    assert [(e["job"], e["outputs"][0]["table"]) for e in events if e["job"] == "migrate"] == [
        ("migrate", "scenes"),
        ("migrate", "quarantine"),
    ]
    for table, version in versions.items():
        assert lake.store.dataset(table).tags.list()["schema-1"]["version"] == version
        assert not NEW[table] & {*lance.dataset(f"{old}/{table}.lance", version="schema-1").schema.names}
    for table in TABLES:
        Store.open(str(old)).ensure(table)  # raises if its columns are not those of a new lake
    assert Store.open(str(old)).schema_version == SCHEMA_VERSION
    assert all(found.ok for found in lake.verify())


def test_migrate_again_changes_nothing(old: Path) -> None:
    open(old).migrate()
    before = files(old)
    assert not open(old).migrate().needed
    assert not open(old).migrate(dry_run=True).needed
    assert files(old) == before


def test_a_migrated_lake_goes_on(old: Path, tmp_path: Path) -> None:
    """The drives of the fixture written again have its ids: they are there already, and only what is new comes in."""
    before = contents(old)
    source = write_drives(tmp_path / "drives", scenes=3, frames=3)
    lake = open(old, LocalExecutor(threads=1))
    lake.migrate()
    report = lake.ingest(source)
    assert (report.units, report.done_before, report.written) == (3, 2, 1)
    assert (lake.cut().written, lake.embed(["hashing"]).written) == (1, 3)
    lake.index()
    assert all(found.ok for found in lake.verify())
    after = without_new(old)
    for table, rows in before.items():
        assert [row for row in rows if row not in after[table]] == [], f"rows of {table} changed"
    assert lake.ingest(source).changed is False
    assert {row["reader"] for row in rows_of(old, "scenes")} == {"images"}


@pytest.mark.fault
@pytest.mark.parametrize("nth", [1, 2])
def test_killed_between_tables_the_same_command_ends_it(old: Path, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(old)
    monkeypatch.setenv(VARIABLE, f"migrate:between-tables=kill@{nth}")
    command = [sys.executable, "-m", "jobs.cli", "migrate", str(old)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60).returncode == -9
    monkeypatch.delenv(VARIABLE)
    ends_it(old, before)


def test_failed_before_its_event_the_same_command_ends_it(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(old)
    monkeypatch.setenv(VARIABLE, "lineage:before=error")
    with pytest.raises(OSError, match="failpoint"):
        open(old).migrate()
    monkeypatch.delenv(VARIABLE)
    ends_it(old, before)


def ends_it(old: Path, before: dict[str, list[dict[str, Any]]]) -> None:
    """After a migration that died: the same again makes the lake what an undisturbed one would have made it."""
    assert Store.open(str(old)).schema_version == 1, "until all is done the lake is an older one"
    lake = open(old)
    assert lake.migrate().needed and not open(old).migrate().needed
    assert without_new(old) == before
    assert {row["reader"] for row in rows_of(old, "scenes")} == {"images"}
    events = [event["outputs"][0]["table"] for event in rows_of(old, "lineage") if event["job"] == "migrate"]
    assert sorted(events) == ["quarantine", "scenes"], "each change has one event, that of the dead run too"
    assert all(found.ok for found in lake.verify())


def test_migrate_waits_for_who_holds_a_table(old: Path) -> None:
    store = Store.open(str(old))
    with lease(Store(store.uri), ["assets"], "somebody"):
        with pytest.raises(Conflict, match="'assets' is held by run somebody"):
            migrate(store, Run("migrate"), wait=False)
    assert foresee(store).needed


# -- which reader read a scene -----------------------------------------------------------------------------------------


def test_each_scene_gets_the_reader_of_the_run_that_wrote_it(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("scenes")
    wanted = {}
    readers = ["images", "video:rate=5", "mine.module:MyReader", None, "kitti_raw"]
    for number, reader in enumerate(readers):
        name = f"s{number}"
        row = {"scene_id": name, "dataset": "d", "log_id": "l", "name": name, "start_ns": 0, "end_ns": 1}
        run = Run("ingest", {} if reader is None else {"reader": reader})
        version = store.append("scenes", check(pa.Table.from_pylist([row]), SCENES), run.stamp())
        record(store, run, [], [Span("scenes", version, version)], {})
        wanted[name] = {"video:rate=5": "video", "mine.module:MyReader": None}.get(str(reader), reader)
    lance.dataset(f"{store.uri}/scenes.lance").drop_columns(["reader"])
    lance.dataset(f"{store.uri}/scenes.lance").delete("scene_id = 's0'")
    index_keys(store, "scenes")
    migrate(store, Run("migrate"))
    rows = rows_of(tmp_path / "lake", "scenes")
    assert {row["scene_id"]: row["reader"] for row in rows} == {k: v for k, v in wanted.items() if k != "s0"}
    assert store.count("scenes", "scene_id = 's4'") == 1


def test_a_table_that_is_empty_gets_the_columns_too(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("quarantine", pa.schema([field for field in TABLES["quarantine"] if field.name != "time_ns"]))
    migrate(store, Run("migrate"))
    store.ensure("quarantine")


# -- what cannot be ----------------------------------------------------------------------------------------------------


def test_a_newer_lake_is_refused(tmp_path: Path) -> None:
    lake = create(tmp_path / "lake")
    lake.store.describe_schema("lineage", {"schema_version": "3"}, {})
    for look in (open, create, lambda path: Store.open(str(path))):
        with pytest.raises(UsageError, match=r"has schema version 3, .* up to 2\nUpdate scene-miner"):
            look(tmp_path / "lake")


def test_a_table_with_other_columns_names_them(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    lane = [field for field in CLIPS if field.name not in ("recipe", "end_ns")]
    store.ensure("clips", pa.schema([*lane, pa.field("end_ns", pa.int32()), pa.field("lane", pa.string())]))
    differ = r"column recipe \(string\) is missing, column lane \(string\) is not known here, column end_ns is int32"
    with pytest.raises(SchemaError, match=f"'clips' .*: {differ}, not int64 not null\nUse the release"):
        store.ensure("clips")
    with pytest.raises(SchemaError, match=f"'clips' of .* cannot be migrated: {differ}"):
        foresee(store)


def test_a_new_lake_has_the_version_of_this_release(tmp_path: Path) -> None:
    made = create(tmp_path / "lake")
    assert made.store.schema_version == Store.open(made.uri).schema_version == SCHEMA_VERSION
    assert isinstance(made, Lake) and not made.migrate().needed
