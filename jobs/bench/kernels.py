"""Kernels on a sweep of a simulated 64-beam LiDAR and on a frame, one thread."""

from __future__ import annotations

import numpy as np

from jobs.bench.measure import Cases, ns_each
from kernels.birdseye import birds_eye_view
from kernels.descriptor import sweep_profile
from kernels.resize import resize
from kernels.voxel import Workspace, downsample, voxelize
from miner.simulation import Spec, render, scene_names, sweep
from miner.simulation.world import make_world, timestamps_ns

SPEC = Spec(1, 1.0, 1.0, 1.0, ("CAM_FRONT",), 1600, 900, 64, 2048)
_BOUNDS = (-75.2, -75.2, -2.0, 75.2, 75.2, 4.0)


def cases() -> Cases:
    """Nanoseconds for a point, or a pixel of the frame."""
    [name] = scene_names(SPEC)
    world = make_world(SPEC, name)
    points = np.ascontiguousarray(sweep(SPEC, name, int(timestamps_ns(world, "LIDAR_TOP")[0]))[:, :4])
    frame = render(SPEC, name, "CAM_FRONT", int(timestamps_ns(world, "CAM_FRONT")[0]))
    space, count = Workspace(), len(points)
    square = np.empty((224, 224, 3), np.uint8)
    height, width = frame.shape[:2]
    yield ns_each("voxel means, 0.1 m", "point", count, lambda: downsample(points, 0.1, _BOUNDS, space))
    hard = {"max_points": 35, "max_voxels": 20_000}
    yield ns_each("hard voxels, 0.2 m", "point", count, lambda: voxelize(points, 0.2, _BOUNDS, workspace=space, **hard))
    yield ns_each("bird's-eye view", "point", count, lambda: birds_eye_view(points, (-51.2, 51.2), (-51.2, 51.2), 0.2))
    yield ns_each("LiDAR descriptor", "point", count, lambda: sweep_profile(points))
    yield ns_each("resize to 224", "pixel", height * width, lambda: resize(frame, (0, 0, width, height), square))
