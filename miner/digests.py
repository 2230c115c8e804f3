"""The sha256 of every file that the tables of a lake consist of, kept in the table `digests`: Lance checks none.

Every file of a table but `leases` and `digests` itself is written once and never changed. What our workers write is
hashed right away and its digest committed before the rows are; what Lance makes by itself (manifests, transactions,
deletions, key indexes, merged and compacted data) is sealed at the end of the run that made it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from miner.failpoints import failpoint
from miner.object_store import filesystem, is_missing, is_remote
from miner.schema import DIGESTS

if TYPE_CHECKING:
    from miner.store import Store

UNSEALED = frozenset({"leases", "digests"})
GONE = "is gone"
_CHUNK = 1 << 20
_LAST_VERSION = (1 << 64) - 1  # manifests are named by how far their version is from it: the newest comes first
_BATCH = 256


class Digest(NamedTuple):
    """What a file was when it was written; `file` is its path below the lake."""

    file: str
    table: str
    num_bytes: int
    sha256: str


def measure(uri: str, options: Mapping[str, str] | None, files: Iterable[str]) -> Iterator[tuple[str, int, str]]:
    """File, size and sha256 of files below the lake at `uri`, in order, read by several threads; GONE as the sha256 of
    a file that is not there.

    Raises OSError for one that cannot be read.
    """
    opened = _opener(uri, options)

    def one(file: str) -> tuple[str, int, str]:
        try:
            return file, *_hashed(opened(file))
        except OSError as error:
            if not is_missing(error):
                raise
            return file, 0, GONE

    rest = iter(files)
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        while batch := list(islice(rest, _BATCH)):  # a pool takes all it is given at once
            yield from pool.map(one, batch)


def digests_of(uri: str, options: Mapping[str, str] | None, table: str, files: Iterable[str]) -> list[Digest]:
    """The digests of files of a table as they are now; without those that are not there, and of UNSEALED tables."""
    if table in UNSEALED:
        return []
    return [Digest(file, table, size, found) for file, size, found in measure(uri, options, files) if found != GONE]


def digest_rows(digests: Sequence[Digest]) -> pa.Table:
    """Digests as rows of the table."""
    return pa.Table.from_pylist([each._asdict() for each in digests], DIGESTS)


def problem(digest: Digest, num_bytes: int, sha256: str) -> str:
    """How a file that was measured differs from what was written; empty if it does not."""
    if sha256 == GONE:
        return GONE
    if num_bytes != digest.num_bytes:
        return f"has {num_bytes:,} bytes, {digest.num_bytes:,} were written"
    return "" if sha256 == digest.sha256 else "its bytes are not those that were written (sha256)"


def problems(store: Store, digests: Mapping[str, Digest], on_file: Callable[[], None] = lambda: None) -> dict[str, str]:
    """What is wrong with which of the files, by file."""
    found = {}
    for file, size, sha256 in measure(store.uri, store.storage_options, digests):
        said = problem(digests[file], size, sha256)
        if said:
            found[file] = said
        on_file()
    return found


def load_digests(store: Store, filter: str | None = None) -> dict[str, Digest]:
    """The digests that match a filter, by file; none for a lake without the table."""
    if not store.exists("digests"):
        return {}
    rows = store.scan("digests", DIGESTS.names, filter)
    return {row["file"]: Digest(**row) for row in rows.to_pylist()}


def manifest(table: str, version: int) -> str:
    """The file that says what a version of a table consists of."""
    return f"{table}.lance/_versions/{_LAST_VERSION - version:020d}.manifest"


def version_of(file: str) -> int:
    """The version whose manifest a file is; 0 for a file of another kind."""
    name = file.rpartition("/")[2].removesuffix(".manifest")
    return _LAST_VERSION - int(name) if file.endswith(".manifest") and name.isdecimal() else 0


def seal(store: Store, tables: Iterable[str] | None = None) -> int:
    """Write down the digests of the files that `tables` (None: all) have and that have none yet; gives how many.

    Versions since the last sealed one are looked at, so a run that died in between is made up for. A table that did
    not change costs nothing, and where none did, nothing is written.
    """
    failpoint("digests:before")
    wanted = sorted({*(store.tables() if tables is None else tables)} - UNSEALED)
    last = _last_sealed(store)
    found: list[Digest] = []
    for table in wanted:
        version = store.version(table)
        if version > last.get(table, 0):
            found += _unsealed(store, table, last.get(table, 0))
    if found:
        store.ensure("digests")
        store.append("digests", digest_rows(found))  # of two runs that seal one quarantine both say the same
    return len(found)


def tracked(store: Store, table: str, since: int = 1) -> pa.Table:
    """The files of a table's versions from `since` on: columns `file` (below the lake) and `version`, a row for each
    version that has the file."""
    found = store.dataset(table).tracked_files(min_version=since).read_all()
    names = pc.binary_join_element_wise(f"{table}.lance", found["path"].cast(pa.string()), "/")
    return pa.table({"file": names, "version": found["version"]})


def _unsealed(store: Store, table: str, last: int) -> list[Digest]:
    known = load_digests(store, f"`table` = '{table}'")
    new: dict[str, None] = {}  # in order; version by version, for a thousand versions list a million files
    for batch in store.dataset(table).tracked_files(min_version=last + 1):
        files = (f"{table}.lance/{path}" for path in pc.unique(batch["path"]).to_pylist())
        new.update(dict.fromkeys(file for file in files if file not in known))
    return digests_of(store.uri, store.storage_options, table, new)


def _last_sealed(store: Store) -> dict[str, int]:
    """The newest version of each table that is sealed."""
    newest: dict[str, int] = {}
    for digest in load_digests(store, "file LIKE '%.manifest'").values():
        newest[digest.table] = max(newest.get(digest.table, 0), version_of(digest.file))
    return newest


def _opener(uri: str, options: Mapping[str, str] | None) -> Callable[[str], Any]:
    if not is_remote(uri):
        return lambda file: open(Path(uri, file), "rb")
    client, root = filesystem(uri, options)
    return lambda file: client.open_input_stream(f"{root}/{file}")


def _hashed(file: Any) -> tuple[int, str]:
    found, size = hashlib.sha256(), 0
    with closing(file):
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            size += len(chunk)
    return size, found.hexdigest()
