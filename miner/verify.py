"""Does a lake hold what it says: keys once, references met, vectors sound, every unit a row or in quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miner.errors import NotFound
from miner.schema import IMPORTED, TABLES, key_of
from miner.store import Store, one_of

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


def verify(store: Store) -> list[Check]:
    """All checks, in a fixed order. Reads every table once; recordings are not opened."""
    return list(_checks(store))


def _checks(store: Store) -> Iterator[Check]:
    tables = store.tables()
    vectors = store.vector_tables()
    for table in tables:
        if table in TABLES or table in vectors:
            yield _unique(store, table)
    for table, column, parent in (*_REFERENCES, *((table, "sample_data_id", "sample_data") for table in vectors)):
        if table in tables and parent in tables:
            yield _met(store, table, column, parent)
    for table in vectors:
        yield _unit_length(store, table)
        if store.schema(table).metadata[b"version"] != IMPORTED.encode():  # a file may be of some frames only
            kind = store.schema(table).metadata[b"modality"].decode()
            readings = ("sample_data", "sample_data_id", one_of("modality", [kind]), "embed")
            yield _complete(store, table, "sample_data_id", "part = 0", readings)
            yield _complete(store, "assets", "sample_data_id", "true", (table, "sample_data_id", "part = 0", ""))
    if store.count("clips"):  # a lake that is not cut yet is not damaged
        yield _complete(store, "clips", "scene_id", "true", ("scenes", "scene_id", "true", "cut"))
    if store.count("clip_facts"):
        yield _complete(store, "clip_facts", "clip_id", "true", ("clips", "clip_id", "true", ""))
    if "lineage" in tables:
        yield _lineage(store)


def _unique(store: Store, table: str) -> Check:
    keys = key_of(store.schema(table))
    rows = store.scan(table, keys)
    counted = rows.group_by(keys).aggregate([([], "count_all")])
    double = counted.filter(pc.greater(counted["count_all"], 1))
    return _check(f"{table}: each key once", len(rows), double[keys[-1]])


def _met(store: Store, table: str, column: str, parent: str) -> Check:
    rows = store.scan(table, [column])[column].drop_null()
    [key] = key_of(store.schema(parent))
    known = store.scan(parent, [key])[key]
    missing = rows.filter(pc.invert(pc.is_in(rows, known))) if len(known) else rows
    return _check(f"{table}: {column} is in {parent}", len(rows), pc.unique(missing))


def _unit_length(store: Store, table: str) -> Check:
    bad: list[str] = []
    rows = 0
    for batch in store.batches(table, ["embedding_id", "vector"]):
        vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
        off = ~(np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1) < 1e-3)
        bad += batch["embedding_id"].filter(pa.array(off)).to_pylist()
        rows += len(batch)
    return _check(f"{table}: vectors of unit length", rows, pa.chunked_array([pa.array(bad, pa.string())]))


def _complete(store: Store, table: str, column: str, filter: str, source: tuple[str, str, str, str]) -> Check:
    """Every id of the source (table, column, filter) is in the table, or in quarantine for the stage named last."""
    parent, key, chosen, stage = source
    name = f"{table}: has all of {parent}"
    if not store.exists(parent):
        return Check(name, not store.exists(table), 0, f"the lake has no table {parent}")
    wanted = pc.unique(store.scan(parent, [key], chosen)[key])
    known = store.scan(table, [column], filter)[column].chunks if store.exists(table) else []
    if stage and store.exists("quarantine"):
        known = [*known, *store.scan("quarantine", ["key"], f"stage = '{stage}'")["key"].chunks]
    missing = wanted.filter(pc.invert(pc.is_in(wanted, pa.chunked_array(known, pa.string())))) if known else wanted
    return _check(name, len(wanted), missing)


def _lineage(store: Store) -> Check:
    """Every recorded output is a version that opens."""
    bad = []
    outputs = [span for spans in store.scan("lineage", ["outputs"])["outputs"].to_pylist() for span in spans]
    for span in outputs:
        try:
            store.dataset(span["table"], span["last"])
        except NotFound:
            bad.append(f"{span['table']}@{span['last']}")
    return _check("lineage: outputs are there", len(outputs), pa.chunked_array([pa.array(bad, pa.string())]))


def _check(name: str, rows: int, bad: pa.ChunkedArray | pa.Array) -> Check:
    if not len(bad):
        return Check(name, True, rows)
    shown = ", ".join(str(value) for value in bad.slice(0, _SHOWN).to_pylist())
    return Check(name, False, rows, f"{len(bad)} not so: {shown}{', ...' if len(bad) > _SHOWN else ''}")
