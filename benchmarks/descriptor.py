"""Claim: the weight-free LiDAR descriptor finds a sweep's own drive, turned or moved, at > 100 sweeps/s of one core.

The rivals are two published parts of it alone: the ring key of Scan Context (Kim & Kim 2018) and a histogram of
heights, both as vectorised NumPy. Times are CPU seconds of the thread; cosines and shares do not depend on the machine.
Simulated drives are always measured, real ones where MINER_TEST_DATA points to excerpts of public datasets.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row, run
from embeddings.descriptor import DescriptorEncoder
from miner.decode.sweep import decode_sweep
from miner.simulation import Spec, scene_names, scene_tables, sweep

Points = NDArray[np.float32]
Encode = Callable[[Points], NDArray[np.floating]]

EXCERPTS = [
    ("kitti_raw", "kitti_raw/*/*/velodyne_points/data/*.bin", "kitti_bin"),
    ("kitti_tracking", "kitti_tracking/training/velodyne/*/*.bin", "kitti_bin"),
    ("argoverse2", "argoverse2/sensor/*/*/sensors/lidar/*.feather", "feather"),
    ("ddad", "ddad/*/point_cloud/LIDAR/*.npz", "npz"),
    ("suscape", "suscape/example/lidar/*.pcd", "pcd"),
    ("radiate", "radiate/*/velo_lidar/*.csv", "csv"),
    ("nuscenes", "nuscenes/samples/LIDAR_TOP/*.bin", "nuscenes_bin"),
    ("", "kitti_object/training/velodyne/*.bin", "kitti_bin"),  # each from a drive of its own
]
SIMULATED = {"simulated, 32 beams": (32, 1080), "simulated, 64 beams": (64, 1800)}


class Drives(NamedTuple):
    """Sweeps f32 (n, 4) of x, y, z, intensity, and the name of the drive of each."""

    names: NDArray[np.str_]
    sweeps: list[Points]


def ring_key(points: Points) -> NDArray[np.floating]:
    """Scan Context's key: the share of 60 sectors occupied in each of 20 rings up to 80 m."""
    ring = (np.hypot(points[:, 0], points[:, 1]) / 4).astype(np.int64)
    sector = ((np.arctan2(points[:, 1], points[:, 0]) / (2 * math.pi) + 0.5) * 60).astype(np.int64) % 60
    occupied = np.zeros((20, 60), np.bool_)
    occupied[ring[ring < 20], sector[ring < 20]] = True
    return _unit(occupied.mean(axis=1))


def height_histogram(points: Points) -> NDArray[np.floating]:
    """Shares of points in 32 steps of 0.25 m from 3 m below to 5 m above the sensor."""
    return _unit(np.histogram(points[:, 2], bins=32, range=(-3.0, 5.0))[0].astype(np.float64))


RIVALS: dict[str, Encode] = {"ring key (NumPy)": ring_key, "height histogram (NumPy)": height_histogram}


def _unit(vector: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))


def real_drives(folder: Path) -> Drives:
    """The LiDAR excerpts below `folder`."""
    names, sweeps = [], []
    for drive, pattern, fileformat in EXCERPTS:
        for path in sorted(folder.glob(pattern)):
            found = decode_sweep(path.read_bytes(), fileformat, str(path))
            names.append(drive or path.stem)
            sweeps.append(np.ascontiguousarray(found.points[:, [0, 1, 2, found.fields.index("intensity")]]))
    return Drives(np.array(names), sweeps)


def simulated_drives(scenes: int, beams: int, azimuths: int) -> Drives:
    """Two sweeps half a second apart of each scene."""
    spec = Spec(scenes=scenes, seconds=1, lidar_hz=2, beams=beams, azimuths=azimuths)
    names, sweeps = [], []
    for name in scene_names(spec):
        rows = scene_tables(Spec(scenes=scenes, seconds=1, lidar_hz=2, pixels=False), name, "").sample_data.to_pylist()
        for timestamp_ns in sorted({row["timestamp_ns"] for row in rows if row["modality"] == "lidar"})[:2]:
            names.append(name)
            sweeps.append(np.ascontiguousarray(sweep(spec, name, timestamp_ns)[:, :4]))
    return Drives(np.array(names), sweeps)


def moved(points: Points, yaw_rad: float, step_m: float, heading_rad: float) -> Points:
    """The sweep as a sensor turned by -yaw_rad, or moved by step_m against heading_rad, sees it."""
    cos, sin = np.float32(math.cos(yaw_rad)), np.float32(math.sin(yaw_rad))
    found = points.copy()
    found[:, 0] = cos * points[:, 0] - sin * points[:, 1] + np.float32(step_m * math.cos(heading_rad))
    found[:, 1] = sin * points[:, 0] + cos * points[:, 1] + np.float32(step_m * math.sin(heading_rad))
    return found


