"""What an ingest does about scenes that are in the lake already, as `on_conflict` says, before it takes in new ones.

A replacement is begun by a mark in quarantine and ends when the mark goes, last of all; in between the scene leaves
table after table, `scenes` at the end. A run that dies in between leaves the mark: the next ingest of that source, with
whatever `on_conflict`, takes out the rest, so that nothing of the old content stays beside the new.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from miner.conflicts import COMPARED, OnConflict, Verdict, compare, known_scenes
from miner.decode.files import shown
from miner.digests import seal
from miner.errors import UsageError
from miner.executor import Executor
from miner.failpoints import failpoint
from miner.key_indexes import mend_keys
from miner.lease import lease
from miner.lineage import Run, Span, record, recover
from miner.plan import DROPPED
from miner.readers import Reader, SceneRef
from miner.reporting import Progress, Report
from miner.runlog import logged
from miner.schema import QUARANTINE, SAMPLE_DATA
from miner.store import Store, one_of

MARK = "replacing"
_STAGE = "ingest"
_LAST = ("assets", "annotations", "sample_data", "scenes")  # what says that a scene is there goes at the end
_GROUP = 500
_GROUP_ROWS = 200_000
_SHOWN, _TOLD = 10, 3


@dataclass(frozen=True)
class IngestReport(Report):
    """The report of an ingest. `scenes` counts those of the source: `new`; `kept`, there already and not compared;
    `unchanged`, `moved` of them; `differing`, left as the lake has them; `replaced`.

    `removed` are the rows taken out for the replaced ones, by table.
    """

    scenes: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Settled:
    """What was found and done about the scenes that were there before."""

    verdicts: Sequence[Verdict] = ()
    left: Sequence[Verdict] = ()  # of these, conflicts that stay
    begun: int = 0  # replaced because a run that died had begun to, without a verdict
    replaced: int = 0
    removed: Mapping[str, int] = field(default_factory=dict)
    relocated: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)  # of what is new in quarantine
    notes: Sequence[str] = ()

    def counts(self) -> dict[str, int]:
        """The scenes that were compared, by what became of them."""
        moved = sum(bool(verdict.moved_to) for verdict in self.verdicts)
        unchanged = len(self.verdicts) - len(self.left) - (self.replaced - self.begun)
        return {"unchanged": unchanged, "moved": moved, "differing": len(self.left), "replaced": self.replaced}

    def report(self, ingested: Report) -> IngestReport:
        """The report of the whole ingest: what came in, and this."""
        counts = self.counts()
        bad = sum(self.reasons.values())
        kept = max(ingested.done_before - counts["unchanged"] - counts["differing"], 0)
        scenes = {"new": max(ingested.written - self.replaced, 0), "kept": kept, **counts}
        rows = dict(ingested.rows)
        if self.relocated:
            rows["sample_data"] = rows.get("sample_data", 0) + self.relocated
        changes: dict[str, Any] = {
            "done_before": ingested.done_before - counts["differing"],
            "quarantined": ingested.quarantined + bad,
            "quarantined_before": ingested.quarantined_before + counts["differing"] - bad,
            "reasons": {**ingested.reasons, **self.reasons},
            "notes": [*ingested.notes, *self.notes],
            "rows": rows,
        }
        own = {each.name: getattr(ingested, each.name) for each in fields(Report)}
        return IngestReport(**{**own, **changes}, scenes=scenes, removed=self.removed)


def settle(store: Store, reader: Reader, on_conflict: OnConflict, executor: Executor, run: Run) -> Settled:
    """Do what `on_conflict` says about the scenes of a source that are in the lake.

    `keep` leaves them unread, `check` puts those with other content into quarantine, `replace` takes them out of all
    tables, for the ingest that follows to take them in anew. What a run that died began to replace is taken out first,
    in any case.
    """
    if on_conflict not in get_args(OnConflict):
        raise UsageError(f"on_conflict = {on_conflict!r}", f"Known: {', '.join(get_args(OnConflict))}")
    with logged(store, run, "compare with the lake"):
        begun = _marked(store, reader)
        if on_conflict == "keep" and not begun:
            return Settled()
        replacement = Replacement(store, reader, executor, run)
        seen = replacement.versions()
        marked = {scene.scene_id for scene in begun}
        verdicts = [] if on_conflict == "keep" else judged(store, reader, executor.on_progress, marked)
        done = replacement(begun, verdicts if on_conflict == "replace" else [], seen)
        conflicts = [verdict for verdict in verdicts if verdict.conflict]
        left = _left(conflicts, on_conflict)
        reasons = _quarantine(store, reader, run, verdicts, left)
        notes = [*_moved_note(verdicts, on_conflict), *_conflict_notes(left)]
        return replace(done, verdicts=verdicts, left=left, reasons=reasons, notes=notes)


def judged(
    store: Store, reader: Reader, on_progress: Callable[[Progress], None], but: Iterable[str] = ()
) -> list[Verdict]:
    """A verdict for each scene of the source that is in the lake."""
    left_out = set(but)
    known = [scene for scene in known_scenes(store, reader) if scene.scene_id not in left_out]
    verdicts, differing = [], 0
    for number, verdict in enumerate(compare(store, reader, known), 1):
        verdicts.append(verdict)
        differing += verdict.conflict is not None
        on_progress(Progress("compare", number, len(known), differing))
    return verdicts


def foresee(store: Store, reader: Reader, on_conflict: OnConflict) -> dict[str, Any]:
    """What an ingest would find, writing nothing: counts of scenes as in `IngestReport`, and the first conflicts."""
    total = sum(1 for _ in reader.scenes())
    known = len(known_scenes(store, reader))
    verdicts = [] if on_conflict == "keep" else judged(store, reader, lambda progress: None)
    conflicts = [verdict for verdict in verdicts if verdict.conflict]
    left = _left(conflicts, on_conflict)
    settled = Settled(verdicts, left, replaced=len(conflicts) - len(left))
    scenes = {"new": total - known, "kept": known - len(verdicts), **settled.counts()}
    return {"scenes": scenes, "conflicts": [each.conflict.detail for each in conflicts[:_SHOWN] if each.conflict]}


def _left(conflicts: Sequence[Verdict], on_conflict: OnConflict) -> list[Verdict]:
    """The conflicts that stay: all of a check; of a replacement those of scenes that cannot be read now."""
    return [verdict for verdict in conflicts if on_conflict == "check" or not verdict.readable]


class Replacement:
    """Takes scenes out of all tables under the tables' leases, to be taken in anew."""

    def __init__(self, store: Store, reader: Reader, executor: Executor, run: Run) -> None:
        self._store, self._reader, self._executor, self._run = store, reader, executor, run

    def versions(self) -> dict[str, int]:
        """Of the tables that a comparison reads."""
        return {table: self._store.version(table) for table in COMPARED}

    def __call__(self, begun: Sequence[SceneRef], verdicts: Sequence[Verdict], seen: Mapping[str, int]) -> Settled:
        """Replace the scenes that differ and can be read, and note new paths. `seen` are the versions compared."""
        wanted = [verdict for verdict in verdicts if (verdict.conflict and verdict.readable) or verdict.moved_to]
        if not begun and not wanted:
            return Settled()
        tables = _tables(self._store)
        with lease(self._store, tables, self._run.run_id, self._executor.wait, self._executor.notify) as assert_held:
            for table in tables:
                recover(self._store, table)
                mend_keys(self._store, table)
            if self.versions() != seen:  # another run may have replaced them while this one waited
                begun = _marked(self._store, self._reader)
                there = {scene.scene_id for scene in known_scenes(self._store, self._reader)}
                there -= {scene.scene_id for scene in begun}
                scenes = [verdict.scene for verdict in wanted if verdict.scene.scene_id in there]
                wanted = list(compare(self._store, self._reader, scenes))
            first = {table: self._store.version(table) for table in tables}
            gone = [*begun, *(verdict.scene for verdict in wanted if verdict.conflict and verdict.readable)]
            removed = self._take_out(gone, tables, assert_held)
            relocated = self._relocate([verdict.scene for verdict in wanted if verdict.moved_to], assert_held)
            self._record(first, removed)
            seal(self._store, [*tables, "quarantine", "lineage"])
        return Settled(
            begun=len(begun),
            replaced=len(gone),
            removed=removed,
            relocated=relocated,
        )

    def _take_out(
        self, scenes: Sequence[SceneRef], tables: Sequence[str], assert_held: Callable[[], None]
    ) -> dict[str, int]:
        """Mark the scenes, delete their rows table by table, then the marks; gives the rows by table."""
        removed: Counter[str] = Counter()
        stamp = self._run.stamp(stage="replace")
        for start in range(0, len(scenes), _GROUP):
            group = scenes[start : start + _GROUP]
            wanted = one_of("scene_id", [scene.scene_id for scene in group])
            self._mark(group)
            for table in tables:
                failpoint("replace:between-tables")
                assert_held()
                removed[table] += self._store.remove(table, wanted, stamp)
            failpoint("replace:between-tables")
            self._store.remove("quarantine", wanted, stamp)
        return {table: rows for table, rows in removed.items() if rows}

    def _mark(self, scenes: Sequence[SceneRef]) -> None:
        source = shown(self._reader.source)
        detail = f"is being replaced by what {source} has. Next: miner ingest {source} ends what a run began."
        rows = [_record(self._reader, self._run, each, MARK, f"scene {each.name!r} {detail}") for each in scenes]
        self._store.upsert("quarantine", pa.Table.from_pylist(rows, schema=QUARANTINE))

    def _relocate(self, scenes: Sequence[SceneRef], assert_held: Callable[[], None]) -> int:
        """Put the paths of scenes that lie elsewhere now into their readings, many scenes in a commit."""
        rows, stamp, group = 0, self._run.stamp(stage="relocate"), [SAMPLE_DATA.empty_table()]
        for number, scene in enumerate(scenes, 1):
            group.append(self._reader.read(scene.name).sample_data)
            if sum(map(len, group)) >= _GROUP_ROWS or number == len(scenes):
                readings, group = pa.concat_tables(group), [SAMPLE_DATA.empty_table()]
                assert_held()
                owned = one_of("scene_id", pc.unique(readings["scene_id"]).to_pylist())
                self._store.replace("sample_data", readings, owned, stamp)
                rows += len(readings)
        return rows

    def _record(self, first: Mapping[str, int], removed: Mapping[str, int]) -> None:
        last = {table: self._store.version(table) for table in first}
        spans = [Span(table, first[table] + 1, last[table]) for table in first if last[table] > first[table]]
        record(self._store, self._run, [], spans, {"removed": dict(removed)})


