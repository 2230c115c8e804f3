"""Named, versioned tables of a lake: a folder or URI of Lance datasets, each at `<lake>/<table>.lance`.

Any Lance client opens them. Workers call `write`, which stores data files nobody sees yet; one driver calls `commit`,
which makes a group of them visible in one version, with the run's stamp in the same transaction. `Append` never
conflicts in Lance, so whoever commits holds the table's lease (`miner.lease`) and commits against the version it last
saw.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import TypeVar

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments

from miner.datasets import folders, open_table, path_of
from miner.digests import Digest, digest_rows, digests_of
from miner.errors import Damaged, NotFound, SchemaError, UsageError
from miner.failpoints import failpoint
from miner.lance_errors import is_gone, retried
from miner.object_store import check_uri, is_remote, knock, lance_options, local_path
from miner.schema import SCHEMA_VERSION, check, differences, schema_of, version_of
from miner.transactions import (
    HARMLESS,
    RUN,
    Commit,
    Target,
    as_options,
    changed,
    commit_at,
    compacted,
    replacement,
)

T = TypeVar("T")


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
            found = folders(self.uri, prefix, self.storage_options)
            names += [prefix + name.removesuffix(".lance") for name in found if name.endswith(".lance")]
        return sorted(names)

    def vector_tables(self) -> list[str]:
        """The tables of vectors, `embeddings/<encoder slug>`, sorted."""
        return [table for table in self.tables() if table.startswith("embeddings/")]

    def exists(self, table: str) -> bool:
        """Whether the table is there."""
        return self._open(table) is not None

    def version(self, table: str) -> int:
        """The current version number; 0 for a table that is not there."""
        dataset = self._open(table)
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
            commit = commit_at(dataset, version) if version <= dataset.version else None
            if commit is not None:
                yield commit

    def commit_at(self, table: str, version: int) -> Commit | None:
        """What made one version; None where that is not known any more."""
        return commit_at(self.dataset(table, version), version)

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
        dataset = self._open(table, version)
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
                self._at(table).create(wanted)
                self._forget_digests(table)
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
        options = as_options(self.storage_options)
        fragments = write_fragments(
            checked, path_of(self.uri, table), schema=checked.schema, enable_stable_row_ids=True, **options
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
        if checked > since and not {*range(since + 1, checked + 1)} <= {*self.versions(table)}:
            raise compacted(table)
        for commit in self.commits(table, since):
            if commit.properties.get(RUN) != properties.get(RUN) and commit.operation not in HARMLESS:
                raise changed(table, commit.version)
        failpoint("commit:checked")
        return self._at(table).append(written, checked, properties)

    def has_commit(self, table: str, properties: Mapping[str, str], since: int) -> bool:
        """Whether a version after `since` has the stamp `properties`."""
        return any(properties.items() <= commit.properties.items() for commit in self.commits(table, since))

    def fence(self, table: str) -> None:
        """From now on nobody commits what was begun before: for whoever takes over from a run that may be stalled.

        An append never conflicts with another in Lance, but with a restore it does: the present version, restored.
        """
        if self.exists(table):
            self.dataset(table).restore()

    def restore(self, table: str, version: int, properties: Mapping[str, str]) -> int:
        """Make the rows of an older version the present ones, in a new version stamped with `properties`; gives it."""
        return self._at(table).restore(version, self.version(table), properties)

    def append(self, table: str, rows: pa.Table, properties: Mapping[str, str] | None = None) -> int:
        """Write and commit a few rows at once, for tables nobody leases (small tables, tests); gives the version."""
        fragments = self.write(table, rows)
        if not fragments:
            return self.version(table)
        return self._at(table).append(self._sealed(fragments), self.version(table), properties or {})

    def replace(
        self, table: str, rows: pa.Table, owned: str, properties: Mapping[str, str], since: int | None = None
    ) -> int:
        """Make `rows` the only rows among those matching `owned`, in one commit: update, insert and delete by key.

        Raises Conflict if another run has taken the table over (`fence`) after version `since` (None: the present one).
        Two that begin at one version could both insert a row: whoever tries again looks first (`has_commit`).
        """
        dataset = self.dataset(table, since)
        transaction = replacement(dataset, rows, owned, properties)
        self._note([each for own in self._digests(table, transaction.operation.new_fragments) for each in own])
        return self._at(table).commit_transaction(transaction)

    def upsert(
        self,
        table: str,
        rows: pa.Table,
        condition: str | None = None,
        insert: bool = True,
        properties: Mapping[str, str] | None = None,
    ) -> int:
        """Insert rows (with `insert`) and update those whose key is there (and for which `condition` on `target.*`
        holds), in one version stamped with `properties`.

        Atomic between processes for declared keys; gives how many rows were inserted or updated.
        """
        return retried(lambda: self._at(table).upsert(self.dataset(table), rows, condition, insert, properties or {}))

    def delete(self, table: str, filter: str) -> None:
        """Delete the rows that match a trusted filter."""
        retried(lambda: self.dataset(table).delete(filter))

    def remove(self, table: str, filter: str, properties: Mapping[str, str]) -> int:
        """Delete the rows that match a trusted filter in one version stamped with `properties`; gives how many."""
        return retried(lambda: self._at(table).remove(self.dataset(table), filter, properties))

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
        return self._at(table).add_columns(self.dataset(table), values, properties)

    def describe_schema(self, table: str, metadata: Mapping[str, str], properties: Mapping[str, str]) -> int:
        """Set metadata of the schema in one version stamped with `properties`; gives the version."""
        return self._at(table).describe_schema(metadata, self.version(table), properties)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _read(self, table: str, version: int | None, read: Callable[[lance.LanceDataset], T]) -> T:
        """What `read` gives of a table; begun once more if a cleanup took its version away meanwhile."""
        try:
            return read(self.dataset(table, version))
        except (OSError, ValueError) as error:
            if not is_gone(error):
                raise
        [found] = self._unless_gone(table, (read(self.dataset(table, version)) for _ in range(1)))
        return found

    def _unless_gone(self, table: str, found: Iterator[T]) -> Iterator[T]:
        """`found`, with a file that is gone told as what it may be."""
        try:
            yield from found
        except (OSError, ValueError) as error:
            if not is_gone(error):
                raise
            raise Damaged(
                f"table {table!r}: a file of it went while it was read: {str(error).partition(', /')[0]}",
                "If miner compact ran meanwhile, run this again (and give compact a longer --retain); "
                f"else see: miner verify {shlex.quote(self.uri)}",
            ) from error

    def _checked(self) -> Store | None:
        """This store with the schema version of its lake, None where there is no lake.

        Raises UsageError for a newer one than this release knows.
        """
        lineage = self._open("lineage")
        if lineage is None:
            return None
        version = version_of(lineage.schema)
        if version > SCHEMA_VERSION:
            raise UsageError(
                f"{self.uri} has schema version {version}, this release knows versions up to {SCHEMA_VERSION}",
                "Update scene-miner.",
            )
        return replace(self, schema_version=version)

    def _open(self, table: str, version: int | None = None) -> lance.LanceDataset | None:
        return open_table(self.uri, table, version, self.storage_options)

    def _at(self, table: str) -> Target:
        return Target(table, path_of(self.uri, table), self.storage_options)

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

    def _forget_digests(self, table: str) -> None:
        """Of a table that somebody removed and that is made anew: its files will have the names of the old ones."""
        of_table = f"`table` = {quoted(table)}"
        if table != "digests" and self.exists("digests") and self.count("digests", of_table):
            self.delete("digests", of_table)

    def _note(self, digests: Sequence[Digest]) -> None:
        if digests:
            self.ensure("digests")
            self.append("digests", digest_rows(digests))


def _begun(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, with the first one read now."""
    first = list(islice(batches, 1))
    return chain(first, batches)


def one_of(column: str, values: Iterable[str]) -> str:
    """The filter `column IN (...)` for trusted columns and any values; with none of them it lets nothing through."""
    listed = ", ".join(quoted(value) for value in values)
    return f"{column} IN ({listed})" if listed else "false"


def quoted(value: str) -> str:
    """A text as a SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def _absolute(uri: str) -> str:
    return uri.rstrip("/") if is_remote(uri) else str(Path(local_path(uri)).expanduser().resolve())


def _same(left: pa.Schema, right: pa.Schema) -> bool:
    return left.equals(right) and dict(left.metadata or {}) == dict(right.metadata or {})
