"""What limits a stage, and how fast it can go: a model of its phases and what they run on, nothing measured here.

A unit is prepared (read, decoded), applied (encoded) and written by workers, then committed by the one driver. Each of
these is served by so many at once; the one with the most work for each of its servers sets the rate of all. Within
workers that do several phases one after the other, the longest phase is what to shorten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Phase = Literal["prepare", "apply", "write", "commit", "driver"]
Resource = Literal["CPU", "GPU", "lake", "driver"]


@dataclass(frozen=True)
class Service:
    """Seconds of one worker (`commit_s`, `driver_s`: of the driver) for one unit, phase by phase.

    `cpu_s` is CPU-seconds for a unit in all workers; 0 where it is not known.
    """

    prepare_s: float = 0.0
    apply_s: float = 0.0
    write_s: float = 0.0
    commit_s: float = 0.0
    driver_s: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Resources:
    """What works on a stage: `workers` at once, which have `gpus` GPUs each.

    With `decoders` there are so many that only prepare, and workers do the rest; without, workers prepare for
    themselves. `cpus` (0: unknown) is how many cores all of them share.
    """

    workers: int
    gpus: float = 0.0
    decoders: int = 0
    cpus: float = 0.0


@dataclass(frozen=True)
class Limit:
    """The phase that sets the rate, on which resource, and units per second at best.

    `loads` says of each phase which part of its servers' time that rate takes: what is near to 1 limits.
    """

    phase: Phase
    resource: Resource
    rate: float
    loads: Mapping[Phase, float]


def limit(service: Service, resources: Resources) -> Limit:
    """What limits a stage whose units take `service` on `resources`. Raises ValueError where nothing takes any time."""
    seconds = _per_server(service, resources)
    stations = _stations(resources)
    loads = {station: sum(seconds[phase] for phase in phases) for station, phases in stations.items()}
    slowest = max(loads, key=lambda station: loads[station])
    longest = max(stations[slowest], key=lambda phase: seconds[phase])
    took_s = loads[slowest]
    if resources.cpus and service.cpu_s / resources.cpus > took_s:  # more workers than cores
        took_s = service.cpu_s / resources.cpus
        longest = max(("prepare", "apply", "write"), key=lambda phase: seconds[phase])
        kind: Resource = "CPU"
    else:
        kind = resource_of(longest, resources.gpus)
    if took_s <= 0:
        raise ValueError("no phase takes any time: nothing limits")
    return Limit(longest, kind, 1 / took_s, {phase: each / took_s for phase, each in seconds.items()})


def resource_of(phase: Phase, gpus: float = 0.0) -> Resource:
    """What a phase runs on, where each worker has `gpus` GPUs."""
    on: dict[Phase, Resource] = {"prepare": "CPU", "write": "lake", "commit": "lake", "driver": "driver"}
    return on.get(phase, "GPU" if gpus else "CPU")


def _per_server(service: Service, resources: Resources) -> dict[Phase, float]:
    """Seconds for a unit, divided by how many units the servers of the phase have at once."""
    workers, decoders = max(resources.workers, 1), resources.decoders or max(resources.workers, 1)
    return {
        "prepare": service.prepare_s / decoders,
        "apply": service.apply_s / workers,
        "write": service.write_s / workers,
        "commit": service.commit_s,
        "driver": service.driver_s,
    }


def _stations(resources: Resources) -> dict[str, tuple[Phase, ...]]:
    """Which phases the same servers do, one after the other."""
    apart: dict[str, tuple[Phase, ...]] = {"decoders": ("prepare",), "workers": ("apply", "write")}
    together: dict[str, tuple[Phase, ...]] = {"workers": ("prepare", "apply", "write")}
    return {**(apart if resources.decoders else together), "driver": ("commit", "driver")}
