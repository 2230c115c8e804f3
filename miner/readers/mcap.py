"""ROS 2 recordings in MCAP files (mcap.dev): cameras, LiDAR, calibration, poses and position, by message type.

A file is walked once, chunk by chunk; of a reading only its header and byte range are kept.
"""

from __future__ import annotations

import logging
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
import pyarrow as pa

from miner.decode.mcap import Channel, Message, Place, Scan, message_uri
from miner.decode.ros import MODALITY, Cdr, is_picture, peek
from miner.errors import BadInput, NotFound
from miner.ids import make_id
from miner.readers import SceneRef, SceneTables
from miner.readers.frame_times import natural
from miner.readers.places import AnyPath, place_of, relative
from miner.readers.ros import (
    CAMERA_INFO,
    FIX,
    TRANSFORMS,
    CameraInfo,
    Poses,
    Times,
    TransformTree,
    calibration_of,
    clock_of,
    distinct,
    is_foreign,
    read_camera_info,
    read_fix,
)
from miner.readers.sources import check_inside, files_by_folder, read_text, table
from miner.schema import ANNOTATIONS, POSE, SAMPLE_DATA, SCENES, check

_LOG = logging.getLogger(__name__)
_NAME, _METADATA = re.compile(r".+\.mcap", re.DOTALL), "metadata.yaml"
_SPLIT = re.compile(r"^\s*-\s+(?:path:\s+)?['\"]?([^'\"\n]+\.mcap)['\"]?\s*$", re.MULTILINE)


class McapReader:
    """MCAP files below `source`, or one file: each a scene; but the splits that a rosbag2 folder names in its
    metadata.yaml are one, the folder.

    A channel is a topic, by its full name: image topics are cameras, point clouds are LiDAR, told by their type; depth
    images and video packets are left out, and the scene's description says so. `topics`, a text `/a,/b`, names them
    instead. Times are header stamps, where there is none the log time. The ego frame is base_link, else the root with
    most frames fixed to it; the global frame is map, world or odom. `dataset` defaults to the name of the folder.
    """

    name: ClassVar[str] = "mcap"
    looks_for: ClassVar[str] = "files *.mcap (ROS 2 recordings)"
    fallback: ClassVar[bool] = False

    def __init__(self, source: str, dataset: str | None = None, topics: str = "") -> None:
        """Raises NotFound where there is no `source`."""
        self.source, self.topics = source, topics
        place = place_of(source)
        if not place.exists():
            raise NotFound(f"{source}: no such file or folder", "Give a folder of MCAP files or one of them.")
        self._place = place
        self._root = place.parent if place.is_file() or (place / _METADATA).is_file() else place
        self.dataset = dataset or self._root.name or self.name

    def __reduce__(self) -> tuple[type[McapReader], tuple[str, str, str]]:
        return McapReader, (self.source, self.dataset, self.topics)

    @staticmethod
    def matches(source: str | AnyPath) -> bool:
        return next(files_by_folder(place_of(source), _NAME), None) is not None

    def scenes(self) -> Iterable[SceneRef]:
        """In natural order of their paths below the folder of the source, which are their names."""
        return [SceneRef(make_id("scene", self.dataset, name), name) for name in self._files]

    def read(self, scene: str) -> SceneTables:
        """The rows of one scene; `annotations` is empty. What was left out or mended is told in its description.

        Raises BadInput: `unknown-scene`, what Scan.messages raises, `bad-message`, `no-readings` and `missing-topic`
        (both list the topics that are there).
        """
        if scene not in self._files:
            raise BadInput("unknown-scene", f"{self.source}: no scene {scene!r} among {len(self._files)}")
        found = _Recording(tuple(filter(None, self.topics.split(","))) or None)
        for file in self._files[scene]:
            check_inside(file, self._place)
            found.add(file)
        found.check(f"{self._root / scene}")
        scene_id = make_id("scene", self.dataset, scene)
        readings = self._readings(scene, scene_id, found)
        times = readings["timestamp_ns"].to_numpy()
        row = {
            "scene_id": scene_id,
            "dataset": self.dataset,
            "log_id": make_id("log", self.dataset, scene),
            "name": scene,
            "start_ns": int(times[0]),
            "end_ns": int(times[-1]) + 1,
            "location": found.location,
            "description": "; ".join(found.notes) or None,
        }
        return SceneTables(table([row], SCENES), readings, ANNOTATIONS.empty_table())

    def _readings(self, scene: str, scene_id: str, found: _Recording) -> pa.Table:
        tables = []
        for track, times in found.timed():
            n, topic = len(times), track.topic
            ids = [make_id("sample_data", self.dataset, scene, topic, time) for time in times.tolist()]
            own = {"sample_data_id": ids, "timestamp_ns": times, **found.sensor(track, times), **track.places()}
            same = {"scene_id": scene_id, "channel": topic, "modality": MODALITY[track.kind], "is_key_frame": True}
            repeated = {name: pa.repeat(pa.scalar(value), n) for name, value in {**same, "fileformat": "mcap"}.items()}
            tables.append(check(pa.table({**own, **repeated}), SAMPLE_DATA))
        return pa.concat_tables(tables).sort_by([("timestamp_ns", "ascending"), ("channel", "ascending")])

    @cached_property
    def _files(self) -> dict[str, list[AnyPath]]:
        """By scene name its files in order."""
        scenes: dict[str, list[AnyPath]] = {}
        for files in files_by_folder(self._place, _NAME):
            bag = _bag(files) if self._place.is_dir() else []
            groups: dict[AnyPath, list[AnyPath]] = {files[0].parent: bag} if bag else {}
            groups |= {file: [file] for file in files if file not in bag}
            scenes |= {relative(place, self._root): parts for place, parts in groups.items()}
        return {name: scenes[name] for name in sorted(scenes, key=natural)}


