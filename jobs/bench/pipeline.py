"""A source of small pictures to vectors, by the engine: what it adds to decoding and encoding."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from jobs.bench.measure import Cases, Measured
from jobs.tune.clock import Clocked, pace
from miner.decode.image import encode_jpeg
from miner.executor import Executor, LocalExecutor
from miner.lake import create

FRAMES = 400
_SCENES = 4
_REPEATS = 5
_ENCODER = "hashing"


def cases(ray: bool = True) -> Cases:
    """Frames a second on all cores, once workers are at work."""
    with tempfile.TemporaryDirectory(prefix="miner-bench-") as folder:
        source = Path(folder, "source")
        write_frames(source)
        yield measured("threads", LocalExecutor(), source, Path(folder))
        if ray:
            from jobs.engine import RayExecutor, disconnect

            try:
                yield measured("Ray", RayExecutor(), source, Path(folder))
            finally:
                disconnect()


def measured(name: str, executor: Executor, source: Path, folder: Path) -> Measured:
    """One executor, on a new lake each time."""
    values = []
    for number in range(_REPEATS):
        lake = create(folder / f"{name}-{number}", LocalExecutor())
        lake.ingest(source)
        lake.executor = clocked = Clocked.of(executor)
        report = lake.embed([_ENCODER], "whole")
        values.append(pace(clocked.came, report.commit_s).rate)
    return Measured(f"{name}: embed by {_ENCODER}", "frames/s", values)


def write_frames(source: Path) -> None:
    """`FRAMES` JPEGs of noise in blocks, in `_SCENES` folders."""
    random = np.random.default_rng(0)
    for number in range(FRAMES):
        folder = source / f"drive_{number % _SCENES}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 256, (15, 20, 3), np.uint8)
        frame = np.ascontiguousarray(coarse.repeat(16, axis=0).repeat(16, axis=1))
        (folder / f"frame_{number:06d}.jpg").write_bytes(encode_jpeg(frame, 90))
