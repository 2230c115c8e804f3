"""The versions of a table: which of them have the same rows, and which ones nobody needs any more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from miner.errors import Damaged
from miner.store import Store
from miner.transactions import HARMLESS, RUN

COMPACT = "compact"  # the job whose lineage events tell of cleaned versions
OWNED = "miner.owned"  # in the stamp of a reduction: which rows it computed


@dataclass(frozen=True)
class Kept:
    """A version that is kept: its number, and when it was written."""

    number: int
    time_ns: int


def content_version(store: Store, table: str, version: int | None = None) -> int:
    """The oldest version known to have the rows of `version` (None: the present one).

    Compactions, index builds and fences change no row, a restore brings back those of an older version. 0 for a table
    that is not there.
    """
    if not store.exists(table):
        return 0
    wanted = found = version or store.version(table)
    for commit in store.history(table):
        if commit.version > wanted:
            continue
        if commit.version < wanted:  # the one that is looked for was cleaned away
            break
        found = wanted
        if commit.operation == "Restore":
            wanted = commit.restored
        elif commit.operation in HARMLESS:
            wanted -= 1
        else:
            return found
    return _told_by_compaction(store, table, found)


def cleaned_to(store: Store) -> dict[str, int]:
    """Up to which version each table's old ones were cleaned away, if nothing kept them."""
    last: dict[str, int] = {}
    for event in _compactions(store):
        for output in event["outputs"]:
            cleaned = json.loads(event["cost"]).get("cleaned_to", {}).get(output["table"], 0)
            last[output["table"]] = max(last.get(output["table"], 0), cleaned)
    return last


def kept_versions(store: Store, table: str) -> list[Kept]:
    """The versions of a table with their times, oldest first. Reads every manifest."""
    try:
        entries = store.dataset(table).versions()
    except (OSError, RuntimeError) as error:
        if "corrupt" not in str(error):
            raise
        raise Damaged(
            f"table {table!r} of {store.uri}: an old version is damaged: {str(error).partition(', /')[0]}",
            f"Put it aside with: miner restore {store.uri} --table {table} --version {store.version(table)}",
        ) from error
    found = [Kept(int(each["version"]), int(each["timestamp"].astimezone().timestamp() * 1e9)) for each in entries]
    return sorted(found, key=lambda kept: kept.number)


def surplus(store: Store, table: str, retain_s: float) -> list[int]:
    """The versions nobody needs, oldest first: followed by another for longer than `retain_s`, and not held.

    A tag holds its version, unless it is that of a run. Held too is what the manifest of an index names, and what tells
    how the rows of a reduction were computed. The present version is never among them.
    """
    until_ns = time.time_ns() - int(retain_s * 1e9)
    old = [kept.number for kept, newer in pairwise(kept_versions(store, table)) if newer.time_ns <= until_ns]
    if not old:
        return []
    runs = run_tags(store, table)
    tagged = {number for tag, number in tags(store, table).items() if tag not in runs}
    held = tagged | {row["table_version"] for row in manifests(store, table)} | _owned(store, table)
    return [number for number in old if number not in held]


def tags(store: Store, table: str, version: int | None = None) -> dict[str, int]:
    """The tags of a table and the versions they name; `version` is one that opens, where the present one does not."""
    return {name: int(tag["version"]) for name, tag in store.dataset(table, version).tags.list().items()}


def run_tags(store: Store, table: str) -> dict[str, int]:
    """The tags that lineage made, for the last version of a run: `run-<run_id>`."""
    made = {f"run-{run_id}" for run_id in store.scan("lineage", ["run_id"])["run_id"].to_pylist()}
    return {name: version for name, version in tags(store, table).items() if name in made}


def manifests(store: Store, table: str) -> list[dict[str, Any]]:
    """The rows of `indexes` that are about a table."""
    if not store.exists("indexes"):
        return []
    found: list[dict[str, Any]] = store.scan("indexes", filter=f"`table` = '{table}'").to_pylist()
    return found


def _owned(store: Store, table: str) -> set[int]:
    """For each reduction into the table the newest version it wrote, and the newest restore: `is_stale` looks there."""
    newest: dict[str, int] = {}
    for commit in store.history(table):
        if OWNED in commit.properties:
            newest.setdefault(commit.properties[OWNED], commit.version)
        elif commit.operation == "Restore" and RUN in commit.properties:
            newest.setdefault("", commit.version)
        elif commit.operation == "Append" and RUN in commit.properties:
            return set()  # runs append to this table: no reduction replaces its rows
    return {*newest.values()} if newest.keys() - {""} else set()


def _told_by_compaction(store: Store, table: str, version: int) -> int:
    """The version with the rows of `version` as the compaction that wrote it found it; itself if none did."""
    for event in _compactions(store):
        if any(each["table"] == table and each["first"] <= version <= each["last"] for each in event["outputs"]):
            return next((int(each["last"]) for each in event["inputs"] if each["table"] == table), version)
    return version


def _compactions(store: Store) -> Iterable[Mapping[str, Any]]:
    columns = ["inputs", "outputs", "cost"]
    found: list[Mapping[str, Any]] = store.scan("lineage", columns, f"job = '{COMPACT}'").to_pylist()
    return found
