"""Claim: on a GPU, voxel means and hard voxels of 32 sweeps at once take a tenth of the time of one CPU core, or less.

Sweeps lie in device memory and results stay there; results of the two are compared bit for bit first. Forms of a batch:
one array (32, n, 4), shorter sweeps filled up with NaN; 32 arrays; 32 NumPy arrays, copied over within the time taken.
The two take turns; GPU times are wall times until the device is done, CPU times CPU seconds of the thread. The name of
the GPU is in each case. Without a GPU the rows give the CPU core's rate only, and nothing is judged.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import config, cuda

from benchmarks.clouds import Sweep, clouds
from benchmarks.report import Row, run
from kernels import voxel, voxel_cuda

BATCH = 32
GOAL = 10.0
RANGE_M = (-75.2, -75.2, -2.0, 75.2, 75.2, 4.0)
LIMITS = {"max_points": 35, "max_voxels": 20_000}
TASKS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "means, 0.1 m": (
        partial(voxel_cuda.downsample_batch, voxel_size=0.1),
        partial(voxel.downsample, voxel_size=0.1),
    ),
    "means, 0.2 m": (
        partial(voxel_cuda.downsample_batch, voxel_size=0.2),
        partial(voxel.downsample, voxel_size=0.2),
    ),
    "hard voxels, 0.1 m, 20k of 35": (
        partial(voxel_cuda.voxelize_batch, voxel_size=0.1, bounds=RANGE_M, **LIMITS),
        partial(voxel.voxelize, voxel_size=0.1, bounds=RANGE_M, **LIMITS),
    ),
}


def has_gpu() -> bool:
    """Whether there is a GPU; the simulator is none."""
    return not config.ENABLE_CUDASIM and bool(cuda.is_available())


def forms(sweeps: list[Sweep]) -> dict[str, Any]:
    """The batch in the forms it can have, in device memory but for the last."""
    longest = max(map(len, sweeps))
    filled = np.full((len(sweeps), longest, sweeps[0].shape[1]), np.nan, np.float32)
    for row, sweep in zip(filled, sweeps, strict=True):
        row[: len(sweep)] = sweep
    arrays = [cuda.to_device(sweep) for sweep in sweeps]
    return {"one array": cuda.to_device(filled), f"{len(sweeps)} arrays": arrays, "from NumPy": sweeps}


def on_cpu(voxelized: Callable[..., Any], sweeps: list[Sweep], workspace: voxel.Workspace) -> float:
    """CPU seconds of one thread for all sweeps, one after another."""
    started = time.thread_time()
    for sweep in sweeps:
        voxelized(sweep, workspace=workspace)
    return time.thread_time() - started


def on_gpu(voxelized: Callable[..., Any], batch: Any, workspace: voxel_cuda.Workspace) -> float:
    """Seconds until the results of the whole batch are in device memory."""
    cuda.synchronize()
    started = time.perf_counter()
    voxelized(batch, workspace=workspace)
    cuda.synchronize()
    return time.perf_counter() - started


def equal(voxelized: tuple[Callable[..., Any], Callable[..., Any]], sweeps: list[Sweep]) -> int:
    """How many sweeps of the batch have the same result on both, bit for bit."""
    batch = voxelized[0](sweeps, workspace=voxel_cuda.Workspace())
    pairs = [(batch[place], voxelized[1](sweep)) for place, sweep in enumerate(sweeps)]
    return sum(
        all(np.array_equal(a.copy_to_host(), b) for a, b in zip(mine[:3], theirs[:3], strict=True))
        for mine, theirs in pairs
    )


def against_cpu(case: str, task: str, sweeps: list[Sweep], repeats: int) -> list[Row]:
    """A row of equal results, and a row of rates for each form of the batch."""
    gpu_way, cpu_way = TASKS[task]
    same = equal(TASKS[task], sweeps)
    rows = [
        Row(case, f"{task}: bit-equal", "sweeps", same, len(sweeps), "CPU", target="all", holds=same == len(sweeps))
    ]
    cpu_space, gpu_space = voxel.Workspace(), voxel_cuda.Workspace()
    for form, batch in forms(sweeps).items():
        on_gpu(gpu_way, batch, gpu_space)
        pairs = [(on_gpu(gpu_way, batch, gpu_space), on_cpu(cpu_way, sweeps, cpu_space)) for _ in range(repeats)]
        rates = sum(map(len, sweeps)) / np.array(pairs) / 1e6
        ours, theirs = np.median(rates, axis=0).tolist()
        spread = (float(rates[:, 0].min()), float(rates[:, 0].max()))
        judged = form != "from NumPy"
        target, holds = (f">= {GOAL:g}x", ours >= GOAL * theirs) if judged else (None, None)
        rows.append(Row(case, f"{task}: {form}", "Mpts/s", ours, theirs, "one CPU core", spread, target, holds))
    return rows


def cpu_alone(case: str, task: str, sweeps: list[Sweep], repeats: int) -> Row:
    """What one CPU core does, where there is nothing to compare it with."""
    workspace = voxel.Workspace()
    on_cpu(TASKS[task][1], sweeps, workspace)
    rates = [sum(map(len, sweeps)) / on_cpu(TASKS[task][1], sweeps, workspace) / 1e6 for _ in range(repeats)]
    metric = f"{task}: one CPU core, no GPU here"
    spread = (min(rates), max(rates))
    return Row(case, metric, "Mpts/s", float(np.median(rates)), spread=spread, target=f"GPU >= {GOAL:g}x")


def measure(options: argparse.Namespace) -> list[Row]:
    """All tasks on all sources; --quick takes fewer sweeps and repeats."""
    repeats = 3 if options.quick else 15
    rows: list[Row] = []
    for source, distinct in clouds(4 if options.quick else 8).items():
        sweeps = (distinct * BATCH)[:BATCH]
        for task in TASKS:
            if has_gpu():
                name = cuda.get_current_device().name
                device = name.decode() if isinstance(name, bytes) else str(name)
                rows += against_cpu(f"{source}, {BATCH} sweeps, {device}", task, sweeps, repeats)
            else:
                rows.append(cpu_alone(f"{source}, {BATCH} sweeps", task, sweeps, repeats))
    return rows


if __name__ == "__main__":
    run("voxel_gpu", measure)
