"""What a finished stage tells of its speed: rates, how busy its workers were, what limited it and what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from miner.bottleneck import Service, best_rate, limiting, loads, pools
from miner.reporting import Report

Phase = Literal["prepare", "apply", "write", "start", "commit", "driver"]
Limiting = Phase | Literal["waiting"]
Resource = Literal["CPU", "GPU", "lake", "driver"]
_RESOURCES: Mapping[Limiting, Resource] = {
    "prepare": "CPU",
    "write": "lake",
    "start": "CPU",
    "commit": "lake",
    "driver": "driver",
    "waiting": "driver",
}
_RELIEF: Mapping[tuple[Limiting, Resource], str] = {
    ("prepare", "CPU"): "more CPUs to read and decode (num_cpus, more nodes)",
    ("apply", "CPU"): "more CPUs (num_cpus, more nodes)",
    ("apply", "GPU"): "more GPUs, or a smaller encoder",
    ("write", "lake"): "a faster disk or store for the lake, or larger blocks (block_size)",
    ("commit", "lake"): "larger blocks (block_size): fewer data files to commit",
    ("driver", "driver"): "larger blocks (block_size): fewer of them for the driver to handle",
    ("start", "CPU"): "more units in a run: workers load their encoders once",
    ("waiting", "driver"): "more units in a run, or smaller blocks (block_size), so that no worker runs out of them",
}
_RELIEF_OF_ENCODING = "more CPUs, a GPU (num_gpus) or a smaller encoder"


@dataclass(frozen=True)
class Summary:
    """Of one stage. Shares are of the wall time (of all workers', where they are of workers): 1 is always.

    `busy_share` is how much of their time workers worked on blocks, `shares` the same by phase, with `commit` and
    `driver` (its CPU) beside. `limits` is what held the stage up, on `resource`, and `relief` what would help;
    `rate_if_doubled` units per second by the model, were there twice as much of that resource, None where that is not
    how it would get faster. With `decoders`, who prepare for workers, the share of `prepare` is of theirs.
    """

    stage: str
    seconds: float
    units_per_s: float
    rows_per_s: float
    mb_read_per_s: float
    mb_written_per_s: float
    workers: int
    busy_share: float
    gpu_wait_share: float | None
    shares: Mapping[Phase, float]
    quarantined: int
    limits: Limiting
    resource: Resource
    relief: str
    rate_if_doubled: float | None
    decoders: int = 0


def summaries(reports: Sequence[Report]) -> list[Summary]:
    """Of the stages that worked on units, the longest first."""
    done = [summary(report) for report in reports if report.usage.units and report.seconds > 0]
    return sorted(done, key=lambda each: -each.seconds)


def summary(report: Report) -> Summary:
    """The summary of a stage that worked on units."""
    usage, shares = report.usage, _shares(report)
    units = report.written + report.quarantined
    whose = pools(report.decoders > 0)
    found = limiting(shares, whose)
    limits: Limiting = found or "waiting"
    resource = _RESOURCES.get(limits, "GPU" if usage.gpu_s else "CPU")
    held_s = usage.gpu_s + usage.gpu_wait_s
    return Summary(
        stage=report.stage,
        seconds=report.seconds,
        units_per_s=units / report.seconds,
        rows_per_s=sum(report.rows.values()) / report.seconds,
        mb_read_per_s=usage.bytes_read / 1e6 / report.seconds,
        mb_written_per_s=usage.bytes_written / 1e6 / report.seconds,
        workers=report.workers,
        busy_share=loads(shares, whose)["workers"] - shares["start"],
        gpu_wait_share=usage.gpu_wait_s / held_s if held_s else None,
        shares=shares,
        quarantined=report.quarantined,
        limits=limits,
        resource=resource,
        relief=_relief(report.stage, limits, resource),
        rate_if_doubled=_doubled(report, limits),
        decoders=report.decoders,
    )


def _shares(report: Report) -> dict[Phase, float]:
    usage, workers = report.usage, max(report.workers, 1)
    return {
        "prepare": usage.prepare_s / ((report.decoders or workers) * report.seconds),
        "apply": usage.apply_s / (workers * report.seconds),
        "write": usage.write_s / (workers * report.seconds),
        "start": usage.start_s / (workers * report.seconds),
        "commit": report.commit_s / report.seconds,
        "driver": report.driver_cpu_s / report.seconds,
    }


def _relief(stage: str, limits: Limiting, resource: Resource) -> str:
    encoding = stage == "embed" and (limits, resource) == ("apply", "CPU")
    return _RELIEF_OF_ENCODING if encoding else _RELIEF[limits, resource]


def _doubled(report: Report, limits: Limiting) -> float | None:
    if limits not in ("prepare", "apply"):
        return None
    usage, workers, decoders = report.usage, max(report.workers, 1), report.decoders
    phases_s = (usage.prepare_s, usage.apply_s, usage.write_s, report.commit_s)
    measured = Service(*(each / max(usage.units, 1) for each in phases_s))
    if decoders and limits == "prepare":
        return best_rate(measured, workers, 2 * decoders)
    return best_rate(measured, 2 * workers, decoders)
