"""Claim: on Ray a pass over frames is at least 0.75 as fast as a plain pool of threads with the same kernels.

Ours is the real thing: `EmbedStage` by `RayExecutor` into a lake, with plan, lease, data files and commits. Its rivals
only compute (`pipeline_rivals`). All take turns over the same 1600 x 900 JPEGs, with `hashing`, where decoding is
nearly all, and with CLIP ViT-B-32 (random weights), where encoding is. Rates are from the first block's beginning to
the last commit; what comes before (workers that start, models that load) is a row of its own, as is Ray's own start.
"CPU in kernels" is what the pool of threads uses for a frame, of what the tree of our processes does.

Then, each with a Ray of its own: 10,000 frames with an object store of 512 MB, and runs with one CPU and with two, in
whole blocks and in halves.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.embed import MODEL, saved_weights
from benchmarks.made_frames import lake_of, write_frames
from benchmarks.pipeline_rivals import daft_pipeline, in_threads
from benchmarks.process_tree import ProcessTree
from benchmarks.report import Row, run
from jobs.engine import RayExecutor
from jobs.tune.clock import Clocked
from miner.embed import EmbedStage, Sizes, _readings
from miner.lake import Lake
from miner.lineage import Run
from miner.store import Store

CPUS = 2
STORE_GB = 0.512
BOUNDED_FRAMES, FEW_FRAMES = 10_000, 64
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Passed:
    """One way's pass over all frames: frames per second and CPU seconds per frame, and what went before."""

    rate: float
    cpu_s: float
    start_s: float = 0.0


@dataclass(frozen=True)
class Case:
    """Frames, and the stage that embeds them."""

    name: str
    encoder: str
    frames: int
    rounds: int
    of_threads: float
    in_kernels: float


def timed(work: Callable[[], int], frames: int) -> Passed:
    """A pass of a rival, whose processes are all of this tree."""
    tree, began = ProcessTree(), time.perf_counter()
    done = work()
    end = time.perf_counter()
    tree.stop()
    assert done == frames, f"{done} of {frames} frames"
    return Passed(frames / (end - began), tree.cpu_s(began, end) / frames)


def ours(executor: Clocked, stage: EmbedStage, lake: Path, frames: int) -> Passed:
    """A pass of ours into a copy of the lake."""
    copy = Path(shutil.copytree(lake, lake.with_name("copy")))
    executor.came.clear()
    tree, called = ProcessTree(), time.perf_counter()
    report = executor.map(stage, Store.open(str(copy)), Run("benchmark"))
    end, began = time.perf_counter(), min(came - receipt.usage.busy_s for came, receipt in executor.came)
    tree.stop()
    assert (report.written, report.quarantined) == (frames, 0)
    shutil.rmtree(copy)
    return Passed(frames / (end - began), tree.cpu_s(began, end) / frames, began - called)


def compared(case: Case, folder: Path, executor: Clocked) -> list[Row]:
    """All ways in turn, once for warmth and then `rounds` times."""
    store = lake_of(str(folder / case.name), write_frames(folder / f"{case.name}-frames", case.frames))
    stage = EmbedStage.of(store, [case.encoder], "whole", Sizes(), in_process=False)
    readings = _readings(store, stage.units(store, "true", pa.array([], pa.string())))
    daft = daft_pipeline(stage, readings)
    ways: dict[str, Callable[[], Passed]] = {
        "ours": lambda: ours(executor, stage, folder / case.name, case.frames),
        "threads": lambda: timed(lambda: in_threads(stage, readings, CPUS), case.frames),
    }
    if daft is not None:
        ways["daft"] = lambda: timed(daft, case.frames)
    passed: dict[str, list[Passed]] = {way: [] for way in ways}
    for number in range(case.rounds + 1):
        for way, work in ways.items():
            one = work()
            passed[way] += [one] if number else []
            print(way, one, file=sys.stderr)
    return rows_of(case, passed)


