"""Claim: a dry run foresees CPU-seconds within 15 %, and progress the end within 20 % when 20 % of the work is done.

Foreseen from a sample, and from an earlier run on other readings of the same lake; measured by the run itself, each in
a process of its own. Of the time, the rival is rich's estimate: the mean of the last 30 s.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

import miner
from benchmarks.report import Row, run
from miner.eta import Eta
from miner.executor import LocalExecutor

COST_ERROR, TIME_ERROR = 15.0, 20.0  # %
_SHARE = 0.2  # of the work, after which the end is to be known
_WINDOW_S = 30.0  # of rich
_THREADS = 2
_BLOCK = 100  # readings: as many blocks as a long run has


@dataclass(frozen=True)
class Case:
    """`frames` pictures of so many pixels to embed with `encoder`; `before` others were, and `sample` are measured."""

    encoder: str
    frames: int
    before: int
    sample: int
    pixels: tuple[int, int] = (900, 1600)

    @property
    def parts(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Folders of pictures, and how many each has."""
        return ("before", self.before), ("after", self.frames)


QUICK = (Case("hashing", 600, 200, 128),)
QUICK_TIMED = Case("hashing", 4000, 0, 0, (270, 480))
WHOLE_TIMED = Case("hashing", 20000, 0, 0, (270, 480))
WHOLE = (*QUICK, Case("lite", 600, 200, 128))


def measure(options: argparse.Namespace) -> list[Row]:
    """The rows of all cases."""
    costs = [row for case in (QUICK if options.quick else WHOLE) for row in _measured(case)]
    return [*costs, _timed(QUICK_TIMED if options.quick else WHOLE_TIMED)]


def _timed(case: Case) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        arrivals = _arrivals(place / "lake", _pictures(place / "source", case, case.frames), case.encoder)
    return _time_row(_name(case), arrivals)


def _name(case: Case) -> str:
    return f"{case.encoder}, {case.frames} frames of {case.pixels[1]} x {case.pixels[0]}"


def _measured(case: Case) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        place, given = Path(folder), ("--encoder", case.encoder, "--executor", "local")
        before, after = (_pictures(place / part, case, count) for part, count in case.parts)
        lake = miner.create(place / "lake", LocalExecutor(threads=_THREADS))
        _command("ingest", before, "--lake", lake.uri, *given)
        lake.ingest(after, dataset="after")
        plans = {
            "a sample": _command("embed", lake.uri, *given, "--dry-run", "--calibrate", case.sample),
            "an earlier run": _command("embed", lake.uri, *given, "--dry-run"),
        }
        cpu_s = _command("embed", lake.uri, *given)["cost"]["stages"]["embed"]["cpu_s"]
    foreseen = {origin: plan["estimate"]["total"]["cpu_s"] for origin, plan in plans.items()}
    return [_cost_row(_name(case), origin, told_s, cpu_s) for origin, told_s in foreseen.items()]


def _command(*args: object) -> dict[str, Any]:
    """What a command says, in a process of its own: as a user has it, nothing is warm."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, args), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _arrivals(place: Path, source: Path, encoder: str) -> list[tuple[float, int]]:
    """When so many pictures were done, as a source is embedded into a lake of its own."""
    seen: list[tuple[float, int]] = []
    lake = miner.create(place, LocalExecutor(threads=_THREADS))
    lake.ingest(source)
    lake.executor.on_progress = lambda progress: seen.append((time.perf_counter(), progress.done))
    lake.embed([encoder], block_size=_BLOCK)
    return seen


def _cost_row(case: str, origin: str, foreseen_s: float, cpu_s: float) -> Row:
    error = 100 * abs(foreseen_s - cpu_s) / cpu_s
    spread = (foreseen_s, cpu_s)
    return Row(
        case, f"CPU-s foreseen from {origin}, error", "%", error, spread=spread,
        target=f"<= {COST_ERROR:g}", holds=error <= COST_ERROR,
    )  # fmt: skip


def _time_row(case: str, arrivals: list[tuple[float, int]]) -> Row:
    ours, rich = (_error(arrivals, left_s) for left_s in (_ours, _rich))
    return Row(
        case, f"end foreseen at {_SHARE:.0%} of the work, error", "%", ours, rich, "rich",
        target=f"<= {TIME_ERROR:g}", holds=ours <= TIME_ERROR,
    )  # fmt: skip


def _error(arrivals: list[tuple[float, int]], left_s: Callable[[list[tuple[float, int]], int], float]) -> float:
    """By how much the whole time is estimated wrongly once a share of the work is done, in percent of it."""
    (began_s, before), (end_s, total) = arrivals[0], arrivals[-1]
    count = next(i for i, (_, done) in enumerate(arrivals) if done - before >= _SHARE * (total - before))
    told_s = arrivals[count][0] + left_s(arrivals[: count + 1], total)
    return 100 * abs(told_s - end_s) / (end_s - began_s)


def _ours(arrivals: list[tuple[float, int]], total: int) -> float:
    eta = Eta(total, arrivals[0][1], arrivals[0][0])
    for now_s, done in arrivals[1:]:
        eta.add(done, now_s)
    return eta.left_s(arrivals[-1][0]) or 0.0


def _rich(arrivals: list[tuple[float, int]], total: int) -> float:
    from rich.progress import Progress as Bars

    bars = Bars(get_time=lambda: now_s, speed_estimate_period=_WINDOW_S, auto_refresh=False)
    [(now_s, before), *later] = arrivals
    task = bars.add_task("", total=total, completed=before)
    for arrival in later:
        now_s, done = arrival
        bars.update(task, completed=done)
    return bars.tasks[0].time_remaining or 0.0


def _pictures(folder: Path, case: Case, count: int) -> Path:
    """JPEG files like those of a camera, in drives of 50; a few different ones, for making one takes long."""
    random = np.random.default_rng(count)
    made = [_jpeg(random, *case.pixels) for _ in range(8)]
    for number in range(count):
        drive = folder / f"drive_{number // 50:03d}"
        drive.mkdir(parents=True, exist_ok=True)
        (drive / f"frame_{number:06d}.jpg").write_bytes(made[number % len(made)])
    return folder


def _jpeg(random: np.random.Generator, height: int, width: int) -> bytes:
    coarse = random.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    frame = coarse.repeat(20, axis=0).repeat(20, axis=1)
    noisy = np.ascontiguousarray(frame ^ random.integers(0, 8, frame.shape, np.uint8))
    return bytes(simplejpeg.encode_jpeg(noisy, 90))


if __name__ == "__main__":
    run("estimates", measure)
