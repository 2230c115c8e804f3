"""What `miner index` does for a table of vectors: build an index, take new rows into the one there is, or leave it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from miner.errors import Damaged
from miner.indexes.build import Build, Part, sampled, updated
from miner.indexes.choose import AUTO, FLAT, Wanted
from miner.indexes.coded import Stored
from miner.indexes.files import opened, sweep
from miner.indexes.lance import measure_table, problem_of
from miner.indexes.probes import Probes
from miner.indexes.snapshot import Snapshot
from miner.sound import Sound
from miner.stage import Part as Task
from miner.store import Store

_LEFT_ALONE = 0.01  # of the rows: so many are compared one by one rather than written into new files
_UPDATED = 0.25  # up to this share of new and gone rows the lists of the old index still fit
_SAMPLE = 60_000

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Making:
    """What is to be done: nothing but keep the row, drop it, fill new files, update the old ones, measure Lance's."""

    action: Literal["keep", "drop", "build", "update", "measure"]
    old: Row = field(default_factory=dict)
    build: Build | None = None
    parts: tuple[Part, ...] = ()
    probes: Probes | None = None
    kind: str = FLAT
    target_recall: float = 0.0

    @classmethod
    def begun(cls, store: Store, table: str, wanted: Wanted, old: Row | None) -> Making:
        """Decide, and train what has to be built. Raises Damaged where the table's own files are."""
        sweep(store)
        version = store.version(table)
        kind = effective(store, table, wanted, old)
        if kind == FLAT:
            return cls("drop")
        kept = old if old and is_kept(store, old, wanted) else None
        if kept and kept["uri"]:
            changed = _changed(store, kept, Snapshot.of(store, table, Sound(store), version))
            if changed <= _LEFT_ALONE:
                return cls("keep", kept)
            if changed > _UPDATED:
                kept = None
        sample = _sound_sample(store, table, version)
        said = {key.decode(): value.decode() for key, value in store.schema(table).metadata.items()}
        probes = Probes.of(sample, said["encoder"], said["version"], said["modality"])
        if kind == AUTO:
            kind = wanted.tried(sample, probes, store.count(table))
        made = partial(cls, probes=probes, kind=kind, target_recall=wanted.target_recall)
        if kind.startswith("lance:"):
            return made("measure", {"table": table})
        build = Build.begun(store, table, version, kind.partition(":")[2])
        if kept:
            return made("update", kept, build)
        return made("build", {}, build, tuple(build.train(store)))

    def tasks(self, store: Store) -> Sequence[Task]:
        """What can be done anywhere, in any order."""
        return [partial(self.build.fill, store, part) for part in self.parts] if self.build else []

    def rows(self, store: Store, index_id: str) -> list[Row]:
        """Do the rest; gives the row of `indexes`, or none."""
        if self.action in ("keep", "drop"):
            return [self.old] if self.action == "keep" else []
        assert self.probes is not None
        if self.build is None:
            table = self.old["table"]
            version, said = measure_table(store, table, self.probes)
            own: dict[str, Any] = {"params": said, "sha256": None, "uri": None}
        else:
            table, version = self.build.table, self.build.version
            own = self.build.finished(self._stored(store), self.probes)
        params = {**json.loads(own["params"]), "target_recall": self.target_recall}
        count = store.dataset(table, version).count_rows()
        facts = {"index_id": index_id, "table": table, "table_version": version, "kind": self.kind, "metric": "cosine"}
        encoder = store.schema(table).metadata[b"encoder"].decode()
        return [{**facts, "encoder": encoder, "num_vectors": count, **own, "params": json.dumps(params)}]

    def _stored(self, store: Store) -> Stored:
        assert self.build is not None
        if self.action == "build":
            return self.build.merge(self.parts)
        folder, facts = opened(store, self.old)
        snapshot = Snapshot.of(store, self.build.table, Sound(store), self.build.version)
        return updated(Stored.read(folder, facts["method"], facts["dim"], mapped=False), self.build, snapshot, store)


def effective(store: Store, table: str, wanted: Wanted, old: Row | None) -> str:
    """The kind a table is to get; AUTO where a trial has to decide. Nobody said anything: the kind it has."""
    if wanted.kind == AUTO and old:
        return str(old["kind"]) if _satisfies(old, wanted) else wanted.kind_for(store, *_shape(store, table))
    return wanted.kind_for(store, *_shape(store, table))


def is_kept(store: Store, row: Row, wanted: Wanted) -> bool:
    """Whether the index that a row names is one that is wanted, and (with `mend`) its files are what was written."""
    if wanted.kind not in (AUTO, row["kind"]) or not _satisfies(row, wanted):
        return False
    if not wanted.mend:
        return True
    if row["uri"] is None:
        return not problem_of(store, row["table"])
    try:
        opened(store, row)
    except Damaged:
        return False
    return True


def _satisfies(row: Row, wanted: Wanted) -> bool:
    """Whether an index was built for as much recall as is wanted now."""
    return float(json.loads(row["params"]).get("target_recall", 0)) >= wanted.target_recall


def _shape(store: Store, table: str) -> tuple[int, int]:
    return store.count(table), int(store.schema(table).metadata[b"dim"])


def _changed(store: Store, row: Row, snapshot: Snapshot) -> float:
    """The share of the table's rows that the index lacks, or has and should not."""
    try:
        folder, facts = opened(store, row)
    except Damaged:
        return 1.0
    stored = Stored.read(folder, facts["method"], facts["dim"])
    there = int((stored.places(snapshot) >= 0).sum())
    return (len(snapshot.ids) - there + len(stored.codes) - there) / max(len(snapshot.ids), 1)


def _sound_sample(store: Store, table: str, version: int) -> Any:
    """Random vectors of a table all of whose files are what was written. Raises Damaged for another."""
    sound = Sound(store)
    sound.version(table, version)
    if sound.notes:
        raise Damaged(f"no index is built of {table}: {sound.notes[0]}")
    return sampled(store, table, version, _SAMPLE)
