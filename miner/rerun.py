"""How units that failed are tried again: the run that had them, its log, and the commands that go over them anew."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miner.masking import masked
from miner.object_store import filesystem, is_remote
from miner.runlog import RunLog
from miner.schema import IMPORTED
from miner.store import Store, one_of
from miner.transactions import RUN

_KNOWN_RUNS = 500


@dataclass(frozen=True)
class Rerun:
    """A command that tries units of `stage` again. With `encoders` it needs nothing but the lake."""

    stage: str
    command: str
    encoders: tuple[str, ...] = ()
    local: bool = False  # the run did not use Ray


def reruns(store: Store, rows: Sequence[Mapping[str, Any]]) -> list[Rerun]:
    """What goes over these records (with `stage` and `run_id`) once they are out of quarantine, ingest first."""
    pairs = sorted({(row["stage"], row["run_id"]) for row in rows})
    known = configs(store, [run_id for _, run_id in pairs])
    found = [_rerun(store, stage, known.get(run_id, {})) for stage, run_id in pairs]
    order = {"ingest": 0, "cut": 1, "embed": 2}
    return sorted(dict.fromkeys(found), key=lambda each: order.get(each.stage, 3))


def run_of(store: Store, run_id: str) -> dict[str, Any]:
    """What lineage knows of a run, or else the stamp of its commits: run_id, job, time_ns, code_version, config."""
    columns = ["run_id", "job", "status", "event_time_ns", "code_version", "config"]
    events = store.scan("lineage", columns, one_of("run_id", [run_id])).to_pylist()
    if events:
        event = min(events, key=lambda each: int(each["event_time_ns"]))
        return {**event, "config": _readable(event["config"], store)}
    stamp = _stamps(store, {run_id}).get(run_id)
    if stamp is None:
        return {"run_id": run_id}
    about = {"job": stamp["miner.job"], "code_version": stamp["miner.code_version"]}
    return {"run_id": run_id, **about, "config": _readable(stamp["miner.config"], store)}


def log_of(store: Store, run_id: str) -> str | None:
    """Path or URI of the run's log with the full traces, if it has one."""
    path = RunLog(store, run_id).path
    if not is_remote(path):
        return path if Path(path).is_file() else None
    client, place = filesystem(path, store.storage_options)
    return path if client.get_file_info(place).is_file else None


def configs(store: Store, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The configurations of runs, as far as lineage or the stamps of their quarantine records know them."""
    wanted = {*run_ids}
    events = store.scan(
        "lineage", ["run_id", "config"], one_of("run_id", sorted(wanted)) if len(wanted) <= _KNOWN_RUNS else None
    )
    found = {row["run_id"]: json.loads(row["config"]) for row in events.to_pylist() if row["run_id"] in wanted}
    stamps = _stamps(store, wanted - {*found})
    return found | {run_id: json.loads(stamp["miner.config"]) for run_id, stamp in stamps.items()}


def _stamps(store: Store, run_ids: set[str]) -> dict[str, Mapping[str, str]]:
    """The stamps of runs in the history of `quarantine`: a run that wrote nothing else has no event."""
    found: dict[str, Mapping[str, str]] = {}
    for commit in store.history("quarantine") if run_ids and store.exists("quarantine") else ():
        run_id = commit.properties.get(RUN)
        if run_id in run_ids:
            found[run_id] = commit.properties
        if len(found) == len(run_ids):
            break
    return found


def _rerun(store: Store, stage: str, config: Mapping[str, Any]) -> Rerun:
    local = config.get("executor") == "local"
    lake, options = store.uri, ["--executor", "local"] if local else []
    if stage == "cut":
        return Rerun(stage, shlex.join(["miner", "cut", lake, *options]))
    if stage == "embed":
        encoders = tuple(config.get("encoders") or _encoders(store))
        command = ["miner", "embed", lake, *_each("encoder", encoders), *options]
        return Rerun(stage, shlex.join(command), encoders, local)
    if stage.startswith("import "):
        given = ["--from", str(config.get("file", "FILE")), "--encoder", stage.removeprefix("import ")]
        return Rerun(stage, shlex.join(["miner", "embed", lake, *given, *options]))
    named = [part for key in ("reader", "dataset") if config.get(key) for part in _each(key, [config[key]])]
    named += _each("encoder", config.get("encoder") or ())
    named += _each("on-conflict", [config["on_conflict"]]) if config.get("on_conflict", "keep") != "keep" else []
    source = masked(str(config.get("source", "SOURCE")), store.storage_options)
    return Rerun(stage, shlex.join(["miner", "ingest", source, "--lake", lake, *named, *options]))


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (f"--{option}", str(value))]


def _encoders(store: Store) -> list[str]:
    """Whose vectors the lake has, those from files aside."""
    stored = [store.schema(table).metadata for table in store.vector_tables()]
    return [each[b"encoder"].decode() for each in stored if each[b"version"] != IMPORTED.encode()]


def _readable(config: str, store: Store) -> dict[str, Any]:
    """A run's configuration without secrets, should an older release have written one."""
    values: dict[str, Any] = json.loads(config)
    hidden = {key: masked(value, store.storage_options) for key, value in values.items() if isinstance(value, str)}
    return values | hidden