def _tables(store: Store) -> list[str]:
    """The tables that have rows of scenes, in the order in which a scene leaves them."""
    tables = [name for name in store.tables() if name != "quarantine" and "scene_id" in store.schema(name).names]
    return sorted(tables, key=lambda name: (_LAST.index(name) + 1 if name in _LAST else 0, name))


def _marked(store: Store, reader: Reader) -> list[SceneRef]:
    """The scenes of a source that a run began to replace, and died."""
    began = f"stage = '{_STAGE}' AND reason = '{MARK}'"
    if not store.count("quarantine", began):
        return []
    keys = set(store.scan("quarantine", ["key"], began)["key"].to_pylist())
    return [scene for scene in reader.scenes() if scene.scene_id in keys]


def _quarantine(
    store: Store, reader: Reader, run: Run, verdicts: Sequence[Verdict], left: Sequence[Verdict]
) -> dict[str, int]:
    """Record the conflicts that are left and forget those that are settled; gives the reasons of what is new."""
    if not verdicts:
        return {}
    store.ensure("quarantine")
    held = store.scan("quarantine", ["key", "reason", "detail"], f"stage = '{_STAGE}'").to_pylist()
    known = {row["key"]: (row["reason"], row["detail"]) for row in held}
    fresh = []
    for verdict in left:
        bad = verdict.conflict
        accepted = bad and (DROPPED, f"{bad.reason}: {bad.detail}")  # as `miner quarantine drop` writes it
        if bad and known.get(verdict.scene.scene_id) not in ((bad.reason, bad.detail), accepted):
            fresh.append(_record(reader, run, verdict.scene, bad.reason, bad.detail))
    if fresh:
        rows = pa.Table.from_pylist(fresh, schema=QUARANTINE)
        store.upsert("quarantine", rows, properties=run.stamp(stage="conflicts"))  # by it a retry knows what to run
    settled = [each.scene.scene_id for each in verdicts if each.conflict is None and each.scene.scene_id in known]
    for start in range(0, len(settled), _GROUP):
        store.delete("quarantine", f"stage = '{_STAGE}' AND {one_of('key', settled[start : start + _GROUP])}")
    return dict(Counter(row["reason"] for row in fresh))


def _record(reader: Reader, run: Run, scene: SceneRef, reason: str, detail: str) -> dict[str, Any]:
    unit = {"stage": _STAGE, "key": scene.scene_id, "scene_id": scene.scene_id, "attempts": 1}
    return unit | {
        "reason": reason,
        "detail": detail,
        "run_id": run.run_id,
        "reader": reader.name,
        "time_ns": time.time_ns(),
    }


def _moved_note(verdicts: Sequence[Verdict], on_conflict: OnConflict) -> list[str]:
    moved = [verdict.moved_to for verdict in verdicts if verdict.moved_to]
    if not moved:
        return []
    then = "the lake has the new paths" if on_conflict == "replace" else "--on-conflict replace takes the new paths"
    return [f"{len(moved):,} scenes are unchanged but lie elsewhere, e.g. {shown(moved[0])}: {then}."]


def _conflict_notes(left: Sequence[Verdict]) -> list[str]:
    told = [verdict.conflict.detail for verdict in left[:_TOLD] if verdict.conflict]
    return [*told, f"and {len(left) - _TOLD:,} more scenes, see quarantine"] if len(left) > _TOLD else told
