"""LiDAR sweeps to measure on: real ones of KITTI where MINER_TEST_DATA points, simulated ones anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miner.simulation import Spec, scene_names, sweep
from miner.simulation.rig import LIDAR
from miner.simulation.world import make_world, timestamps_ns

Sweep = NDArray[np.float32]

FULL_SWEEP = 100_000  # points; KITTI excerpts that were cropped to the camera's view have fewer


def kitti_sweeps(count: int) -> list[Sweep]:
    """Up to `count` full KITTI sweeps, f32 (n, 4): x, y, z in m, reflectance; none without MINER_TEST_DATA."""
    folder = os.environ.get("MINER_TEST_DATA")
    paths = sorted(Path(folder).glob("kitti_*/**/*.bin")) if folder else []
    paths = [path for path in paths if path.stat().st_size >= FULL_SWEEP * 16]
    spread = paths[:: max(1, len(paths) // count)]
    return [np.fromfile(path, np.float32).reshape(-1, 4) for path in spread[:count]]


def simulated_sweeps(count: int, beams: int = 64, azimuths: int = 2083) -> list[Sweep]:
    """`count` sweeps of different simulated scenes, f32 (n, 4); 64 beams x 2083 give about 120,000 points, as KITTI."""
    spec = Spec(scenes=count, seconds=1.0, beams=beams, azimuths=azimuths)
    sweeps = []
    for name in scene_names(spec):
        first_ns = int(timestamps_ns(make_world(spec, name), LIDAR)[0])
        sweeps.append(np.ascontiguousarray(sweep(spec, name, first_ns)[:, :4]))
    return sweeps


def clouds(count: int) -> dict[str, list[Sweep]]:
    """Up to `count` sweeps of each source that is at hand."""
    sources = {"KITTI": kitti_sweeps(count), "simulated": simulated_sweeps(count)}
    return {name: sweeps for name, sweeps in sources.items() if sweeps}
