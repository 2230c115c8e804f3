"""Claim: 300 SIGKILLs of driver, task and actor during an ingest lose no row, double none and change none.

Two thirds hit the driver of a local run, the others a driver, a task worker or an actor of a run on Ray with an encoder
that has weights. After ten kills the command is let through; the Lance tables are then read from outside and compared
with those of an undisturbed local run.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from benchmarks.report import Row, run
from miner.simulation import Spec, record
from tests.faults.commands import Ingest, durations_s
from tests.faults.kills import Loop, Toll

SMALL = {"width": 64, "height": 36, "beams": 8, "azimuths": 90}
ENCODERS = {"local": ("hashing", "descriptor"), "ray": ("lite", "descriptor")}
SCENES = {"local": 12, "ray": 4}  # weights take their time
ZERO = {"lost": "rows lost", "doubled": "rows doubled", "differing": "rows that differ"}
ZERO |= {"misplaced": "units not once in table or quarantine", "books": "manifests and lineage that do not fit"}


def write_source(folder: Path, scenes: int) -> Path:
    """Simulated drives of 48 frames and 16 sweeps each; one of each is broken."""
    record(Spec(scenes=scenes, seconds=8.0, **SMALL), folder, threads=2)  # type: ignore[arg-type]
    for pattern in ("*/CAM_FRONT/*.jpg", "*/*/*.bin"):
        sorted(folder.glob(pattern))[7].write_bytes(b"")
    return folder


def kinds_of(executor: str, kills: int, chance: random.Random) -> list[str]:
    """What is killed, in order; on Ray, lake after lake, tasks where tasks are at work and actors where they are."""
    if executor == "local":
        return ["driver"] * kills
    kinds: list[str] = []
    while len(kinds) < kills:
        for begin_middle_end in (["task", "task", "driver"], ["actor", "actor", "actor", "driver"], ["task", "driver"]):
            kinds += chance.sample(begin_middle_end, len(begin_middle_end))
        kinds.append("driver")
    return kinds[:kills]


def toll_of(executor: str, kills: int, scenes: int, folder: Path, seed: int) -> Toll:
    """Kill ingests with one executor."""
    chance = random.Random(f"{seed} {executor}")
    source = write_source(folder / f"{executor}_source", scenes)
    ingest = Ingest(source, folder / executor, executor, ENCODERS[executor])
    undisturbed = replace(ingest, lake=folder / f"{executor}_undisturbed", executor="local")
    calm = replace(ingest, lake=folder / f"{executor}_calm")
    seconds = [durations_s(each.finish()) for each in (undisturbed, calm)][1]
    loop = Loop(ingest, undisturbed.lake, seconds, chance, tell=lambda text: _tell(executor, text))
    return loop.run(kinds_of(executor, kills, chance))


def measure(options: argparse.Namespace) -> list[Row]:
    """Both loops at once: each waits a lot for processes to start."""
    kills, scenes = {"local": options.kills - options.kills // 3, "ray": options.kills // 3}, SCENES
    if options.quick:
        kills, scenes = {"local": 10}, {"local": 4}
    elif options.executor != "both":
        kills = {options.executor: options.kills}
    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(len(kills)) as pool:
            jobs = [(name, kills[name], scenes[name], Path(folder), options.seed) for name in kills]
            tolls = list(pool.map(lambda job: toll_of(*job), jobs))
    return [row for name, toll in zip(kills, tolls, strict=True) for row in _hits(name, toll)] + _found(tolls)


def _hits(executor: str, toll: Toll) -> list[Row]:
    by_kind = Counter(hit.kind for hit in toll.hits)
    by_stage = Counter((hit.kind, hit.stage) for hit in toll.hits)
    rows = [Row(f"{executor}, {kind}", "kills of a live process", "kills", n) for kind, n in by_kind.items()]
    rows += [Row(f"{executor}, {kind}, in {stage}", "kills", "kills", n) for (kind, stage), n in by_stage.items()]
    return [*sorted(rows, key=lambda row: row.case), Row(executor, "runs that gave up", "runs", len(toll.gave_up))]


def _found(tolls: Sequence[Toll]) -> list[Row]:
    """What 300 kills may not leave behind."""
    damages = [each for toll in tolls for each in toll.damages]
    complaints = [text for toll in tolls for text in toll.complaints]
    for text in [*(detail for each in damages for detail in each.details), *complaints]:
        _tell("found", text)
    case = f"{sum(len(toll.hits) for toll in tolls)} kills, {len(damages)} lakes"
    found = {what: sum(getattr(each, name) for each in damages) for name, what in ZERO.items()}
    found["tracebacks, processes left, changes by one more run"] = len(complaints)
    return [Row(case, what, "", number, target="0", holds=number == 0) for what, number in found.items()]


def _tell(who: str, text: str) -> None:
    sys.stderr.write(f"{who}: {text}\n")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=300, help="how many in all, each of a live process")
    parser.add_argument("--seed", type=int, default=0, help="the kinds of kills and their moments follow from it")
    parser.add_argument("--executor", choices=("both", "local", "ray"), default="both")


if __name__ == "__main__":
    run("kills", measure, _options)
