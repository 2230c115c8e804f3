"""A moment of a recording: the frames, the sweep and the boxes nearest to one time, for whoever draws them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.boxes import box_corners
from kernels.se3 import SE3
from miner.describe import find
from miner.store import Store, one_of

Row = dict[str, Any]

BOX_TOLERANCE_NS = 600_000_000  # boxes at 2 Hz are at most 250 ms away; with 1 Hz a little more than 500 ms
_PAIR_TOLERANCE_NS = 1_000_000_000


@dataclass(frozen=True)
class Box:
    """An annotated object: `corners_m` (8, 3) in the ego frame of the moment's sweep, in `box_corners`' order."""

    category: str
    corners_m: NDArray[np.float64]
    track_id: str | None = None


@dataclass(frozen=True)
class Moment:
    """What was recorded around `time_ns` in a span of a scene.

    `cameras` and `sweep` are rows of `sample_data`, at most one per channel; `readings` has channel, modality and
    timestamp_ns of all readings of the span; `marks` the rows of 2D boxes by sample_data_id. Poses may be missing.
    """

    scene: Row
    clip_id: str | None
    start_ns: int
    end_ns: int
    time_ns: int
    cameras: tuple[Row, ...]
    sweep: Row | None
    boxes: tuple[Box, ...]
    marks: Mapping[str, Sequence[Row]]
    readings: pa.Table

    def camera_SE3_ego(self, camera: Row) -> SE3 | None:
        """From the ego frame of the boxes to a camera's, by both readings' poses; None without calibration."""
        mount = pose_of(camera["ego_SE3_sensor"])
        if mount is None:
            return None
        at_camera = pose_of(camera["global_SE3_ego"])
        at_sweep = pose_of(self.sweep["global_SE3_ego"]) if self.sweep else None
        moved = at_camera.inverse() @ at_sweep if at_camera and at_sweep else SE3(np.eye(3), np.zeros(3))
        return mount.inverse() @ moved


def moment(store: Store, name: str, time_ns: int | None = None) -> Moment:
    """The moment of a clip, reading or scene by id (or a scene by name).

    At `time_ns`, else at a reading's own time, else at the annotated time nearest to the middle. Raises NotFound.
    """
    table, row = find(store, name)
    span = _span(store, row)
    scene_id = one_of("scene_id", [row["scene_id"]])
    [scene] = store.scan("scenes", filter=scene_id).to_pylist() or [{"scene_id": row["scene_id"], "name": ""}]
    inside = f"{scene_id} AND timestamp_ns >= {span['start_ns']} AND timestamp_ns < {span['end_ns']}"
    readings = store.scan("sample_data", filter=inside).sort_by([("timestamp_ns", "ascending")])
    notes = store.scan("annotations", filter=scene_id).to_pylist() if store.exists("annotations") else []
    if time_ns is None:
        time_ns = row["timestamp_ns"] if table == "sample_data" else _middle(span, readings, notes)
    cameras, sweep = _nearest(readings, time_ns)
    return Moment(
        scene=scene,
        clip_id=span.get("clip_id"),
        start_ns=span["start_ns"],
        end_ns=span["end_ns"],
        time_ns=time_ns,
        cameras=cameras,
        sweep=sweep,
        boxes=_boxes(store, notes, time_ns, sweep),
        marks=_marks(notes, cameras),
        readings=readings.select(["channel", "modality", "timestamp_ns"]),
    )


def span_of(store: Store, name: str) -> Row:
    """The span of a clip or scene, or of the clip around a reading: scene_id, start_ns, end_ns. Raises NotFound."""
    row = find(store, name)[1]
    return {**_span(store, row), "scene_id": row["scene_id"]}


def _span(store: Store, row: Row) -> Row:
    return row if "start_ns" in row else _clip_around(store, row)


def pose_of(pose: Row | None) -> SE3 | None:
    """A pose column's value; None for a missing one."""
    return None if pose is None else SE3.from_wxyz(pose["translation"], pose["rotation_wxyz"])


def _clip_around(store: Store, reading: Row) -> Row:
    """The clip a reading is in; its instant where there is none."""
    time_ns = reading["timestamp_ns"]
    around = f"{one_of('scene_id', [reading['scene_id']])} AND start_ns <= {time_ns} AND end_ns > {time_ns}"
    found: list[Row] = store.scan("clips", filter=around).to_pylist() if store.exists("clips") else []
    return found[0] if found else {"start_ns": time_ns, "end_ns": time_ns + 1}


