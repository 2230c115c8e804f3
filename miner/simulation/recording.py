"""A simulation as a folder of files, as a vehicle would leave it: JPEG frames, sweeps, and the specification."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miner.errors import Conflict, NotFound
from miner.simulation.camera import render_view
from miner.simulation.rig import LIDAR
from miner.simulation.spec import Spec, scene_names
from miner.simulation.sweep import cast_sweep
from miner.simulation.world import View, channels, make_world, timestamps_ns, view

SPEC_FILE = "simulation.json"
JPEG_QUALITY = 90


def load_spec(folder: str | Path) -> Spec:
    """The spec of a recording. Raises NotFound without one, UsageError where the file is no spec."""
    path = Path(folder, SPEC_FILE)
    if not path.is_file():
        raise NotFound(f"{path}: no such file", "A simulated recording holds it; write one with record().")
    return Spec.from_json(path.read_text(encoding="utf-8"))


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, path)


def reading_path(root: Path, name: str, channel: str, timestamp_ns: int) -> Path:
    """Where a reading of a recording lies."""
    return root / name / channel / f"{timestamp_ns}.{'bin' if channel == LIDAR else 'jpg'}"


def reading_bytes(seen: View, channel: str, timestamp_ns: int) -> bytes:
    """A reading as its file holds it: a JPEG, or float32 x, y, z, intensity, ring."""
    import simplejpeg

    if channel == LIDAR:
        return cast_sweep(seen, timestamp_ns)[0].tobytes()
    frame = render_view(seen, channel, timestamp_ns)
    encoded: bytes = simplejpeg.encode_jpeg(frame, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420")
    return encoded


def record(spec: Spec, folder: str | Path, progress: Callable[[int, int], None] | None = None, threads: int = 1) -> int:
    """Write a recording; the number of files written now. Files that are there stay: repeat the call to go on.

    Scenes are rendered `threads` at a time (the renderer releases the interpreter lock). `progress` is called with
    (scenes done, scenes in all). Without `spec.pixels` only the spec is written. Raises Conflict where the folder
    holds another simulation.
    """
    root = Path(folder)
    if (root / SPEC_FILE).exists():
        if load_spec(root) != spec:
            raise Conflict(
                f"{root} holds another simulation", f"Choose an empty folder, or the spec in its {SPEC_FILE}."
            )
    else:
        _write(root / SPEC_FILE, spec.to_json().encode())
    names = list(scene_names(spec)) if spec.pixels else []
    written = 0
    with ThreadPoolExecutor(threads) as pool:
        for done, files in enumerate(pool.map(lambda name: record_scene(spec, name, root), names), start=1):
            written += files
            if progress:
                progress(done, spec.scenes)
    return written


def record_scene(spec: Spec, name: str, root: Path) -> int:
    """Write the missing files of one scene; their number."""
    world = make_world(spec, name)
    readings = [(channel, int(time)) for channel in channels(spec) for time in timestamps_ns(world, channel)]
    missing = [reading for reading in readings if not reading_path(root, name, *reading).exists()]
    seen = view(world) if missing else None
    for channel, time in missing:
        assert seen is not None
        _write(reading_path(root, name, channel, time), reading_bytes(seen, channel, time))
    return len(missing)


def render(spec: Spec, name: str, channel: str, timestamp_ns: int) -> NDArray[np.uint8]:
    """One camera frame, uint8 RGB (height, width, 3). Raises NotFound for a scene or camera the spec does not have."""
    if channel not in spec.cameras:
        raise NotFound(f"no camera {channel!r} in this simulation", f"Its cameras: {', '.join(spec.cameras)}.")
    return render_view(view(make_world(spec, name)), channel, timestamp_ns)


def sweep(spec: Spec, name: str, timestamp_ns: int) -> NDArray[np.float32]:
    """One LiDAR sweep, float32 (n, 5): x, y, z (m, LiDAR frame), intensity, ring. Raises NotFound for another scene."""
    return cast_sweep(view(make_world(spec, name)), timestamp_ns)[0]
