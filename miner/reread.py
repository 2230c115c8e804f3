"""Recordings looked at again: those that embed has read against their digests, the others for whether they are
there."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import pyarrow.compute as pc

from miner.damage import Assessment, Damage
from miner.decode import Recordings
from miner.decode.files import shown, size_of
from miner.errors import BadInput, Damaged
from miner.sound import Sound
from miner.store import Store, one_of

_PLACE = ["sample_data_id", "uri", "offset", "length", "fileformat"]
_SHOWN = 5
_SCENES_AT_ONCE = 64
_READ_AT_ONCE = 32
_THREADS = 8
OnProgress = Callable[[str, int, int], None]
Row = dict[str, Any]


def changed_recordings(
    store: Store, sound: Sound, assessment: Assessment, on_progress: OnProgress
) -> tuple[list[Damage], int]:
    """The recordings that are not what embed read, by file, and how many readings were read."""
    try:
        if not sound.has("assets") or not sound.has("sample_data"):
            return [], 0
        scenes = pc.unique(sound.scan("assets", ["scene_id"])["scene_id"]).to_pylist()
        total = len(sound.scan("assets", ["sample_data_id"]))
        tick = counter("recordings", total, on_progress)
        wrong: list[tuple[Row, str]] = []
        for start in range(0, len(scenes), _SCENES_AT_ONCE):
            wrong += _changed(_readings(sound, scenes[start : start + _SCENES_AT_ONCE]), tick)
    except Damaged:  # told by the checks of the tables
        return [], 0
    return _by_file(store, wrong, assessment), total


def unread_recordings(
    store: Store, sound: Sound, assessment: Assessment, on_progress: OnProgress
) -> tuple[list[Damage], int]:
    """The recordings that no encoder has read and that are not there as ingest found them, by file, and how many
    readings were looked for. Nothing is known of their bytes: a file has to be there, and as long as it was."""
    wrong: list[tuple[Row, str]] = []
    looked = 0
    try:
        if not sound.has("sample_data"):
            return [], 0
        scenes = sorted(pc.unique(sound.scan("sample_data", ["scene_id"])["scene_id"]).to_pylist())
        tick = counter("scenes of recordings not read", len(scenes), on_progress)
        for start in range(0, len(scenes), _SCENES_AT_ONCE):
            readings = _unread(sound, one_of("scene_id", scenes[start : start + _SCENES_AT_ONCE]))
            looked += len(readings)
            wrong += _not_there(readings)
            for _ in scenes[start : start + _SCENES_AT_ONCE]:
                tick()
    except Damaged:  # told by the checks of the tables
        return [], 0
    return _by_file(store, wrong, assessment), looked


def _unread(sound: Sound, chosen: str) -> list[Row]:
    """The readings of some scenes that embed has neither read nor put into quarantine, and ingest has seen."""
    rows = sound.scan("sample_data", [*_PLACE, "num_bytes"], chosen)
    for table, key in (("assets", "sample_data_id"), ("quarantine", "key")):
        if sound.has(table):
            known = sound.scan(table, [key], chosen)[key]
            rows = rows.filter(pc.invert(pc.is_in(rows["sample_data_id"], known))) if len(known) else rows
    return [row for row in rows.to_pylist() if row["offset"] is not None or row["num_bytes"] is not None]


def _not_there(readings: list[Row]) -> Iterator[tuple[Row, str]]:
    for file, rows in groupby(sorted(readings, key=_file), key=_file):
        size = size_of(file)
        for row in rows:
            if problem := _missing(row, size):
                yield row, problem


def _missing(row: Row, size: int | None) -> str:
    """What is wrong with a reading by the size of its file now, None for one that is not there."""
    if size is None:
        return "is gone"
    if row["offset"] is None:
        return "" if size == row["num_bytes"] else f"has {size:,} bytes, ingest found {row['num_bytes']:,}"
    end = row["offset"] + (row["length"] or 0)
    return "" if end <= size else f"has {size:,} bytes, the reading ends at {end:,}"


def _file(row: Row) -> str:
    """The file of a reading: in an MCAP what follows # names a message."""
    uri = str(row["uri"])
    return uri.rpartition("#")[0] if row["fileformat"] == "mcap" else uri


def _readings(sound: Sound, scenes: list[str]) -> list[Row]:
    """What embed read of some scenes: place, size and sha256, file by file."""
    chosen = one_of("scene_id", scenes)
    assets = sound.scan("assets", ["sample_data_id", "sha256", "num_bytes"], chosen)
    places = sound.scan("sample_data", _PLACE, chosen)
    rows: list[Row] = assets.join(places, "sample_data_id", join_type="inner").to_pylist()
    return sorted(rows, key=lambda row: (row["uri"], row["offset"] or 0))


def _changed(readings: list[Row], tick: Callable[[], None]) -> list[tuple[Row, str]]:
    """The readings whose bytes are others now, and how."""
    pieces = [readings[start : start + _READ_AT_ONCE] for start in range(0, len(readings), _READ_AT_ONCE)]

    def compared(piece: list[Row]) -> list[str]:
        with Recordings() as recordings:
            return [_compared(recordings, row) for row in piece]

    found = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for piece, said in zip(pieces, pool.map(compared, pieces), strict=True):
            for row, problem in zip(piece, said, strict=True):
                found += [(row, problem)] if problem else []
                tick()
    return found


def _compared(recordings: Recordings, row: Row) -> str:
    try:
        data = recordings.read(row).data
    except BadInput as bad:
        return str(bad)
    if len(data) != row["num_bytes"]:
        return f"has {len(data):,} bytes, embed read {row['num_bytes']:,}"
    return "" if hashlib.sha256(data).hexdigest() == row["sha256"] else "its bytes are not those embed read (sha256)"


def _by_file(store: Store, wrong: list[tuple[Row, str]], assessment: Assessment) -> list[Damage]:
    by_file = groupby(sorted(wrong, key=lambda each: str(each[0]["uri"])), key=lambda each: str(each[0]["uri"]))
    return [_damaged(store, uri, [*each], assessment) for uri, each in by_file]


def _damaged(store: Store, uri: str, wrong: list[tuple[Row, str]], assessment: Assessment) -> Damage:
    ids = [row["sample_data_id"] for row, _ in wrong]
    lake = shlex.quote(store.uri)
    mended = f"put the file back as it was, or take the new one: miner ingest SOURCE --lake {lake}"
    return Damage(
        file=shown(uri),
        what=f"recording, reading {', '.join(ids[:_SHOWN])}{', ...' if len(ids) > _SHOWN else ''}",
        problem=wrong[0][1],
        rows=len(ids),
        clips=assessment.clips_of(ids),
        current=True,
        next_step=f"{mended} --on-conflict replace",
    )


def counter(what: str, total: int, on_progress: OnProgress) -> Callable[[], None]:
    """Tells of one more of `total`, each time it is called."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        on_progress(what, done, total)

    return tick
