"""Scenes of a source whose ids are in the lake already: left unread, compared with what the lake has, or replaced.

A scene is compared row by row (readings and annotations by id) and, for readings that embed has read, by the digest of
their bytes. Where files lie is not content: a scene that was moved is unchanged.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from miner.decode import Recordings
from miner.decode.files import shown
from miner.errors import BadInput
from miner.readers import Reader, SceneRef, SceneTables
from miner.schema import ANNOTATIONS, SAMPLE_DATA, SCENES, check, key_of
from miner.store import Store, one_of

OnConflict = Literal["keep", "check", "replace"]
COMPARED = ("scenes", "sample_data", "annotations", "assets")
ABSENT = {"missing-file", "unreadable"}  # says nothing of the content: a disk may be away
_PLACE = {"uri", "etag", "reader"}  # where a recording lies and who reads it
_SCHEMAS = {"scenes": SCENES, "sample_data": SAMPLE_DATA, "annotations": ANNOTATIONS}
_BATCH, _THREADS, _PIECE = 16, 8, 16
_LOOKED_AT = 100
_NEXT = "The lake keeps what it has. Take this version with --on-conflict replace, or both with --dataset NAME."
Row = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What a comparison found for one scene: no conflict, or one.

    A scene that is not `readable` now cannot take the place of what the lake has. `moved_to` is the path of one of its
    readings where it is not the lake's.
    """

    scene: SceneRef
    conflict: BadInput | None = None
    readable: bool = True
    moved_to: str = ""


@dataclass(frozen=True)
class Changes:
    """How rows of a source differ from those of the lake, by id; `changed` has the columns, `lake` and `source` the
    rows."""

    lake: Mapping[str, Row] = field(default_factory=dict)
    source: Mapping[str, Row] = field(default_factory=dict)
    added: Sequence[str] = ()
    gone: Sequence[str] = ()
    changed: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.gone or self.changed)

    def counts(self) -> list[str]:
        """The numbers in words, those that are not 0."""
        parts = {"added since": self.added, "gone": self.gone, "changed": self.changed}
        return [f"{len(ids):,} {word}" for word, ids in parts.items() if ids]

    def example(self) -> str:
        """One of them, with both values."""
        for name, columns in self.changed.items():
            before, now = (_short(rows[name][columns[0]]) for rows in (self.lake, self.source))
            return f"{_place(self.source[name])}: {columns[0]} is {before} in the lake, {now} in the source"
        for names, rows, word in ((self.added, self.source, "new"), (self.gone, self.lake, "not in the source")):
            for name in names:
                return f"{_place(rows[name])}: {word}"
        return ""


