"""A lake of an older schema version brought up to the one this release writes: columns it lacks are added.

The lake itself says what is to do: a table that has its columns is left alone, and the version in the metadata of
`lineage` changes last. So a run that died anywhere is ended by the same command again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.plugins import plugin_names
from miner.digests import seal
from miner.errors import SchemaError
from miner.failpoints import failpoint
from miner.lease import lease
from miner.lineage import Run, Span, record
from miner.lineage import recover as recover_all
from miner.quarantine import recover
from miner.rerun import configs
from miner.schema import SCHEMA_VERSION, TABLES, differences, version_of
from miner.store import Store, one_of

JOB = "migrate"
_SHARED = ("lineage", "quarantine")  # appended to without a lease
_BOOKS = ("lineage", "leases", "digests")
Values = Callable[[Store, pa.Table], pa.Array]


@dataclass(frozen=True)
class Column:
    """A column that a table lacks: its type, and in how many rows it gets a value, from where; the others get null."""

    name: str
    type: str
    known: int
    source: str


@dataclass(frozen=True)
class Change:
    """What changes in one table."""

    table: str
    rows: int
    columns: Sequence[Column] = ()


@dataclass(frozen=True)
class Migration:
    """What brings a lake from one schema version to another, or brought it there."""

    lake: str
    version: int
    target: int
    tables: Sequence[Change] = field(default=())

    @property
    def needed(self) -> bool:
        """Whether anything changes."""
        return bool(self.tables) or self.version != self.target

    def to_dict(self) -> dict[str, Any]:
        """As one JSON document."""
        return {**asdict(self), "needed": self.needed}


@dataclass(frozen=True)
class Fill:
    """How an old row gets its value in a new column: `values` of rows with `columns`, taken from `source`."""

    columns: tuple[str, ...]
    source: str
    values: Values


def foresee(store: Store) -> Migration:
    """What `migrate` would do; nothing is written.

    Raises SchemaError for a table whose difference is not a column that may be added.
    """
    changes = [_change(store, table) for table in TABLES if table not in _BOOKS and store.exists(table)]
    version = version_of(store.schema("lineage"))
    return Migration(store.uri, version, SCHEMA_VERSION, [each for each in changes if each.columns])


def migrate(
    store: Store, run: Run, wait: bool = True, notify: Callable[[str], None] = lambda message: None
) -> Migration:
    """Add what the lake lacks, table by table, under the leases of all tables; gives what was done.

    The version of each table before is tagged `schema-<version>`. Raises Conflict if a run holds the tables and `wait`
    is not set, SchemaError as `foresee`.
    """
    if not foresee(store).needed:
        return foresee(store)
    current = replace(store, schema_version=SCHEMA_VERSION)  # the leases of an older lake are taken like any other's
    tables = [table for table in store.tables() if table not in _BOOKS]
    with lease(current, tables, run.run_id, wait, notify) as assert_held:
        for table in tables:
            recover(current, table, [JOB]) if table in _SHARED else recover_all(current, table)
        migration = foresee(store)
        for change in migration.tables:
            assert_held()
            _apply(current, run, change.table, migration.version)
            failpoint("migrate:between-tables")
        assert_held()
        if migration.version != migration.target:
            _set_version(current, run, migration.version)
        seal(current)
    return migration


def _change(store: Store, table: str) -> Change:
    found, declared = store.schema(table), TABLES[table]
    new = _lacking(found, declared)
    if not pa.schema([*found, *new], found.metadata).equals(declared, check_metadata=True):
        raise SchemaError(
            f"table {table!r} of {store.uri} cannot be migrated: {differences(found, declared)}",
            "Use the release that wrote it, or ingest the source into another lake.",
        )
    values = _values(store, table, new) if new else pa.table({})
    columns = [
        Column(each.name, str(each.type), len(values) - values[each.name].null_count, _fill(table, each.name).source)
        for each in new
    ]
    return Change(table, store.count(table), columns)


def _apply(store: Store, run: Run, table: str, version: int) -> None:
    """Add the columns in one commit and record it."""
    before = store.version(table)
    store.tag(table, f"schema-{version}", before, move=True)
    new = _lacking(store.schema(table), TABLES[table])
    first = store.add_columns(table, _values(store, table, new), run.stamp(stage=JOB))
    record(store, run, [Span(table, before, before)], [Span(table, first, first)], {"columns": [f.name for f in new]})


def _set_version(store: Store, run: Run, version: int) -> None:
    """The lake says which schema version it has: the last step."""
    store.tag("lineage", f"schema-{version}", store.version("lineage"), move=True)
    store.describe_schema("lineage", {"schema_version": str(SCHEMA_VERSION)}, run.stamp(stage=JOB))


def _lacking(found: pa.Schema, declared: pa.Schema) -> list[pa.Field]:
    """The nullable columns that a table lacks."""
    return [each for each in declared if each.name not in found.names and each.nullable]


def _values(store: Store, table: str, new: Sequence[pa.Field]) -> pa.Table:
    """`_rowid` and the new columns, a row for each row of the table."""
    wanted = {column for each in new for column in _fill(table, each.name).columns}
    rows = store.scan(table, ["_rowid", *sorted(wanted)])
    values = {each.name: _fill(table, each.name).values(store, rows).cast(each.type) for each in new}
    return pa.table({"_rowid": rows["_rowid"], **values})


# -- where old rows get their values -----------------------------------------------------------------------------------


def _fill(table: str, column: str) -> Fill:
    return FILLS.get((table, column), Fill((), "unknown", lambda store, rows: pa.nulls(len(rows))))


def _readers_of_scenes(store: Store, rows: pa.Table) -> pa.Array:
    """The reader of the ingest run that wrote the table's version in which a row came."""
    spans = [
        (span["first"], span["last"], _reader(json.loads(event["config"])))
        for event in store.scan("lineage", ["job", "config", "outputs"]).to_pylist()
        for span in event["outputs"]
        if event["job"] == "ingest" and span["table"] == "scenes"
    ]
    readers = {
        version: next((reader for first, last, reader in spans if first <= version <= last), None)
        for version in pc.unique(rows[_VERSION]).to_pylist()
    }
    return pa.array([readers[version] for version in rows[_VERSION].to_pylist()], pa.string())


