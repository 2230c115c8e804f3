"""Upkeep of tables: small fragments become large ones, versions and files that nobody needs any more go.

What a table holds does not change, and rows keep their ids. Files are deleted under the table's lease and after a
fence: whatever was begun before can not be committed any more, so no version ever has a file that is gone. Tables that
runs append to without a lease keep all that is younger than an hour, and files of no version for seven days.
"""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from miner.digests import seal
from miner.errors import NotFound, UsageError
from miner.failpoints import failpoint
from miner.fragments import merge_fragments, small_fragments
from miner.key_indexes import index_keys, keys_lag
from miner.lease import lease
from miner.lineage import Run, Span, record, recover
from miner.runlog import logged
from miner.schema import INDEXES
from miner.sound import check_manifests
from miner.store import Store, one_of
from miner.versions import content_version, manifests, run_tags, surplus

OPEN = ("digests", "lineage", "quarantine")  # appended to without a lease
RETAIN = "7d"
MANY_FRAGMENTS = 1000  # each makes all later manifests longer
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_OPEN_RETAIN_S = 3600.0
_OPEN_FRAGMENTS = 32  # such a table grows by one with every run: below that it is left alone
_TARGET_BYTES = 256 << 20
_MAX_ROWS = 1 << 20
_LISTED_FILES = 1000
_NEVER = timedelta(days=36500)


@dataclass(frozen=True)
class Compacted:
    """What became of a table: fragments, versions and files removed (those of no version among them), their bytes."""

    table: str
    fragments_before: int
    fragments_after: int
    versions_removed: int = 0
    files_removed: int = 0
    bytes_freed: int = 0
    changed: bool = False


@dataclass(frozen=True)
class Compaction:
    """How to compact: a version goes when another has followed it for `retain_s`; who waits for leases, and is told."""

    run: Run
    retain_s: float
    wait: bool = True
    notify: Callable[[str], None] = field(default=lambda message: None, repr=False)


def compact(store: Store, how: Compaction, table: str | None = None) -> list[Compacted]:
    """Compact one table or all, one after the other. The same again finds nothing to do and makes no version.

    Raises NotFound for no such table, and Conflict where another run holds it and `how` does not wait.
    """
    store.assert_current()
    done = []
    for name in _chosen(store, table):
        check_manifests(store, [name])  # good versions would go, and the damaged one be sealed
        own = replace(how, run=replace(how.run, run_id=uuid.uuid4().hex[:12]))
        with logged(store, own.run, f"compact {name}"):
            done.append(_compact_open(store, name, own) if name in OPEN else _compact_leased(store, name, own))
        failpoint("compact:between-tables")
    seal(store)
    return done


def foresee(store: Store, how: Compaction, table: str | None = None) -> list[Compacted]:
    """What `compact` would do, without writing anything. What frees the merged fragments themselves is not counted."""
    return [_look(store, name, how).foreseen for name in _chosen(store, table)]


def advice(store: Store, tables: Sequence[str]) -> list[str]:
    """What to tell of tables with very many fragments."""
    counts = {table: len(store.dataset(table).get_fragments()) for table in tables if store.exists(table)}
    crowded = [f"{table} has {count:,} fragments" for table, count in counts.items() if count >= MANY_FRAGMENTS]
    mended = f"merge them with: miner compact {shlex.quote(store.uri)}"
    return [f"{', '.join(crowded)}, which slows every run down; {mended}"] if crowded else []


