"""Tables read only as far as their files are what was written: what is damaged is left out, and said."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import RLock
from typing import Any

import pyarrow as pa

from miner.digests import Digest, load_digests, manifest, problems
from miner.errors import Damaged, NotFound
from miner.object_store import is_of_store, is_remote
from miner.store import Store, one_of

_TRIES = 3
_LONGEST = 200
_LANCE = ("LanceError", "rust/lance", "External error", "Task was aborted", "LanceDataset")


@dataclass(frozen=True)
class _Part:
    """What holds of a table at one version: the fragments, all of them (None) or some, and whether its indexes do."""

    version: int
    fragments: tuple[int, ...] | None
    indexed: bool
    note: str


class Sound:
    """The tables of a lake for whoever must not answer from damaged ones.

    The first look at a version of a table compares every file it consists of with its digest (see `miner.digests`);
    a fragment of which one does not hold is left out from then on. Files without a digest are taken as they are: those
    of a run that has not ended yet, or of a lake from before there were digests. For several threads at once.
    """

    def __init__(
        self, store: Store, digests: Mapping[str, Digest] | None = None, wrong: Mapping[str, str] | None = None
    ) -> None:
        """`digests` are those of all files, if all were compared before, and `wrong` what that found by file."""
        self._store, self._digests = store, digests
        self._parts: dict[str, _Part] = {}
        self._never_there: dict[str, int] = {}
        self._lock = RLock()
        self._judged = {file: (wrong or {}).get(file, "") for file in digests or ()}
        self._unchecked = ""

    def of(self, store: Store) -> Sound:
        """The same for other versions of the tables: a file that was looked at is not read again."""
        made = Sound(store, self._digests)
        made._judged = dict(self._judged)
        return made

    @property
    def uri(self) -> str:
        """Where the lake is."""
        return self._store.uri

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out of which table, and what to do, for the person who gets the answer."""
        with self._lock:
            said = [part.note for part in self._parts.values() if part.note]
        return (*([self._unchecked] if self._unchecked else []), *said)

    def version(self, table: str, version: int | None = None) -> int:
        """The version of a table whose files were looked at: now, unless given.

        Raises NotFound, and Damaged where nothing of it can be read.
        """
        return self._part(table, version).version

    def has(self, table: str) -> bool:
        """Whether the lake has the table. Raises Damaged where that cannot be told."""
        with readable(self._store, table):
            there = self._store.exists(table)
        if not there and self._was_there(table):
            raise Damaged(f"{self._store.uri} had a table {table!r}, and it is gone", _verify(self._store))
        return there

    def _was_there(self, table: str) -> bool:
        """Whether the digests know a table; looked up again when there are others."""
        with readable(self._store, "digests"):
            version = self._store.version("digests")
        if self._never_there.get(table) == version:
            return False
        known = bool(self._known(table))
        if not known:
            self._never_there[table] = version
        return known

    def scan(
        self, table: str, columns: Sequence[str], filter: str | None = None, version: int | None = None
    ) -> pa.Table:
        """As `Store.scan`, without the rows of damaged files. Raises Damaged where nothing of the table can be read."""
        return self.snapshot(table, columns, filter, version)[1]

    def snapshot(
        self, table: str, columns: Sequence[str], filter: str | None = None, version: int | None = None
    ) -> tuple[int, pa.Table]:
        """The same, and the version of the rows. If it goes while it is read (`miner compact`), the next is taken."""
        for left in reversed(range(1 if version else _TRIES)):
            wanted = version or self._now(table)
            try:
                part = self._part(table, wanted)
                rows = self._rows(table, part, columns, filter)
                if not part.note or not left or self._now(table) == wanted:
                    return wanted, rows
            except (Damaged, NotFound) as error:
                if version or self._now(table) == wanted:
                    raise
                if not left:
                    raise _gone(self._store, table, wanted) from error
            with self._lock:
                self._parts.pop(table, None)
        raise AssertionError("unreachable")

    def _rows(self, table: str, part: _Part, columns: Sequence[str], filter: str | None) -> pa.Table:
        with readable(self._store, table):
            dataset = self._store.dataset(table, part.version)
            chosen: dict[str, Any] = {} if part.indexed else {"use_scalar_index": False}
            if part.fragments is not None:
                whole = {fragment.fragment_id: fragment for fragment in dataset.get_fragments()}
                chosen["fragments"] = [whole[number] for number in part.fragments]
            if chosen.get("fragments") == []:  # Lance would take none for all
                return dataset.schema.empty_table().select(list(columns))
            return dataset.scanner(columns=list(columns), filter=filter, **chosen).to_table()

    def lost(self, table: str, keys: set[str]) -> Damaged:
        """The error for rows that must be in a table and are not."""
        what = f"{len(keys)} row{'s' if len(keys) > 1 else ''} of the answer {'are' if len(keys) > 1 else 'is'} not in"
        return Damaged(f"{what} table {table!r} of {self._store.uri}, e.g. {min(keys)}", _verify(self._store))

    def _part(self, table: str, version: int | None = None) -> _Part:
        with readable(self._store, table), self._lock:
            wanted = version or self._now(table)
            part = self._parts.get(table)
            if part is None or part.version != wanted:
                part = self._parts[table] = self._look(table, wanted)
            return part

    def _now(self, table: str) -> int:
        with readable(self._store, table):
            return self._store.version(table)

    def _look(self, table: str, version: int) -> _Part:
        """Compares the files of a version with their digests: the manifest first, for it names the others."""
        known = self._known(table)
        place = manifest(table, version)
        if wrong := self._problems(known, {place}):
            raise _no_manifest(self._store, table, f"{place} {wrong[place]}")
        dataset = self._store.dataset(table, version)
        files = {fragment.fragment_id: fragment_files(table, fragment.metadata) for fragment in dataset.get_fragments()}
        indexes = index_files(table, dataset, known)
        wrong = self._problems(known, {*indexes, *(file for each in files.values() for file in each)})
        whole = [number for number, each in files.items() if not wrong.keys() & set(each)]
        rows = {fragment.fragment_id: fragment.count_rows() for fragment in dataset.get_fragments()} if wrong else {}
        note = _note(self._store, table, len(files), {n: count for n, count in rows.items() if n not in whole}, rows)
        kept = None if len(whole) == len(files) else tuple(whole)
        return _Part(version, kept, not wrong.keys() & set(indexes), note)

    def _known(self, table: str) -> dict[str, Digest]:
        if self._digests is not None:
            return {file: each for file, each in self._digests.items() if each.table == table}
        try:
            with readable(self._store, "digests"):
                return load_digests(self._store, f"`table` = '{table}'")
        except Damaged as damaged:
            self._unchecked = f"no file could be checked for damage ({damaged.message}); {_verify(self._store)}"
            return {}

    def _problems(self, known: dict[str, Digest], files: set[str]) -> dict[str, str]:
        """What is wrong with which of the files; each is read once in the life of this object."""
        new = {file: known[file] for file in sorted(files & known.keys()) if file not in self._judged}
        found = problems(self._store, new)
        self._judged |= {file: found.get(file, "") for file in new}
        return {file: self._judged[file] for file in files if self._judged.get(file)}


