"""What the KITTI formats share: files by frame, calibration, labels (Geiger et al. 2013, IJRR 32(11), and its devkits).

The ego frame is the IMU's where its calibration is there, else the LiDAR's; in both x is forward, y left, z up. Labels
and cameras hang on *rect0*, the first camera after rectification: x right, y down, z forward.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.se3 import SE3
from miner.errors import BadInput
from miner.ids import make_id
from miner.readers.places import AnyPath, scan
from miner.readers.sources import Row, check_inside, read_text

Array = NDArray[np.float64]

MAX_NUMBER = 1e6  # no length in metres or pixels, and no angle, is as large
PICTURES, SWEEPS = ("png", "jpg", "jpeg"), ("bin", "txt")
_FILEFORMATS = {"png": "png", "jpg": "jpg", "jpeg": "jpg", "bin": "kitti_bin", "txt": "csv"}

_FRAME = re.compile(r"([0-9]{1,18})\.(\w+)", re.ASCII)
_RECT_R_OBJECT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # forward, left, up to right, forward, up at yaw 0


@dataclass(frozen=True)
class SceneIds:
    """Ids of a scene and of what belongs to it."""

    dataset: str
    scene: str

    @property
    def scene_id(self) -> str:
        return make_id("scene", self.dataset, self.scene)

    def sample_id(self, frame: int) -> str:
        return make_id("sample", self.dataset, self.scene, frame)

    def sample_data_id(self, channel: str, frame: int) -> str:
        return make_id("sample_data", self.dataset, self.scene, channel, frame)

    def track_id(self, number: int) -> str:
        return make_id("track", self.dataset, self.scene, number)


class Camera(NamedTuple):
    """`intrinsic` row by row (9 numbers); `distortion` k1, k2, p1, p2, k3, None for a rectified camera."""

    intrinsic: list[float]
    distortion: list[float] | None
    camera_SE3_rect0: SE3


@dataclass(frozen=True)
class Calibration:
    """What is known of the sensors' places; nothing by default. `cameras` are by number, 0 to 3."""

    velodyne_SE3_imu: SE3 | None = None
    rect0_SE3_velodyne: SE3 | None = None
    cameras: Mapping[int, Camera] = field(default_factory=dict)

    @property
    def ego_SE3_velodyne(self) -> SE3:
        return self.velodyne_SE3_imu.inverse() if self.velodyne_SE3_imu else SE3(np.eye(3), np.zeros(3))

    @property
    def ego_SE3_rect0(self) -> SE3 | None:
        return self.ego_SE3_velodyne @ self.rect0_SE3_velodyne.inverse() if self.rect0_SE3_velodyne else None

    def sensor(self, channel: str) -> Row:
        """The calibration columns of a reading; null where not known. The LiDAR always has a place, see above."""
        if not channel.startswith("image"):
            return {"ego_SE3_sensor": pose_row(self.ego_SE3_velodyne)}
        camera, ego_SE3_rect0 = self.cameras.get(int(channel[-1])), self.ego_SE3_rect0
        if camera is None:
            return {}
        pose = ego_SE3_rect0 @ camera.camera_SE3_rect0.inverse() if ego_SE3_rect0 else None
        row = {"intrinsic": camera.intrinsic, "distortion": camera.distortion}
        return row | {"ego_SE3_sensor": pose and pose_row(pose)}