def _readers_of_failures(store: Store, rows: pa.Table) -> pa.Array:
    """The reader of the run that had the unit, where the unit is a scene of a source."""
    known = configs(store, pc.unique(rows["run_id"]).to_pylist())
    pairs = zip(rows["stage"].to_pylist(), rows["run_id"].to_pylist(), strict=True)
    readers = [_reader(known.get(run_id, {})) if stage == "ingest" else None for stage, run_id in pairs]
    return pa.array(readers, pa.string())


def _times_of_failures(store: Store, rows: pa.Table) -> pa.Array:
    """When the run that had the unit ended."""
    run_ids = pc.unique(rows["run_id"]).to_pylist()
    events = store.scan("lineage", ["run_id", "event_time_ns"], one_of("run_id", run_ids)).to_pylist()
    times = {each["run_id"]: each["event_time_ns"] for each in events}
    return pa.array([times.get(run_id) for run_id in rows["run_id"].to_pylist()], pa.int64())


def _reader(config: Mapping[str, Any]) -> str | None:
    """The name of a run's reader: `video` of `video:rate=5`; None for a class of the user's own, whose name is not
    known."""
    name = str(config.get("reader") or "").partition(":")[0]
    return name if name in plugin_names("miner.readers") else None


_VERSION = "_row_created_at_version"
FILLS: Mapping[tuple[str, str], Fill] = {
    ("scenes", "reader"): Fill((_VERSION,), "the ingest run that wrote the row", _readers_of_scenes),
    ("quarantine", "reader"): Fill(("stage", "run_id"), "the run that had the unit", _readers_of_failures),
    ("quarantine", "time_ns"): Fill(("run_id",), "the end of the run that had the unit", _times_of_failures),
}
