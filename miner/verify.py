"""Does a lake hold what it says: keys once, references met, vectors sound, every unit a row or in quarantine; and, in a
deep look, every file and every recording as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miner.damage import Assessment, Damage
from miner.digests import UNSEALED, Digest, load_digests, problems, tracked
from miner.errors import Damaged, NotFound
from miner.reread import OnProgress, changed_recordings, counter, unread_recordings
from miner.restore import healed_by
from miner.schema import IMPORTED, TABLES, key_of
from miner.sound import Sound, readable, wrong_manifests
from miner.store import Store, one_of
from miner.versions import cleaned_to

_REFERENCES = (
    ("sample_data", "scene_id", "scenes"),
    ("annotations", "scene_id", "scenes"),
    ("annotations", "sample_data_id", "sample_data"),
    ("clips", "scene_id", "scenes"),
    ("clip_facts", "clip_id", "clips"),
    ("assets", "sample_data_id", "sample_data"),
)
_SHOWN = 5


@dataclass(frozen=True)
class Check:
    """One thing looked at: `ok`, how many rows, and what is wrong with which ids."""

    name: str
    ok: bool
    rows: int
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a deep look found: all checks, and each damaged file and recording with what it hits."""

    checks: tuple[Check, ...]
    damage: tuple[Damage, ...]

    @property
    def ok(self) -> bool:
        """Whether the present lake holds what it says."""
        return all(check.ok for check in self.checks)


class _Found(NamedTuple):
    """What a check saw: how many rows, and what is wrong; empty where nothing is."""

    rows: int
    wrong: str = ""


class _Planned(NamedTuple):
    """A check to be made: the tables it reads, and how."""

    name: str
    tables: tuple[str, ...]
    look: Callable[[], _Found]


def verify(store: Store) -> list[Check]:
    """All quick checks, in a fixed order. Reads every table once; recordings and other files are not opened.

    A table that cannot be read fails its checks and hides no other.
    """
    return _quick(store, {})


def verify_deep(store: Store, on_progress: OnProgress = lambda what, done, total: None) -> Verdict:
    """The quick checks; every file of every table compared with its digest; every recording that embed has read, read
    again, and the others looked for.

    Files come first: what does not hold is not opened. Raises MinerError where a store or disk cannot be reached.
    """
    digests, unreadable = _digests(store)
    wrong = problems(store, digests, counter("files", len(digests), on_progress))
    assessment = Assessment(store, digests, wrong)
    broken = assessment.broken
    damage = assessment.damages()
    sound = Sound(store, digests, wrong)
    changed, read = changed_recordings(store, sound, assessment, on_progress)
    gone, unread = unread_recordings(store, sound, assessment, on_progress)
    checks = [
        *unreadable,
        *_files(store, digests, damage, broken),
        *([Check("recordings: as embed read them", not changed, read, _listed(changed))] if read else []),
        *([Check("recordings: those not read yet are there", not gone, unread, _listed(gone))] if unread else []),
        *_quick(store, broken),
    ]
    return Verdict(tuple(checks), (*damage, *changed, *gone))


def _quick(store: Store, broken: Mapping[str, str]) -> list[Check]:
    """The quick checks, but of no table that is `broken` or does not open: that fails a check of its own."""
    closed = {table: broken.get(table) or _closed(store, table) for table in store.listed()}
    tables = [table for table, wrong in closed.items() if not wrong and store.exists(table)]
    closed |= wrong_manifests(store, tables)
    shut = {table: wrong for table, wrong in closed.items() if wrong}
    planned = [
        each for each in _planned(store, [t for t in tables if t not in shut]) if not shut.keys() & set(each.tables)
    ]
    failed = [Check(f"{table}: opens", False, 0, wrong) for table, wrong in shut.items()]
    return [*failed, *(_made(store, each) for each in planned)]


def _closed(store: Store, table: str) -> str:
    """Why a table does not open; empty for one that does."""
    try:
        with readable(store, table):
            store.exists(table)
    except Damaged as damaged:
        return f"{damaged.message}{_culprits(store, [table])}"
    return ""


