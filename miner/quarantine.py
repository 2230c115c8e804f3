"""The units that failed: which, of what, why and when; tried again, or accepted as lost.

A record is a row of `quarantine`. While it is there no run tries its unit. `retry` removes the row, so that the next
run does. `drop` keeps it, with the reason `dropped`: the unit stays accounted for, is listed and counted no more, and
is tried again only after `retry` of what was dropped.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from miner.digests import seal
from miner.errors import NotFound, UsageError
from miner.lease import lease
from miner.lineage import Run, Span, record, unrecorded
from miner.plan import DROPPED, take_out
from miner.replacement import MARK
from miner.rerun import log_of, reruns, run_of
from miner.schema import QUARANTINE, check
from miner.store import Store, one_of, quoted

_AGE = re.compile(r"(\d+)\s*([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_JOBS = ("quarantine retry", "quarantine drop")
_WRITES = {"ingest": ("scenes", "sample_data", "annotations"), "cut": ("clips",)}
_LISTED = 1000

Notify = Callable[[str], None]
Change = Callable[[Store, pa.Table, Mapping[str, str]], None]


@dataclass(frozen=True)
class Chosen:
    """Which records: those of which all that is given is true.

    `reader` is the one that read the unit's scene, `scene` a scene's name or id, `since_ns` the earliest time of the
    failure (a record of unknown time is older than any), `key` the unit's id. What was dropped is chosen only by its
    reason.
    """

    reason: str | None = None
    stage: str | None = None
    reader: str | None = None
    since_ns: int | None = None
    scene: str | None = None
    key: str | None = None

    @property
    def all(self) -> bool:
        """Whether nothing is given."""
        return all(getattr(self, each.name) is None for each in fields(self))

    def __str__(self) -> str:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.since_ns is not None:
            given["since_ns"] = datetime.fromtimestamp(self.since_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return ", ".join(f"{name.removesuffix('_ns')} {value}" for name, value in given.items() if value is not None)


EVERYTHING = Chosen()
CHOICES = ("reason", "stage", "reader", "since", "scene", "key")  # by which `choose` and people choose


def since_ns(text: str, now_ns: int | None = None) -> int:
    """The time of `2026-11-20`, `2026-11-20T14:30` (UTC unless it says otherwise), or that long ago: `2d`, `90m`.

    Raises UsageError for anything else.
    """
    found = _time_ns(text.strip(), now_ns or time.time_ns())
    if found is None or not 0 <= found < 1 << 63:
        raise UsageError(f"since {text!r}: no time or age", "Examples: 2d, 12h, 30m, 2026-11-20, 2026-11-20T14:30")
    return found


def _time_ns(text: str, now_ns: int) -> int | None:
    if age := _AGE.fullmatch(text):
        return now_ns - int(age[1]) * _UNIT_S[age[2]] * 10**9
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 10**9


def choose(
    *,
    reason: str | None = None,
    stage: str | None = None,
    reader: str | None = None,
    since: str | None = None,
    scene: str | None = None,
    key: str | None = None,
) -> Chosen:
    """As people say it: `since` is a time or an age. Raises UsageError."""
    return Chosen(reason, stage, reader, since_ns(since) if since is not None else None, scene, key)


# -- looking -----------------------------------------------------------------------------------------------------------


def records(store: Store, chosen: Chosen = EVERYTHING) -> pa.Table:
    """The chosen records, newest first: the columns of `quarantine`, and `scene`, the scene's name where known."""
    rows = _with_scenes(store, _stored(store, chosen))
    for column, wanted in (("reader", chosen.reader), ("since", chosen.since_ns), ("scene", chosen.scene)):
        if wanted is not None:
            rows = rows.filter(_matches(rows, column, wanted))
    return rows.sort_by([("time_ns", "descending"), ("stage", "ascending"), ("key", "ascending")])


def groups(rows: pa.Table) -> list[dict[str, Any]]:
    """Records counted by stage and reason, the most frequent first: stage, reason, units, newest_ns."""
    counted = rows.group_by(["stage", "reason"]).aggregate([([], "count_all"), ("time_ns", "max")])
    named = counted.rename_columns(["stage", "reason", "units", "newest_ns"])
    ordered = named.sort_by([("units", "descending"), ("stage", "ascending"), ("reason", "ascending")])
    return [dict(row) for row in ordered.to_pylist()]


def listing(store: Store, chosen: Chosen, limit: int) -> dict[str, Any]:
    """The chosen records: how many, by stage and reason, and the `limit` newest with file and scene.

    Raises NotFound if nothing is as chosen, with what there is.
    """
    if limit < 1:
        raise UsageError(f"limit = {limit}: expected a whole number from 1 on")
    rows = records(store, chosen)
    if not len(rows) and not chosen.all:
        raise _nothing(store, chosen)
    dropped = store.count("quarantine", f"reason = {quoted(DROPPED)}")
    found = {"lake": store.uri, "total": len(rows), "dropped": dropped, "groups": groups(rows)}
    return {**found, "records": _with_files(store, rows.slice(0, limit))}


