"""What is still to do: the units missing from at least one output of a stage and not in quarantine.

Planning is by scene: counts of input and outputs are compared per scene, and keys are listed only where they differ, at
most `CHUNK` at a time, so a plan over tens of millions of readings needs little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from miner.stage import Output, Stage
from miner.store import Store, one_of, quoted

DROPPED = "dropped"  # the reason of a unit that was accepted as lost: its row stays, and nothing tries it again
CHUNK = 1_000_000
_LISTED_SCENES = 500
_LISTED_KEYS = 1000


@dataclass(frozen=True)
class Plan:
    """Units per scene, sorted by scene id: how many there are, and how many each output with a unit column lacks."""

    stage: Stage
    scene_ids: pa.Array
    units: NDArray[np.int64]
    lacking: NDArray[np.int64]  # (outputs with a unit column, scenes); units in quarantine are lacking too
    quarantined: int
    dropped: int = 0  # in quarantine too, but accepted as lost: not counted above

    @property
    def total(self) -> int:
        """All units of the input."""
        return int(self.units.sum())

    @property
    def open_scenes(self) -> NDArray[np.bool_]:
        """Scenes with a unit that at least one output lacks (quarantined units among them)."""
        return np.asarray((self.lacking > 0).any(axis=0))

    @property
    def open_units(self) -> int:
        """About how many units are pending: exact but for units in quarantine or lacking different outputs."""
        return int(self.open_per_scene.sum())

    @property
    def open_per_scene(self) -> NDArray[np.int64]:
        """The same for each scene: what the outputs for one kind lack at most, summed over kinds."""
        kinds = np.array([output.kind or "" for output in self.stage.outputs if output.unit is not None])
        most = {kind: self.lacking[kinds == kind].max(axis=0) for kind in set(kinds.tolist())}
        for_all = most.pop("", np.zeros_like(self.units))
        lacking: NDArray[np.int64] = np.maximum(for_all, sum(most.values(), np.zeros_like(self.units)))
        return lacking

    @property
    def pending(self) -> int:
        """As `open_units`, less the units in quarantine."""
        return max(self.open_units - self.quarantined - self.dropped, 0)


def make_plan(store: Store, stage: Stage) -> Plan:
    """Compare the counts per scene of a stage's input and outputs."""
    inputs = stage.counts(store).sort_by("scene_id")
    scene_ids = inputs["scene_id"].combine_chunks()
    lacking = []
    for output in stage.outputs:
        if output.unit is not None:
            units = inputs[f"units:{output.kind}" if output.kind else "units"].to_numpy()
            lacking.append((units - _done(store, output, scene_ids)).clip(min=0))
    plan = Plan(stage, scene_ids, inputs["units"].to_numpy(), np.array(lacking).reshape(len(lacking), -1), 0)
    held = [(len(units), pc.sum(units["dropped"]).as_py() or 0) for units in _quarantined(store, plan)]
    dropped = sum(lost for _, lost in held)
    return replace(plan, quarantined=sum(units for units, _ in held) - dropped, dropped=dropped)


def pending(store: Store, plan: Plan) -> Iterator[pa.Table]:
    """The pending units in chunks: the stage's unit columns plus `lacks` and `partial`.

    `lacks` is a bit mask over `stage.outputs` (always set for children and for tables of other kinds of units, so that
    units of all kinds share a block), `partial` tells that a child table already has rows of the unit's scene, left by
    a run that died between two commits.
    """
    for scenes in _chunks(plan, plan.open_scenes):
        units = _lacking(store, plan.stage, scenes)
        units = units.filter(pc.invert(units["quarantined"])).drop_columns(["quarantined", "dropped"])
        if len(units):
            yield units


def forget_quarantined(store: Store, plan: Plan) -> None:
    """Take the plan's units that lack rows out of quarantine, so that they are tried again; not what was dropped."""
    for units in _quarantined(store, plan):
        take_out(store, plan.stage.name, units["key"].filter(pc.invert(units["dropped"])).to_pylist(), {})


def take_out(store: Store, stage: str, keys: Sequence[str], stamp: Mapping[str, str]) -> None:
    """Remove the records of some units of a stage from quarantine, in commits with that stamp."""
    for start in range(0, len(keys), _LISTED_KEYS):
        listed = one_of("key", keys[start : start + _LISTED_KEYS])
        store.remove("quarantine", f"stage = {quoted(stage)} AND {listed}", stamp)


def _quarantined(store: Store, plan: Plan) -> Iterator[pa.Table]:
    """The plan's units in quarantine. In its scenes may be others, of sensors that the stage does not take now."""
    bad = _per_scene(store, "quarantine", f"stage = {quoted(plan.stage.name)}", plan.scene_ids)
    for scenes in _chunks(plan, plan.open_scenes & (bad > 0)):
        units = _lacking(store, plan.stage, scenes)
        yield units.filter(units["quarantined"])


def _chunks(plan: Plan, chosen: NDArray[np.bool_]) -> Iterator[pa.Array]:
    """Some of the plan's scenes, `CHUNK` units at a time."""
    part = np.cumsum(plan.units) // CHUNK
    for number in np.unique(part[chosen]):
        yield plan.scene_ids.take(pa.array(np.flatnonzero(chosen & (part == number))))


