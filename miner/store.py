"""Named, versioned tables of a lake: a folder or URI of Lance datasets, each at `<lake>/<table>.lance`.

Any Lance client opens them. Workers call `write`, which stores data files nobody sees yet; one driver calls `commit`,
which makes a group of them visible in one version, with the run's stamp in the same transaction. `Append` never
conflicts in Lance, so whoever commits holds the table's lease (`miner.lease`) and commits against the version it last
saw.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import lance
import pyarrow as pa
import pyarrow.fs
from lance.commit import CommitConflictError
from lance.fragment import FragmentMetadata, write_fragments

from miner.errors import Conflict, NotFound, SchemaError, UsageError
from miner.failpoints import failpoint
from miner.schema import check, key_of, schema_of

RUN = "miner.run_id"
_HARMLESS = {
    "Rewrite",
    "CreateIndex",
    "BaseOperation",
}  # compaction, indexes, and what Lance has no name for (reserving ids)
_TRIES = 10
_FIRST_PAUSE_S = 0.02
T = TypeVar("T")


@dataclass(frozen=True)
class Commit:
    """One version of a table and what wrote it: `operation` is Lance's (Append, Update, Rewrite, ...)."""

    version: int
    operation: str
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Store:
    """The tables of one lake. Small and picklable: a worker gets it by value.

    `uri` is a path or a URI (file, s3, gs, az); `storage_options` go to Lance unchanged and are never printed.
    """

    uri: str
    storage_options: Mapping[str, str] | None = field(default=None, repr=False)

    @classmethod
    def at(cls, uri: str, storage_options: Mapping[str, str] | None = None) -> Store:
        """The lake at `uri`, whether it is there or not: nothing is read or written."""
        if "://" not in uri and Path(uri).expanduser().is_file():
            raise UsageError(f"{uri} is a file", "A lake is a folder, or a URI such as s3://bucket/lake.")
        return cls(_absolute(uri), storage_options)

    @classmethod
    def create(cls, uri: str, storage_options: Mapping[str, str] | None = None) -> Store:
        """The lake at `uri`, made if it is not there."""
        store = cls.at(uri, storage_options)
        store.ensure("lineage")
        return store

    @classmethod
    def open(cls, uri: str, storage_options: Mapping[str, str] | None = None) -> Store:
        """The lake at `uri`. Raises NotFound if there is none."""
        store = cls.at(uri, storage_options)
        if not store.exists("lineage"):
            raise NotFound(f"no lake at {uri}", "Make one with: miner ingest SOURCE --lake LAKE")
        return store

    # -- looking ---------------------------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Names of the tables that exist, sorted: `scenes`, ..., `embeddings/lite`."""
        filesystem, root = (
            pyarrow.fs.FileSystem.from_uri(self.uri) if "://" in self.uri else (pyarrow.fs.LocalFileSystem(), self.uri)
        )
        names = []
        for folder, prefix in ((root, ""), (f"{root}/embeddings", "embeddings/")):
            entries = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
            names += [
                prefix + entry.base_name.removesuffix(".lance") for entry in entries if entry.extension == "lance"
            ]
        return sorted(name for name in names if self.exists(name))

    def vector_tables(self) -> list[str]:
        """The tables of vectors, `embeddings/<encoder slug>`, sorted."""
        return [table for table in self.tables() if table.startswith("embeddings/")]

    def exists(self, table: str) -> bool:
        """Whether the table is there."""
        return self._find(table) is not None

    def version(self, table: str) -> int:
        """The current version number; 0 for a table that is not there."""
        dataset = self._find(table)
        return 0 if dataset is None else int(dataset.version)

    def schema(self, table: str) -> pa.Schema:
        """The stored schema with its metadata."""
        return self.dataset(table).schema

    def count(self, table: str, filter: str | None = None) -> int:
        """Rows that match `filter`; 0 for a table that is not there."""
        dataset = self._find(table)
        return 0 if dataset is None else int(dataset.count_rows(filter=filter))

    def scan(
        self, table: str, columns: Sequence[str] | None = None, filter: str | None = None, version: int | None = None
    ) -> pa.Table:
        """Rows as Arrow. `filter` is trusted SQL: user input goes through `miner.query.filters` first."""
        chosen = None if columns is None else list(columns)
        return self.dataset(table, version).to_table(columns=chosen, filter=filter)

    def batches(
        self, table: str, columns: Sequence[str] | None = None, filter: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows as a stream of record batches, in no fixed order."""
        chosen = None if columns is None else list(columns)
        return iter(self.dataset(table).scanner(columns=chosen, filter=filter, scan_in_order=False).to_batches())

    def history(self, table: str) -> Iterator[Commit]:
        """The commits of a table, newest first, read one by one; versions cleaned away are skipped."""
        dataset = self.dataset(table)
        for version in sorted((entry["version"] for entry in dataset.versions()), reverse=True):
            transaction = dataset.read_transaction(version)
            if transaction is not None:
                kind = type(transaction.operation).__name__
                yield Commit(version, kind, dict(transaction.transaction_properties or {}))

    def commits(self, table: str, after: int = 0) -> list[Commit]:
        """The commits of versions `after` + 1 to now, oldest first."""
        if after == self.version(table):
            return []
        return [*takewhile(lambda commit: commit.version > after, self.history(table))][::-1]

    def dataset(self, table: str, version: int | None = None) -> lance.LanceDataset:
        """The Lance dataset itself. Raises NotFound if it is not there."""
        dataset = self._find(table, version)
        if dataset is None:
            raise NotFound(f"{self.uri} has no table {table!r}" + (f" at version {version}" if version else ""))
        return dataset

    # -- writing ---------------------------------------------------------------------------------------------------

    def ensure(self, table: str, schema: pa.Schema | None = None) -> None:
        """Make the table if it is not there. Raises SchemaError if it is there with other columns or metadata."""
        wanted = schema or schema_of(table)
        if not self.exists(table):
            try:
                self._create(table, wanted)
            except OSError:
                if not self.exists(table):
                    raise
                # else another run made it at the same time: the check below judges what it made
        found = self.schema(table)
        if not _same(found, wanted):
            raise SchemaError(
                f"table {table!r} of {self.uri} was written with another schema or encoder version:\n"
                f"  there: {_brief(found)}\n  here:  {_brief(wanted)}",
                "Use the release that wrote it, another lake, or (for embeddings) drop the table and embed again.",
            )

    def write(self, table: str, rows: pa.Table) -> list[str]:
        """Store rows as data files that no version shows yet; what comes back goes to `commit`. Safe in any process."""
        if not len(rows):
            return []
        checked = check(rows, self.schema(table))
        options = _options(self.storage_options)
        fragments = write_fragments(
            checked, self._path(table), schema=checked.schema, enable_stable_row_ids=True, **options
        )
        return [json.dumps(fragment.to_json()) for fragment in fragments]

    def commit(self, table: str, fragments: Iterable[str], properties: Mapping[str, str], since: int) -> int:
        """Make fragments visible in one new version stamped with `properties`; gives the version.

        Raises Conflict if, after version `since`, anybody but this run (`miner.run_id`) changed the table's rows, or if
        another run has taken the table over (`fence`) by the time it is written.
        """
        checked = self.version(table)
        for commit in self.commits(table, since):
            if commit.properties.get(RUN) != properties.get(RUN) and commit.operation not in _HARMLESS:
                raise Conflict(
                    f"table {table!r} was changed by another run (version {commit.version}) while this one held it",
                    "Nothing was written twice. Run the same command again.",
                )
        failpoint("commit:checked")
        return self._append(table, fragments, properties, checked)

    def fence(self, table: str) -> None:
        """From now on nobody commits what was begun before: for whoever takes over from a run that may be stalled.

        An append never conflicts with another in Lance, but with a restore it does: the present version, restored.
        """
        if self.exists(table):
            self.dataset(table).restore()

    def append(self, table: str, rows: pa.Table, properties: Mapping[str, str] | None = None) -> int:
        """Write and commit a few rows at once, for tables nobody leases (small tables, tests); gives the version."""
        fragments = self.write(table, rows)
        if not fragments:
            return self.version(table)
        return self._append(table, fragments, properties or {}, self.version(table))

    def replace(self, table: str, rows: pa.Table, owned: str, properties: Mapping[str, str]) -> int:
        """Make `rows` the only rows among those matching `owned`, in one commit: update, insert and delete by key."""
        dataset = self.dataset(table)
        merge = dataset.merge_insert(key_of(dataset.schema)).use_index(False)
        merge = merge.when_matched_update_all().when_not_matched_insert_all().when_not_matched_by_source_delete(owned)
        transaction, _ = merge.execute_uncommitted(check(rows, dataset.schema))
        transaction.transaction_properties = dict(properties)
        return self._commit(table, transaction)

    def upsert(self, table: str, rows: pa.Table, condition: str | None = None, insert: bool = True) -> int:
        """Insert rows (with `insert`) and update those whose key is there (and for which `condition` on `target.*`
        holds).

        Atomic between processes for declared keys; gives how many rows were inserted or updated.
        """
        dataset = self.dataset(table)
        merge = dataset.merge_insert(key_of(dataset.schema)).use_index(False).conflict_retries(20)
        merge = merge.when_matched_update_all(condition)
        if insert:
            merge = merge.when_not_matched_insert_all()
        done = merge.execute(check(rows, dataset.schema))
        return int(done["num_inserted_rows"] + done["num_updated_rows"])

    def delete(self, table: str, filter: str) -> None:
        """Delete the rows that match a trusted filter."""
        _retried(lambda: self.dataset(table).delete(filter))

    def tag(self, table: str, name: str, version: int) -> None:
        """Name a version, which keeps it from being cleaned away. Tagging the same version again is no error."""
        tags = self.dataset(table).tags
        if name not in tags.list():
            tags.create(name, version)

    def trim(self, table: str, keep: int) -> None:
        """Forget all but the last `keep` versions of a small, often rewritten table."""
        dataset = self.dataset(table)
        if len(dataset.versions()) > 4 * keep:
            dataset.optimize.compact_files()
            dataset.cleanup_old_versions(older_than=timedelta(0), retain_versions=keep)

    def index_keys(self, table: str) -> bool:
        """BTREE indexes on the keys and `scene_id`, made or brought up to date; whether anything changed."""
        dataset = self.dataset(table)
        wanted = {*key_of(dataset.schema), *({"scene_id"} & set(dataset.schema.names))}
        present = {name for index in dataset.describe_indices() for name in index.field_names}
        for column in sorted(wanted - present):
            dataset.create_scalar_index(column, "BTREE")
        stale = any(_unindexed(dataset, index.name) for index in dataset.describe_indices())
        if stale:
            dataset.optimize.optimize_indices()
        return bool(wanted - present) or stale

    # -- inside ----------------------------------------------------------------------------------------------------

    def _path(self, table: str) -> str:
        return f"{self.uri}/{table}.lance"

    def _find(self, table: str, version: int | None = None) -> lance.LanceDataset | None:
        try:
            return lance.dataset(self._path(table), version=version, **_options(self.storage_options))
        except ValueError as error:
            if "not found" in str(error).lower():
                return None
            raise

    def _create(self, table: str, schema: pa.Schema) -> None:
        """The empty table, as version 1 or not at all.

        `write_dataset(mode="create")` looks first and writes later: of two at once both succeed, and the later one
        empties what was appended in between. A commit that starts from no version and may not retry does neither.
        """
        operation = lance.LanceOperation.Overwrite(schema, [])
        only_first = {
            "read_version": 0,
            "max_retries": 0,
            "enable_stable_row_ids": True,
            "enable_v2_manifest_paths": True,
        }
        lance.LanceDataset.commit(self._path(table), operation, **only_first, **_options(self.storage_options))

    def _append(self, table: str, fragments: Iterable[str], properties: Mapping[str, str], since: int) -> int:
        operation = lance.LanceOperation.Append([FragmentMetadata.from_json(text) for text in fragments])
        stamp = dict(properties)
        return self._commit(table, lance.Transaction(since, operation, transaction_properties=stamp))

    def _commit(self, table: str, transaction: lance.Transaction) -> int:
        options = _options(self.storage_options)
        try:
            return int(lance.LanceDataset.commit(self._path(table), transaction, **options).version)
        except CommitConflictError as error:
            raise Conflict(
                f"table {table!r} was changed or taken over by another run while this one was stalled",
                "Nothing was written twice. Run the same command again.",
            ) from error


def _retried(change: Callable[[], T]) -> T:
    """The result of a change that is begun anew when another one came first: with growing, random pauses, not for ever.

    Only for changes that do not depend on what was read before.
    """
    for attempt in range(_TRIES):
        try:
            return change()
        except OSError as error:
            if not _is_retryable(error) or attempt == _TRIES - 1:
                raise
            time.sleep(_FIRST_PAUSE_S * 2 ** min(attempt, 6) * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


def _is_retryable(error: OSError) -> bool:
    """Whether another transaction came first, and this one still makes sense after it."""
    if isinstance(error, CommitConflictError):
        return bool(error.retryable)
    return "Too many concurrent writ" in str(error)


def one_of(column: str, values: Iterable[str]) -> str:
    """The filter `column IN (...)` for trusted columns and any values."""
    return f"{column} IN ({', '.join(quoted(value) for value in values)})"


def quoted(value: str) -> str:
    """A text as a SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def _absolute(uri: str) -> str:
    if "://" in uri:
        return uri.removeprefix("file://").rstrip("/")
    return str(Path(uri).expanduser().resolve())


def _options(storage_options: Mapping[str, str] | None) -> dict[str, Any]:
    return {"storage_options": dict(storage_options)} if storage_options else {}


def _same(left: pa.Schema, right: pa.Schema) -> bool:
    return left.equals(right) and dict(left.metadata or {}) == dict(right.metadata or {})


def _brief(schema: pa.Schema) -> str:
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    return f"{', '.join(f'{f.name} {f.type}' for f in schema if not pa.types.is_struct(f.type))} {metadata or ''}"


def _unindexed(dataset: lance.LanceDataset, index: str) -> bool:
    return bool(dataset.stats.index_stats(index).get("num_unindexed_rows", 0))