@dataclass
class _Track:
    """The readings of one topic: per reading stamp, log time, offset, length, at (see Message), payload bytes, file."""

    topic: str
    kind: str
    frame_id: str
    files: list[str]
    numbers: array[int] = field(default_factory=lambda: array("q"))

    def column(self, index: int) -> Times:
        return np.frombuffer(self.numbers, np.int64).reshape(-1, 7)[:, index]

    def places(self) -> dict[str, list[str] | Times]:
        """The columns that say where the bytes are."""
        places = zip(self.column(6).tolist(), self.column(4).tolist(), strict=True)
        uris = [message_uri(self.files[file], Place(self.kind, at)) for file, at in places]
        return {"uri": uris, "offset": self.column(2), "length": self.column(3), "num_bytes": self.column(5)}


class _Recording:
    """What was found in the files of one scene."""

    def __init__(self, topics: tuple[str, ...] | None) -> None:
        self.location: str | None = None
        self.notes: list[str] = []
        self._topics = topics
        self._tree = TransformTree()
        self._infos: dict[str, CameraInfo] = {}
        self._tracks: dict[str, _Track] = {}
        self._left_out: set[str] = set()
        self._channels: set[Channel] = set()
        self._files: list[str] = []

    def add(self, file: AnyPath) -> None:
        """One file, after those before it."""
        self._files.append(str(file))
        scan = Scan(str(file))
        for message in scan.messages():
            if message.channel.encoding == "cdr":
                self._take(message, str(file))
        self._channels.update(scan.channels)
        if scan.cut_at is not None:
            self.notes.append(f"partial: {file.name} is cut off at byte {scan.cut_at}, what was whole is kept")

    def _take(self, message: Message, file: str) -> None:
        topic, kind, _ = message.channel
        name = f"{file}: {topic} at byte {message.offset}"
        if kind in MODALITY and (self._topics is None or topic in self._topics):
            self._reading(message, name)
        elif kind == TRANSFORMS:
            self._tree.add(Cdr(message.data, name), static=topic.endswith("tf_static"))
        elif kind == CAMERA_INFO and topic not in self._infos:
            self._infos[topic] = read_camera_info(Cdr(message.data, name))
        elif kind == FIX and self.location is None:
            self.location = read_fix(Cdr(message.data, name))

    def _reading(self, message: Message, name: str) -> None:
        topic, kind, _ = message.channel
        header, encoding = peek(kind, message.data, name)
        if topic not in self._tracks and topic not in self._left_out:
            if self._topics is None and not is_picture(kind, encoding):
                self._left_out.add(topic)
                self.notes.append(f"{topic} left out: {encoding} is no picture")
            else:
                self._tracks[topic] = _Track(topic, kind, header.frame_id, self._files)
        if topic in self._left_out:
            return
        if self._tracks[topic].kind != kind:
            raise BadInput("bad-record", f"{name}: {kind}, but before it was {self._tracks[topic].kind}")
        place = (message.offset, message.length, message.at, len(message.data), len(self._files) - 1)
        self._tracks[topic].numbers.extend((header.stamp_ns, message.log_time_ns, *place))

    def check(self, name: str) -> None:
        """Raise BadInput where there is nothing to read, or not all topics that were asked for."""
        missing = sorted(set(self._topics or ()) - set(self._tracks))
        if self._tracks and not missing:
            if self._tree.refused:
                self.notes.append(f"{self._tree.refused} transforms left out: not finite or no rotation")
            return
        what = f"no readings of {', '.join(missing)}" if missing else "no readings of a camera or a LiDAR"
        present = sorted(f"{topic} ({kind or 'no type'}, {encoding})" for topic, kind, encoding in self._channels)
        listed = f"topics present: {', '.join(present) or 'none'}; readable: {', '.join(MODALITY)} in cdr (ROS 2)"
        reason = "missing-topic" if missing else "no-readings"
        raise BadInput(reason, "; ".join([f"{name}: {what}", *self.notes, listed]))

    def timed(self) -> Iterator[tuple[_Track, Times]]:
        """Each track with the times of its readings, distinct. A clock of its own beside others that agree with the
        recorder's is not believed."""
        found = {}
        for topic, track in self._tracks.items():
            found[topic], mended = clock_of(track.column(0), track.column(1))
            if mended:
                self.notes.append(f"{topic}: {mended} of {len(found[topic])} stamps were wild, log times taken")
        foreign = {topic for topic, times in found.items() if is_foreign(times, self._tracks[topic].column(1))}
        for topic, track in self._tracks.items():
            if topic in foreign and len(foreign) < len(found):
                self.notes.append(f"{topic}: a clock of its own, log times taken")
                found[topic] = track.column(1)
            yield track, distinct(found[topic])

    def sensor(self, track: _Track, times: Times) -> dict[str, pa.Array]:
        """Poses and calibration of the readings of a track."""
        n, ego = len(times), self._tree.ego_frame()
        outer = self._tree.global_frame(ego) if ego else None
        info = calibration_of(track.topic, track.frame_id, self._infos) if MODALITY[track.kind] == "camera" else None
        k, distortion = (info.intrinsic, info.distortion) if info else (None, None)
        return {
            "ego_SE3_sensor": _pose_column(self._tree.lookup(ego, track.frame_id, times) if ego else None, n),
            "global_SE3_ego": _pose_column(self._tree.lookup(outer, ego, times) if ego and outer else None, n),
            "intrinsic": pa.array([k] * n, SAMPLE_DATA.field("intrinsic").type),
            "distortion": pa.array([distortion] * n, SAMPLE_DATA.field("distortion").type),
        }


def _pose_column(poses: Poses | None, n: int) -> pa.Array:
    if poses is None:
        return pa.nulls(n, POSE)
    parts = [
        pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)
        for values, width in ((poses.translation, 3), (poses.rotation_wxyz, 4))
    ]
    return pa.StructArray.from_arrays(parts, fields=list(POSE), mask=pa.array(~poses.known))


def _bag(files: list[AnyPath]) -> list[AnyPath]:
    """Of the files of a rosbag2 folder those that its metadata.yaml names, in its order; all of them, in natural order,
    where it names none that is there. No files where the folder is none."""
    metadata = files[0].with_name(_METADATA)
    if not metadata.is_file():
        return []
    try:
        text = read_text(metadata, metadata.parent)
    except BadInput as bad:
        _LOG.warning("%s", bad)
        text = ""
    named = [metadata.with_name(PurePosixPath(name).name) for name in dict.fromkeys(_SPLIT.findall(text))]
    return named if set(named) & set(files) else sorted(files, key=lambda path: natural(path.name))
