"""Dataset versions: which clips a training set has and why, over tables pinned to the versions it was made from.

NAME@N is made once and never changes. The tables it pins are tagged `dataset-NAME-N`, so that no compaction takes their
versions away; its row in `versions` comes last and means that all of it is there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from miner.digests import seal
from miner.errors import Conflict, NotFound, UnknownName, UsageError
from miner.failpoints import failpoint
from miner.lease import lease
from miner.lineage import Run, Span, record, recover
from miner.runlog import logged
from miner.schema import SELECTIONS, VERSIONS
from miner.snapshot import Snapshot
from miner.store import Store, one_of
from miner.versions import content_version, tags

if TYPE_CHECKING:
    import pandas as pd

    from miner.export import Exported
    from miner.exporters.content import Options
    from miner.selection.build import Selection

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TABLES = ("selections", "versions")
_JOIN = ("clip_id", "scene_id", "start_ns", "end_ns")


@dataclass(frozen=True)
class Freezing:
    """How to make a version: the run, a note, the version it was made from; who waits for leases, and is told."""

    run: Run
    note: str | None = None
    parent: str | None = None
    wait: bool = True
    notify: Callable[[str], None] = field(default=lambda message: None, repr=False)


@dataclass(frozen=True)
class Dataset:
    """One version of a training set. `row` is that of `versions`."""

    store: Store
    row: Mapping[str, Any] = field(repr=False)

    @property
    def version_id(self) -> str:
        """NAME@N."""
        return str(self.row["version_id"])

    @property
    def report(self) -> dict[str, Any]:
        """What was wanted of which cell and what it has."""
        found: dict[str, Any] = json.loads(self.row["report"])
        return found

    @cached_property
    def snapshot(self) -> Snapshot:
        """The tables as they were when it was made."""
        return Snapshot(self.store, {each["table"]: each["version"] for each in self.row["tables"]})

    def to_arrow(self) -> pa.Table:
        """Its clips by rank: what `selections` says, scene and span. Raises NotFound if a table is gone."""
        rows = self.store.scan("selections", filter=one_of("version_id", [self.version_id])).sort_by("rank")
        clips = self.snapshot.scan("clips", _JOIN)
        place = pc.index_in(rows["clip_id"], clips["clip_id"].combine_chunks())
        for name in _JOIN[1:]:
            rows = rows.append_column(name, clips[name].take(place))
        return rows.drop_columns("version_id")

    def to_pandas(self) -> pd.DataFrame:
        """Its clips by rank."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def diff(self, other: str | Dataset) -> dict[str, Any]:
        """What this version has that `other` has not, and the other way round; which tables and wishes changed."""
        before = other if isinstance(other, Dataset) else dataset(self.store, other)
        here, there = (set(each.to_arrow()["clip_id"].to_pylist()) for each in (self, before))
        pins, old = self.snapshot.versions, before.snapshot.versions
        moved = {
            name: [old.get(name), pins.get(name)] for name in sorted({*pins, *old}) if old.get(name) != pins.get(name)
        }
        spec, was = json.loads(self.row["spec"]), json.loads(before.row["spec"])
        return {
            "from": before.version_id,
            "to": self.version_id,
            "added": sorted(here - there),
            "removed": sorted(there - here),
            "kept": len(here & there),
            "tables": moved,
            "spec": {
                key: [was.get(key), spec.get(key)] for key in sorted({*spec, *was}) if was.get(key) != spec.get(key)
            },
        }

    def export(self, to: str, destination: str | Path, options: Options | None = None) -> Exported:
        """Write it to a folder or object store as parquet, jsonl, webdataset or a plugin's format; the same call again
        goes on where it ended. Raises as `miner.export.export`."""
        from miner.export import export
        from miner.exporters.content import Options

        return export(self, to, destination, options or Options())

    def to_dict(self) -> dict[str, Any]:
        """The row as one JSON document."""
        parts = {name: json.loads(self.row[name]) for name in ("spec", "report")}
        return {**self.row, **parts, "tables": dict(self.snapshot.versions)}

    def __len__(self) -> int:
        return int(self.row["num_clips"])

    def __repr__(self) -> str:
        note = f": {self.row['note']}" if self.row["note"] else ""
        return f"Dataset {self.version_id} of {self.store.uri}, {len(self):,} clips{note}"


def dataset(store: Store, name: str) -> Dataset:
    """A version by NAME@N, or the newest of NAME. Raises NotFound listing the known ones."""
    known = datasets(store)
    head = name.partition("@")[0]
    found = [each for each in known if name in (each.version_id, each.row["name"])]
    if not found:
        same = [each.version_id for each in known if each.row["name"] == head]
        names = same or sorted({each.row["name"] for each in known})
        error = UnknownName.of("dataset", name, names)
        raise NotFound(f"{store.uri} has no dataset {name!r}", error.hint)
    return found[-1]


def datasets(store: Store) -> list[Dataset]:
    """All versions, by name and number."""
    rows = store.scan("versions").to_pylist() if store.exists("versions") else []
    return [Dataset(store, row) for row in sorted(rows, key=lambda row: (row["name"], row["number"]))]


def check_dataset_name(name: str) -> str:
    """A name for a dataset: it is part of tags, files and NAME@N. Raises UsageError."""
    if _NAME.fullmatch(name) is None:
        rule = "Allowed are 1 to 64 ASCII letters, digits and . _ - after a first letter or digit."
        raise UsageError(f"dataset {name[:80]!a}: not a name", rule)
    return name


