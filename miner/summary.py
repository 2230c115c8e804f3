"""What a finished stage tells of its speed: rates, how busy its workers were, what limited it and what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from miner.bottleneck import Phase, Resource, Resources, Service, limit, resource_of
from miner.reporting import Report

Limiting = Phase | Literal["start", "waiting"]
_SATURATED = 0.5  # of the wall time: what is busy for less did not hold up the others
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
    shares: Mapping[str, float]
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
    limits, resource = _limits(report, shares)
    held_s = usage.gpu_s + usage.gpu_wait_s
    return Summary(
        stage=report.stage,
        seconds=report.seconds,
        units_per_s=units / report.seconds,
        rows_per_s=sum(report.rows.values()) / report.seconds,
        mb_read_per_s=usage.bytes_read / 1e6 / report.seconds,
        mb_written_per_s=usage.bytes_written / 1e6 / report.seconds,
        workers=report.workers,
        busy_share=sum(shares[phase] for phase in _own_phases(report)),
        gpu_wait_share=usage.gpu_wait_s / held_s if held_s else None,
        shares=shares,
        quarantined=report.quarantined,
        limits=limits,
        resource=resource,
        relief=_relief(report.stage, limits, resource),
        rate_if_doubled=_doubled(report, limits),
        decoders=report.decoders,
    )


def service_of(report: Report) -> Service:
    """Seconds for a unit, as measured."""
    usage, units = report.usage, max(report.usage.units, 1)
    return Service(
        usage.prepare_s / units,
        usage.apply_s / units,
        usage.write_s / units,
        report.commit_s / units,
        report.driver_cpu_s / units,
        usage.cpu_s / units,
    )


def _shares(report: Report) -> dict[str, float]:
    usage, workers_s = report.usage, max(report.workers, 1) * report.seconds
    of_workers = {"prepare": usage.prepare_s, "apply": usage.apply_s, "write": usage.write_s, "start": usage.start_s}
    of_decoders = {"prepare": of_workers.pop("prepare") / (report.decoders * report.seconds)} if report.decoders else {}
    of_driver = {"commit": report.commit_s, "driver": report.driver_cpu_s}
    shares = {name: spent_s / workers_s for name, spent_s in of_workers.items()}
    return shares | of_decoders | {name: spent_s / report.seconds for name, spent_s in of_driver.items()}


def _limits(report: Report, shares: Mapping[str, float]) -> tuple[Limiting, Resource]:
    """What was busiest, if anything was for long."""
    phases = _own_phases(report)
    busy = {"workers": sum(shares[phase] for phase in phases)}
    busy |= {name: shares[name] for name in ("prepare", "start", "commit", "driver")}
    busiest = max(busy, key=lambda name: busy[name])
    if busy[busiest] < _SATURATED:
        return "waiting", "driver"
    if busiest == "workers":
        longest = max(phases, key=lambda phase: shares[phase])
        return longest, resource_of(longest, _gpus(report))
    found: dict[str, tuple[Limiting, Resource]] = {
        "prepare": ("prepare", "CPU"),
        "start": ("start", "CPU"),
        "commit": ("commit", "lake"),
        "driver": ("driver", "driver"),
    }
    return found[busiest]


def _relief(stage: str, limits: Limiting, resource: Resource) -> str:
    encoding = stage == "embed" and (limits, resource) == ("apply", "CPU")
    return _RELIEF_OF_ENCODING if encoding else _RELIEF[limits, resource]


def _doubled(report: Report, limits: Limiting) -> float | None:
    if limits not in ("prepare", "apply"):
        return None
    service = service_of(report)
    # What a driver in the same process spends beside commits is of the run, not of each unit more or less.
    workers, decoders = max(report.workers, 1), report.decoders
    doubled = {"decoders": 2 * decoders} if decoders and limits == "prepare" else {"workers": 2 * workers}
    there = Resources(workers, _gpus(report), decoders)
    return limit(replace(service, driver_s=0.0), replace(there, **doubled)).rate


def _own_phases(report: Report) -> tuple[Phase, ...]:
    """Which phases workers do themselves."""
    return ("apply", "write") if report.decoders else ("prepare", "apply", "write")


def _gpus(report: Report) -> float:
    """GPUs of each worker."""
    return report.usage.gpu_s / report.usage.apply_s if report.usage.apply_s else 0.0
