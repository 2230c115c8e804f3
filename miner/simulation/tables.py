"""A scene as rows: what a reader of the recording would know, and the ground truth."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.se3 import matrix_to_wxyz
from miner.ids import make_id
from miner.readers import SceneTables
from miner.schema import ANNOTATIONS, POSE, SAMPLE_DATA, SCENES, check
from miner.simulation.actors import actor_poses
from miner.simulation.rig import KEY_FRAME_HZ, LIDAR, Array, ego_SE3_sensor, intrinsic, turn_z
from miner.simulation.spec import Spec
from miner.simulation.sweep import points_per_actor
from miner.simulation.world import World, channels, ego_poses, event_span_ns, make_world, timestamps_ns, view

DATASET = "synthetic"
SOURCE, VERSION = "simulation", "1"
LABEL_RANGE_M = 60.0


def scene_id_of(spec: Spec, name: str, dataset: str = DATASET) -> str:
    """The id of a scene's row."""
    return make_id("scene", dataset, log_id(spec), name)


def log_id(spec: Spec) -> str:
    """The log all scenes of one seed belong to."""
    return f"simulation-{spec.seed}"


def scene_tables(spec: Spec, name: str, root: str, dataset: str = DATASET) -> SceneTables:
    """The rows of one scene, without rendering: a pure function of its arguments. `root` is the recording's folder.

    With `spec.pixels` key frame sweeps are cast, to count LiDAR points per box. Raises NotFound for an unknown scene.
    """
    world = make_world(spec, name)
    scene_id = scene_id_of(spec, name, dataset)
    seen = _seen(world)
    scene = {
        "scene_id": scene_id,
        "dataset": dataset,
        "log_id": log_id(spec),
        "name": name,
        "start_ns": world.start_ns,
        "end_ns": world.end_ns,
        "location": world.conditions.environment,
        "vehicle": "simulated",
        "license": "CC0-1.0",
        "description": describe(world, seen.nearest_m),
    }
    readings = pa.concat_tables([_readings(world, scene_id, root, channel) for channel in channels(spec)])
    annotations = pa.concat_tables([_boxes(world, scene_id, seen), _labels(world, scene_id)])
    return SceneTables(check(pa.Table.from_pylist([scene]), SCENES), check(readings, SAMPLE_DATA), annotations)


def pose_array(translation: Array, wxyz: Array) -> pa.StructArray:
    """Poses as an Arrow column: translation (n, 3) m, wxyz (n, 4)."""
    lists = [
        pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel(), pa.float64()), width)
        for values, width in ((translation, 3), (wxyz, 4))
    ]
    return pa.StructArray.from_arrays(lists, fields=list(POSE))


def _yaw_wxyz(yaw_rad: Array) -> Array:
    zero = np.zeros_like(yaw_rad)
    return np.stack([np.cos(yaw_rad / 2), zero, zero, np.sin(yaw_rad / 2)], -1)


def _repeat(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)


def key_frames(timestamps: NDArray[np.int64], rate_hz: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The number of the sample of each reading, and whether it is that sample's key frame (its first reading)."""
    beats = np.round(np.arange(len(timestamps)) / rate_hz * KEY_FRAME_HZ, 6).astype(np.int64)
    first = np.ones(len(beats), np.bool_)
    first[1:] = beats[1:] != beats[:-1]
    return beats, first


def _sample_ids(scene_id: str, samples: NDArray[np.int64]) -> list[str]:
    names = {sample: make_id("sample", scene_id, sample) for sample in np.unique(samples).tolist()}
    return [names[sample] for sample in samples.tolist()]


def _readings(world: World, scene_id: str, root: str, channel: str) -> pa.Table:
    """The sample_data rows of one sensor."""
    spec, lidar = world.spec, channel == LIDAR
    times = timestamps_ns(world, channel)
    n = len(times)
    samples, key = key_frames(times, spec.lidar_hz if lidar else spec.camera_hz)
    rotation, translation = ego_SE3_sensor(channel)
    position, heading = ego_poses(world, world.seconds_at(times))
    mounted = pose_array(np.tile(translation, n), np.tile(matrix_to_wxyz(rotation), n))
    folder, ending = f"{root}/{world.name}/{channel}", "bin" if lidar else "jpg"
    matrix = None if lidar else intrinsic(channel, spec.width, spec.height).ravel()
    stamps = times.tolist()
    return pa.table(
        {
            "sample_data_id": [make_id("sample_data", scene_id, channel, stamp) for stamp in stamps],
            "scene_id": _repeat(scene_id, n),
            "sample_id": _sample_ids(scene_id, samples),
            "channel": _repeat(channel, n),
            "modality": _repeat("lidar" if lidar else "camera", n),
            "timestamp_ns": times,
            "is_key_frame": key,
            "uri": [f"{folder}/{stamp}.{ending}" for stamp in stamps],
            "fileformat": _repeat("nuscenes_bin" if lidar else "jpg", n),
            "ego_SE3_sensor": mounted,
            "global_SE3_ego": pose_array(position, _yaw_wxyz(heading)),
            "intrinsic": pa.nulls(n, pa.list_(pa.float64(), 9))
            if matrix is None
            else pa.FixedSizeListArray.from_arrays(pa.array(np.tile(matrix, n)), 9),
        }
    )


@dataclass(frozen=True)
class _Seen:
    """Actors near the vehicle at its key frames: row r is actor who[r] at key frame when[r].

    times int64 and samples int64 (k,) of the key frames; centre f64 (r, 3) m and wxyz f64 (r, 4) in the ego frame;
    nearest_m f64 (actors,) is how near each comes.
    """

    times: NDArray[np.int64]
    samples: NDArray[np.int64]
    when: NDArray[np.int64]
    who: NDArray[np.int64]
    centre: Array
    wxyz: Array
    nearest_m: Array


def _seen(world: World) -> _Seen:
    """Who is within LABEL_RANGE_M at the key frames of the last sensor, the LiDAR where there is one."""
    channel = channels(world.spec)[-1]
    times = timestamps_ns(world, channel)
    samples, key = key_frames(times, world.spec.lidar_hz if channel == LIDAR else world.spec.camera_hz)
    times, samples = times[key], samples[key]
    t_s = world.seconds_at(times)
    poses = actor_poses(world.actors, world.road, world.ego, t_s)
    position, heading = ego_poses(world, t_s)
    relative = (poses.centre - position[:, None]) @ turn_z(heading)
    away_m = np.linalg.norm(relative[..., :2], axis=-1)
    when, who = np.nonzero(away_m < LABEL_RANGE_M)
    half = -heading[when] / 2  # the product of quaternions (cos, 0, 0, sin) and world_SE3_object's
    c, s = np.cos(half), np.sin(half)
    w, x, y, z = poses.wxyz[when, who].T
    wxyz = np.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], -1)
    return _Seen(times, samples, when, who, relative[when, who], wxyz, away_m.min(0, initial=np.inf))


