"""What a ROS 2 recording says about its sensors: the tree of transforms, calibrations, clocks, where it was."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.se3 import interpolate, matrix_to_wxyz, wxyz_to_matrix
from miner.decode.ros import Cdr, read_header

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TRANSFORMS = "tf2_msgs/msg/TFMessage"
FIX = "sensor_msgs/msg/NavSatFix"

EGO_FRAME = "base_link"  # REP 105
GLOBAL_FRAMES = ("map", "world", "odom")
_TRANSPORTS = ("compressed", "theora", "ffmpeg")  # image_transport puts its plugin's name behind the topic
_CLOCK_NS = 60 * 10**9
_SIMULATED_NS = 3600 * 10**9

Times = NDArray[np.int64]
Array = NDArray[np.float64]


class Poses(NamedTuple):
    """dst_SE3_src at n times: translation (n, 3) m, rotation_wxyz (n, 4); rows not `known` (n,) mean nothing."""

    translation: Array
    rotation_wxyz: Array
    known: NDArray[np.bool_]


@dataclass
class _Edge:
    """parent_SE3_child: constant, or samples in the order of the file. Seven numbers each: translation, wxyz."""

    constant: bool
    times_ns: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def at(self, times_ns: Times) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Rotation (n, 3, 3), translation (n, 3) and whether the time is within the samples."""
        values = np.frombuffer(self.values).reshape(-1, 7)
        if self.constant:  # of a static transform that was sent again, the last one holds
            samples, wanted = np.zeros(1, np.int64), np.zeros_like(times_ns)
            values = values[-1:]
        else:
            samples, rows = np.unique(np.frombuffer(self.times_ns, np.int64), return_index=True)
            values, wanted = values[rows], times_ns.clip(samples[0], samples[-1])
        translation, wxyz = interpolate(samples, values[:, :3], values[:, 3:], wanted)
        known = np.full(len(wanted), True) if self.constant else wanted == times_ns
        return wxyz_to_matrix(wxyz), translation, known


class TransformTree:
    """The transforms of a recording as tf2 keeps them: each frame has one parent, edges are static or sampled."""

    def __init__(self) -> None:
        self._edges: dict[tuple[str, str], _Edge] = {}  # by (child, parent)
        self.refused = 0

    def add(self, message: Cdr, static: bool) -> None:
        """The transforms of a tf2_msgs/TFMessage; those that are not finite or no rotation are counted in `refused`."""
        for _ in range(message.numbers("I")[0]):
            header, child = read_header(message), message.string().removeprefix("/")
            x, y, z, qx, qy, qz, qw = values = message.numbers("d", 7)
            norm = math.hypot(qx, qy, qz, qw)
            if not all(map(math.isfinite, values)) or abs(norm - 1) > 0.01 or child == header.frame_id:
                self.refused += 1
                continue
            edge = self._edges.setdefault((child, header.frame_id), _Edge(static))
            edge.times_ns.append(header.stamp_ns)
            edge.values.extend((x, y, z, qw, qx, qy, qz))

    def lookup(self, target: str, source: str, times_ns: Times) -> Poses | None:
        """target_SE3_source: interpolated at the times, unknown outside of the samples; None without a connection."""
        from_source, from_target = self._ancestors(source), self._ancestors(target)
        meeting = next((frame for frame in from_source if frame in from_target), None)
        if meeting is None:
            return None
        rotation, translation, known = self._up(source, meeting, times_ns)
        if meeting != target:
            down, offset, also = self._up(target, meeting, times_ns)
            down = down.swapaxes(-1, -2)
            rotation, translation = down @ rotation, _turn(down, translation - offset)
            known = known & also
        return Poses(translation, matrix_to_wxyz(rotation), known)

    def ego_frame(self) -> str | None:
        """base_link, or where that is not there the root with most frames fixed to it; None without transforms."""
        frames = {frame for edge in self._edges for frame in edge}
        if EGO_FRAME in frames or not frames:
            return EGO_FRAME if frames else None
        fixed = {child: parent for child, parent in self._parents.items() if self._edges[child, parent].constant}
        roots = [_chain(fixed, child)[-1] for child in sorted(fixed)]
        return max(roots, key=roots.count, default=None)

    def global_frame(self, ego: str) -> str | None:
        """Of the frames the ego frame moves in: map, world, odom, or the outermost; None where nothing moves."""
        outer = self._ancestors(ego)[1:]
        named = [frame for frame in GLOBAL_FRAMES if frame in outer]
        moves = any(not self._edges[edge].constant for edge in zip([ego, *outer], outer, strict=False))
        return named[0] if named else outer[-1] if outer and moves else None

    @cached_property
    def _parents(self) -> dict[str, str]:
        """The parent of each frame; of several the more global one, else the first by name."""
        rank = {frame: place for place, frame in enumerate(GLOBAL_FRAMES)}
        edges = sorted(self._edges, key=lambda edge: (rank.get(edge[1], len(rank)), edge[1]), reverse=True)
        return dict(edges)

    def _ancestors(self, frame: str) -> list[str]:
        return _chain(self._parents, frame)

    def _up(self, frame: str, ancestor: str, times_ns: Times) -> tuple[Array, Array, NDArray[np.bool_]]:
        """ancestor_SE3_frame as rotations (n, 3, 3), translations (n, 3), and where all of the way is known."""
        n = len(times_ns)
        rotation, translation, known = np.tile(np.eye(3), (n, 1, 1)), np.zeros((n, 3)), np.ones(n, np.bool_)
        while frame != ancestor:
            parent = self._parents[frame]
            turn, offset, within = self._edges[frame, parent].at(times_ns)
            rotation, translation, known = turn @ rotation, _turn(turn, translation) + offset, known & within
            frame = parent
        return rotation, translation, known


