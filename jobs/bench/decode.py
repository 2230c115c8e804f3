"""Bytes of recordings to what encoders see, one thread."""

from __future__ import annotations

import numpy as np

from jobs.bench.kernels import SPEC
from jobs.bench.measure import Cases, per_second
from miner.decode.image import decode_image, encode_jpeg
from miner.decode.sweep import decode_sweep
from miner.decode.views import crop_views, min_side_for, regions
from miner.simulation import render, scene_names, sweep
from miner.simulation.world import make_world, timestamps_ns

_SIDE = 224
_AT_ONCE = 8


def cases() -> Cases:
    """Images and sweeps a second."""
    [name] = scene_names(SPEC)
    world = make_world(SPEC, name)
    frame = render(SPEC, name, "CAM_FRONT", int(timestamps_ns(world, "CAM_FRONT")[0]))
    jpeg = encode_jpeg(frame, 90)
    points = np.ascontiguousarray(sweep(SPEC, name, int(timestamps_ns(world, "LIDAR_TOP")[0]))[:, :4])
    data = points.tobytes()

    def views(which: str, min_side: int) -> None:
        for _ in range(_AT_ONCE):
            pixels = decode_image(jpeg, "jpg", "frame", min_side)
            crop_views(pixels, regions(pixels.shape[1], pixels.shape[0], which), _SIDE)

    def sweeps() -> None:
        for _ in range(_AT_ONCE):
            decode_sweep(data, "kitti_bin", "sweep")

    size = f"JPEG of {frame.shape[1]} x {frame.shape[0]}, {len(jpeg) / 1e3:.0f} kB"
    small = min_side_for(_SIDE)
    yield per_second(f"{size} to one view of {_SIDE}", "images", _AT_ONCE, lambda: views("whole", small))
    yield per_second(f"{size} to whole and tiles", "images", _AT_ONCE, lambda: views("whole+tiles", small))
    yield per_second(f"sweep of {len(points):,} points", "sweeps", _AT_ONCE, sweeps)
