"""KITTI raw drives: four cameras, LiDAR, GPS/IMU, tracklets (Geiger et al. 2013, IJRR 32(11), and its devkit)."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import ClassVar

import numpy as np

from kernels.se3 import SE3, interpolate
from miner.errors import BadInput, NotFound
from miner.ids import make_id
from miner.readers import SceneRef, SceneTables
from miner.readers.kitti import (
    PICTURES,
    SWEEPS,
    Calibration,
    CalibrationFile,
    SceneIds,
    annotation_row,
    frame_files,
    label_rows,
    pose_row,
    read_labels,
    reading_rows,
    turn,
)
from miner.readers.kitti_tracklets import read_tracklets
from miner.readers.places import AnyPath, place_of, relative
from miner.readers.sources import Row, read_text, table
from miner.schema import ANNOTATIONS, SAMPLE_DATA, SCENES

_LIDAR, _IMAGE = "velodyne_points", "image_02"  # tracklets are drawn in the sweep, label_2 in the picture
_CHANNELS = ("image_00", "image_01", "image_02", "image_03", _LIDAR)
_DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4,}_(?:sync|extract)", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?", re.ASCII)
_FRAME_NS = 100_000_000
_EARLIEST_NS, _LATEST_NS = 946_684_800 * 10**9, 4_102_444_800 * 10**9  # years 2000 to 2100
_MAX_STEP_NS = 60 * 10**9
_EARTH_RADIUS_M = 6378137.0

Times = dict[int, int]  # nanoseconds by frame
Readings = dict[str, dict[int, Row]]  # rows by channel and frame


class KittiRawReader:
    """Drives `<date>_drive_<number>_sync` or `_extract` below a root, below a folder of one date, or one drive itself.

    Any file may be missing. Without calibration the scene stays: its cameras have no poses, and neither have the 3D
    boxes of `label_2`. Without oxts or the IMU's calibration there is no `global_SE3_ego`. Without timestamps.txt a
    time is that of another sensor's frame of the same number, or nominal at 10 Hz. Times are read as UTC. Pictures of
    `_sync` drives are rectified; those of `_extract` are not, so they have distortion. Boxes come from
    tracklet_labels.xml, and from `label_2/<frame>.txt` (also below `ground_truth`) in the object benchmark's format.
    """

    name: ClassVar[str] = "kitti_raw"
    looks_for: ClassVar[str] = "folders <date>_drive_<number>_sync with image_00 to image_03 or velodyne_points"
    fallback: ClassVar[bool] = False

    def __init__(self, source: str, dataset: str | None = None) -> None:
        """Raises NotFound where there is no drive."""
        self.source = source
        self.dataset = dataset or self.name
        self._place = self._root = place_of(source)
        if not _drives(self._root):
            raise NotFound(f"{source}: no KITTI raw drive", f"Give a root, a date or a drive: {self.looks_for}.")
        if _DRIVE.fullmatch(self._root.name):
            self._root = self._root.parent  # its calibration lies beside it

    def __reduce__(self) -> tuple[type[KittiRawReader], tuple[str, str]]:
        return KittiRawReader, (self.source, self.dataset)

    @staticmethod
    def matches(source: str | AnyPath) -> bool:
        return bool(_drives(place_of(source)))

    def scenes(self) -> Iterable[SceneRef]:
        """By path; the name of a scene is that of its drive, with its folder where two drives have one name."""
        return [SceneRef(SceneIds(self.dataset, name).scene_id, name) for name in self._folders]

    def read(self, scene: str) -> SceneTables:
        """The rows of one drive. Raises BadInput for a calibration, time, pose or label file that cannot be read."""
        if scene not in self._folders:
            raise BadInput("unknown-scene", f"{self.source}: no scene {scene!r} among {len(self._folders)}")
        drive, ids = self._folders[scene], SceneIds(self.dataset, scene)
        synchronised = drive.name.endswith("_sync")
        calibration = read_calibration(drive.parent, self._root, rectified=synchronised)
        readings = self._readings(drive, ids, calibration)
        if calibration.velodyne_SE3_imu:
            self._add_poses(drive, readings, synchronised)
        annotations = self._annotations(drive, ids, readings, calibration)
        rows = [reading for frames in readings.values() for reading in frames.values()]
        rows.sort(key=lambda row: (row["timestamp_ns"], row["channel"]))
        return SceneTables(
            table([self._scene(ids, drive, [row["timestamp_ns"] for row in rows] or [0])], SCENES),
            table(rows, SAMPLE_DATA),
            table(annotations, ANNOTATIONS),
        )

    def _scene(self, ids: SceneIds, drive: AnyPath, times_ns: list[int]) -> Row:
        return {
            "scene_id": ids.scene_id,
            "dataset": self.dataset,
            "log_id": make_id("log", self.dataset, drive.name.rpartition("_")[0]),
            "name": ids.scene,
            "start_ns": min(times_ns),
            "end_ns": max(times_ns) + 1,
        }

    def _readings(self, drive: AnyPath, ids: SceneIds, calibration: Calibration) -> Readings:
        files = {name: frame_files(drive / name / "data", SWEEPS if name == _LIDAR else PICTURES) for name in _CHANNELS}
        times = _all_times(drive, self._root, {name: list(frames) for name, frames in files.items()})
        readings: Readings = {}
        for channel, frames in files.items():
            readings[channel] = reading_rows(ids, channel, frames, calibration.sensor(channel), self._root)
            for frame, row in readings[channel].items():
                row["timestamp_ns"] = times[channel][frame]
        return readings

    def _add_poses(self, drive: AnyPath, readings: Readings, synchronised: bool) -> None:
        """In a synchronised drive packet n of the IMU belongs to frame n; in others, what lies between two packets."""
        poses = read_oxts(frame_files(drive / "oxts" / "data", ("txt",)), self._root)
        if not synchronised:
            times = _sensor_times(drive / "oxts", self._root, list(poses))
            rows = [row for frames in readings.values() for row in frames.values()]
            _interpolate(rows, {times[frame]: pose for frame, pose in poses.items() if frame in times})
            return
        for frame, pose in poses.items():
            row = {"global_SE3_ego": pose_row(pose)}
            for frames in readings.values():
                if frame in frames:
                    frames[frame] |= row

    def _annotations(self, drive: AnyPath, ids: SceneIds, readings: Readings, calibration: Calibration) -> list[Row]:
        known = {frame: row["timestamp_ns"] for frames in readings.values() for frame, row in frames.items()}

        def place(frame: int, channel: str) -> Row:
            reading = readings.get(channel, {}).get(frame, {})
            time_ns = reading.get("timestamp_ns") or nominal_time(frame, known)
            scene = {"scene_id": ids.scene_id, "sample_id": ids.sample_id(frame), "timestamp_ns": time_ns}
            return scene | {"sample_data_id": reading.get("sample_data_id")}

        rows = []
        for frame, path in _label_files(drive).items():
            rows += label_rows(read_labels(path, self._root), place(frame, _IMAGE), calibration)
        tracklets = drive / "tracklet_labels.xml"
        for box in read_tracklets(tracklets, self._root) if tracklets.is_file() else ():
            pose = pose_row(calibration.ego_SE3_velodyne @ box.velodyne_SE3_object)
            row: Row = {"track_id": ids.track_id(box.tracklet), "category": box.category}
            row |= {"ego_SE3_object": pose, "size_lwh": box.size_lwh}
            rows.append(annotation_row(row, place(box.frame, _LIDAR), ("tracklets", box.tracklet), box.attributes))
        return sorted(rows, key=lambda row: (row["timestamp_ns"], row["annotation_id"]))

    @cached_property
    def _folders(self) -> dict[str, AnyPath]:
        """By name of the scene its drive."""
        drives = _drives(self._place)
        count = Counter(drive.name for drive in drives)
        return {drive.name if count[drive.name] == 1 else relative(drive, self._root): drive for drive in drives}


def read_calibration(folder: AnyPath, root: AnyPath, rectified: bool) -> Calibration:
    """The calibration of a date, of which each file may be missing; of rectified cameras or of those as they are."""
    cameras, lidar, imu = (folder / f"calib_{name}.txt" for name in ("cam_to_cam", "velo_to_cam", "imu_to_velo"))
    rect0_SE3_camera0, found = None, {}
    if cameras.is_file():
        file = CalibrationFile(cameras, root)
        rect0_SE3_camera0 = SE3(file.rotation("R_rect_00"), np.zeros(3))
        for number in range(4):
            if rectified and f"P_rect_{number:02d}" in file:
                found[number] = file.rectified_camera(f"P_rect_{number:02d}")
            elif not rectified and f"K_{number:02d}" in file:
                found[number] = file.raw_camera(number, rect0_SE3_camera0)
    camera0_SE3_velodyne = _pose(lidar, root)
    if rect0_SE3_camera0 is None or camera0_SE3_velodyne is None:
        return Calibration(_pose(imu, root), None, found)
    return Calibration(_pose(imu, root), rect0_SE3_camera0 @ camera0_SE3_velodyne, found)


def _pose(path: AnyPath, root: AnyPath) -> SE3 | None:
    if not path.is_file():
        return None
    file = CalibrationFile(path, root)
    return SE3(file.rotation("R"), file.matrix("T", 3))


def read_oxts(files: Mapping[int, AnyPath], root: AnyPath) -> dict[int, SE3]:
    """`global_SE3_imu` by frame: x east, y north, z up, on the Mercator map of the devkit (convertOxtsToPose.m).

    The map is true to scale at the latitude of the first frame; its origin is that frame's place. Raises BadInput
    `bad-oxts` naming the file.
    """
    poses: dict[int, SE3] = {}
    origin, scale = np.zeros(3), 1.0
    for frame, path in files.items():
        latitude, longitude, altitude, roll, pitch, yaw = _packet(path, root)
        scale = scale if poses else math.cos(latitude)
        north = math.log(math.tan(math.pi / 4 + latitude / 2))
        place = np.array([scale * _EARTH_RADIUS_M * longitude, scale * _EARTH_RADIUS_M * north, altitude])
        origin = origin if poses else place
        poses[frame] = SE3(turn("z", yaw) @ turn("y", pitch) @ turn("x", roll), place - origin)
    return poses


def _packet(path: AnyPath, root: AnyPath) -> list[float]:
    """Latitude and longitude in radians, altitude in metres, roll, pitch and yaw in radians."""
    text = read_text(path, root)
    try:
        latitude, longitude, *others = (float(word) for word in text.split()[:6])
        if not (
            abs(latitude) < 89 and abs(longitude) <= 360 and len(others) == 4 and all(abs(v) < 1e5 for v in others)
        ):
            raise ValueError("expected latitude, longitude, altitude, roll, pitch, yaw")
    except ValueError as error:
        raise BadInput("bad-oxts", f"{path}: {text[:80]!r}: {error}") from error
    return [math.radians(latitude), math.radians(longitude), *others]


def _interpolate(rows: list[Row], poses: Mapping[int, SE3]) -> None:
    """Gives each reading within the times of the poses its own pose."""
    times = sorted(poses)
    inside = [row for row in rows if times and times[0] <= row["timestamp_ns"] <= times[-1]]
    if not inside:
        return
    known = [poses[time_ns] for time_ns in times]
    moved = interpolate(
        times, [pose.translation for pose in known], [pose.wxyz for pose in known], [r["timestamp_ns"] for r in inside]
    )
    for row, translation, wxyz in zip(inside, *moved, strict=True):
        row["global_SE3_ego"] = {"translation": translation.tolist(), "rotation_wxyz": wxyz.tolist()}


def _all_times(drive: AnyPath, root: AnyPath, frames: Mapping[str, list[int]]) -> dict[str, Times]:
    """By channel the times of its frames; where it has no timestamps those of the other sensors, see `nominal_time`."""
    own = {channel: _sensor_times(drive / channel, root, numbers) for channel, numbers in frames.items() if numbers}
    shared: Times = {}
    for times in own.values():
        shared = times | shared
    return {
        channel: _distinct({frame: times.get(frame) or nominal_time(frame, shared) for frame in frames[channel]})
        for channel, times in own.items()
    }


def _sensor_times(folder: AnyPath, root: AnyPath, frames: list[int]) -> Times:
    """The times of a sensor's frames: timestamps.txt, or for a sweep the middle of its start and end; empty without.

    A line belongs to the frame of its number, counted from 0, or, where there are as many times as frames, in order.
    """
    path, start, end = (folder / f"timestamps{part}.txt" for part in ("", "_start", "_end"))
    if path.is_file():
        lines = read_times(path, root)
    elif start.is_file() and end.is_file():
        path, pairs = start, zip(read_times(start, root), read_times(end, root), strict=False)
        lines = [(first + last) // 2 if first and last else None for first, last in pairs]
    else:
        return {}
    known = [time_ns for time_ns in lines if time_ns]
    if not frames or len(lines) > frames[-1]:
        return {frame: time_ns for frame in frames if (time_ns := lines[frame])}
    if len(known) != len(frames):
        raise BadInput("timestamp-count", f"{path}: {len(lines)} lines for {len(frames)} frames up to {frames[-1]}")
    return dict(zip(frames, known, strict=True))


def read_times(path: AnyPath, root: AnyPath) -> list[int | None]:
    """The times of a timestamps file in nanoseconds, None for an empty line.

    Raises BadInput `bad-timestamps` naming file and line for what is no time, or a minute or more from the one before.
    """
    times: list[int | None] = []
    before = None
    for number, line in enumerate(read_text(path, root).rstrip().split("\n"), 1):
        try:
            times.append(_time_ns(line.strip()) if line.strip() else None)
        except ValueError as error:
            raise BadInput("bad-timestamps", f"{path}: line {number}: {line[:80]!r}: {error}") from error
        if before and times[-1] and abs(times[-1] - before) >= _MAX_STEP_NS:
            raise BadInput(
                "bad-timestamps", f"{path}: line {number}: {line[:80]!r}: a minute or more from the line before"
            )
        before = times[-1] or before
    return times


def _time_ns(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("expected `2011-09-26 13:02:25.123456789`")
    seconds = datetime.fromisoformat(f"{match[1]}T{match[2]}").replace(tzinfo=UTC).timestamp()
    time_ns = int(seconds) * 10**9 + int((match[3] or "").ljust(9, "0"))
    if not _EARLIEST_NS <= time_ns < _LATEST_NS:
        raise ValueError("expected a year from 2000 to 2099")
    return time_ns


def nominal_time(frame: int, known: Times) -> int:
    """The time of a frame that has none: 10 Hz from the nearest frame with a time, or from frame 0 at time 0."""
    if frame in known:
        return known[frame]
    frames = sorted(known)
    at = bisect_left(frames, frame)
    nearest = min(frames[max(at - 1, 0) : at + 1], key=lambda other: abs(other - frame), default=0)
    return known.get(nearest, 0) + (frame - nearest) * _FRAME_NS


def _distinct(times: Times) -> Times:
    """Two frames of a channel with one time are moved apart by a nanosecond, in order of their numbers."""
    last, distinct = -1, {}
    for frame in sorted(times, key=lambda frame: (times[frame], frame)):
        last = distinct[frame] = max(times[frame], last + 1)
    return distinct


def _label_files(drive: AnyPath) -> dict[int, AnyPath]:
    return frame_files(drive / "label_2", ("txt",)) or frame_files(drive / "ground_truth" / "label_2", ("txt",))


def _drives(source: AnyPath) -> list[AnyPath]:
    """The drives that a source is, holds, or holds by date."""
    below = ("", "*/", "*/*/", "*/*/*/")  # a date, a root, and folders such as kitti/raw above it
    found = [each for folders in below for each in source.glob(f"{folders}*_drive_*_*")]
    found = [source] if _DRIVE.fullmatch(source.name) else found
    drives = (drive for drive in found if _DRIVE.fullmatch(drive.name) and _has_recordings(drive))
    return sorted(drives, key=lambda drive: drive.parts)


def _has_recordings(drive: AnyPath) -> bool:
    return any((drive / channel / "data").is_dir() for channel in _CHANNELS)