class CalibrationFile:
    """Lines `key: numbers`. What its methods raise is BadInput `bad-calibration` naming file and line."""

    def __init__(self, path: AnyPath, root: AnyPath) -> None:
        self.path = path
        self._lines: dict[str, tuple[int, str]] = {}
        for number, line in enumerate(read_text(path, root).split("\n"), 1):
            key, colon, values = line.partition(":")
            if line.strip() and not colon:
                raise self._bad(f"line {number}: {line[:80]!r}, expected `key: numbers`")
            self._lines[key.strip()] = number, values

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def matrix(self, key: str, *shape: int) -> Array:
        """The numbers of a key as float64 of `shape`."""
        if key not in self._lines:
            raise self._bad(f"no line {key!r}; it ends after line {len(self._lines)}")
        number, text = self._lines[key]
        try:
            values = np.array([float(word) for word in text.split()])
        except ValueError as error:
            raise self._bad(f"line {number}: {key}: {error}") from error
        if values.size != math.prod(shape) or not (np.abs(values) < MAX_NUMBER).all():
            raise self._bad(
                f"line {number}: {key} has {values.size} values, expected {math.prod(shape)} finite numbers"
            )
        return values.reshape(shape)

    def rotation(self, key: str) -> Array:
        """A rotation (3, 3), also the left part of a pose (3, 4), made exactly orthogonal: the files have 7 digits."""
        return self._orthogonal(key, self.matrix(key, 3, 3))

    def pose(self, key: str) -> SE3:
        """A pose as a matrix (3, 4)."""
        matrix = self.matrix(key, 3, 4)
        return SE3(self._orthogonal(key, matrix[:, :3]), matrix[:, 3])

    def rectified_camera(self, key: str) -> Camera:
        """A camera from its projection (3, 4) of rect0: K [I | t], so the camera stands t from rect0."""
        matrix = self.matrix(key, 3, 4)
        intrinsic = self._intrinsic(key, matrix[:, :3])
        offset = np.asarray(np.linalg.solve(intrinsic, matrix[:, 3]), np.float64)
        return Camera(intrinsic.ravel().tolist(), None, SE3(np.eye(3), offset))

    def raw_camera(self, number: int, rect0_SE3_camera0: SE3) -> Camera:
        """A camera as it is without rectification, from K, D, R and T."""
        intrinsic = self._intrinsic(f"K_{number:02d}", self.matrix(f"K_{number:02d}", 3, 3))
        camera_SE3_camera0 = SE3(self.rotation(f"R_{number:02d}"), self.matrix(f"T_{number:02d}", 3))
        distortion = self.matrix(f"D_{number:02d}", 5).tolist()
        return Camera(intrinsic.ravel().tolist(), distortion, camera_SE3_camera0 @ rect0_SE3_camera0.inverse())

    def _intrinsic(self, key: str, matrix: Array) -> Array:
        if not (matrix[0, 0] > 1 and matrix[1, 1] > 1 and matrix[1, 0] == 0 and (matrix[2] == (0, 0, 1)).all()):
            raise self._bad(f"line {self._lines[key][0]}: {key} is no projection of a camera: {matrix.tolist()}")
        return matrix

    def _orthogonal(self, key: str, matrix: Array) -> Array:
        left, scale, right = np.linalg.svd(matrix)
        rotation = np.asarray(left @ right, np.float64)
        if np.abs(scale - 1).max() > 0.01 or np.linalg.det(rotation) < 0:
            raise self._bad(f"line {self._lines[key][0]}: {key} is no rotation: {matrix.tolist()}")
        return rotation

    def _bad(self, cause: str) -> BadInput:
        return BadInput("bad-calibration", f"{self.path}: {cause}")


class Label(NamedTuple):
    """One line of a label file. The origin of `rect0_SE3_object` is the middle of the box; x forward, y left, z up.

    An area that is not annotated (category `DontCare`) has neither pose nor size.
    """

    category: str
    bbox_xyxy: list[float]
    size_lwh: list[float] | None
    rect0_SE3_object: SE3 | None
    attributes: Row


def read_labels(path: AnyPath, root: AnyPath) -> list[Label]:
    """The labels of one frame in the object benchmark's format. Raises BadInput `bad-label` naming file and line."""
    labels = []
    for number, line in enumerate(read_text(path, root).split("\n"), 1):
        try:
            if words := line.split():
                labels.append(_label(words))
        except ValueError as error:
            raise BadInput("bad-label", f"{path}: line {number}: {line[:80]!r}: {error}") from error
    return labels


def _label(words: list[str]) -> Label:
    """Category, truncation, occlusion, alpha, 2D box, height, width, length, place in rect0, yaw, and perhaps a score.

    The place is the middle of the bottom face; yaw turns about the axis down, at 0 the object looks to the right.
    """
    category, numbers = words[0], [float(word) for word in words[1:]]
    if len(numbers) not in (14, 15) or not all(abs(number) < MAX_NUMBER for number in numbers):
        raise ValueError(f"expected a category and 14 or 15 finite numbers, got {len(numbers)}")
    attributes: Row = {"truncation": numbers[0], "occlusion": int(numbers[1]), "alpha": numbers[2]}
    if len(numbers) == 15:
        attributes["score"] = numbers[14]
    bbox, (height, width, length), (x, y, z), yaw = numbers[3:7], numbers[7:10], numbers[10:13], numbers[13]
    if (height, width, length) == (-1, -1, -1):
        return Label(category, bbox, None, None, {name: value for name, value in attributes.items() if value >= 0})
    if min(height, width, length) < 0:
        raise ValueError(f"a box of height, width, length {height}, {width}, {length}")
    rect0_SE3_object = SE3(turn("y", yaw) @ _RECT_R_OBJECT, np.array([x, y - height / 2, z]))
    return Label(category, bbox, [length, width, height], rect0_SE3_object, attributes)