def rows_of(case: Case, passed: dict[str, list[Passed]]) -> list[Row]:
    """Medians, ours beside the others'."""
    mine, threads, daft = (passed.get(way, []) for way in ("ours", "threads", "daft"))
    name = f"{case.name}, {case.frames:,} frames"
    rates, starts = [each.rate for each in mine], [each.start_s for each in mine]
    rate, plain = float(np.median(rates)), float(np.median([each.rate for each in threads]))
    used, least = (float(np.median([each.cpu_s for each in way])) for way in (mine, threads))
    beside = float(np.median([each.rate for each in daft])) if daft else None
    of, share = case.of_threads, least / used
    beats = partial(Row, name, "rate", "frames/s", rate, spread=spread_of(rates))
    beats_daft = None if beside is None else rate >= beside
    return [
        beats(rival=plain, rival_name="threads, no tables", target=f">= {of} x", holds=rate >= of * plain),
        beats(rival=beside, rival_name="Daft, no tables", target=">= 1 x", holds=beats_daft),
        Row(name, "CPU per frame", "cpu-ms", 1e3 * used, 1e3 * least, "threads, no tables"),
        Row(name, "CPU in kernels", "1", share, target=f">= {case.in_kernels}", holds=share >= case.in_kernels),
        Row(name, "start of workers", "s", float(np.median(starts)), spread=spread_of(starts)),
    ]


def spread_of(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def alone(cpus: int, gpus: int, frames: int, num_gpus: float) -> dict[str, Any]:
    """A run with a Ray of its own, in this process: what it took. `gpus` are in Ray's books only."""
    with tempfile.TemporaryDirectory() as folder:
        store = lake_of(f"{folder}/lake", write_frames(Path(folder) / "frames", frames))
        executor = RayExecutor(num_cpus=cpus, num_gpus=gpus, object_store_gb=STORE_GB)
        tree, began = ProcessTree(), time.perf_counter()
        report = Lake(store, executor).embed(["hashing"], "whole", num_gpus)
        seconds = time.perf_counter() - began
        tree.stop()
    return {"written": report.written, "s": seconds, "driver": tree.own_bytes, "all": tree.all_bytes}


def in_a_process(*arguments: float) -> dict[str, Any]:
    """`alone`, in a process of its own; a run that hangs raises."""
    command = [sys.executable, "-m", "benchmarks.pipeline", "--alone", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def bounded(frames: int) -> list[Row]:
    """Many frames with a small object store."""
    found = in_a_process(CPUS, 0, frames, 0)
    name = f"{frames:,} frames, object store of {STORE_GB * 1e3:g} MB"
    assert found["written"] == frames
    return [
        Row(name, "driver at its peak", "GB", found["driver"] / 1e9, target="< 1", holds=found["driver"] < 1e9),
        Row(name, "all processes at their peak", "GB", found["all"] / 1e9),
        Row(name, "Ray's start and the run", "s", found["s"]),
    ]


def few_cpus() -> list[Row]:
    """Runs that must not wait for CPUs that are all taken."""
    rows = []
    for cpus in (1, 2):
        for way, num_gpus in (("whole", 0.0), ("in halves", 0.5)):
            found = in_a_process(cpus, 1, FEW_FRAMES, num_gpus)
            ends = found["written"] == FEW_FRAMES
            rows.append(
                Row(
                    f"{FEW_FRAMES} frames {way}, CPUs: {cpus}",
                    "Ray's start and the run",
                    "s",
                    found["s"],
                    target="ends",
                    holds=ends,
                )
            )
    return rows


def measure(options: argparse.Namespace) -> list[Row]:
    """Rates in turn, then the runs with a Ray of their own."""
    quick = options.quick
    decode = Case("decode-bound", "hashing", 320 if quick else 3200, 1 if quick else 5, 0.75, 0.9)
    executor, began = Clocked.of(RayExecutor(num_cpus=CPUS)), time.perf_counter()
    assert executor.workers == CPUS  # starts Ray
    rows = [Row(f"Ray, {CPUS} CPUs", "start", "s", time.perf_counter() - began)]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        rows += compared(decode, Path(folder), executor)
        if not quick:
            clip = Case("encode-bound", f"openclip:{MODEL}/{saved_weights(folder)}", 640, 3, 0.95, 0.9)
            rows += compared(clip, Path(folder), executor)
    return rows if quick else [*rows, *bounded(BOUNDED_FRAMES), *few_cpus()]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        cpus, gpus, frames, num_gpus = map(float, sys.argv[2:])
        print(json.dumps(alone(int(cpus), int(gpus), int(frames), num_gpus)))
    else:
        run("pipeline", measure)
