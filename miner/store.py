"""Named, versioned tables of a lake: a folder or URI of Lance datasets, each at `<lake>/<table>.lance`.

Any Lance client opens them. Workers call `write`, which stores data files nobody sees yet; one driver calls `commit`,
which makes a group of them visible in one version, with the run's stamp in the same transaction. `Append` never
conflicts in Lance, so whoever commits holds the table's lease (`miner.lease`) and commits against the version it last
saw.
"""

from __future__ import annotations

import json
import random
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain, islice, takewhile
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.commit import CommitConflictError
from lance.file import LanceFileSession
from lance.fragment import FragmentMetadata, write_fragments
from lance.optimize import Compaction
from lance.schema import LanceSchema

from miner.digests import Digest, digest_rows, digests_of, load_digests, problems
from miner.errors import Conflict, Damaged, NotFound, SchemaError, UsageError
from miner.failpoints import failpoint
from miner.object_store import check_uri, is_of_store, is_remote, knock, lance_options, local_path, told
from miner.schema import SCHEMA_VERSION, check, differences, key_of, schema_of, version_of

RUN = "miner.run_id"
HARMLESS = {
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
    restored: int = 0  # by a Restore: the version whose rows it has


@dataclass(frozen=True)
class Store:
    """The tables of one lake. Small and picklable: a worker gets it by value.

    `uri` is a path or a URI (file, s3, gs, az); `storage_options` go to Lance unchanged and are never printed.
    `schema_version` is what the lake had when it was opened (None: not looked at); an older one is only read.
    """

    uri: str
    storage_options: Mapping[str, str] | None = field(default=None, repr=False)
    schema_version: int | None = field(default=None, repr=False, compare=False)

    @classmethod
    def at(cls, uri: str, storage_options: Mapping[str, str] | None = None) -> Store:
        """The lake at `uri`, whether it is there or not: nothing is read or written, a store has to answer.

        Raises UsageError (see `check_uri`), and NotFound or MinerError for a store that cannot be reached.
        """
        place = _absolute(uri)
        check_uri(place, storage_options)
        if not is_remote(place) and Path(place).is_file():
            raise UsageError(f"{uri} is a file", "A lake is a folder, or a URI such as s3://bucket/lake.")
        if is_remote(place):
            knock(place, storage_options)
        return cls(place, lance_options(place, storage_options) or None)

    @classmethod
    def create(cls, uri: str, storage_options: Mapping[str, str] | None = None) -> Store:
        """The lake at `uri`, made if it is not there. Raises UsageError for one of another schema version."""
        store = cls.at(uri, storage_options)
        found = store._checked()
        if found is None:
            store.ensure("lineage")
            return replace(store, schema_version=SCHEMA_VERSION)
        found.assert_current()
        return found

    @classmethod
    def open(cls, uri: str, storage_options: Mapping[str, str] | None = None) -> Store:
        """The lake at `uri`. Raises NotFound if there is none, UsageError for one of a newer schema version."""
        found = cls.at(uri, storage_options)._checked()
        if found is None:
            raise NotFound(f"no lake at {uri}", "Make one with: miner ingest SOURCE --lake LAKE")
        return found

    # -- looking ---------------------------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Names of the tables that exist, sorted: `scenes`, ..., `embeddings/lite`."""
        return [name for name in self.listed() if self.exists(name)]

    def listed(self) -> list[str]:
        """Names of all that look like tables, sorted, whether they open or not."""
        names = []
        for prefix in ("", "embeddings/"):
            names += [prefix + name.removesuffix(".lance") for name in self._folders(prefix) if name.endswith(".lance")]
        return sorted(names)

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
        try:
            return int(self._read(table, None, lambda dataset: dataset.count_rows(filter=filter)))
        except NotFound:
            return 0

    def scan(
        self, table: str, columns: Sequence[str] | None = None, filter: str | None = None, version: int | None = None
    ) -> pa.Table:
        """Rows as Arrow. `filter` is trusted SQL: user input goes through `miner.query.filters` first."""
        chosen = None if columns is None else list(columns)
        return self._read(table, version, lambda dataset: dataset.to_table(columns=chosen, filter=filter))

    def batches(
        self, table: str, columns: Sequence[str] | None = None, filter: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows as a stream of record batches, in no fixed order."""
        scan = {"columns": None if columns is None else list(columns), "filter": filter, "scan_in_order": False}
        first = self._read(table, None, lambda dataset: _begun(dataset.scanner(**scan).to_batches()))
        return self._unless_gone(table, first)

    def history(self, table: str, until: int | None = None) -> Iterator[Commit]:
        """The commits of a table up to version `until`, newest first, read one by one; cleaned ones are skipped."""
        dataset = self.dataset(table, until)
        for version in sorted((int(entry["version"]) for entry in dataset.version_refs()), reverse=True):
            commit = _commit_at(dataset, version) if version <= dataset.version else None
            if commit is not None:
                yield commit

    def commit_at(self, table: str, version: int) -> Commit | None:
        """What made one version; None where that is not known any more."""
        return _commit_at(self.dataset(table, version), version)

    def versions(self, table: str) -> list[int]:
        """The numbers of the versions that are kept, oldest first."""
        return sorted(int(entry["version"]) for entry in self.dataset(table).version_refs())

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

    def assert_current(self) -> None:
        """Raise UsageError if the lake was opened with an older schema version: it is read, not written to."""
        if self.schema_version is not None and self.schema_version < SCHEMA_VERSION:
            raise UsageError(
                f"{self.uri} has schema version {self.schema_version}, this release writes version {SCHEMA_VERSION}",
                f"See what would change with: miner migrate {shlex.quote(self.uri)} --dry-run",
            )

    def ensure(self, table: str, schema: pa.Schema | None = None) -> None:
        """Make the table if it is not there.

        Raises SchemaError if it is there with other columns or metadata, UsageError for an older lake.
        """
        self.assert_current()
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
            vectors = table.startswith("embeddings/")
            raise SchemaError(
                f"table {table!r} of {self.uri} has another schema or encoder version: {differences(found, wanted)}",
                "Embed with the encoder that made it, or into another lake."
                if vectors
                else f"Use the release that wrote it, or see: miner migrate {shlex.quote(self.uri)} --dry-run",
            )

    def write(self, table: str, rows: pa.Table) -> list[str]:
        """Store rows as data files that no version shows yet; what comes back, with their digests, goes to `commit`.

        Safe in any process.
        """
        if not len(rows):
            return []
        checked = check(rows, self.schema(table))
        options = _options(self.storage_options)
        fragments = write_fragments(
            checked, self._path(table), schema=checked.schema, enable_stable_row_ids=True, **options
        )
        digests = self._digests(table, fragments)
        return [
            json.dumps({"fragment": fragment.to_json(), "digests": own})
            for fragment, own in zip(fragments, digests, strict=True)
        ]

    def commit(self, table: str, fragments: Iterable[str], properties: Mapping[str, str], since: int) -> int:
        """Make fragments visible in one new version stamped with `properties`; gives the version.

        Raises Conflict if, after version `since`, anybody but this run (`miner.run_id`) changed the table's rows, or if
        another run has taken the table over (`fence`) by the time it is written.
        """
        written = self._sealed(fragments)
        checked = self.version(table)
        if not {*range(since + 1, checked + 1)} <= {*self.versions(table)}:
            raise Conflict(
                f"table {table!r} was compacted by another run while this one was stalled",
                "Nothing was written twice. Run the same command again.",
            )
        for commit in self.commits(table, since):
            if commit.properties.get(RUN) != properties.get(RUN) and commit.operation not in HARMLESS:
                raise Conflict(
                    f"table {table!r} was changed by another run (version {commit.version}) while this one held it",
                    "Nothing was written twice. Run the same command again.",
                )
        failpoint("commit:checked")
        return self._append(table, written, properties, checked)

    def fence(self, table: str) -> None:
        """From now on nobody commits what was begun before: for whoever takes over from a run that may be stalled.

        An append never conflicts with another in Lance, but with a restore it does: the present version, restored.
        """
        if self.exists(table):
            self.dataset(table).restore()

    def restore(self, table: str, version: int, properties: Mapping[str, str]) -> int:
        """Make the rows of an older version the present ones, in a new version stamped with `properties`; gives it."""
        operation, stamp = lance.LanceOperation.Restore(version), dict(properties)
        return self._commit(table, lance.Transaction(self.version(table), operation, transaction_properties=stamp))

    def append(self, table: str, rows: pa.Table, properties: Mapping[str, str] | None = None) -> int:
        """Write and commit a few rows at once, for tables nobody leases (small tables, tests); gives the version."""
        fragments = self.write(table, rows)
        if not fragments:
            return self.version(table)
        return self._append(table, self._sealed(fragments), properties or {}, self.version(table))

    def replace(
        self, table: str, rows: pa.Table, owned: str, properties: Mapping[str, str], since: int | None = None
    ) -> int:
        """Make `rows` the only rows among those matching `owned`, in one commit: update, insert and delete by key.

        Raises Conflict if another run has taken the table over (`fence`) after version `since` (None: the present one).
        """
        dataset = self.dataset(table, since)
        merge = dataset.merge_insert(key_of(dataset.schema)).use_index(False)
        merge = merge.when_matched_update_all().when_not_matched_insert_all().when_not_matched_by_source_delete(owned)
        transaction, _ = merge.execute_uncommitted(check(rows, dataset.schema))
        transaction.transaction_properties = dict(properties)
        self._note([each for own in self._digests(table, transaction.operation.new_fragments) for each in own])
        return self._commit(table, transaction)

    def upsert(self, table: str, rows: pa.Table, condition: str | None = None, insert: bool = True) -> int:
        """Insert rows (with `insert`) and update those whose key is there (and for which `condition` on `target.*`
        holds).

        Atomic between processes for declared keys; gives how many rows were inserted or updated.
        """
        return _retried(lambda: self._upsert(table, rows, condition, insert))

    def delete(self, table: str, filter: str) -> None:
        """Delete the rows that match a trusted filter."""
        _retried(lambda: self.dataset(table).delete(filter))

    def remove(self, table: str, filter: str, properties: Mapping[str, str]) -> int:
        """Delete the rows that match a trusted filter in one version stamped with `properties`; gives how many."""
        return _retried(lambda: self._remove(table, filter, properties))

    def tag(self, table: str, name: str, version: int, move: bool = False) -> None:
        """Name a version, which keeps it from being cleaned away. A name that is there stays, or is moved here."""
        tags = self.dataset(table).tags
        there = tags.list().get(name)
        if there is None:
            tags.create(name, version)
        elif move and there["version"] != version:
            tags.update(name, version)

    def add_columns(self, table: str, values: pa.Table, properties: Mapping[str, str]) -> int:
        """Add columns in one version stamped with `properties`; gives the version. The rows keep their ids.

        `values` has `_rowid` and the new columns, which are nullable; a row that is not in it gets nulls.
        """
        dataset = self.dataset(table)
        ids, new = values["_rowid"].combine_chunks(), values.drop_columns("_rowid").combine_chunks()

        def of(rows: pa.RecordBatch) -> pa.RecordBatch:
            [found] = new.take(pc.index_in(rows["_rowid"], ids)).to_batches()
            return found

        schema = LanceSchema.from_pyarrow(pa.schema([*dataset.schema, *new.schema], dataset.schema.metadata))
        fragments = []
        for fragment in dataset.get_fragments():
            changed, schema = fragment.merge_columns(of, columns=["_rowid"])
            fragments.append(changed)
        operation = lance.LanceOperation.Merge(fragments, schema)
        stamp = dict(properties)
        return self._commit(table, lance.Transaction(dataset.version, operation, transaction_properties=stamp))

    def describe_schema(self, table: str, metadata: Mapping[str, str], properties: Mapping[str, str]) -> int:
        """Set metadata of the schema in one version stamped with `properties`; gives the version."""
        updates = lance.LanceOperation.UpdateMap(dict(metadata))
        operation = lance.LanceOperation.UpdateConfig(schema_metadata_updates=updates)
        since, stamp = self.version(table), dict(properties)
        return self._commit(table, lance.Transaction(since, operation, transaction_properties=stamp))

    def trim(self, table: str, keep: int) -> None:
        """Forget all but the last `keep` versions of a small, often rewritten table."""
        dataset = self.dataset(table)
        if len(dataset.version_refs()) <= 4 * keep:
            return
        try:
            dataset.optimize.compact_files()
            dataset.cleanup_old_versions(older_than=timedelta(0), retain_versions=keep)
        except OSError as error:
            if not _is_retryable(error):
                raise  # else others are at work on it, who trim it next

    def small_fragments(self, table: str, target_rows: int) -> int:
        """How many fragments `merge_fragments` would merge."""
        plan = Compaction.plan(self.dataset(table), {"target_rows_per_fragment": target_rows})
        return sum(len(task.fragments) for task in plan.tasks)

    def merge_fragments(self, table: str, target_rows: int) -> None:
        """Merge neighbouring fragments of fewer than `target_rows` rows, and write those with many deleted rows anew.

        The rows keep their ids. Without such fragments there is no new version.
        """
        _retried(lambda: self.dataset(table).optimize.compact_files(target_rows_per_fragment=target_rows))

    def index_keys(self, table: str) -> bool:
        """BTREE indexes on the keys and `scene_id`, made or brought up to date, anew where their files are damaged;
        whether anything changed."""
        dataset = self.dataset(table)
        missing = self._unkeyed(table, dataset)
        for column in missing:
            dataset.create_scalar_index(column, "BTREE", replace=True)
        stale = _lag(dataset)
        if stale:
            dataset.optimize.optimize_indices()
        return bool(missing) or stale

    def mend_keys(self, table: str) -> None:
        """Make the key indexes anew whose files are damaged. By what they hide a plan would have rows written twice."""
        dataset = self.dataset(table)
        for column in self._damaged_indexes(table, dataset):
            dataset.create_scalar_index(column, "BTREE", replace=True)

    def keys_lag(self, table: str) -> bool:
        """Whether there is something to do for `index_keys`, which is for the holder of the table's lease."""
        dataset = self.dataset(table)
        return _lag(dataset) or bool(self._unkeyed(table, dataset))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _read(self, table: str, version: int | None, read: Callable[[lance.LanceDataset], T]) -> T:
        """What `read` gives of a table; begun once more if a cleanup took its version away meanwhile."""
        try:
            return read(self.dataset(table, version))
        except (OSError, ValueError) as error:
            if not _is_gone(error):
                raise
        [found] = self._unless_gone(table, (read(self.dataset(table, version)) for _ in range(1)))
        return found

    def _unless_gone(self, table: str, found: Iterator[T]) -> Iterator[T]:
        """`found`, with a file that is gone told as what it may be."""
        try:
            yield from found
        except (OSError, ValueError) as error:
            if not _is_gone(error):
                raise
            raise Damaged(
                f"table {table!r}: a file of it went while it was read: {str(error).partition(', /')[0]}",
                "If miner compact ran meanwhile, run this again (and give compact a longer --retain); "
                f"else see: miner verify {shlex.quote(self.uri)}",
            ) from error

    def _upsert(self, table: str, rows: pa.Table, condition: str | None, insert: bool) -> int:
        dataset = self.dataset(table)
        merge = dataset.merge_insert(key_of(dataset.schema)).use_index(False).conflict_retries(20)
        merge = merge.when_matched_update_all(condition)
        if insert:
            merge = merge.when_not_matched_insert_all()
        done = merge.execute(check(rows, dataset.schema))
        return int(done["num_inserted_rows"] + done["num_updated_rows"])

    def _checked(self) -> Store | None:
        """This store with the schema version of its lake, None where there is no lake.

        Raises UsageError for a newer one than this release knows.
        """
        lineage = self._find("lineage")
        if lineage is None:
            return None
        version = version_of(lineage.schema)
        if version > SCHEMA_VERSION:
            raise UsageError(
                f"{self.uri} has schema version {version}, this release knows versions up to {SCHEMA_VERSION}",
                "Update scene-miner.",
            )
        return replace(self, schema_version=version)

    def _path(self, table: str) -> str:
        return f"{self.uri}/{table}.lance"

    def _folders(self, prefix: str) -> list[str]:
        """Names of the folders of the lake, or of its folder `prefix`, as Lance sees them: every store it knows."""
        if not is_remote(self.uri):
            folder = Path(self.uri, prefix)
            return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        with told(self.uri, self.storage_options):
            session = LanceFileSession(self.uri, **_options(self.storage_options))
            return [PurePosixPath(path).name for path in session.list_with_delimiter(prefix).common_prefixes]

    def _find(self, table: str, version: int | None = None) -> lance.LanceDataset | None:
        with told(self.uri, self.storage_options):
            try:
                found = lance.dataset(self._path(table), version=version, **_options(self.storage_options))
            except BaseException as error:
                if _is_damage(error):
                    raise self._damaged(table, str(error).partition(", /")[0]) from error
                missing = isinstance(error, ValueError) and "not found" in str(error).lower()
                if missing and not (is_remote(self.uri) and is_of_store(error)):
                    return None
                raise
        if not found.version:  # so Lance takes a manifest of zeros
            raise self._damaged(table, "its newest manifest is empty")
        return found

    def _damaged(self, table: str, cause: str) -> Damaged:
        """What to tell of a table that Lance cannot open."""
        return Damaged(
            f"table {table!r} of {self.uri} is damaged: {cause}",
            f"See the versions it can go back to: miner restore {shlex.quote(self.uri)} --table {table}",
        )

    def _remove(self, table: str, filter: str, properties: Mapping[str, str]) -> int:
        """One try of `remove`: as Lance's own delete, which takes no stamp."""
        dataset = self.dataset(table)
        scanner = dataset.scanner(columns=[], filter=filter, with_row_address=True)
        addresses = scanner.to_table()["_rowaddr"]
        if not len(addresses):
            return 0
        touched = pc.unique(pc.shift_right(addresses, pa.scalar(32, pa.uint64()))).to_pylist()
        rest = {number: dataset.get_fragment(number).delete(filter) for number in touched}
        emptied = [number for number, fragment in rest.items() if fragment is None]
        kept = [fragment for fragment in rest.values() if fragment is not None]
        operation = lance.LanceOperation.Delete(kept, emptied, filter)
        transaction = lance.Transaction(dataset.version, operation, transaction_properties=dict(properties))
        lance.LanceDataset.commit(self._path(table), transaction, **_options(self.storage_options))
        return len(addresses)

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

    def _unkeyed(self, table: str, dataset: lance.LanceDataset) -> list[str]:
        """The columns that lack an index that can be used."""
        wanted = {*key_of(dataset.schema), *({"scene_id"} & set(dataset.schema.names))}
        present = {name for index in dataset.describe_indices() for name in index.field_names}
        return sorted((wanted - present) | set(self._damaged_indexes(table, dataset)))

    def _damaged_indexes(self, table: str, dataset: lance.LanceDataset) -> list[str]:
        """The columns whose index has files that are not as they were written."""
        folders = {
            f"{table}.lance/_indices/{segment.uuid}/": column
            for index in dataset.describe_indices()
            for segment in index.segments
            for column in index.field_names
        }
        known = load_digests(self, f"file LIKE '{table}.lance/_indices/%'") if folders else {}
        current = {file: each for file, each in known.items() if f"{file.rpartition('/')[0]}/" in folders}
        return sorted({folders[f"{file.rpartition('/')[0]}/"] for file in problems(self, current)})

    def _digests(self, table: str, fragments: Sequence[FragmentMetadata]) -> list[list[Digest]]:
        """The digests of the data files of each fragment."""
        files = [[f"{table}.lance/data/{file.path}" for file in fragment.files] for fragment in fragments]
        found = iter(digests_of(self.uri, self.storage_options, table, chain.from_iterable(files)))
        return [list(islice(found, len(own))) for own in files]

    def _sealed(self, fragments: Iterable[str]) -> list[FragmentMetadata]:
        """What `write` gave, with the digests in the lake: they come before the rows, so no row is without."""
        written = [json.loads(text) for text in fragments]
        self._note([Digest(*digest) for each in written for digest in each["digests"]])
        return [FragmentMetadata.from_json(json.dumps(each["fragment"])) for each in written]

    def _note(self, digests: Sequence[Digest]) -> None:
        if digests:
            self.ensure("digests")
            self.append("digests", digest_rows(digests))

    def _append(
        self, table: str, fragments: Sequence[FragmentMetadata], properties: Mapping[str, str], since: int
    ) -> int:
        operation = lance.LanceOperation.Append(list(fragments))
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
        except OSError as error:
            if not _is_gone(error):
                raise
            raise Conflict(
                f"table {table!r} was compacted by another run while this one was stalled",
                "Nothing was written twice. Run the same command again.",
            ) from error


def _commit_at(dataset: lance.LanceDataset, version: int) -> Commit | None:
    try:
        transaction = dataset.read_transaction(version)
    except TypeError:  # Lance cannot show one kind of transaction: a compaction that took indexes along
        return Commit(version, "Rewrite", {})
    except (OSError, ValueError) as error:
        if not _is_gone(error):
            raise
        return None
    if transaction is None:
        return None
    operation, stamp = transaction.operation, dict(transaction.transaction_properties or {})
    return Commit(version, type(operation).__name__, stamp, getattr(operation, "version", 0))


def _begun(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, with the first one read now."""
    first = list(islice(batches, 1))
    return chain(first, batches)


def _is_gone(error: BaseException) -> bool:
    """Whether a file that a version of a table consists of is not there (any more)."""
    return re.search(r"(?i)not found|no such file", str(error)) is not None


def _is_damage(error: BaseException) -> bool:
    """Whether Lance could not make sense of a manifest. It panics over some, which is no Exception."""
    nonsense = r"Protobuf|file size is too small|Invalid range|unknown cookie|fill whole buffer|LanceError\(Schema\)"
    panicked = type(error).__name__ == "PanicException"
    return panicked or (isinstance(error, ValueError) and re.search(nonsense, str(error)) is not None)


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
    return _is_gone(error) or re.search("Too many concurrent writ|Retryable commit conflict", str(error)) is not None


def one_of(column: str, values: Iterable[str]) -> str:
    """The filter `column IN (...)` for trusted columns and any values; with none of them it lets nothing through."""
    listed = ", ".join(quoted(value) for value in values)
    return f"{column} IN ({listed})" if listed else "false"


def quoted(value: str) -> str:
    """A text as a SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def _absolute(uri: str) -> str:
    return uri.rstrip("/") if is_remote(uri) else str(Path(local_path(uri)).expanduser().resolve())


def _options(storage_options: Mapping[str, str] | None) -> dict[str, Any]:
    return {"storage_options": dict(storage_options)} if storage_options else {}


def _same(left: pa.Schema, right: pa.Schema) -> bool:
    return left.equals(right) and dict(left.metadata or {}) == dict(right.metadata or {})


def _lag(dataset: lance.LanceDataset) -> bool:
    """Whether an index lacks rows of the table."""
    names = [index.name for index in dataset.describe_indices()]
    return any(dataset.stats.index_stats(name).get("num_unindexed_rows", 0) for name in names)