def freeze(name: str, selection: Selection, how: Freezing) -> tuple[Dataset, bool]:
    """Make the next version of a dataset, and whether it had to be: the newest one stays if it is the same.

    Raises Conflict if a table's version went meanwhile, or where another run holds the tables and `how` does not wait.
    """
    check_dataset_name(name)
    store, run = selection.snapshot.store, how.run
    for table in _TABLES:
        store.ensure(table)
    with logged(store, run, f"dataset {name}"), lease(store, _TABLES, run.run_id, how.wait, how.notify) as assert_held:
        for table in _TABLES:
            recover(store, table)
        newest = next((each for each in reversed(datasets(store)) if each.row["name"] == name), None)
        if newest is not None and _is_same(newest, selection):
            return newest, False
        before = {table: store.version(table) for table in _TABLES}
        row = _row(name, _next_number(store, name), selection, how, newest)
        made = Dataset(store, row)
        _pin(made)
        ident, stamp = pa.array([made.version_id]), run.stamp(version_id=made.version_id)
        own = one_of("version_id", [made.version_id])
        rows = selection.rows.add_column(0, "version_id", ident.take(pa.array([0] * len(selection.rows), pa.int32())))
        store.replace("selections", rows.select(SELECTIONS.names), own, stamp, before["selections"])
        failpoint("dataset:between-tables")
        assert_held()
        store.replace("versions", pa.Table.from_pylist([row], schema=VERSIONS), own, stamp, before["versions"])
        _record(store, run, made.snapshot.versions, before, {"version_id": made.version_id, "clips": len(made)})
    return made, True


def remove(store: Store, name: str, how: Freezing) -> str:
    """Forget a version NAME@N: its row, its clips and its tags, in this order; the same again ends what was begun.

    Its number is not given again. Raises NotFound.
    """
    ident = name if "@" in name else dataset(store, name).version_id
    own = one_of("version_id", [ident])
    with logged(store, how.run, f"dataset {ident}"):
        begun = _tagged(store, ident) or store.count("selections", own) or store.count("versions", own)
        if not begun:
            dataset(store, ident)  # says which there are
        with lease(store, _TABLES, how.run.run_id, how.wait, how.notify) as assert_held:
            for table in _TABLES:
                recover(store, table)
            before = {table: store.version(table) for table in _TABLES}
            for table in reversed(_TABLES):
                assert_held()
                store.remove(table, own, how.run.stamp(version_id=ident))
                failpoint("dataset:between-tables")
            for table in _tagged(store, ident):
                store.dataset(table).tags.delete(_tag(ident))
            _record(store, how.run, {}, before, {"version_id": ident, "removed": True})
    return ident


def _is_same(newest: Dataset, selection: Selection) -> bool:
    """Whether a version has these clips, by this spec, from tables with the same rows."""
    if newest.row["digest"] != selection.digest or not selection.digest:
        return False
    pins, now = newest.snapshot.versions, selection.snapshot.versions
    if pins.keys() != now.keys():
        return False
    store = newest.store
    if any(content_version(store, table, pins[table]) != content_version(store, table, now[table]) for table in now):
        return False
    return bool(newest.to_arrow().select(selection.rows.column_names).equals(selection.rows))


def _row(name: str, number: int, selection: Selection, how: Freezing, newest: Dataset | None) -> dict[str, Any]:
    pins = [{"table": table, "version": version} for table, version in sorted(selection.snapshot.versions.items())]
    return {
        "version_id": f"{name}@{number}",
        "name": name,
        "number": number,
        "parent": how.parent or (newest.version_id if newest else None),
        "tables": pins,
        "num_clips": len(selection.rows),
        "spec": json.dumps(selection.spec, sort_keys=True),
        "digest": selection.digest,
        "report": json.dumps(selection.report, sort_keys=True),
        "seed": selection.seed,
        "note": how.note,
        "run_id": how.run.run_id,
        "code_version": how.run.code_version,
        "created_ns": time.time_ns(),
    }


def _next_number(store: Store, name: str) -> int:
    """One more than any version of the name ever had: a number of one that was removed is not given again."""
    idents = [each.version_id for each in datasets(store)]
    costs = store.scan("lineage", ["cost"], "cost LIKE '%\"version_id\"%'")["cost"].to_pylist()
    idents += [json.loads(cost).get("version_id", "") for cost in costs]
    numbers = [int(ident.rpartition("@")[2]) for ident in idents if ident.rpartition("@")[0] == name]
    return max(numbers, default=0) + 1


def _pin(made: Dataset) -> None:
    for table, version in made.snapshot.versions.items():
        try:
            made.store.tag(table, _tag(made.version_id), version, move=True)
        except (OSError, ValueError) as error:
            raise Conflict(
                f"version {version} of table {table!r} went while clips were chosen from it: {error}",
                "miner compact ran meanwhile. Run the same command again.",
            ) from error


def _tag(ident: str) -> str:
    return f"dataset-{ident.replace('@', '-')}"


def _tagged(store: Store, ident: str) -> list[str]:
    return [table for table in store.tables() if _tag(ident) in tags(store, table)]


def _record(
    store: Store, run: Run, inputs: Mapping[str, int], before: Mapping[str, int], cost: Mapping[str, Any]
) -> None:
    spans = [Span(table, before[table] + 1, store.version(table)) for table in before]
    read = [Span(table, version, version) for table, version in sorted(inputs.items())]
    record(store, run, read, [span for span in spans if span.last >= span.first], cost)
    seal(store, [*_TABLES, "lineage"])
