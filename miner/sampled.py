"""A stage run on a few of its units, into a lake that is thrown away: what they take is what the others will."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from miner.errors import MinerError
from miner.estimate import Measured
from miner.executor import LocalExecutor
from miner.lineage import Run
from miner.plan import make_plan, pending
from miner.reporting import Beginning, Report
from miner.stage import Apply, Prepare, Stage
from miner.store import Store
from miner.usage import Usage

_RUNS = 8  # of neighbours: they share a container, as in a whole run
_SAME = ("name", "outputs", "batch_size", "block_size", "fixed_blocks", "loads", "source_reader", "num_gpus")


@dataclass(frozen=True)
class Sampled(Stage):
    """`stage` for the units `chosen` alone. What it reads it reads from `source`, whichever lake it writes to."""

    stage: Stage
    source: Store
    chosen: pa.Table

    def __post_init__(self) -> None:
        for name in _SAME:
            object.__setattr__(self, name, getattr(self.stage, name))

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    def counts(self, store: Store) -> pa.Table:
        kinds = {output.kind for output in self.stage.outputs if output.kind is not None}
        columns = {"units": pa.array(np.ones(len(self.chosen), np.int64))}
        columns |= {f"units:{kind}": pc.equal(self.chosen["kind"], kind).cast(pa.int64()) for kind in kinds}
        summed = pa.table({"scene_id": self.chosen["scene_id"], **columns}).group_by("scene_id")
        return summed.aggregate([(name, "sum") for name in columns]).rename_columns(["scene_id", *columns])

    def units(self, store: Store, scene_filter: str, scene_ids: pa.Array) -> pa.Table:
        return self.chosen.filter(pc.is_in(self.chosen["scene_id"], scene_ids))

    def prepare(self, store: Store) -> Prepare:
        return self.stage.prepare(self.source)

    def apply(self, store: Store) -> Apply:
        return self.stage.apply(self.source)


def sample(stage: Stage, store: Store, units: int) -> pa.Table | None:
    """About so many of a stage's pending units, runs of neighbours from all over; None where nothing is pending."""
    pending_units = next(pending(store, make_plan(store, stage)), None)
    if pending_units is None:
        return None
    return pending_units.drop_columns(["lacks", "partial"]).take(pa.array(spread(len(pending_units), units)))


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Places of `wanted` of `count` things (all, if there are no more): a few runs of neighbours, evenly apart."""
    if wanted >= count:
        return np.arange(count)
    runs = min(_RUNS, wanted)
    starts = np.arange(runs) * count // runs
    lengths = np.diff(np.arange(runs + 1) * wanted // runs)
    return np.concatenate([np.arange(start, start + length) for start, length in zip(starts, lengths, strict=True)])


def measure(stage: Stage, source: Store, chosen: pa.Table, scratch: Store, threads: int, alone: bool) -> Measured:
    """What the units `chosen` take on so many threads of this process, once it is warm. They are read from `source`
    and written to `scratch`, an empty lake.

    What a worker takes to load weights and to warm up, and with `alone`, in a process of its own, to load the stage, is
    told as the start of workers.
    """
    executor, run = LocalExecutor(threads=threads), Run("calibrate")
    warming = chosen.slice(0, min(threads, len(chosen) - 1))
    first = executor.map(Sampled(stage, source, warming), scratch, run) if len(warming) else None
    report = executor.map(Sampled(stage, source, chosen), scratch, run)
    warm_s, warm_cpu_s = _warming(first, report) if first else (0.0, 0.0)
    load_s, load_cpu_s = _loading(stage) if alone else (0.0, 0.0)
    start_s = report.workers * (load_s + warm_s)
    start_cpu_s = (report.workers if alone else 1) * (load_cpu_s + warm_cpu_s)
    start = Usage(start_s=start_s, start_cpu_s=start_cpu_s, gpu_wait_s=stage.num_gpus * start_s)
    return replace(Measured.of_report(report), usage=report.usage + start)


def _warming(first: Report, report: Report) -> tuple[float, float]:
    """Seconds in which weights were loaded, and CPU-seconds the first units took beyond what units take."""
    usage = report.usage
    warm_cpu_s = first.usage.units * usage.cpu_s / max(usage.units, 1)
    return first.usage.start_s, max(first.cost.cpu_s - report.driver_cpu_s - warm_cpu_s, 0.0)


def _loading(stage: Stage) -> tuple[float, float]:
    """Seconds and CPU-seconds a worker in a process of its own needs to have a stage, with all it imports for that."""
    if not stage.loads:
        return 0.0, 0.0
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", f"from {__name__} import tell_loading; tell_loading()"]
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, input=pickle.dumps(stage), capture_output=True, env=environment)
    if done.returncode:
        cause = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise MinerError(
            f"a process of its own cannot load stage {stage.name}: {cause}",
            "Workers on Ray could not either. To measure it in this process: --executor local.",
        )
    load_s, load_cpu_s = map(float, done.stdout.split()[-2:])
    return load_s, load_cpu_s


def tell_loading() -> None:
    """Load the stage that comes pickled on stdin, and print seconds and CPU-seconds it took."""
    pickled, began = sys.stdin.buffer.read(), Beginning()
    _ = pickle.loads(pickled).outputs
    print(time.perf_counter() - began.wall_s, time.process_time() - began.cpu_s)
