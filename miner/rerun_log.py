"""Clips as a recording of Rerun (https://rerun.io): cameras, sweeps, boxes and the ego's way on one timeline.

Written to a file that the viewer opens (`rerun x.rrd`); nothing is served. Frames: `world` has the axes of the poses,
with the first ego position as its origin, so that float32 is fine enough; `ego` and each sensor hang below it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.se3 import SE3, matrix_to_wxyz
from miner.decode import Recordings
from miner.decode.image import Picture, encode_jpeg
from miner.errors import BadInput, UsageError
from miner.moment import Row, pose_of, span_of
from miner.show import colour_of
from miner.store import Store, one_of

TIMELINE = "clip_time"  # since the start of the clip, so that several clips play together
_SIDE_PX = 360
_APP = "scene-miner"


def write_rrd(store: Store, clips: Mapping[str, str], path: str | Path) -> Path:
    """Write clips (or the clips around readings, or scenes) to a file; gives its path.

    `clips` are ids by the name each has in the recording; the name "" stands for a single one. A file that cannot be
    read is a line of text in its place. Raises NotFound for an unknown id, UsageError where rerun is not installed.
    """
    rr = _rerun()
    target = Path(path)
    spans = {name: span_of(store, each) for name, each in clips.items()}
    with rr.RecordingStream(_APP) as recording:
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        recording.save(str(unfinished))
        recording.set_log_time_enabled(False)
        with Recordings() as recordings:
            for name, span in spans.items():
                _Clip.of(store, span, f"{name}/" if name else "", recording, rr).log(recordings)
        recording.flush()
        recording.disconnect()
    os.replace(unfinished, target)
    return target


def _rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise UsageError(f"recordings for Rerun need it: {error}", "pip install 'scene-miner[viz]'") from error
    return rerun


@dataclass(frozen=True)
class _Clip:
    """What is logged of one clip, below `root`: rows of its readings by time, and of its scene's annotations."""

    root: str
    start_ns: int
    readings: Sequence[Row]
    notes: Sequence[Row]
    recording: Any
    rr: Any
    origin: NDArray[np.float64]
    sized: dict[str, tuple[float, float]] = field(default_factory=dict)  # by reading: of its picture to the frame

    @classmethod
    def of(cls, store: Store, span: Row, root: str, recording: Any, rr: Any) -> _Clip:
        scene = one_of("scene_id", [span["scene_id"]])
        inside = f"{scene} AND timestamp_ns >= {span['start_ns']} AND timestamp_ns < {span['end_ns']}"
        readings = store.scan("sample_data", filter=inside).sort_by("timestamp_ns").to_pylist()
        notes = store.scan("annotations", filter=scene).to_pylist() if store.exists("annotations") else []
        first = next((row["global_SE3_ego"] for row in readings if row["global_SE3_ego"]), None)
        origin = np.array(first["translation"] if first else (0.0, 0.0, 0.0))
        return cls(root, span["start_ns"], readings, notes, recording, rr, origin)

    def log(self, recordings: Recordings) -> None:
        """Everything, in order of time."""
        self._put("world", self.rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        self._log_way()
        for reading in self.readings:
            self._at(reading["timestamp_ns"])
            pose = self._world_SE3_ego(reading)
            if pose is not None:
                self._put("world/ego", self._transform(pose))
            if reading["modality"] in ("camera", "lidar"):
                self._log_reading(recordings, reading)
        self._log_boxes()
        self._log_marks()

    def _log_way(self) -> None:
        poses = [pose for pose in map(self._world_SE3_ego, self.readings) if pose is not None]
        if poses:
            line = np.array([pose.translation for pose in poses])
            self._put("world/way", self.rr.LineStrips3D([line], colors=[[255, 176, 0]]), static=True)

    def _log_reading(self, recordings: Recordings, reading: Row) -> None:
        place = f"world/ego/{self._part(reading['channel'])}"
        mount = pose_of(reading["ego_SE3_sensor"])
        try:
            read = recordings.read(reading)
            if mount is not None:
                self._put(place, self._transform(mount))
            if isinstance(read, Picture):
                self._log_picture(place, reading, read)
            else:
                points = read.points[:, :3]
                self._put(f"{place}/points", self.rr.Points3D(points, colors=_by_height(points[:, 2])))
        except BadInput as bad:
            self._put("problems", self.rr.TextLog(f"{reading['channel']}: {bad}", level="ERROR"))

    def _log_picture(self, place: str, reading: Row, frame: Picture) -> None:
        """The frame at a short side of about _SIDE_PX, and a pinhole camera of that size where it is calibrated."""
        pixels = frame.decode(_SIDE_PX)
        step = max(1, min(pixels.shape[:2]) // _SIDE_PX)
        pixels = pixels[::step, ::step]
        height, width = pixels.shape[:2]
        across, down = width / frame.width, height / frame.height
        self.sized[reading["sample_data_id"]] = across, down
        if reading["intrinsic"]:
            matrix = np.diag([across, down, 1.0]) @ np.reshape(reading["intrinsic"], (3, 3))
            pinhole = self.rr.Pinhole(image_from_camera=matrix, resolution=[width, height])
            self._put(place, pinhole)
        image = self.rr.EncodedImage(contents=encode_jpeg(pixels), media_type="image/jpeg")
        self._put(f"{place}/image", image)

    def _log_boxes(self) -> None:
        """The boxes of each annotated time of the clip, in the world."""
        references = {row["sample_data_id"]: row for row in self.readings}
        for time_ns, notes in _by_time(note for note in self.notes if note["ego_SE3_object"] and note["size_lwh"]):
            if not self.start_ns <= time_ns <= (self.readings[-1]["timestamp_ns"] if self.readings else self.start_ns):
                continue
            poses = [self._placed(note, references, time_ns) for note in notes]
            self._at(time_ns)
            boxes = self.rr.Boxes3D(
                centers=[pose.translation for pose in poses],
                half_sizes=np.array([note["size_lwh"] for note in notes]) / 2,
                quaternions=[_xyzw(pose) for pose in poses],
                labels=[note["category"] for note in notes],
                colors=[_rgb(colour_of(note["category"])) for note in notes],
                show_labels=False,
            )
            self._put("world/boxes", boxes)

    def _log_marks(self) -> None:
        """The boxes that were drawn on frames."""
        for reading in self.readings:
            notes = [n for n in self.notes if n["bbox_xyxy"] and n["sample_data_id"] == reading["sample_data_id"]]
            sized = self.sized.get(reading["sample_data_id"])
            if not notes or sized is None:
                continue
            corners = np.array([note["bbox_xyxy"] for note in notes]) * np.array([*sized, *sized])
            colours = [_rgb(colour_of(note["category"])) for note in notes]
            labels = [note["category"] for note in notes]
            self._at(reading["timestamp_ns"])
            marks = self.rr.Boxes2D(
                array=corners, array_format=self.rr.Box2DFormat.XYXY, labels=labels, colors=colours, show_labels=False
            )
            self._put(f"world/ego/{self._part(reading['channel'])}/boxes", marks)

    def _placed(self, note: Row, references: Mapping[str, Row], time_ns: int) -> SE3:
        """A box in the world: by the pose of the reading it is of, else of the reading nearest in time."""
        box = pose_of(note["ego_SE3_object"])
        assert box is not None
        of = references.get(note["sample_data_id"] or "")
        posed = [row for row in ([of] if of else self.readings) if row["global_SE3_ego"]]
        if not posed:
            return box
        pose = self._world_SE3_ego(min(posed, key=lambda row: abs(row["timestamp_ns"] - time_ns)))
        assert pose is not None
        return pose @ box

    def _world_SE3_ego(self, reading: Row) -> SE3 | None:
        pose = pose_of(reading["global_SE3_ego"])
        return None if pose is None else SE3(pose.rotation, pose.translation - self.origin)

    def _transform(self, pose: SE3) -> Any:
        quaternion = self.rr.Quaternion(xyzw=_xyzw(pose))
        return self.rr.Transform3D(translation=pose.translation, quaternion=quaternion)

    def _at(self, time_ns: int) -> None:
        self.recording.set_time(TIMELINE, duration=np.timedelta64(time_ns - self.start_ns, "ns"))

    def _put(self, place: str, what: Any, static: bool = False) -> None:
        self.recording.log(f"{self.root}{place}", what, static=static)

    def _part(self, channel: str) -> str:
        """A channel as one part of an entity path: ROS topics have slashes."""
        return channel.strip("/").replace("/", "-") or "sensor"


def _by_time(notes: Iterable[Row]) -> list[tuple[int, list[Row]]]:
    times: dict[int, list[Row]] = {}
    for note in notes:
        if note["timestamp_ns"] is not None:
            times.setdefault(note["timestamp_ns"], []).append(note)
    return sorted(times.items())


def _by_height(z: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colours (n, 3) from dark blue, low, to yellow, high."""
    low = float(np.percentile(z, 5)) if len(z) else 0.0
    share = ((z - low) / 4.0).clip(0, 1)[:, None]
    colours: NDArray[np.uint8] = ((1 - share) * [49, 104, 142] + share * [253, 231, 37]).astype(np.uint8)
    return colours


def _xyzw(pose: SE3) -> list[float]:
    w, x, y, z = matrix_to_wxyz(pose.rotation).tolist()
    return [x, y, z, w]


def _rgb(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