def _middle(span: Row, readings: pa.Table, notes: Iterable[Row]) -> int:
    middle = (span["start_ns"] + span["end_ns"]) // 2
    times = [note["timestamp_ns"] for note in notes if note["ego_SE3_object"] and note["timestamp_ns"] is not None]
    times = [time for time in times if span["start_ns"] <= time < span["end_ns"]]
    times = times or readings["timestamp_ns"].to_pylist() or [middle]
    return int(min(times, key=lambda time: (abs(time - middle), time)))


def _nearest(readings: pa.Table, time_ns: int) -> tuple[tuple[Row, ...], Row | None]:
    """Of each camera the frame nearest in time, by channel; and the nearest sweep of the LiDAR that has most."""
    near: dict[str, Row] = {}
    count: dict[str, int] = {}
    for row in readings.filter(pc.is_in(readings["modality"], pa.array(["camera", "lidar"]))).to_pylist():
        channel, away = row["channel"], abs(row["timestamp_ns"] - time_ns)
        count[channel] = count.get(channel, 0) + 1
        if away <= _PAIR_TOLERANCE_NS and (channel not in near or away < abs(near[channel]["timestamp_ns"] - time_ns)):
            near[channel] = row
    cameras = sorted((near[channel] for channel in near if near[channel]["modality"] == "camera"), key=_as_seen)
    sweeps = sorted((channel for channel in near if near[channel]["modality"] == "lidar"), key=lambda c: (-count[c], c))
    return tuple(cameras), near[sweeps[0]] if sweeps else None


def _as_seen(camera: Row) -> tuple[bool, float, str]:
    """Where a camera belongs on a page: what looks forward first, each row from left to right; else by name."""
    mount = pose_of(camera["ego_SE3_sensor"])
    if mount is None:
        return False, 0.0, camera["channel"]
    x, y, _ = mount.rotation[:, 2]  # the optical axis in the ego frame: x forward, y left
    return bool(x < -0.1), float(-y), camera["channel"]


def _boxes(store: Store, notes: Iterable[Row], time_ns: int, sweep: Row | None) -> tuple[Box, ...]:
    """The boxes of the annotated time nearest to `time_ns`, in the ego frame of the sweep."""
    placed = [note for note in notes if note["ego_SE3_object"] and note["size_lwh"]]
    times = sorted({note["timestamp_ns"] for note in placed} - {None}, key=lambda time: (abs(time - time_ns), time))
    if not times or abs(times[0] - time_ns) > BOX_TOLERANCE_NS:
        return ()
    chosen = [note for note in placed if note["timestamp_ns"] == times[0]]
    references = {note["sample_data_id"] for note in chosen} - {None}
    moves = _moves(store, references, sweep)
    boxes = []
    for note in chosen:
        pose = pose_of(note["ego_SE3_object"])
        assert pose is not None
        move = moves.get(note["sample_data_id"])
        corners = box_corners(move @ pose if move else pose, note["size_lwh"])
        boxes.append(Box(note["category"], corners, note["track_id"]))
    return tuple(boxes)


def _moves(store: Store, references: set[str], sweep: Row | None) -> dict[str, SE3]:
    """By reading in whose ego frame boxes are: from there to the ego frame of the sweep, where both have poses."""
    target = pose_of(sweep["global_SE3_ego"]) if sweep else None
    if target is None or not references:
        return {}
    columns = ["sample_data_id", "global_SE3_ego"]
    rows = store.scan("sample_data", columns, one_of("sample_data_id", sorted(references))).to_pylist()
    poses = {row["sample_data_id"]: pose_of(row["global_SE3_ego"]) for row in rows}
    return {name: target.inverse() @ pose for name, pose in poses.items() if pose is not None}


def _marks(notes: Iterable[Row], cameras: Sequence[Row]) -> dict[str, list[Row]]:
    marks: dict[str, list[Row]] = {camera["sample_data_id"]: [] for camera in cameras}
    for note in notes:
        if note["bbox_xyxy"] and note["sample_data_id"] in marks:
            marks[note["sample_data_id"]].append(note)
    return marks
