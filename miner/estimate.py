"""What a stage will take, from what units of it took before: arithmetic, nothing measured here.

The cost of a unit is the ratio of sums over blocks (Cochran, Sampling Techniques, 3rd ed., section 6.3); its interval
is the ratio estimator's, and never narrower than what the same work differs by from one run to the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import add
from typing import Any

from scipy.stats import t as student

from miner.bottleneck import Service, best_rate
from miner.prices import Cost
from miner.reporting import Report
from miner.usage import Usage

_CONFIDENCE = 0.9
_DRIFT = 0.1  # by which CPU-seconds of the same run differ between times of day, on machines that others use too
_FIGURES = {each.name for each in fields(Usage)}


@dataclass(frozen=True)
class Measured:
    """What one run of a stage took."""

    usage: Usage
    workers: int
    commit_s: float
    driver_cpu_s: float
    decoders: int = 0

    @classmethod
    def of_report(cls, report: Report) -> Measured:
        return cls(report.usage, report.workers, report.commit_s, report.driver_cpu_s, report.decoders)

    @classmethod
    def of_cost(cls, cost: Mapping[str, Any]) -> Measured | None:
        """Of what lineage keeps of a run; None where it measured nothing (less than it keeps digits of), or was of an
        older release."""
        usage = Usage(**{name: each for name, each in cost.get("usage", {}).items() if name in _FIGURES})
        if not usage.units or usage.busy_s + cost["commit_s"] <= 0:
            return None
        return cls(usage, cost["workers"], cost["commit_s"], cost["driver_cpu_s"], cost.get("decoders", 0))


@dataclass(frozen=True)
class Calibration:
    """What a unit takes (`unit`, `service`) and what a run takes once: `run_cpu_s`, and for each worker to be made
    `start_s` and `start_cpu_s`.

    `half` is half the width of the 90 % interval of a unit's CPU-seconds, as a part of them; None where a single block
    was measured. `gpus` of each worker, `decoders` who prepared for them; `units` and `runs` it was taken from.
    """

    unit: Cost
    service: Service
    run_cpu_s: float
    start_s: float
    start_cpu_s: float
    half: float | None
    gpus: float
    workers: int
    decoders: int
    units: int
    runs: int


@dataclass(frozen=True)
class Prediction:
    """What so many units take; `low` and `high` are parts of the cost: the 90 % interval, None where it is unknown."""

    units: int
    cost: Cost
    seconds: float
    low: float | None
    high: float | None


def calibrate(runs: Sequence[Measured]) -> Calibration:
    """From runs of one stage (at least one, each of at least one unit)."""
    usage = reduce(add, (run.usage for run in runs))
    units, workers = usage.units, max(run.workers for run in runs)
    cpu_s, cold_s = _warm(usage)
    gpus = usage.gpu_s / usage.apply_s if usage.apply_s else 0.0
    gpu_s = max(usage.gpu_s + usage.gpu_wait_s - gpus * usage.start_s, 0.0)  # that is once, not for each unit
    per_unit = 1 / units
    commit_s = sum(run.commit_s for run in runs)
    phases_s = (usage.prepare_s, usage.apply_s, usage.write_s, commit_s)
    made = max(sum(run.workers for run in runs), 1)
    return Calibration(
        unit=replace(Cost(0.0, gpu_s, usage.bytes_read, usage.bytes_written) * per_unit, cpu_s=cpu_s),
        service=Service(*(each * per_unit for each in phases_s)),
        run_cpu_s=sum(run.driver_cpu_s for run in runs) / len(runs),
        start_s=usage.start_s / made,
        start_cpu_s=(usage.start_cpu_s + cold_s) / made,
        half=half_width(usage),
        gpus=gpus,
        workers=workers,
        decoders=max(run.decoders for run in runs),
        units=units,
        runs=len(runs),
    )


def _warm(usage: Usage) -> tuple[float, float]:
    """CPU-seconds of a unit in workers that are warm, and what the first blocks of workers took beyond that.

    Where there are not more units in others than in first blocks, these say little: then it is of all, and nothing.
    """
    others = usage.units - usage.first_units
    if others < usage.first_units or not others:
        return usage.cpu_s / usage.units, 0.0
    warm_s = (usage.cpu_s - usage.first_cpu_s) / others
    cold_s = usage.first_cpu_s - warm_s * usage.first_units
    return (warm_s, cold_s) if cold_s > 0 else (usage.cpu_s / usage.units, 0.0)


def half_width(usage: Usage) -> float | None:
    """Half of the 90 % interval of the CPU-seconds of a unit, as a part of them; None for fewer than two blocks."""
    count, units, cpu_s = usage.blocks, usage.units, usage.cpu_s
    if count < 2 or not units or cpu_s <= 0:
        return None
    ratio = cpu_s / units
    residuals = usage.cpu_s_squared - 2 * ratio * usage.units_cpu_s + ratio**2 * usage.units_squared
    error = math.sqrt(max(residuals, 0.0) * count / (count - 1)) / units
    quantile = float(student.ppf((1 + _CONFIDENCE) / 2, count - 1))
    return max(quantile * error / ratio, _DRIFT)


def predict(known: Calibration, units: int, workers: int, decoders: int = 0) -> Prediction:
    """What `units` take on so many workers. `decoders` is how many prepare for them, where others do so at all; as many
    as before for 0."""
    if not units:
        return Prediction(0, Cost(), 0.0, 1.0, 1.0)
    once = Cost(cpu_s=known.run_cpu_s + workers * known.start_cpu_s, gpu_s=workers * known.gpus * known.start_s)
    rate = best_rate(known.service, workers, known.decoders and (decoders or known.decoders))
    bounds = (None, None) if known.half is None else (max(1 - known.half, 0.0), 1 + known.half)
    return Prediction(units, known.unit * units + once, units / rate + known.start_s, *bounds)
