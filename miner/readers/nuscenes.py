"""nuScenes v1.0 tables (nuscenes.org, "nuScenes schema"): key frames and sweeps of cameras, LiDAR and radar, 3D boxes.

The tables of the full set are JSON lists of up to 1 GB. A worker walks each once and keeps only where the rows are (24
bytes a row); the rows of a scene are then read from the file. Sensors, tables and rows may be missing.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, ClassVar, TypeGuard, TypeVar

import pyarrow as pa

from kernels.se3 import SE3, matrix_to_wxyz, wxyz_to_matrix
from miner.errors import BadInput, NotFound, UsageError
from miner.ids import is_token, make_id
from miner.readers import SceneRef, SceneTables
from miner.readers.json_rows import Row, RowIndex, iter_rows
from miner.readers.places import AnyPath, ObjectPath, place_of
from miner.readers.sources import LATEST_NS, check_all_inside, check_inside, check_jumps, table
from miner.schema import ANNOTATIONS, SAMPLE_DATA, SCENES

T = TypeVar("T")

_NS_PER_US = 1000
_MAX_NAME = 256
_TEXTS = {"name", "filename", "channel", "modality", "location", "vehicle", "description", "level"}
_LATEST_US = LATEST_NS // _NS_PER_US
_BOXES = "sample_annotation.json"
_MODALITIES = {"CAM": "camera", "LIDAR": "lidar", "RADAR": "radar"}


class NuScenesReader:
    """A nuScenes dataroot (with one v1.0-* folder) or the v1.0-* folder itself; recordings lie in the dataroot."""

    name: ClassVar[str] = "nuscenes"
    looks_for: ClassVar[str] = "a folder v1.0-* with scene.json"
    fallback: ClassVar[bool] = False

    def __init__(self, source: str, dataset: str | None = None) -> None:
        """Raises NotFound where there is no version folder, UsageError naming them where there are several."""
        versions = _version_folders(source)
        if not versions:
            raise NotFound(f"{source}: no folder v1.0-* with scene.json", "Give the dataroot or its v1.0-* folder.")
        if len(versions) > 1:
            names = ", ".join(folder.name for folder in versions)
            raise UsageError(f"{source}: several versions: {names}", f"Give one of them, e.g. {versions[0]}")
        self.source = source
        self.dataset = dataset or self.name
        self._tables = versions[0]

    def __reduce__(self) -> tuple[type[NuScenesReader], tuple[str, str]]:
        return NuScenesReader, (self.source, self.dataset)

    @staticmethod
    def matches(source: str | AnyPath) -> bool:
        return bool(_version_folders(source))

    def scenes(self) -> Iterable[SceneRef]:
        """In the order of scene.json. What is no name, or that of several scenes, is replaced by the scene's id."""
        return [SceneRef(self._id("scene", row["token"]), name) for name, row in self._scenes.items()]

    def read(self, scene: str) -> SceneTables:
        """The rows of one scene. Boxes are in the ego frame at the time of their sample's LIDAR_TOP key frame.

        `sample_data_id` of a box names the key frame in whose ego frame it is; where a sample has no key frame with a
        pose, the box has a null pose and `"flags": ["no-ego-pose"]` in its attributes.
        """
        try:
            return self._read(scene)
        except BadInput as bad:
            named = str(self._tables) in bad.detail
            raise BadInput(bad.reason, bad.detail + ("" if named else f" (in {self._tables})")) from bad

    def _read(self, scene: str) -> SceneTables:
        if scene not in self._scenes:
            raise BadInput("unknown-scene", f"{self._tables}: no scene {scene!r} among {len(self._scenes)}")
        row = self._scenes[scene]
        samples = {
            _token(sample, "sample.json"): sample
            for sample in _sound(self._samples_of.rows({row["token"]}), "sample.json")
        }
        scene_id = self._id("scene", row["token"])
        readings = self._readings(scene_id, samples)
        annotations = self._annotations(scene_id, samples, readings)
        times = [reading["timestamp_ns"] for reading in readings] or [
            _time_ns(s, "sample.json") for s in samples.values()
        ]
        return SceneTables(
            _table([self._scene(row, scene, times or [0])], SCENES),
            _table(readings, SAMPLE_DATA),
            _table(annotations, ANNOTATIONS),
        )

    def _scene(self, row: Row, name: str, times_ns: list[int]) -> Row:
        log = self._logs.get(row.get("log_token", ""), {})
        return {
            "scene_id": self._id("scene", row["token"]),
            "dataset": self.dataset,
            "log_id": self._id("log", row.get("log_token") or row["token"]),
            "name": row["name"] if _is_name(row.get("name")) else name,
            "start_ns": min(times_ns),
            "end_ns": max(times_ns) + 1,
            "location": log.get("location"),
            "vehicle": log.get("vehicle"),
            "split": self._tables.name.partition("-")[2] or None,
            "description": row.get("description") or None,
        }

    def _readings(self, scene_id: str, samples: Collection[str]) -> list[Row]:
        rows = _sound(self._sample_data_of.rows(samples), "sample_data.json")
        pose_rows = self._ego_poses_of.rows({row["ego_pose_token"] for row in rows if row.get("ego_pose_token")})
        poses = {row["token"]: _pose(row, "ego_pose.json") for row in pose_rows}
        readings = [self._reading(row, scene_id, poses.get(row.get("ego_pose_token", ""))) for row in rows]
        root = self._tables.parent
        check_all_inside((root / reading["uri"] for reading in readings), root)
        check_jumps((reading["timestamp_ns"] for reading in readings), f"{self._tables}/sample_data.json")
        return sorted(readings, key=lambda reading: (reading["timestamp_ns"], reading["channel"]))

    def _reading(self, row: Row, scene_id: str, global_SE3_ego: Row | None) -> Row:
        token, filename = _token(row, "sample_data.json"), _need(row, "filename", str, "sample_data.json")
        path = self._file(filename, token)
        return {
            "sample_data_id": self._id("sample_data", token),
            "scene_id": scene_id,
            "sample_id": self._id("sample", row["sample_token"]),
            "timestamp_ns": _time_ns(row, "sample_data.json"),
            "is_key_frame": bool(row.get("is_key_frame")),
            "uri": str(path),
            "num_bytes": _num_bytes(path),
            "fileformat": _fileformat(filename),
            "global_SE3_ego": global_SE3_ego,
            **(self._sensors.get(row.get("calibrated_sensor_token", "")) or _sensor_of_name(filename)),
        }

    def _file(self, filename: str, token: str) -> AnyPath:
        parts = PurePosixPath(filename)
        if parts.is_absolute() or ".." in parts.parts or "\\" in filename or "\0" in filename:
            raise BadInput(
                "outside-source", f"sample_data.json: row {token}: filename {filename!r} leaves the dataroot"
            )
        return self._tables.parent / parts

    def _annotations(self, scene_id: str, samples: dict[str, Row], readings: list[Row]) -> list[Row]:
        references = _references(readings)
        boxes: dict[str, list[Row]] = defaultdict(list)
        for row in _sound(self._boxes_of.rows(samples), _BOXES):
            boxes[row["sample_token"]].append(row)
        annotations = []
        for sample, rows in boxes.items():
            sample_id, time_ns = self._id("sample", sample), _time_ns(samples[sample], "sample.json")
            reference = references.get(sample_id)
            for row, pose in zip(rows, _ego_SE3_objects(rows, reference), strict=True):
                place = {"scene_id": scene_id, "sample_id": sample_id, "ego_SE3_object": pose, "timestamp_ns": time_ns}
                if reference is not None:
                    place |= {key: reference[key] for key in ("timestamp_ns", "sample_data_id")}
                annotations.append(self._annotation(row, reference is not None) | place)
        return sorted(annotations, key=lambda annotation: (annotation["timestamp_ns"], annotation["annotation_id"]))

    def _annotation(self, row: Row, placed: bool) -> Row:
        instance = row.get("instance_token") or None
        return {
            "annotation_id": self._id("annotation", _token(row, _BOXES)),
            "track_id": instance,
            "category": self._category_of.get(instance or "", "unknown"),
            "size_lwh": _size_lwh(row),
            "num_lidar_pts": row.get("num_lidar_pts"),
            "attributes": json.dumps(self._attributes(row, placed), sort_keys=True, ensure_ascii=False),
            "source": self.name,
            "version": self._tables.name,
        }

    def _attributes(self, row: Row, placed: bool) -> Row:
        names = [
            self._attribute_names[token]
            for token in row.get("attribute_tokens") or []
            if token in self._attribute_names
        ]
        visibility = self._visibility_levels.get(row.get("visibility_token", ""))
        known = {"attributes": names, "visibility": visibility, "num_radar_pts": row.get("num_radar_pts")}
        attributes = {key: value for key, value in known.items() if value not in (None, [])}
        return attributes if placed else attributes | {"flags": ["no-ego-pose"]}

    def _id(self, kind: str, token: str) -> str:
        return token if is_token(token) else make_id(kind, self.dataset, token)

    def _rows(self, table: str) -> dict[str, Row]:
        """A small table by token."""
        path = self._path(table)
        rows = _sound((row for _, _, row in iter_rows(path)), path.name) if path.exists() else ()
        return {_token(row, path.name): row for row in rows}

    def _index(self, table: str, field: str) -> RowIndex:
        return RowIndex(self._path(table), field)

    def _path(self, table: str) -> AnyPath:
        path = self._tables / f"{table}.json"
        check_inside(path, self._tables)
        return path

    @cached_property
    def _scenes(self) -> dict[str, Row]:
        try:
            rows = self._rows("scene")
        except BadInput as error:
            raise UsageError(error.detail, "Without scene.json nothing of the source can be read.") from error
        count = Counter(row.get("name") for row in rows.values())
        return {
            name if _is_name(name := row.get("name")) and count[name] == 1 else self._id("scene", token): row
            for token, row in rows.items()
        }

    @cached_property
    def _logs(self) -> dict[str, Row]:
        return self._rows("log")

    @cached_property
    def _sensors(self) -> dict[str, Row]:
        """The sensor columns of a reading by calibrated_sensor token; those without a sensor row are left out."""
        sensors = self._rows("sensor")
        calibrated = self._rows("calibrated_sensor").items()
        return {
            token: _sensor(row, sensors[row["sensor_token"]])
            for token, row in calibrated
            if row.get("sensor_token") in sensors
        }

    @cached_property
    def _category_of(self) -> dict[str, str]:
        """Category names by instance token."""
        names = {token: row.get("name") for token, row in self._rows("category").items()}
        instances = self._rows("instance").items()
        return {token: names.get(row.get("category_token", "")) or "unknown" for token, row in instances}

    @cached_property
    def _attribute_names(self) -> dict[str, str]:
        return {token: _need(row, "name", str, "attribute.json") for token, row in self._rows("attribute").items()}

    @cached_property
    def _visibility_levels(self) -> dict[str, str]:
        return {token: _need(row, "level", str, "visibility.json") for token, row in self._rows("visibility").items()}

    @cached_property
    def _samples_of(self) -> RowIndex:
        return self._index("sample", "scene_token")

    @cached_property
    def _sample_data_of(self) -> RowIndex:
        return self._index("sample_data", "sample_token")

    @cached_property
    def _ego_poses_of(self) -> RowIndex:
        return self._index("ego_pose", "token")

    @cached_property
    def _boxes_of(self) -> RowIndex:
        return self._index("sample_annotation", "sample_token")


