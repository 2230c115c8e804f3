"""ROS 2 recordings in MCAP files for tests, made with libraries that the product does not use: rosbags serialises the
messages (with the definitions of ROS 2 Humble), mcap writes the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from miner.readers import SceneTables

_STORE = get_typestore(Stores.ROS2_HUMBLE)
_CODES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
LAYOUTS: dict[str, dict[str, Any]] = {
    "zstd": {"compression": CompressionType.ZSTD},
    "lz4": {"compression": CompressionType.LZ4},
    "none": {"compression": CompressionType.NONE},
    "unchunked": {"use_chunking": False},
}


class Sent(NamedTuple):
    """One message to write: `log_time_ns` is the recorder's clock."""

    topic: str
    message: Any
    log_time_ns: int


def make(kind: str, *values: Any) -> Any:
    """A message by its short type (`sensor_msgs/Image`) and the values of its fields in order."""
    return _STORE.types[kind.replace("/", "/msg/")](*values)


def serialised(message: Any, little_endian: bool = True) -> bytes:
    return bytes(_STORE.serialize_cdr(message, message.__msgtype__, little_endian=little_endian))


def header(stamp_ns: int, frame_id: str = "") -> Any:
    return make("std_msgs/Header", make("builtin_interfaces/Time", *divmod(stamp_ns, 10**9)), frame_id)


def write_mcap(path: Path, messages: Iterable[Sent], **options: Any) -> Path:
    """The messages in the given order; small chunks and all CRCs unless `options` of mcap's Writer say otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = Writer(str(path), **{"chunk_size": 4096, "enable_data_crcs": True, **options})
    writer.start(profile="ros2", library="tests")
    schemas: dict[str, int] = {}
    channels: dict[str, int] = {}
    for topic, message, log_time_ns in messages:
        kind = message.__msgtype__
        if kind not in schemas:
            definition = _STORE.generate_msgdef(kind, ros_version=2)[0].encode()
            schemas[kind] = writer.register_schema(kind, "ros2msg", definition)
        if topic not in channels:
            channels[topic] = writer.register_channel(topic, "cdr", schemas[kind])
        writer.add_message(channels[topic], log_time_ns, serialised(message), log_time_ns)
    writer.finish()
    return path


def counted(path: Path) -> dict[str, int]:
    """Messages by topic as mcap's own reader counts them, with CRCs checked."""
    found: dict[str, int] = {}
    with open(path, "rb") as file:
        for _, channel, _ in make_reader(file, validate_crcs=True).iter_messages():
            found[channel.topic] = found.get(channel.topic, 0) + 1
    return found


def compressed_image(stamp_ns: int, data: bytes, frame_id: str = "cam", fileformat: str = "jpeg") -> Any:
    return make("sensor_msgs/CompressedImage", header(stamp_ns, frame_id), fileformat, np.frombuffer(data, np.uint8))


def image(
    pixels: NDArray[Any], encoding: str, stamp_ns: int = 1, frame_id: str = "cam", padding: int = 0, big: bool = False
) -> Any:
    """Pixels (H, W[, channels]) of a raw image, with `padding` bytes behind each row."""
    height, width = pixels.shape[:2]
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    step = rows.shape[1]
    return make("sensor_msgs/Image", header(stamp_ns, frame_id), height, width, encoding, int(big), step, rows.ravel())


def point_cloud(
    points: NDArray[Any], stamp_ns: int = 1, frame_id: str = "lidar", row_padding: int = 0, big: bool = False
) -> Any:
    """A structured array (n,) or (rows, n) as it lies in memory, with the gaps of its dtype."""
    rows = np.atleast_2d(points)
    kind = rows.dtype
    assert kind.fields is not None
    fields = [
        make("sensor_msgs/PointField", name, offset, _CODES[field.str[1:]], 1)
        for name, (field, offset, *_) in kind.fields.items()
    ]
    data = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), -1)
    data = np.pad(data, ((0, 0), (0, row_padding)), constant_values=255)
    sizes = (big, kind.itemsize, data.shape[1], data.ravel(), True)
    return make("sensor_msgs/PointCloud2", header(stamp_ns, frame_id), *rows.shape, fields, *sizes)


