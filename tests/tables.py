"""Lake tables read from outside, with plain Lance: what runs leave behind, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

BOOKS = {"digests", "indexes", "leases", "lineage"}  # they tell of runs and table versions, which differ
VECTORS = {"embeddings/hashing", "embeddings/descriptor"}
STAMPS = {"run_id", "attempts", "time_ns"}


@dataclass(frozen=True)
class Damage:
    """What a lake lacks of an undisturbed one. `Damage()` is none.

    `lost` rows are not there, `doubled` ones have the key of another, `differing` ones have other content or are in no
    undisturbed table, `misplaced` units are in neither table nor quarantine, or in both; `books` are manifests and
    lineage that do not fit the tables.
    """

    lost: int = 0
    doubled: int = 0
    differing: int = 0
    misplaced: int = 0
    books: int = 0
    details: tuple[str, ...] = field(default=(), compare=False)


def tables(lake: str | Path) -> list[str]:
    """Names of the tables of a lake, sorted: `scenes`, ..., `embeddings/hashing`."""
    root = Path(lake)
    return sorted(str(path.relative_to(root))[:-6] for path in (*root.glob("*.lance"), *root.glob("*/*.lance")))


def read(lake: str | Path, table: str, columns: list[str] | None = None, filter: str | None = None) -> pa.Table:
    """Rows of a table of a lake; without any where it is not there."""
    path = Path(lake) / f"{table}.lance"
    return lance.dataset(str(path)).to_table(columns, filter) if path.exists() else pa.table({})


def count(lake: str | Path, table: str) -> int:
    """How many rows a table of a lake has; 0 where it is not there, or is being made."""
    try:
        return int(lance.dataset(str(Path(lake) / f"{table}.lance")).count_rows())
    except (OSError, ValueError):
        return 0


def keys_of(rows: pa.Table) -> list[str]:
    """The names of the key columns of a table."""
    return [each.name for each in rows.schema if b"lance-schema:unenforced-primary-key" in (each.metadata or {})]


def contents(lake: str | Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of all data tables, sorted by key; run stamps left out. Vectors, those of `VECTORS`, compare bit for
    bit."""
    data = {table: rows for table, rows in _data(lake).items() if "/" not in table or table in VECTORS}
    return {table: rows.to_pylist() for table, rows in data.items()}


def damage(lake: str | Path, undisturbed: str | Path) -> Damage:
    """What is wrong with a lake that should hold what an undisturbed run over the same source left behind."""
    lost, differing = _compared(_data(lake), _data(undisturbed))
    found = [lost, [*_doubled(lake)], differing, [*_misplaced(lake)], [*_unfit(lake)]]
    lengths = dict(zip(("lost", "doubled", "differing", "misplaced", "books"), map(len, found), strict=True))
    return Damage(**lengths, details=tuple(text for each in found for text in each[:5]))


def _data(lake: str | Path) -> dict[str, pa.Table]:
    found = {}
    for table in sorted({*tables(lake)} - BOOKS):
        rows = read(lake, table)
        kept = rows.drop_columns(sorted(STAMPS & {*rows.column_names}))
        found[table] = kept.sort_by([(key, "ascending") for key in keys_of(rows)])
    return found


def _compared(ours: dict[str, pa.Table], theirs: dict[str, pa.Table]) -> tuple[list[str], list[str]]:
    """Rows that are lost, and those that differ or that nobody should have written."""
    lost, differing = [], []
    for table in sorted({*ours} | {*theirs}):
        here, there = ours.get(table, pa.table({})), theirs.get(table, pa.table({}))
        if not here.equals(there):
            rows, expected = _by_key(here), _by_key(there)
            lost += [f"{table}: {key} is lost" for key in sorted({*expected} - {*rows})]
            differing += [f"{table}: {key} is another row" for key in sorted(rows) if rows[key] != expected.get(key)]
    return lost, differing


def _by_key(rows: pa.Table) -> dict[tuple[str, ...], dict[str, Any]]:
    keys = keys_of(rows)
    return {tuple(row[key] for key in keys): row for row in rows.to_pylist()}


def _doubled(lake: str | Path) -> Iterator[str]:
    """Rows whose key another one has, in every table; but two runs may seal one file, and both say the same of it."""
    for table in sorted({*tables(lake)} - {"digests"}):
        rows = read(lake, table)
        seen = Counter(tuple(row.values()) for row in rows.select(keys_of(rows)).to_pylist())
        yield from (f"{table}: {key} is there twice" for key, times in seen.items() for _ in range(times - 1))


def _misplaced(lake: str | Path) -> Iterator[str]:
    """Units of a stage that are in neither its table nor the quarantine, or in both: of cutting and of embedding."""
    scenes = {*_column(lake, "scenes", "scene_id")}
    bad_scenes = _column(lake, "quarantine", "key", "stage = 'ingest'")
    yield from (f"ingest: {key} is a scene and in quarantine" for key in scenes & {*bad_scenes})
    yield from _once("cut", scenes, [*{*_column(lake, "clips", "scene_id")}], _quarantined(lake, "cut"))
    for table in [name for name in tables(lake) if name.startswith("embeddings/")]:
        kind = read(lake, table, [], "false").schema.metadata[b"modality"].decode()
        readings = {*_column(lake, "sample_data", "sample_data_id", f"modality = '{kind}'")}
        bad = [key for key in _quarantined(lake, "embed") if key in readings]
        for output, own in ((table, "part = 0"), ("assets", f"modality = '{kind}'")):
            yield from _once(output, readings, _column(lake, output, "sample_data_id", own), bad)


def _once(what: str, units: set[str], rows: list[str], quarantined: list[str]) -> Iterator[str]:
    seen = Counter([*rows, *quarantined])
    yield from (f"{what}: {key} is there {seen[key]} times" for key in sorted(units | {*seen}) if seen[key] != 1)
    yield from (f"{what}: {key} is of no unit" for key in sorted({*seen} - units))


def _quarantined(lake: str | Path, stage: str) -> list[str]:
    return _column(lake, "quarantine", "key", f"stage = '{stage}'")


def _column(lake: str | Path, table: str, column: str, filter: str | None = None) -> list[str]:
    rows = read(lake, table, [column], filter)
    return rows[column].to_pylist() if len(rows) else []


def _unfit(lake: str | Path) -> Iterator[str]:
    """Manifests that count other rows than their table version has, and lineage of versions that are gone."""
    for row in read(lake, "indexes").to_pylist():
        rows = _at(lake, row["table"], row["table_version"])
        if rows != row["num_vectors"]:
            yield f"indexes: {row['table']} has {rows} vectors at {row['table_version']}, not {row['num_vectors']}"
    for row in read(lake, "lineage").to_pylist():
        for span in row["outputs"]:
            if _at(lake, span["table"], span["last"]) is None:
                yield f"lineage: {span['table']} has no version {span['last']}, which run {row['run_id']} wrote"


def _at(lake: str | Path, table: str, version: int) -> int | None:
    """Rows of a table at a version; None where it cannot be opened."""
    try:
        return int(lance.dataset(str(Path(lake) / f"{table}.lance"), version=version).count_rows())
    except (OSError, ValueError):
        return None