def _version_folders(source: str | AnyPath) -> list[AnyPath]:
    """The v1.0-* folders of a source, sorted; the source itself where it is one."""
    root = place_of(source)
    folders: list[AnyPath] = [root] if root.match("v1.0-*") else [*root.glob("v1.0-*")]
    folders.sort(key=lambda folder: folder.name)
    return [folder for folder in folders if (folder / "scene.json").is_file()]


def _references(readings: list[Row]) -> dict[str, Row]:
    """By sample id the key frame in whose ego frame the boxes of the sample are: LIDAR_TOP, else a LiDAR, else any."""
    best: dict[str, Row] = {}
    usable = [reading for reading in readings if reading["is_key_frame"] and reading["global_SE3_ego"]]
    for reading in sorted(usable, key=lambda r: (r["channel"] != "LIDAR_TOP", r["modality"] != "lidar", r["channel"])):
        best.setdefault(reading["sample_id"], reading)
    return best


def _sensor(calibrated: Row, sensor: Row) -> Row:
    file, matrix = "calibrated_sensor.json", calibrated.get("camera_intrinsic") or []
    try:
        intrinsic = [float(x) for line in matrix for x in line]
    except (TypeError, ValueError):
        intrinsic = [math.nan]
    if len(intrinsic) not in (0, 9):
        raise BadInput("bad-row", f"{file}: row {calibrated['token']}: camera_intrinsic {matrix!r} is not 3 x 3")
    return {
        "channel": _need(sensor, "channel", str, "sensor.json"),
        "modality": _need(sensor, "modality", str, "sensor.json"),
        "ego_SE3_sensor": _pose(calibrated, file),
        "intrinsic": intrinsic or None,
    }