def _lacking(store: Store, stage: Stage, scenes: pa.Array) -> pa.Table:
    """The units of some scenes that lack rows, with `lacks`, `partial` and whether they are `quarantined`."""
    scene_filter = _scene_filter(scenes)
    units = _only(stage.units(store, scene_filter, scenes), "scene_id", scenes)
    lacks = np.zeros(len(units), np.int32)
    pending, partial = np.zeros(len(units), np.bool_), np.zeros(len(units), np.bool_)
    for bit, output in enumerate(stage.outputs):
        if output.unit is None:
            lacks |= 1 << bit
            partial |= _is_in(units["scene_id"], _column(store, output.table, "scene_id", scene_filter))
        else:
            missing = ~_is_in(units["key"], _column(store, output.table, output.unit, scene_filter))
            concerned = output.of_kind(units)
            lacks |= np.where(missing | ~concerned, 1 << bit, 0)
            pending |= missing & concerned
    bad, lost = _held(store, stage, scene_filter, units["key"])
    for name, values in {"lacks": lacks, "partial": partial, "quarantined": bad, "dropped": lost}.items():
        units = units.append_column(name, pa.array(values))
    return units.filter(pa.array(pending))


def _held(
    store: Store, stage: Stage, scene_filter: str, keys: pa.ChunkedArray
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which units of some scenes are in quarantine, and which of these were accepted as lost."""
    if not store.exists("quarantine"):
        return np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.bool_)
    wanted = f"stage = {quoted(stage.name)} AND {scene_filter}"
    held = store.scan("quarantine", ["key", "reason"], wanted)
    return _is_in(keys, held["key"]), _is_in(keys, held["key"].filter(pc.equal(held["reason"], DROPPED)))


def _done(store: Store, output: Output, scene_ids: pa.Array) -> NDArray[np.int64]:
    rows = _per_scene(store, output.table, output.one_per_unit, scene_ids)
    return np.minimum(rows, 1) if output.unit == "scene_id" else rows


def _per_scene(store: Store, table: str, filter: str | None, scene_ids: pa.Array) -> NDArray[np.int64]:
    """Rows of a table for each of the scenes."""
    if not store.exists(table):
        return np.zeros(len(scene_ids), np.int64)
    counts = scene_counts(store, table, filter)
    place = pc.index_in(scene_ids, counts["scene_id"]).to_numpy(zero_copy_only=False)
    found = np.append(counts["units"].to_numpy(), 0)
    rows: NDArray[np.int64] = found[np.where(np.isnan(place), len(found) - 1, place).astype(np.int64)]
    return rows


def scene_counts(store: Store, table: str, filter: str | None = None) -> pa.Table:
    """Rows per scene of a table: columns scene_id (string), units (int64)."""
    partial = []
    for batch in store.batches(table, ["scene_id"], filter):
        counted = pc.value_counts(batch["scene_id"])
        partial.append(pa.table({"scene_id": counted.field("values"), "units": counted.field("counts")}))
        if len(partial) >= 1024:
            partial = [_summed(partial)]
    return _summed(partial)


def _summed(partial: list[pa.Table]) -> pa.Table:
    empty = pa.table({"scene_id": pa.array([], pa.string()), "units": pa.array([], pa.int64())})
    summed = pa.concat_tables([empty, *partial]).group_by("scene_id").aggregate([("units", "sum")])
    return summed.rename_columns(["scene_id", "units"])


def _scene_filter(scenes: pa.Array) -> str:
    if len(scenes) <= _LISTED_SCENES:
        return one_of("scene_id", scenes.to_pylist())
    return f"scene_id >= {quoted(scenes[0].as_py())} AND scene_id <= {quoted(scenes[-1].as_py())}"


def _column(store: Store, table: str, column: str, filter: str) -> pa.ChunkedArray:
    if not store.exists(table):
        return pa.chunked_array([], pa.string())
    return store.scan(table, [column], filter)[column]


def _is_in(values: pa.ChunkedArray, allowed: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    if not len(allowed):
        return np.zeros(len(values), np.bool_)
    found: NDArray[np.bool_] = pc.is_in(values, allowed).to_numpy()
    return found


def _only(units: pa.Table, column: str, allowed: pa.Array) -> pa.Table:
    return units.filter(pc.is_in(units[column], allowed))


@dataclass(frozen=True)
class Share:
    """How many of a stage's units, of some scenes, are in quarantine; those accepted as lost are not counted."""

    stage: str
    bad: int
    units: int

    def exceeds(self, allowed: float) -> bool:
        """Whether it is more than a part of the units."""
        return self.bad > allowed * self.units


def share(store: Store, name: str, make: Callable[[], Stage], scene_ids: pa.Array | None = None) -> Share:
    """The share of bad units among those of some scenes (None: all) of the stage of that name, as the tables are now.

    Whatever runs it took to get there: one that was killed and went on says the same as one that was not. Where nothing
    is in quarantine, nothing is counted and no stage made.
    """
    held = f"stage = {quoted(name)} AND reason <> {quoted(DROPPED)}"
    if not store.count("quarantine", held):
        return Share(name, 0, 0)
    stage = make()
    inputs = stage.counts(store).sort_by("scene_id")
    if scene_ids is not None:
        inputs = _only(inputs, "scene_id", scene_ids)
    plan = Plan(stage, inputs["scene_id"].combine_chunks(), inputs["units"].to_numpy(), np.zeros((0, 0), np.int64), 0)
    bad = 0
    for scenes in _chunks(plan, _per_scene(store, "quarantine", held, plan.scene_ids) > 0):
        scene_filter = _scene_filter(scenes)
        keys = _only(stage.units(store, scene_filter, scenes), "scene_id", scenes)["key"]
        in_quarantine, lost = _held(store, stage, scene_filter, keys)
        bad += int((in_quarantine & ~lost).sum())
    return Share(name, bad, plan.total)