def camera_info(frame_id: str, intrinsic: Iterable[float], distortion: Iterable[float] = ()) -> Any:
    k, d = np.array(list(intrinsic), np.float64), np.array(list(distortion), np.float64)
    p = np.insert(2 * k.reshape(3, 3), 3, 0.0, axis=1).ravel()  # of another, rectified camera
    roi = make("sensor_msgs/RegionOfInterest", 0, 0, 0, 0, False)
    return make(
        "sensor_msgs/CameraInfo", header(1, frame_id), 900, 1600, "plumb_bob", d, k, np.eye(3).ravel(), p, 0, 0, roi
    )


def transforms(*edges: tuple[str, str, dict[str, list[float]]], stamp_ns: int = 0) -> Any:
    """parent, child and the pose parent_SE3_child of each edge."""
    stamped = []
    for parent, child, pose in edges:
        w, x, y, z = pose["rotation_wxyz"]
        place = make("geometry_msgs/Vector3", *pose["translation"])
        moved = make("geometry_msgs/Transform", place, make("geometry_msgs/Quaternion", x, y, z, w))
        stamped.append(make("geometry_msgs/TransformStamped", header(stamp_ns, parent), child, moved))
    return make("tf2_msgs/TFMessage", stamped)


def fix(latitude: float, longitude: float, status: int = 0) -> Any:
    where = (latitude, longitude, 0.0, np.zeros(9), 0)
    return make("sensor_msgs/NavSatFix", header(1, "gps"), make("sensor_msgs/NavSatStatus", status, 1), *where)


def topic_of(channel: str, modality: str) -> str:
    return f"/{channel}/points" if modality == "lidar" else f"/{channel}/image_raw/compressed"


def recorded(tables: SceneTables) -> list[Sent]:
    """The readings of a scene of camera pictures and nuScenes LiDAR files as a ROS 2 system would have sent them."""
    rows = [row for row in tables.sample_data.to_pylist() if row["modality"] in ("camera", "lidar")]
    start_ns = rows[0]["timestamp_ns"]
    sensors = {row["channel"]: row for row in rows}.values()
    mounted = [("base_link", row["channel"], row["ego_SE3_sensor"]) for row in sensors]
    sent = [Sent("/tf_static", transforms(*mounted), start_ns), Sent("/gps/fix", fix(1.2972, 103.787), start_ns)]
    for row in sensors:
        if row["intrinsic"]:
            info = camera_info(row["channel"], row["intrinsic"], row["distortion"] or ())
            sent.append(Sent(f"/{row['channel']}/camera_info", info, start_ns))
    for row in rows:
        time_ns = row["timestamp_ns"]
        moved = transforms(("map", "base_link", row["global_SE3_ego"]), stamp_ns=time_ns)
        sent += [Sent("/tf", moved, time_ns), Sent(topic_of(row["channel"], row["modality"]), _sensed(row), time_ns)]
    return sent


NUSCENES_POINT = np.dtype([(name, "<f4") for name in ("x", "y", "z", "intensity")] + [("ring", "<u2"), ("gap", "<u2")])


def _sensed(row: dict[str, Any]) -> Any:
    if row["modality"] == "camera":
        data = Path(row["uri"]).read_bytes()
        return compressed_image(row["timestamp_ns"], data, row["channel"], row["fileformat"])
    stored = np.fromfile(row["uri"], np.float32).reshape(-1, 5)
    points = np.zeros(len(stored), NUSCENES_POINT)
    for column, name in enumerate(("x", "y", "z", "intensity", "ring")):
        points[name] = stored[:, column]
    return point_cloud(points, row["timestamp_ns"], row["channel"])