def _boxes(world: World, scene_id: str, seen: _Seen) -> pa.Table:
    """Annotation rows with a box."""
    n, actors = len(seen.who), world.actors
    tracks = [make_id("track", scene_id, row) for row in range(len(actors))]
    sizes = np.array([actor.size_lwh for actor in actors]).reshape(-1, 3)
    stamps, rows = seen.times[seen.when].tolist(), seen.who.tolist()
    table = pa.table(
        {
            "annotation_id": [make_id("annotation", tracks[i], stamp) for i, stamp in zip(rows, stamps, strict=True)],
            "scene_id": _repeat(scene_id, n),
            "sample_id": _sample_ids(scene_id, seen.samples[seen.when]),
            "track_id": pa.array([tracks[i] for i in rows], pa.string()),
            "category": pa.array([actors[i].category for i in rows], pa.string()),
            "timestamp_ns": pa.array(stamps, pa.int64()),
            "ego_SE3_object": pose_array(seen.centre, seen.wxyz),
            "size_lwh": pa.FixedSizeListArray.from_arrays(pa.array(sizes[seen.who].ravel(), pa.float64()), 3),
            "num_lidar_pts": _point_counts(world, seen),
            "attributes": _repeat("{}", n),
            "source": _repeat(SOURCE, n),
            "version": _repeat(VERSION, n),
        }
    )
    return check(table, ANNOTATIONS)


def _point_counts(world: World, seen: _Seen) -> pa.Array:
    """LiDAR points on each labelled box, or nulls where nothing is cast."""
    if not world.spec.pixels or world.spec.lidar_hz == 0 or not world.actors:
        return pa.nulls(len(seen.who), pa.int32())
    things = view(world)
    counts = np.array([points_per_actor(things, int(time)) for time in seen.times])
    return pa.array(counts[seen.when, seen.who], pa.int32())


def _labels(world: World, scene_id: str) -> pa.Table:
    """Rows without a box: weather, light and the planted rare event."""
    conditions, span = world.conditions, event_span_ns(world)
    found: list[tuple[str, dict[str, str | int]]] = [
        ("weather", {"value": conditions.weather}),
        ("light", {"value": conditions.light}),
    ]
    if conditions.event is not None and span is not None:
        found.append(("event", {"value": conditions.event, "start_ns": span[0], "end_ns": span[1]}))
    rows = [
        {
            "annotation_id": make_id("annotation", scene_id, category),
            "scene_id": scene_id,
            "category": category,
            "timestamp_ns": span[0] if span and category == "event" else None,
            "attributes": json.dumps(value),
            "source": SOURCE,
            "version": VERSION,
        }
        for category, value in found
    ]
    return check(pa.Table.from_pylist(rows), ANNOTATIONS)


_WORDS = {
    "vehicle.car": ("car", "cars"),
    "vehicle.truck": ("truck", "trucks"),
    "vehicle.bus": ("bus", "buses"),
    "human.pedestrian": ("pedestrian", "pedestrians"),
    "vehicle.bicycle": ("cyclist", "cyclists"),
}
_EVENT_WORDS = {
    "tyre_on_lane": "tyre on the lane",
    "animal": "animal on the road",
    "tipped_vehicle": "tipped vehicle across the lane",
    "fog_bank": "fog bank ahead",
    "closed_road": "road closed by barriers and cones",
}
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def describe(world: World, nearest_m: Array) -> str:
    """A sentence that is true of the scene; counts what comes within 40 m of the vehicle (nearest_m per actor)."""
    conditions = world.conditions
    near = Counter(a.category for a, away in zip(world.actors, nearest_m, strict=True) if away < 40.0)
    street = {"city": "city street", "residential": "residential street", "rural": "country road"}
    words = [street.get(conditions.environment, "highway"), conditions.light, conditions.weather]
    for category, (one, many) in _WORDS.items():
        if count := near[category]:
            number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
            words.append(f"{number} {one if count == 1 else many}")
    crossing = sum(a.category == "human.pedestrian" and a.speed_d != 0 for a in world.actors)
    if crossing:
        words.append("a pedestrian crosses" if crossing == 1 else "pedestrians cross")
    event = f"; {_EVENT_WORDS[conditions.event]}" if conditions.event else ""
    return ", ".join(words) + event