def _chain(parents: Mapping[str, str], frame: str) -> list[str]:
    """The frame and its ancestors; a loop ends where it closes."""
    chain = [frame]
    while (parent := parents.get(chain[-1])) is not None and parent not in chain:
        chain.append(parent)
    return chain


def _turn(rotations: Array, vectors: Array) -> Array:
    turned: Array = np.einsum("nij,nj->ni", rotations, vectors)
    return turned


class CameraInfo(NamedTuple):
    """sensor_msgs/CameraInfo: `intrinsic` 3 x 3 row by row, that of the rectified image in `rectified`; None where the
    camera is not calibrated."""

    frame_id: str
    intrinsic: list[float] | None
    distortion: list[float] | None
    rectified: list[float] | None


def read_camera_info(message: Cdr) -> CameraInfo:
    header = read_header(message)
    message.numbers("I", 2)
    message.string()
    distortion = list(message.sequence("d"))
    k, _, p = message.numbers("d", 9), message.numbers("d", 9), message.numbers("d", 12)
    matrices = (list(k), [*p[:3], *p[4:7], *p[8:11]])
    intrinsic, rectified = (m if m[0] > 0 and all(map(math.isfinite, m)) else None for m in matrices)
    return CameraInfo(header.frame_id, intrinsic, distortion or None, rectified)


def calibration_of(topic: str, frame_id: str, infos: Mapping[str, CameraInfo]) -> CameraInfo | None:
    """The camera info (by topic) that belongs to an image topic: of its namespace, else the only one of its frame.

    `/front/camera_info` belongs to `/front/image_raw` and to its transports, as `/front/image_raw/compressed`. A
    rectified image (`image_rect`) has the projection matrix as intrinsic and no distortion (sensor_msgs/CameraInfo).
    """
    spaces = {info.rpartition("/")[0]: info for info in sorted(infos, reverse=True)}
    plain, _, transport = topic.rpartition("/")
    near = spaces.get((plain if transport in _TRANSPORTS else topic).rpartition("/")[0])
    same_frame = [info for info in sorted(infos) if frame_id and infos[info].frame_id == frame_id]
    found = infos[near] if near else infos[same_frame[0]] if len(same_frame) == 1 else None
    if found is None or "image_rect" not in topic:
        return found
    return found._replace(intrinsic=found.rectified or found.intrinsic, distortion=None)


def read_fix(message: Cdr) -> str | None:
    """Latitude and longitude in degrees as text, "1.29720, 103.78700"; None without a fix."""
    read_header(message)
    (status,), _ = message.numbers("b"), message.numbers("H")
    latitude, longitude = message.numbers("d", 2)
    if status < 0 or not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None
    return f"{latitude:.5f}, {longitude:.5f}"


def clock_of(stamps_ns: Times, log_times_ns: Times) -> tuple[Times, int]:
    """The times of a sensor's readings, and how many were mended.

    The stamp, where there is one. A stamp that is over a minute off the sensor's usual distance to the recorder's clock
    is replaced by the recorder's time at that distance: one wild stamp must not stretch a scene over decades.
    """
    has = stamps_ns > 0
    if not has.any():
        return log_times_ns.copy(), 0
    distance = stamps_ns - log_times_ns
    usual = int(np.sort(distance[has])[has.sum() // 2])
    wild = has & (np.abs(distance - usual) > _CLOCK_NS)
    return np.where(has & ~wild, stamps_ns, log_times_ns + usual), int(wild.sum())


def is_foreign(times_ns: Times, log_times_ns: Times) -> bool:
    """Whether a sensor's clock is over an hour off the recorder's (time since boot, simulated time)."""
    return bool(len(times_ns)) and abs(int(np.median(times_ns - log_times_ns))) > _SIMULATED_NS


def distinct(times_ns: Times) -> Times:
    """Times of one channel, equal ones moved apart by 1 ns, in the order they are in."""
    order = np.argsort(times_ns, kind="stable")
    place = np.arange(len(order))
    apart = np.empty_like(times_ns)
    apart[order] = np.maximum.accumulate(times_ns[order] - place) + place
    return apart