def show(store: Store, key: str) -> dict[str, Any]:
    """All that is known of one unit in quarantine: its record of each stage, with file, reading, run, log and commands.

    Raises NotFound.
    """
    held = [*_with_files(store, records(store, Chosen(key=key))), *_with_files(store, _dropped(store, key))]
    if not held:
        raise NotFound(f"{store.uri} has no unit {key!r} in quarantine", "Keys come from: miner quarantine ls LAKE")
    for row in held:
        row["run"] = run_of(store, row["run_id"])
        row["log"] = log_of(store, row["run_id"])
        row["again"] = _again(store, row)
    return {"lake": store.uri, "key": key, "records": held}


# -- changing ----------------------------------------------------------------------------------------------------------


def changeable(store: Store, chosen: Chosen, dropped: bool) -> pa.Table:
    """The chosen records that `retry` (with `dropped`, what was dropped too) or `drop` takes. Raises NotFound if none.

    Scenes that an ingest is replacing have a record until it is done, which is left alone.
    """
    rows = records(store, chosen)
    kept = [MARK] if dropped else [MARK, DROPPED]
    rows = rows.filter(pc.invert(pc.is_in(rows["reason"], pa.array(kept))))
    if not len(rows) and not chosen.all:
        raise _nothing(store, chosen)
    return rows


def retry(store: Store, chosen: Chosen, run: Run, wait: bool = True, notify: Notify = lambda message: None) -> pa.Table:
    """Take the chosen records out, so that the next run of their stage tries the units; gives what was taken out.

    Raises NotFound if nothing is as chosen, Conflict if a run holds the tables and `wait` is not set.
    """
    return _changed(store, lambda: changeable(store, chosen, dropped=True), _take_out, run, wait, notify)


def drop(store: Store, chosen: Chosen, run: Run, wait: bool = True, notify: Notify = lambda message: None) -> pa.Table:
    """Accept the chosen units as lost; gives their records as they were. Raises as `retry`."""
    return _changed(store, lambda: changeable(store, chosen, dropped=False), _drop, run, wait, notify)


def _changed(
    store: Store, find: Callable[[], pa.Table], change: Change, run: Run, wait: bool, notify: Notify
) -> pa.Table:
    """Find and change records while no run of their stages is at work, which planned with them as they were."""
    found = find()
    if not len(found):
        return found
    stages = pc.unique(found["stage"]).to_pylist()
    tables = {"quarantine", *(table for stage in stages for table in _written_by(store, stage))}
    with lease(store, sorted(tables), run.run_id, wait, notify) as assert_held:
        recover(store, "quarantine", _JOBS)
        found = find()  # a run that this one waited for may have changed them
        if not len(found):
            return found
        first = store.version("quarantine") + 1
        assert_held()
        change(store, found, run.stamp(stage="quarantine"))
        record(store, run, [], [Span("quarantine", first, store.version("quarantine"))], {"units": len(found)})
        seal(store, ["quarantine", "lineage"])
    return found


def recover(store: Store, table: str, jobs: Sequence[str]) -> None:
    """Write the events of these jobs that died before they could: of a table that others append to without a lease."""
    for stamp, span in unrecorded(store, table):
        if stamp["miner.job"] in jobs:
            config = json.loads(stamp["miner.config"])
            run = Run(stamp["miner.job"], config, stamp["miner.code_version"], run_id=stamp["miner.run_id"])
            record(store, run, [], [span], {})


def _take_out(store: Store, rows: pa.Table, stamp: Mapping[str, str]) -> None:
    for stage in pc.unique(rows["stage"]).to_pylist():
        take_out(store, stage, rows.filter(pc.equal(rows["stage"], stage))["key"].to_pylist(), stamp)


def _drop(store: Store, rows: pa.Table, stamp: Mapping[str, str]) -> None:
    """The reason becomes part of the detail; the row stays, with its reader where only the scene had it."""
    detail = pc.binary_join_element_wise(rows["reason"], rows["detail"], ": ")
    lost = rows.set_column(rows.column_names.index("detail"), QUARANTINE.field("detail"), detail)
    reasons = pa.array([DROPPED] * len(rows), pa.string())
    lost = lost.set_column(rows.column_names.index("reason"), QUARANTINE.field("reason"), reasons)
    store.replace("quarantine", lost.select(QUARANTINE.names), "false", stamp)