def quality(encode: Encode, drives: Drives, repeats: int) -> dict[str, float]:
    """Own-drive share, median cosine between drives, and the lowest cosine after turning and after moving 1 m."""
    random = np.random.default_rng(0)
    vectors = np.stack([encode(points) for points in drives.sweeps])
    cosines = vectors @ vectors.T
    nearest = drives.names[(cosines - 3 * np.eye(len(cosines))).argmax(axis=1)]
    distinct, counts = np.unique(drives.names, return_counts=True)
    several = np.isin(drives.names, distinct[counts > 1])
    pairs = [np.ix_(drives.names == a, drives.names == b) for i, a in enumerate(distinct) for b in distinct[:i]]
    lowest = {"turned": 1.0, "moved 1 m": 1.0}
    for points, vector in zip(drives.sweeps, vectors, strict=True):
        for angle in random.uniform(0, 2 * math.pi, repeats):
            for way, other in (("turned", moved(points, angle, 0, 0)), ("moved 1 m", moved(points, 0, 1, angle))):
                lowest[way] = min(lowest[way], float(vector @ encode(other)))
    return {
        "nearest is of its drive": float((nearest == drives.names)[several].mean()),
        "median between drives": float(np.median([np.median(cosines[pair]) for pair in pairs])),
        **lowest,
    }


def sweeps_per_second(encoders: dict[str, Encode], points: Points, repeats: int) -> dict[str, list[float]]:
    """Of one thread's CPU time, all encoders in turn; compiled before."""
    found: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(repeats + 1):
        for name, encode in encoders.items():
            started = time.thread_time()
            for _ in range(5):
                encode(points)
            found[name].append(5 / (time.thread_time() - started))
    return {name: rates[1:] for name, rates in found.items()}


def across_sensors(encode: Encode, queries: Drives, drives: Drives) -> float:
    """The share of one sensor's sweeps whose nearest sweep of another sensor is of the same scene."""
    asked, known = (np.stack([encode(points) for points in side.sweeps]) for side in (queries, drives))
    return float((drives.names[(asked @ known.T).argmax(axis=1)] == queries.names).mean())


def _ours() -> Encode:
    encoder = DescriptorEncoder()
    return lambda points: encoder.encode(points[None])[0]


TARGETS = {
    "nearest is of its drive": (">=", 0.9),
    "median between drives": ("<=", 0.8),
    "turned": (">=", 0.99),
    "moved 1 m": (">=", 0.95),
}
UNITS = {"nearest is of its drive": "share of sweeps"}


def quality_rows(case: str, drives: Drives, repeats: int, judged: bool) -> list[Row]:
    """Ours beside each rival. Targets are about real sweeps; of simulated ones only that drives differ is judged."""
    ours = quality(_ours(), drives, repeats)
    theirs = {name: quality(rival, drives, repeats) for name, rival in RIVALS.items()}
    rows = []
    for metric, value in ours.items():
        target, holds = _judged(metric, value) if judged or metric == "median between drives" else (None, None)
        for name, found in theirs.items():
            unit, rival = UNITS.get(metric, "cosine"), found[metric]
            rows.append(Row(case, metric, unit, value, rival, name, target=target, holds=holds))
    return rows


def _judged(metric: str, value: float) -> tuple[str, bool]:
    sign, limit = TARGETS[metric]
    return f"{sign} {limit:g}", value >= limit if sign == ">=" else value <= limit


def speed_rows(points: Points, repeats: int) -> list[Row]:
    """How many sweeps a second of one core each descriptor takes."""
    rates = sweeps_per_second({"ours": _ours(), **RIVALS}, points, repeats)
    ours = rates.pop("ours")
    case, unit = f"one sweep of {len(points) // 1000}k points", "sweeps/s of one core"
    value, spread = float(np.median(ours)), (min(ours), max(ours))
    return [
        Row(case, "speed", unit, value, float(np.median(theirs)), name, spread, ">= 100", value >= 100)
        for name, theirs in rates.items()
    ]


def measure(options: argparse.Namespace) -> list[Row]:
    """Speed, then quality on simulated and real drives."""
    scenes, repeats = (6, 1) if options.quick else (40, 5)
    simulated = {case: simulated_drives(scenes, *sensor) for case, sensor in SIMULATED.items()}
    sparse, dense = simulated.values()
    rows = speed_rows(max(dense.sweeps, key=len), 5 * repeats)
    for case, drives in simulated.items():
        rows += quality_rows(case, drives, repeats, judged=False)
    for name, rival in RIVALS.items():
        found = [across_sensors(encode, sparse, dense) for encode in (_ours(), rival)]
        rows.append(Row("simulated, 32 among 64 beams", "nearest is of its scene", "share of sweeps", *found, name))
    if "MINER_TEST_DATA" in os.environ:
        drives = real_drives(Path(os.environ["MINER_TEST_DATA"]))
        rows += quality_rows(f"{len(drives.sweeps)} real sweeps", drives, repeats, judged=True)
    return rows


if __name__ == "__main__":
    run("descriptor", measure)