def _made(store: Store, planned: _Planned) -> Check:
    try:
        with readable(store, planned.tables[0]):
            found = planned.look()
    except Damaged as damaged:
        return Check(planned.name, False, 0, f"{damaged.message}{_culprits(store, planned.tables)}")
    wrong = found.wrong and found.wrong + _healed(store, planned.tables)
    return Check(planned.name, not wrong, found.rows, wrong)


def _healed(store: Store, tables: Sequence[str]) -> str:
    """What brings back the rows that a restore took, if it is why a check fails."""
    with suppress(Damaged), readable(store, tables[0]):
        steps = {table: healed_by(store, table) for table in tables if store.exists(table)}
        return "".join(f"; after a restore of {table}: {step}" for table, step in steps.items() if step)
    return ""


def _culprits(store: Store, tables: Sequence[str]) -> str:
    """The files of some tables that are not what was written, for a message."""
    try:
        with readable(store, "digests"):
            wrong = problems(store, load_digests(store, one_of("`table`", tables)))
    except Damaged:
        return ""
    said = [f"{file} {problem}" for file, problem in wrong.items()]
    return f" ({'; '.join(said[:_SHOWN])})" if said else ""


def _planned(store: Store, tables: list[str]) -> Iterator[_Planned]:
    """The quick checks of the tables that open."""
    vectors = [table for table in tables if table.startswith("embeddings/")]
    for table in tables:
        if (table in TABLES and table != "digests") or table in vectors:  # two runs may seal one file
            yield _Planned(f"{table}: each key once", (table,), partial(_unique, store, table))
    for table, column, parent in (*_REFERENCES, *((table, "sample_data_id", "sample_data") for table in vectors)):
        if table in tables and parent in tables:
            name = f"{table}: {column} is in {parent}"
            yield _Planned(name, (table, parent), partial(_met, store, table, column, parent))
    for table in vectors:
        yield _Planned(f"{table}: vectors of unit length", (table,), partial(_unit_length, store, table))
        metadata = store.schema(table).metadata
        if metadata[b"version"] != IMPORTED.encode():  # a file may be of some frames only
            readings = ("sample_data", "sample_data_id", one_of("modality", [metadata[b"modality"].decode()]))
            yield _all_of(store, (table, "sample_data_id", "part = 0"), readings, "embed")
            yield _all_of(store, ("assets", "sample_data_id", "true"), (table, "sample_data_id", "part = 0"))
    if "clips" in tables and store.count("clips"):  # a lake that is not cut yet is not damaged
        yield _all_of(store, ("clips", "scene_id", "true"), ("scenes", "scene_id", "true"), "cut")
    if "clip_facts" in tables and store.count("clip_facts"):
        yield _all_of(store, ("clip_facts", "clip_id", "true"), ("clips", "clip_id", "true"))
    if "lineage" in tables:
        yield _Planned("lineage: outputs are there", ("lineage",), partial(_lineage, store))


def _unique(store: Store, table: str) -> _Found:
    keys = key_of(store.schema(table))
    rows = store.scan(table, keys)
    counted = rows.group_by(keys).aggregate([([], "count_all")])
    double = counted.filter(pc.greater(counted["count_all"], 1))
    return _found(len(rows), double[keys[-1]])


def _met(store: Store, table: str, column: str, parent: str) -> _Found:
    rows = store.scan(table, [column])[column].drop_null()
    [key] = key_of(store.schema(parent))
    known = store.scan(parent, [key])[key]
    missing = rows.filter(pc.invert(pc.is_in(rows, known))) if len(known) else rows
    return _found(len(rows), pc.unique(missing))


def _unit_length(store: Store, table: str) -> _Found:
    bad: list[str] = []
    rows = 0
    for batch in store.batches(table, ["embedding_id", "vector"]):
        vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
        off = ~(np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1) < 1e-3)
        bad += batch["embedding_id"].filter(pa.array(off)).to_pylist()
        rows += len(batch)
    return _found(rows, pa.array(bad, pa.string()))