def _written_by(store: Store, stage: str) -> tuple[str, ...]:
    """The tables a stage writes: its runs hold their leases."""
    return _WRITES.get(stage, (*store.vector_tables(), "assets"))


# -- inside ------------------------------------------------------------------------------------------------------------


def _stored(store: Store, chosen: Chosen) -> pa.Table:
    """The rows with what is chosen by columns that every lake has; columns that an older lake lacks are null."""
    if not store.exists("quarantine"):
        return QUARANTINE.empty_table()
    there = {*store.schema("quarantine").names}
    wanted = {"reason": chosen.reason, "stage": chosen.stage, "key": chosen.key}
    parts = [f"{column} = {quoted(value)}" for column, value in wanted.items() if value is not None]
    parts += [] if chosen.reason == DROPPED else [f"reason <> {quoted(DROPPED)}"]
    columns = [name for name in QUARANTINE.names if name in there]
    return check(store.scan("quarantine", columns, " AND ".join(parts)), QUARANTINE)


def _again(store: Store, row: Mapping[str, Any]) -> list[str]:
    """The commands that try the unit of a record again."""
    [rerun] = reruns(store, [row])
    if row["reason"] == MARK:
        return [rerun.command]
    take_out = ["miner", "quarantine", "retry", store.uri, "--key", row["key"], "--stage", row["stage"]]
    take_out += ["--reason", DROPPED] if row["reason"] == DROPPED else []
    return [shlex.join(take_out), *([] if rerun.encoders else [rerun.command])]


def _dropped(store: Store, key: str) -> pa.Table:
    return records(store, Chosen(key=key, reason=DROPPED))


def _with_scenes(store: Store, rows: pa.Table) -> pa.Table:
    """With the scenes' names, and their readers where a record names none: a reading's is that of its scene."""
    found = _scenes(store, pc.unique(rows["scene_id"]).to_pylist())
    place = pc.index_in(rows["scene_id"], found["scene_id"].combine_chunks())
    readers = pc.coalesce(rows["reader"], found["reader"].take(place))
    rows = rows.set_column(rows.column_names.index("reader"), "reader", readers)
    return rows.append_column("scene", found["name"].take(place))


def _scenes(store: Store, scene_ids: Sequence[str]) -> pa.Table:
    empty = pa.table({name: pa.array([], pa.string()) for name in ("scene_id", "name", "reader")})
    if not scene_ids or not store.exists("scenes"):
        return empty
    columns = [name for name in empty.column_names if name in store.schema("scenes").names]
    rows = store.scan("scenes", columns, one_of("scene_id", scene_ids) if len(scene_ids) <= _LISTED else None)
    return rows if "reader" in columns else rows.append_column("reader", pa.nulls(len(rows), pa.string()))


def _matches(rows: pa.Table, column: str, wanted: str | int) -> pa.ChunkedArray:
    if column == "since":
        return pc.fill_null(pc.greater_equal(rows["time_ns"], wanted), False)
    same = pc.fill_null(pc.equal(rows[column], wanted), False)
    return pc.or_(same, pc.equal(rows["scene_id"], wanted)) if column == "scene" else same


def _with_files(store: Store, rows: pa.Table) -> list[dict[str, Any]]:
    """Records as rows, with the `file` and the reading's channel and time where the unit is a reading."""
    readings = (each for keys in _parts(rows["key"].to_pylist()) for each in _readings(store, keys))
    known = {each["sample_data_id"]: each for each in readings}
    found = []
    for row in rows.to_pylist():
        reading = known.get(row["key"], {})
        found.append(row | {"file": reading.get("uri"), "channel": reading.get("channel")})
        found[-1]["timestamp_ns"] = reading.get("timestamp_ns")
    return found


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    yield from (keys[start : start + _LISTED] for start in range(0, len(keys), _LISTED))


def _readings(store: Store, keys: Sequence[str]) -> list[dict[str, Any]]:
    if not store.exists("sample_data"):
        return []
    columns = ["sample_data_id", "uri", "channel", "timestamp_ns"]
    return [dict(row) for row in store.scan("sample_data", columns, one_of("sample_data_id", keys)).to_pylist()]


def _nothing(store: Store, chosen: Chosen) -> NotFound:
    """Nothing is as chosen: what there is."""
    rows = records(store)
    there = [f"{each['units']:,} {each['reason']} ({each['stage']})" for each in groups(rows)]
    readers = sorted({*rows["reader"].drop_null().to_pylist()})
    hint = f"There are: {', '.join(there)}" if there else "Its quarantine is empty."
    hint += f"\nReaders: {', '.join(readers)}" if readers and chosen.reader else ""
    return NotFound(f"{store.uri}: nothing in quarantine with {chosen}", hint)