def check_manifests(store: Store, tables: Sequence[str]) -> None:
    """Raise Damaged if what one of the tables says of itself now (columns, encoder, files) is not what was written.

    So it does for one that does not open. A table that is not there, or whose newest version is not sealed yet, passes;
    where the digests do not open, all do.
    """
    for table, problem in wrong_manifests(store, tables).items():
        raise _no_manifest(store, table, problem)


def wrong_manifests(store: Store, tables: Sequence[str]) -> dict[str, str]:
    """The tables, of some, whose present manifest is not what was written: file and problem by table.

    Raises Damaged for one that does not open.
    """
    versions = {}
    for table in tables:
        with readable(store, table):
            versions[manifest(table, store.version(table))] = table
    known: dict[str, Digest] = {}
    with suppress(Damaged), readable(store, "digests"):  # of these `Sound` and `seal` tell
        known = load_digests(store, one_of("file", versions)) if versions else {}
    wrong = problems(store, known)
    return {versions[file]: f"{file} {problem}" for file, problem in wrong.items()}


@contextmanager
def readable(store: Store, table: str = "") -> Iterator[None]:
    """What Lance raises on damaged files comes out as Damaged, with the table, the cause and the next step."""
    try:
        yield
    except BaseException as error:
        told = unreadable(error)
        if told is None or (is_remote(store.uri) and is_of_store(error) and not isinstance(error, ValueError)):
            raise
        what = f"table {table!r} of {store.uri}" if table else f"a table of {store.uri}"
        raise Damaged(f"{what} cannot be read: {told}", _verify(store)) from error


def unreadable(error: BaseException) -> str | None:
    """In one line what Lance or Arrow made of damaged bytes; None for any other error.

    Lance panics on some, which is a BaseException of no importable class.
    """
    kinds = (pa.ArrowException, UnicodeDecodeError)
    panicked = type(error).__name__ == "PanicException"
    told = isinstance(error, OSError | ValueError | RuntimeError) and any(word in str(error) for word in _LANCE)
    if not (panicked or told or isinstance(error, kinds)) or "(os error 13)" in str(error):
        return None
    line = str(error).strip().partition("\n")[0].partition(", /")[0][:_LONGEST]
    return f"Lance panicked: {line}" if panicked else line


def fragment_files(table: str, fragment: Any) -> list[str]:
    """The files of a fragment below the lake: of its data and of its deletions (Lance's FragmentMetadata)."""
    files = [f"{table}.lance/data/{file.path}" for file in fragment.files]
    gone = fragment.deletion_file
    if gone is not None:
        files.append(f"{table}.lance/{gone.path(fragment.id)}")
    return files


def index_files(table: str, dataset: Any, known: Mapping[str, Digest]) -> set[str]:
    """The files with a digest of the indexes that a version of a table has."""
    folders = {str(segment.uuid) for index in dataset.describe_indices() for segment in index.segments}
    return {file for file in known if file.startswith(f"{table}.lance/_indices/") and file.split("/")[-2] in folders}


def _no_manifest(store: Store, table: str, problem: str) -> Damaged:
    hint = f"{_verify(store)}; go back with: miner restore {shlex.quote(store.uri)} --table {table}"
    return Damaged(f"table {table!r} of {store.uri} cannot be trusted: {problem}", hint)


def _gone(store: Store, table: str, version: int) -> Damaged:
    hint = "Run this again when miner compact is done, or give it a longer --retain."
    return Damaged(f"table {table!r} of {store.uri}: version {version} was cleaned away while it was read", hint)


def _note(store: Store, table: str, files: int, out: dict[int, int], rows: dict[int, int]) -> str:
    if not out:
        return ""
    what = "vectors" if table.startswith("embeddings/") else "rows"
    damaged = f"{len(out)} of {files} data files of {table} {'is' if len(out) == 1 else 'are'} damaged"
    return f"{damaged}: {sum(out.values()):,} of {sum(rows.values()):,} {what} left out; {_verify(store)}"


def _verify(store: Store) -> str:
    return f"see: miner verify {shlex.quote(store.uri)} --deep"