def compare(store: Store, reader: Reader, scenes: Sequence[SceneRef]) -> Iterator[Verdict]:
    """A verdict for each of the scenes, all of which are in the lake. Reads metadata, and recordings with a digest."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(scenes), _BATCH):
            batch = scenes[start : start + _BATCH]
            wanted = one_of("scene_id", [scene.scene_id for scene in batch])
            held = {table: store.scan(table, None, wanted) for table in COMPARED if store.exists(table)}
            for scene in batch:
                own = {table: rows.filter(pc.equal(rows["scene_id"], scene.scene_id)) for table, rows in held.items()}
                yield _judge(scene, reader, own, pool)


def known_scenes(store: Store, reader: Reader) -> list[SceneRef]:
    """The scenes of a source whose ids are in the lake."""
    there = set(store.scan("scenes", ["scene_id"])["scene_id"].to_pylist()) if store.exists("scenes") else set()
    return [scene for scene in reader.scenes() if scene.scene_id in there]


def first_look(store: Store, reader: Reader) -> list[str]:
    """What to tell about scenes that were left unread: what a look at the sizes of a few files shows.

    Costs one short scan and at most 100 calls of stat, however large the lake is.
    """
    scene_ids = [scene.scene_id for scene in islice(reader.scenes(), _LOOKED_AT)]
    columns = ["uri", "offset", "num_bytes"]
    scanner = store.dataset("sample_data").scanner(columns, filter=one_of("scene_id", scene_ids), limit=_LOOKED_AT)
    found = scanner.to_table().to_pylist()
    return [*_from_elsewhere(reader, found), *_not_as_they_were(found)]


def _from_elsewhere(reader: Reader, found: list[Row]) -> list[str]:
    root = Path(reader.source).absolute().parent  # one up: the tables of a format may lie beside its recordings
    if "://" in reader.source or not found or root in Path(found[0]["uri"]).parents:
        return []
    names = f"Scenes of these names are in dataset {reader.dataset!r} already, from {shown(found[0]['uri'])}"
    advice = "--on-conflict check compares them; for other recordings give another name: --dataset NAME."
    return [f"{names}: they were not read again. {advice}"]


def _not_as_they_were(found: list[Row]) -> list[str]:
    """Whether files, each one reading, are gone or of other sizes than when they were taken in."""
    sizes = {row["uri"]: row["num_bytes"] for row in found if row["offset"] is None and row["num_bytes"] is not None}
    other = [uri for uri, size in sizes.items() if "://" not in uri and _size(uri) != size]
    if not other:
        return []
    seen = f"{len(other):,} of {len(sizes):,} files looked at are gone or not the size they had, e.g. {other[0]}"
    return [f"{seen}: --on-conflict check compares all with the lake."]


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _judge(scene: SceneRef, reader: Reader, held: Mapping[str, pa.Table], pool: ThreadPoolExecutor) -> Verdict:
    try:
        tables = reader.read(scene.name)
    except BadInput as bad:
        return Verdict(scene, BadInput(bad.reason, f"{bad.detail}. {_NEXT.partition('.')[0]}."), readable=False)
    changes = {name: _changes(held[name], _declared(tables, name)) for name in _SCHEMAS if name in held}
    common = _common(held["sample_data"], tables.sample_data)
    other, absent = _other_bytes(common, _digests(held), pool)
    if absent:
        lost = f"scene {scene.name!r}: {len(absent):,} recordings cannot be read now, e.g. {absent[0].detail}"
        return Verdict(scene, BadInput(absent[0].reason, f"{lost}. The lake keeps what it has."), readable=False)
    if other or any(changes.values()):
        return Verdict(scene, BadInput("conflict", _told(scene, held, changes, other)))
    return Verdict(scene, moved_to=next((now["uri"] for then, now in common if then["uri"] != now["uri"]), ""))


def _told(scene: SceneRef, held: Mapping[str, pa.Table], changes: Mapping[str, Changes], other: list[str]) -> str:
    """The detail of a conflict: how much differs, one example with both values, and the next step."""
    readings = changes["sample_data"]
    counts = readings.counts() + ([f"{len(other):,} with other bytes"] if other else [])
    total = len(held["sample_data"]) + len(readings.added)
    told = [f"of {total:,} readings {', '.join(counts)}"] if counts else []
    told += [f"annotations {', '.join(changes['annotations'].counts())}"] if changes.get("annotations") else []
    told += ["the scene's own row"] if changes["scenes"] else []
    order = ("sample_data", "annotations", "scenes")
    example = other[0] if other else next(changes[name].example() for name in order if changes.get(name))
    return f"scene {scene.name!r} is not as in the lake: {'; '.join(told)}; e.g. {example}. {_NEXT}"


def _declared(tables: SceneTables, name: str) -> pa.Table:
    return check(getattr(tables, name), _SCHEMAS[name])


def _changes(lake: pa.Table, source: pa.Table) -> Changes:
    """How the rows of one table differ. Most are equal column by column; only others are looked at one by one."""
    if not len(lake) and not len(source):
        return Changes()
    [key] = key_of(source.schema)
    columns = [name for name in source.column_names if name in lake.column_names and name not in _PLACE]
    left, right = (table.sort_by(key) for table in (lake, source))
    if len(left) == len(right) and all(left[name].equals(right[name]) for name in columns):
        return Changes()
    before, now = ({row[key]: row for row in table.to_pylist()} for table in (lake, source))
    differ = {name: _differing(before[name], now[name], columns) for name in now if name in before}
    return Changes(
        before,
        now,
        added=[name for name in now if name not in before],
        gone=[name for name in before if name not in now],
        changed={name: columns for name, columns in differ.items() if columns},
    )


def _differing(before: Row, now: Row, columns: Sequence[str]) -> list[str]:
    """Columns with other values: NaN is NaN, and a size that was or is not known is no other size."""
    unknown = {"num_bytes"} if None in (before.get("num_bytes"), now.get("num_bytes")) else set()
    return [name for name in columns if repr(before[name]) != repr(now[name]) and name not in unknown]


def _common(lake: pa.Table, source: pa.Table) -> list[tuple[Row, Row]]:
    """What it takes to read the readings that both have, as in the lake and as in the source; in order of place."""
    columns = ["sample_data_id", "channel", "timestamp_ns", "uri", "offset", "length", "fileformat"]
    before = {row["sample_data_id"]: row for row in lake.select(columns).to_pylist()}
    rows = sorted(source.select(columns).to_pylist(), key=lambda row: (row["uri"], row["offset"] or 0))
    return [(before[row["sample_data_id"]], row) for row in rows if row["sample_data_id"] in before]


def _digests(held: Mapping[str, pa.Table]) -> dict[str, str]:
    """sha256 by reading, of those that embed has read."""
    assets = held.get("assets")
    if assets is None:
        return {}
    return dict(zip(assets["sample_data_id"].to_pylist(), assets["sha256"].to_pylist(), strict=True))


def _other_bytes(
    common: list[tuple[Row, Row]], digests: Mapping[str, str], pool: ThreadPoolExecutor
) -> tuple[list[str], list[BadInput]]:
    """The readings with other bytes than the lake's digests say, in words, and those that are not there to be read."""
    rows = [now for _, now in common if now["sample_data_id"] in digests]
    size = max(_PIECE, -(-len(rows) // (4 * _THREADS)))  # neighbours together: a container is opened once for them
    pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
    other, absent = [], []
    for row, found in (each for piece in pool.map(_hashed, pieces) for each in piece):
        if isinstance(found, BadInput) and found.reason in ABSENT:
            absent.append(found)
        elif found != digests[row["sample_data_id"]]:
            now = f"now {found.reason}: {found.detail}" if isinstance(found, BadInput) else f"{found} in the source"
            other.append(f"{_place(row)}: sha256 {digests[row['sample_data_id']]} in the lake, {now}")
    return other, absent


def _hashed(rows: list[Row]) -> list[tuple[Row, str | BadInput]]:
    """The digests of some readings, made as embed makes them."""
    found: list[tuple[Row, str | BadInput]] = []
    with Recordings() as recordings:
        for row in rows:
            try:
                found.append((row, hashlib.sha256(recordings.read(row).data).hexdigest()))
            except BadInput as bad:
                found.append((row, bad))
    return found


def _place(row: Row) -> str:
    """Which reading, annotation or scene a row is, for people."""
    for name in ("uri", "category", "name"):
        if row.get(name):
            return (
                f"{shown(row[name])} ({row['channel']} at {row['timestamp_ns']})" if name == "uri" else str(row[name])
            )
    return ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