def _all_of(store: Store, ours: tuple[str, str, str], source: tuple[str, str, str], stage: str = "") -> _Planned:
    """Every id of the source (table, column, filter) is in ours, or in quarantine for the stage."""
    look = partial(_complete, store, ours, source, stage)
    tables = (ours[0], source[0], *(["quarantine"] if stage else []))
    return _Planned(f"{ours[0]}: has all of {source[0]}", tables, look)


def _complete(store: Store, ours: tuple[str, str, str], source: tuple[str, str, str], stage: str) -> _Found:
    (table, column, filter), (parent, key, chosen) = ours, source
    if not store.exists(parent):
        return _Found(0, f"the lake has no table {parent}" if store.exists(table) else "")
    wanted = pc.unique(store.scan(parent, [key], chosen)[key])
    known = store.scan(table, [column], filter)[column].chunks if store.exists(table) else []
    if stage and store.exists("quarantine"):
        known = [*known, *store.scan("quarantine", ["key"], f"stage = '{stage}'")["key"].chunks]
    missing = wanted.filter(pc.invert(pc.is_in(wanted, pa.chunked_array(known, pa.string())))) if known else wanted
    return _found(len(wanted), missing)


def _lineage(store: Store) -> _Found:
    """Every recorded output is a version that opens, if `miner compact` did not clean it away as an old one."""
    bad, cleaned = [], cleaned_to(store)
    outputs = [span for spans in store.scan("lineage", ["outputs"])["outputs"].to_pylist() for span in spans]
    for span in outputs:
        try:
            with readable(store, span["table"]):
                store.dataset(span["table"], span["last"])
        except (NotFound, Damaged) as error:
            if isinstance(error, Damaged) or span["last"] > cleaned.get(span["table"], 0):
                bad.append(f"{span['table']}@{span['last']}")
    return _found(len(outputs), pa.array(bad, pa.string()))


def _found(rows: int, bad: pa.ChunkedArray | pa.Array) -> _Found:
    if not len(bad):
        return _Found(rows)
    told = ", ".join(str(value) for value in bad.slice(0, _SHOWN).to_pylist())
    return _Found(rows, f"{len(bad)} not so: {told}{', ...' if len(bad) > _SHOWN else ''}")


# -- deep --------------------------------------------------------------------------------------------------------------


def _digests(store: Store) -> tuple[dict[str, Digest], list[Check]]:
    """The digests of the lake; none, and a failed check, where they cannot be read."""
    if "digests" not in store.listed():
        missing = f"the lake has none; miner index {store.uri} takes those of its files as they are now"
        return {}, [Check("digests: can be read", False, 0, missing)] if store.count("scenes") else []
    try:
        with readable(store, "digests"):
            return load_digests(store), []
    except Damaged as damaged:
        mended = f"remove {store.uri}/digests.lance; miner index {store.uri} takes those of the files as they are then"
        return {}, [Check("digests: can be read", False, 0, f"{damaged.message}. If all else holds: {mended}")]


def _files(
    store: Store, digests: Mapping[str, Digest], damage: Sequence[Damage], broken: Mapping[str, str]
) -> Iterator[Check]:
    """What the comparison of files with digests says, as checks."""
    now = [each for each in damage if each.current]
    before = [each for each in damage if not each.current]
    yield Check("files: as they were written", not now, len(digests), _listed(now))
    if before:
        yield Check("files: those of earlier versions only", True, len(before), _listed(before))
    new = sum(_unsealed(store, table, digests) for table in store.listed() if table not in broken)
    if new and digests:
        yield Check("files: not sealed yet", True, new, "of a run that has not ended, or died; the next one seals them")


def _unsealed(store: Store, table: str, digests: Mapping[str, Digest]) -> int:
    """How many files of a table's present version have no digest."""
    if table in UNSEALED:
        return 0
    try:
        with readable(store, table):
            files = tracked(store, table, store.version(table))["file"].to_pylist() if store.exists(table) else []
    except Damaged:
        return 0
    return sum(file not in digests for file in set(files))


def _listed(damage: Sequence[Damage]) -> str:
    if not damage:
        return ""
    told = "; ".join(f"{each.file} {each.problem}" for each in damage[:_SHOWN])
    return f"{len(damage)} not so: {told}{'; ...' if len(damage) > _SHOWN else ''}"