def _sensor_of_name(filename: str) -> Row:
    """Channel and modality of `samples/CHANNEL/name`, for a reading whose calibration is not in the tables."""
    parts = PurePosixPath(filename).parts
    modality = _MODALITIES.get(parts[-2].partition("_")[0]) if len(parts) > 1 else None
    if modality is None:
        raise BadInput(
            "missing-sensor", f"sample_data.json: {filename!r} has no calibrated_sensor row and no channel folder"
        )
    return {"channel": parts[-2], "modality": modality, "ego_SE3_sensor": None, "intrinsic": None}


def _is_name(value: Any) -> TypeGuard[str]:
    """Whether it can name a scene: some text without line ends, half characters and the like."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()


def _num_bytes(path: AnyPath) -> int | None:
    """None too for an object of a store: the folders of the recordings are not listed."""
    if isinstance(path, ObjectPath):
        return None
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # missing, or no name that a file can have: embed will say so
        return None


def _fileformat(filename: str) -> str:
    if filename.endswith(".pcd.bin"):
        return "nuscenes_bin"
    suffix = PurePosixPath(filename).suffix.lstrip(".").lower()
    return "jpg" if suffix == "jpeg" else suffix or "unknown"


def _size_lwh(row: Row) -> list[float]:
    """nuScenes gives width, length, height; we keep length, width, height."""
    size = row.get("size")
    if not _numbers(size, 3) or min(size) < 0:
        raise BadInput("bad-row", f"{_BOXES}: row {row.get('token')}: size {size!r} is not width, length, height")
    width, length, height = size
    return [length, width, height]


def _pose(row: Row, file: str) -> Row:
    """The pose of a row as it is stored. Raises BadInput where it is not finite or no unit quaternion."""
    pose = {"translation": row.get("translation"), "rotation_wxyz": row.get("rotation")}
    for values, size in zip(pose.values(), (3, 4), strict=True):
        if not _numbers(values, size):
            raise BadInput(
                "bad-pose", f"{file}: row {row.get('token')}: expected {size} finite numbers, got {values!r}"
            )
        if size == 4 and abs(math.hypot(*values) - 1) > 0.01:
            raise BadInput("bad-pose", f"{file}: row {row.get('token')}: {values!r} is no unit quaternion")
    return pose


def _numbers(values: Any, size: int) -> TypeGuard[list[float]]:
    numbers = isinstance(values, list) and len(values) == size and all(type(x) in (int, float) for x in values)
    return numbers and all(map(math.isfinite, values))


def _ego_SE3_objects(rows: list[Row], reference: Row | None) -> list[Row | None]:
    """The boxes of one sample, global in the tables, in the ego frame of its reference key frame; null without one."""
    poses = [_pose(row, _BOXES) for row in rows]
    if reference is None:
        return [None] * len(rows)
    ego_SE3_global = SE3.from_wxyz(*reference["global_SE3_ego"].values()).inverse()
    centres = ego_SE3_global.transform([pose["translation"] for pose in poses])
    turns = ego_SE3_global.rotation @ wxyz_to_matrix([pose["rotation_wxyz"] for pose in poses])
    pairs = zip(centres.tolist(), matrix_to_wxyz(turns).tolist(), strict=True)
    return [{"translation": centre, "rotation_wxyz": turn} for centre, turn in pairs]


def _token(row: Row, file: str) -> str:
    return _need(row, "token", str, file)


def _time_ns(row: Row, file: str) -> int:
    timestamp = _need(row, "timestamp", (int, float), file)
    if not abs(timestamp) < _LATEST_US:
        raise BadInput("bad-row", f"{file}: row {row.get('token')}: timestamp is {timestamp!r}")
    return round(timestamp * _NS_PER_US)


def _sound(rows: Iterable[Row], file: str) -> list[Row]:
    """The rows, if what is looked up by or stored as text is text where it is there at all. Raises BadInput."""
    found = []
    for row in rows:
        for field, value in row.items():
            values = value or [] if field == "attribute_tokens" else [value]
            is_text = field in _TEXTS or field.endswith(("token", "tokens"))
            if is_text and not (isinstance(values, list) and all(isinstance(each, str | None) for each in values)):
                raise BadInput("bad-row", f"{file}: row {row.get('token')!r}: {field} is {value!r}")
        found.append(row)
    return found


def _need(row: Row, field: str, kind: type[T] | tuple[type[T], ...], file: str) -> T:
    """The value of a field that a row cannot do without. Raises BadInput naming file, row and field."""
    value = row.get(field)
    if not isinstance(value, kind):
        raise BadInput("bad-row", f"{file}: row {row.get('token')}: {field} is {value!r}")
    return value


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a checked table. Raises BadInput for a key that two rows share or a value of the wrong type."""
    key = schema.names[0]
    twice = [value for value, count in Counter(row[key] for row in rows).items() if count > 1]
    if twice:
        raise BadInput("duplicate-id", f"{key} {twice[0]} is in more than one row")
    return table(rows, schema)
