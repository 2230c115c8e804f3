"""Leakage: which clips are of, or near, an evaluation set: by scene, by place, by time and by what they look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Spans, instants, overlaps
from miner.selection.spec import Guard
from miner.selection.vectors import Vectors, nearest_similarity
from miner.snapshot import Snapshot

Bools = NDArray[np.bool_]
_EVERY_NS = 200_000_000  # positions closer in time than that tell nothing new: 6 m at 30 m/s
_POSE = ("scene_id", "timestamp_ns", "global_SE3_ego")
_GOES_BY = {"metres": "poses", "radius": "vectors"}


class _Track(NamedTuple):
    """Positions (p, 3) in metres, each with the numbers of its clip and of the frame it is in, (p,)."""

    clip: NDArray[np.int64]
    place: NDArray[np.int64]
    xyz_m: NDArray[np.float64]


@dataclass(frozen=True)
class Near:
    """Which clips (n,) are too near an evaluation set, by each rule of a guard that was asked for.

    `unknown` are the clips (n,) of which a rule cannot tell, as they lack what it goes by.
    """

    by: dict[str, Bools]
    unknown: dict[str, Bools] = field(default_factory=dict)

    @property
    def any(self) -> Bools:
        """By one rule at least."""
        any_of: Bools = np.logical_or.reduce([*self.by.values()])
        return any_of

    @property
    def blind(self) -> list[str]:
        """Rules that could tell of no clip, in words: the evaluation set, or all else, lacks what they go by."""
        evaluation = self.by["evaluation"]
        sides = (("clip of the evaluation set", evaluation), ("clip beside the evaluation set", ~evaluation))
        return [
            f"the guard's {rule} can tell nothing: no {who} has {_GOES_BY[rule]}"
            for rule, mask in self.unknown.items()
            for who, side in sides
            if side.any() and mask[side].all()
        ]

    def notes(self, among: Bools) -> list[str]:
        """What the guard does not tell of the clips `among` (n,), in words."""
        evaluation = self.by["evaluation"]
        if not evaluation.any():
            return ["the guard keeps nothing away: no clip of the lake is of its evaluation set"]
        said = []
        for rule, mask in self.unknown.items():
            others, own = int((mask & among & ~evaluation).sum()), int((mask & evaluation).sum())
            if others or own:
                who = f"{others:,} candidates and {own:,} clips of the evaluation set"
                said.append(f"the guard's {rule} cannot tell of {who}: they have no {_GOES_BY[rule]}")
        return said


def near(guard: Guard, snapshot: Snapshot, facts: pa.Table, evaluation: Bools, vectors: Callable[[], Vectors]) -> Near:
    """The clips of `facts` that a guard leaves out: those of the `evaluation` set (n,), and those near one."""
    found, unknown = {"evaluation": evaluation.copy()}, dict[str, Bools]()
    if not evaluation.any():
        return Near(found)
    if guard.scenes:
        found["scene"] = _shared(facts["scene_id"], evaluation) & ~evaluation
    if guard.seconds is not None:
        found["seconds"] = _in_time(facts, evaluation, round(guard.seconds * 1e9)) & ~evaluation
    if guard.metres is not None:
        track = _track(snapshot, facts)
        unknown["metres"] = ~np.isin(np.arange(len(facts)), track.clip)
        found["metres"] = _in_space(track, evaluation, guard.metres) & ~evaluation
    if guard.radius is not None:
        all_vectors = vectors()
        unknown["radius"] = np.logical_not(all_vectors.any(axis=1))
        similarity = nearest_similarity(all_vectors, all_vectors[evaluation])
        found["radius"] = (similarity >= 1 - guard.radius) & ~evaluation
    return Near(found, unknown)


def _shared(column: pa.ChunkedArray, evaluation: Bools) -> Bools:
    wanted = pc.unique(column.filter(pa.array(evaluation)))
    shared: Bools = pc.is_in(column, wanted, skip_nulls=True).to_numpy(zero_copy_only=False).astype(np.bool_)
    return shared


def _in_time(facts: pa.Table, evaluation: Bools, margin_ns: int) -> Bools:
    """Clips of the same log, or of the same vehicle, that begin or end within the margin of an evaluation clip."""
    starts, ends = (facts[name].to_numpy().astype(np.int64) for name in ("start_ns", "end_ns"))
    close = np.zeros(len(facts), np.bool_)
    for column in ("log_id", "vehicle"):
        names = pc.binary_join_element_wise(facts["dataset"], facts[column], "\0").combine_chunks().dictionary_encode()
        groups = pc.fill_null(names.indices, -1).to_numpy().astype(np.int64)
        known = groups >= 0
        wide = Spans(starts - margin_ns - 1, ends + margin_ns + 1, groups)
        mine, theirs = np.flatnonzero(known), np.flatnonzero(known & evaluation)
        first, _ = overlaps(
            Spans(wide.starts[mine], wide.ends[mine], groups[mine]),
            Spans(starts[theirs], ends[theirs], groups[theirs]),
        )
        close[mine[first]] = True
    return close


def _in_space(track: _Track, evaluation: Bools, metres: float) -> Bools:
    """Clips with a position within `metres` of one of an evaluation clip, in the same frame.

    Positions compare within one `location` of a dataset, and where it names none within one log.
    """
    from scipy.spatial import cKDTree

    close = np.zeros(len(evaluation), np.bool_)
    of_evaluation = evaluation[track.clip]
    for each in np.unique(track.place[of_evaluation]):
        here = track.place == each
        tree = cKDTree(track.xyz_m[here & of_evaluation])
        away, _ = tree.query(track.xyz_m[here], distance_upper_bound=np.nextafter(metres, np.inf))
        close[track.clip[here][np.isfinite(away)]] = True
    return close


def _track(snapshot: Snapshot, facts: pa.Table) -> _Track:
    """Where the vehicle was, one position each 0.2 s and clip."""
    scenes = pc.unique(facts["scene_id"])
    codes = pc.index_in(facts["scene_id"], scenes).to_numpy().astype(np.int64)
    windows = Spans(facts["start_ns"].to_numpy(), facts["end_ns"].to_numpy(), codes)
    names = pc.coalesce(facts["location"], pc.binary_join_element_wise("log", facts["log_id"], "\0"))
    named = pc.binary_join_element_wise(facts["dataset"], names, "\0").combine_chunks().dictionary_encode()
    places = named.indices.to_numpy().astype(np.int64)
    clips, points = [np.empty(0, np.int64)], [np.empty((0, 3))]
    posed = "global_SE3_ego IS NOT NULL"
    for batch in snapshot.batches("sample_data", _POSE, posed) if snapshot.has("sample_data") else ():
        times = batch["timestamp_ns"].to_numpy()
        group = pc.fill_null(pc.index_in(batch["scene_id"], scenes), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        row, clip = overlaps(instants(times, group), windows)
        _, first = np.unique(np.column_stack([clip, times[row] // _EVERY_NS]), axis=0, return_index=True)
        xyz = batch["global_SE3_ego"].field("translation").flatten().to_numpy(zero_copy_only=False).reshape(-1, 3)
        clips.append(clip[first])
        points.append(xyz[row[first]])
    clip = np.concatenate(clips)
    return _Track(clip, places[clip], np.concatenate(points))