def label_rows(labels: Iterable[Label], place: Row, calibration: Calibration) -> list[Row]:
    """Annotation rows of one frame; `place` names scene, sample, time and the reading of the left colour camera.

    The 2D boxes belong to that picture: where it is missing there are none. Where the camera's place is not known a 3D
    box keeps its size only, and `"flags": ["no-calibration"]` in its attributes.
    """
    rows = []
    for number, label in enumerate(labels):
        pose, attributes = label.rect0_SE3_object, label.attributes
        if pose is not None:
            pose = calibration.ego_SE3_rect0 @ pose if calibration.ego_SE3_rect0 else None
            attributes = attributes if pose else attributes | {"flags": ["no-calibration"]}
        elif place["sample_data_id"] is None:
            continue
        row = {"category": label.category, "size_lwh": label.size_lwh, "ego_SE3_object": pose and pose_row(pose)}
        row["bbox_xyxy"] = label.bbox_xyxy if place["sample_data_id"] else None
        rows.append(annotation_row(row, place, ("label_2", number), attributes))
    return rows


def annotation_row(row: Row, place: Row, key: tuple[str | int, ...], attributes: Row) -> Row:
    """`row` with the columns that all annotations of the formats have; `key` starts with the kind of label file."""
    text = json.dumps(attributes, sort_keys=True, ensure_ascii=False)
    labels = {"attributes": text, "source": "kitti", "version": key[0]}
    return row | place | labels | {"annotation_id": make_id("annotation", place["sample_id"], *key)}


def frame_files(folder: AnyPath, suffixes: Sequence[str]) -> dict[int, AnyPath]:
    """By frame number, in order, the files `<number>.<suffix>` of a folder; empty where there is no such folder.

    Where a frame has several files it is that with the first of the suffixes.
    """
    found: dict[int, tuple[int, str]] = {}
    try:
        with scan(folder) as entries:
            for entry in entries:
                match = _FRAME.fullmatch(entry.name)
                if match and match[2].lower() in suffixes and entry.is_file():
                    rank = suffixes.index(match[2].lower()), entry.name
                    found[int(match[1])] = min(rank, found.get(int(match[1]), rank))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise BadInput("unreadable", f"{folder}: {error}") from error
    return {frame: folder / name for frame, (_, name) in sorted(found.items())}


def reading_rows(
    ids: SceneIds, channel: str, files: Mapping[int, AnyPath], sensor: Row, root: AnyPath
) -> dict[int, Row]:
    """By frame the rows of a channel without times and poses; `sensor` are its calibration columns.

    Raises BadInput `outside-source` for a link that leaves `root`.
    """
    for folder in {path.parent for path in files.values()}:
        check_inside(folder, root)
    return {frame: _reading_row(ids, channel, frame, path, root) | sensor for frame, path in files.items()}


def _reading_row(ids: SceneIds, channel: str, frame: int, path: AnyPath, root: AnyPath) -> Row:
    try:
        if path.is_symlink():
            check_inside(path, root)
        num_bytes = path.stat().st_size
    except OSError as error:  # in a folder that may be listed only
        raise BadInput("unreadable", f"{path}: {error}") from error
    return {
        "sample_data_id": ids.sample_data_id(channel, frame),
        "scene_id": ids.scene_id,
        "sample_id": ids.sample_id(frame),
        "channel": channel,
        "modality": "camera" if channel.startswith("image") else "lidar",
        "is_key_frame": True,
        "uri": str(path),
        "num_bytes": num_bytes,
        "fileformat": _FILEFORMATS[path.suffix[1:].lower()],
    }


def pose_row(pose: SE3) -> Row:
    return {"translation": pose.translation.tolist(), "rotation_wxyz": pose.wxyz.tolist()}


def turn(axis: str, angle_rad: float) -> Array:
    """The rotation (3, 3) about x, y or z, counter-clockwise seen from the tip of the axis."""
    sine, cosine = math.sin(angle_rad), math.cos(angle_rad)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = cosine
    rotation[first, second], rotation[second, first] = -sine, sine
    return rotation