def seconds_of(age: str | float) -> float:
    """`7d`, `36h`, `30m`, `0` or days without a unit, in seconds. Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", str(age).strip())
    if found is None:
        raise UsageError(f"no length of time: {age!r}", "Give days, or an age such as 36h, 7d, 2w.")
    return float(found[1]) * _SECONDS[found[2] or "d"]


@dataclass(frozen=True)
class _Look:
    """What there is to do for a table."""

    table: str
    fragments: int
    target_rows: int
    small: int
    lags: bool
    doomed: Sequence[int]
    stats: Any  # Lance's, of files that would be removed

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.small or self.lags or self.doomed or _files(self.stats))

    @property
    def foreseen(self) -> Compacted:
        after = self.fragments - max(self.small - 1, 0)
        removed = len(self.doomed), _files(self.stats), int(self.stats.bytes_removed)
        return Compacted(self.table, self.fragments, after, *removed, changed=not self.idle)


def _look(store: Store, table: str, how: Compaction) -> _Look:
    dataset, is_open = store.dataset(table), table in OPEN
    fragments, target = len(dataset.get_fragments()), _target_rows(dataset)
    small = 0 if is_open and fragments < _OPEN_FRAGMENTS else small_fragments(store, table, target)
    doomed = surplus(store, table, max(how.retain_s, _OPEN_RETAIN_S) if is_open else how.retain_s)
    lags = bool(dataset.describe_indices()) and keys_lag(store, table)
    stats = dataset.explain_cleanup_old_versions(**_cleaning(table, doomed)).stats
    return _Look(table, fragments, target, small, lags, doomed, stats)


def _compact_leased(store: Store, table: str, how: Compaction) -> Compacted:
    if (look := _look(store, table, how)).idle:
        return look.foreseen
    names = sorted({table, *(["indexes"] if manifests(store, table) else [])})
    with lease(store, names, how.run.run_id, how.wait, how.notify) as assert_held:
        for name in names:
            recover(store, name)
        look, before = _look(store, table, how), {name: store.version(name) for name in names}
        if look.idle:  # another run has done it meanwhile
            return look.foreseen
        content = content_version(store, table)
        if look.small:
            merge_fragments(store, table, look.target_rows)
        if store.dataset(table).describe_indices():
            index_keys(store, table)
        failpoint("compact:before-cleanup")
        assert_held()
        store.fence(table)  # what was begun before, by whomever, is never committed: its files may go
        _repoint(store, table, content, how.run)
        doomed = surplus(store, table, how.retain_s)
        cost = {"fragments": look.fragments, "cleaned_to": {table: max(doomed, default=0)}}
        spans = [Span(name, before[name] + 1, store.version(name)) for name in names]
        inputs = [Span(table, content, content)]
        record(store, how.run, inputs, [span for span in spans if span.last >= span.first], cost)
        return _clean(store, look, doomed)


def _compact_open(store: Store, table: str, how: Compaction) -> Compacted:
    """Without a lease: beside whoever appends. Nothing young goes that somebody may be about to commit."""
    if (look := _look(store, table, how)).idle:
        return look.foreseen
    if look.small:
        merge_fragments(store, table, look.target_rows)
    failpoint("compact:before-cleanup")
    return _clean(store, look, look.doomed)


def _clean(store: Store, look: _Look, doomed: Sequence[int]) -> Compacted:
    """Remove versions with what only they have, and files of no version; first the digests of these files."""
    table = look.table
    for tag, version in run_tags(store, table).items():
        if version in doomed:
            store.dataset(table).tags.delete(tag)
    _forget_digests(store, table, doomed)
    dataset = store.dataset(table)
    stats = dataset.cleanup_old_versions(**_cleaning(table, doomed))
    after = len(dataset.get_fragments())
    return Compacted(table, look.fragments, after, stats.old_versions, _files(stats), int(stats.bytes_removed), True)


def _cleaning(table: str, doomed: Sequence[int]) -> dict[str, Any]:
    """Lance's arguments: these versions, and files of none; of tables without a lease only those of over seven days."""
    versions: dict[str, Any] = {"versions": list(doomed)} if doomed else {"older_than": _NEVER}
    return {**versions, "delete_unverified": table not in OPEN, "error_if_tagged_old_versions": False}


def _forget_digests(store: Store, table: str, doomed: Sequence[int]) -> None:
    if not store.exists("digests"):
        return
    going, kept = _files_of(store, table, doomed)
    known = {*store.scan("digests", ["file"], f"`table` = '{table}'")["file"].to_pylist()}
    gone = known - kept
    if table in OPEN:  # others may be at work: what no version has may be what they are about to commit
        gone &= going
    listed = sorted(gone)
    for start in range(0, len(listed), _LISTED_FILES):
        store.delete("digests", one_of("file", listed[start : start + _LISTED_FILES]))


def _files_of(store: Store, table: str, doomed: Sequence[int]) -> tuple[set[str], set[str]]:
    """The files that doomed versions have, and those that others have. A thousand versions list a million files."""
    found: tuple[set[str], set[str]] = set(), set()
    numbers = pa.array(doomed, pa.int64())
    for batch in store.dataset(table).tracked_files():
        going = pc.is_in(batch["version"], numbers)
        for names, chosen in zip(found, (going, pc.invert(going)), strict=True):
            names.update(f"{table}.lance/{path}" for path in pc.unique(batch["path"].filter(chosen)).to_pylist())
    return found


def _repoint(store: Store, table: str, content: int, run: Run) -> None:
    """Index manifests that hold for the present rows name the present version: older ones may be cleaned away."""
    version = store.version(table)
    named = [row for row in manifests(store, table) if row["table_version"] != version]
    same = [row for row in named if content_version(store, table, row["table_version"]) == content]
    if same:
        rows = pa.Table.from_pylist([{**row, "table_version": version} for row in same], schema=INDEXES)
        store.replace("indexes", rows, one_of("index_id", [row["index_id"] for row in same]), run.stamp())


def _target_rows(dataset: Any) -> int:
    """Rows of a fragment of about `_TARGET_BYTES`."""
    rows, files = dataset.count_rows(), [file for each in dataset.get_fragments() for file in each.metadata.files]
    size = sum(file.file_size_bytes or 0 for file in files)
    return min(max(_TARGET_BYTES * rows // max(size, 1), 1024), _MAX_ROWS) if size else _MAX_ROWS


def _files(stats: Any) -> int:
    kinds = ("data", "transaction", "index", "deletion")
    return sum(int(getattr(stats, f"{kind}_files_removed")) for kind in kinds)


def _chosen(store: Store, table: str | None) -> list[str]:
    """The tables to compact: all but the leases, which every run trims. The digests first, all others look there."""
    known = sorted({*store.tables()} - {"leases"}, key=lambda name: (name != "digests", name))
    if table is not None and table not in known:
        raise NotFound(f"{store.uri} has no table {table!r} to compact", f"Its tables: {', '.join(known)}")
    return known if table is None else [table]
