"""What a job will take, for `--dry-run`: from what lineage keeps of earlier runs, or from a sample that is measured."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from jobs.config import JobConfig
from miner.errors import UsageError
from miner.estimate import Calibration, Measured, Prediction, calibrate, predict
from miner.plan import Plan
from miner.prices import Cost
from miner.sampled import measure, sample
from miner.stage import Stage
from miner.store import Store

_RUNS = 5  # the latest ones: machines and releases change
_SAMPLE = 256


@dataclass(frozen=True)
class Expected:
    """So many units of a stage, and what one takes, as far as it is known; `origin` says from where."""

    stage: str
    units: int
    known: Calibration | None
    origin: str


def from_lineage(store: Store, plan: Plan) -> Expected:
    """From the latest runs of the stage, with the same tables, that wrote to this lake."""
    runs = _earlier(store, plan.stage)
    if not runs:
        return Expected(plan.stage.name, plan.pending, None, "")
    known = calibrate(runs)
    origin = f"{known.runs} earlier {'run' if known.runs == 1 else 'runs'} of {known.units:,} units in this lake"
    return Expected(plan.stage.name, plan.pending, known, origin)


def from_sample(config: JobConfig, stage: Stage, store: Store, units: int, pending: int) -> Expected:
    """From about `units` pending ones, read from where they are and written to a lake that is thrown away."""
    with scratch() as aside:
        return measured(config, stage, store, units, pending, aside)


def measured(config: JobConfig, stage: Stage, store: Store, units: int, pending: int, aside: Store) -> Expected:
    """As `from_sample`; what is written stays in `aside`."""
    _refuse_elsewhere(config)
    chosen = sample(stage, store, units)
    if chosen is None:
        return Expected(stage.name, pending, None, "")
    apart = config.executor == "ray"
    threads = 1 if stage.num_gpus else workers_of(config, None)  # what shares a GPU slows one another down
    ran = measure(stage, store, chosen, aside, threads, alone=apart)
    if stage.num_gpus and apart:
        ran = replace(ran, decoders=config.decode_workers or config.num_cpus or len(os.sched_getaffinity(0)))
    return Expected(stage.name, pending, calibrate([ran]), f"a sample of {len(chosen):,}")


@contextmanager
def scratch() -> Iterator[Store]:
    """An empty lake on this machine, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="miner-") as folder:
        yield Store.create(f"{folder}/lake")


def document(config: JobConfig, expected: Sequence[Expected]) -> dict[str, Any]:
    """What the job is expected to take: by stage with where the figures come from, in all, and `unknown` stages."""
    pending = [each for each in expected if each.units]
    known = {each.stage: (each, _predicted(config, each)) for each in pending if each.known is not None}
    stages = [{"stage": name, **_told(config, found), "from": each.origin} for name, (each, found) in known.items()]
    found = [each for _, each in known.values()]
    cost = reduce(add, (each.cost for each in found), Cost())
    bounds = [_together(found, side) for side in ("low", "high")]
    total = Prediction(sum(each.units for each in found), cost, sum(each.seconds for each in found), *bounds)
    return {
        "stages": stages,
        "total": _told(config, total) if known else None,
        "unknown": [each.stage for each in pending if each.known is None],
    }


def _together(found: Sequence[Prediction], side: str) -> float | None:
    """A bound of the sum: as if all were off to the same side, as on a machine that is slower today."""
    bounds = [(each.cost.cpu_s, getattr(each, side)) for each in found]
    whole_s = sum(cpu_s for cpu_s, _ in bounds)
    if not whole_s or any(bound is None for _, bound in bounds):
        return None
    return float(sum(cpu_s * bound for cpu_s, bound in bounds) / whole_s)


def workers_of(config: JobConfig, known: Calibration | None) -> int:
    """How many workers the job will have: as told, as many as before on a cluster or with GPUs, or a core each."""
    if known is not None and known.gpus:  # CPUs are for those that prepare
        return config.num_workers or known.workers
    told = config.num_workers or config.num_cpus
    cluster = config.address or os.environ.get("RAY_ADDRESS") if config.executor == "ray" else ""
    return told or (known.workers if known and cluster else len(os.sched_getaffinity(0)))


def sample_size(calibrate: int) -> int:
    """Units to measure. Raises UsageError for none."""
    if calibrate < 1:
        raise UsageError(f"--calibrate {calibrate}: expected a number of units from 1", f"Try: --calibrate {_SAMPLE}")
    return calibrate


def _earlier(store: Store, stage: Stage) -> list[Measured]:
    if not store.exists("lineage"):
        return []
    tables = sorted(output.table for output in stage.outputs)
    rows = store.scan("lineage", ["run_id", "event_time_ns", "status", "cost", "config"]).sort_by("event_time_ns")
    found: dict[str, Measured] = {}
    for row in rows.to_pylist():
        cost = json.loads(row["cost"])
        whole = row["status"] == "complete"  # of another only what it had used by its last commit is known
        same = whole and cost.get("stage") == stage.name and cost.get("tables") == tables
        run = Measured.of_cost(cost) if same and _same_reader(stage, json.loads(row["config"])) else None
        if run is not None and bool(run.usage.gpu_s) == bool(stage.num_gpus):  # with GPUs it is another job
            found[row["run_id"]] = run
    return list(found.values())[-_RUNS:]


def _same_reader(stage: Stage, config: Mapping[str, Any]) -> bool:
    return stage.source_reader is None or config.get("reader") == stage.source_reader


def _predicted(config: JobConfig, each: Expected) -> Prediction:
    assert each.known is not None
    return predict(each.known, each.units, workers_of(config, each.known), config.decode_workers or 0)


def _told(config: JobConfig, found: Prediction) -> dict[str, Any]:
    told: dict[str, Any] = {"units": found.units, **asdict(found.cost), "seconds": found.seconds}
    told |= {"low": found.low, "high": found.high}
    bill = config.prices.bill(found.cost)
    return told if bill is None else told | {"money": asdict(bill)}


def _refuse_elsewhere(config: JobConfig) -> None:
    address = config.address or os.environ.get("RAY_ADDRESS")
    if config.executor == "ray" and address:
        raise UsageError(
            f"--calibrate measures a sample on this machine, not on the cluster at {address}",
            "Measure here all the same: --executor local. Without it, runs that were before tell.",
        )
