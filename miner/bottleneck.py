"""What limits a stage, and how fast it can go: a model of its phases and who does them, nothing measured here.

A unit is prepared (read, decoded), applied (encoded) and written by workers, then committed by the one driver. A pool
of servers that do several phases does them one after the other, so their times add up; the pool with the most to do
sets the rate of all. Within it, the longest phase is what to shorten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

# The share u of the time from which on a pool limits. Twice as many servers take u / 2 off the time, work that never
# waits takes 1 - u off: where u is less than this, what is waited for is worth more than servers.
SATURATED = 2 / 3
Phase = TypeVar("Phase", bound=str)
Amount = TypeVar("Amount", float, NDArray[Any])


@dataclass(frozen=True)
class Service:
    """Seconds of one worker (`commit_s`: of the driver) for one unit, phase by phase."""

    prepare_s: float = 0.0
    apply_s: float = 0.0
    write_s: float = 0.0
    commit_s: float = 0.0


def pools(apart: bool) -> Mapping[str, str]:
    """Which phases the workers share; every other one has servers of its own, `prepare` where others do that."""
    shared = ("start", "apply", "write") if apart else ("start", "prepare", "apply", "write")
    return dict.fromkeys(shared, "workers")


def loads(spent: Mapping[Phase, Amount], pools: Mapping[str, str]) -> dict[str, Amount]:
    """What the servers of each pool spend on all their phases, from what they spend on each."""
    found: dict[str, Amount] = {}
    for phase, amount in spent.items():
        pool = pools.get(phase, phase)
        found[pool] = found[pool] + amount if pool in found else amount
    return found


def limiting(shares: Mapping[Phase, float], pools: Mapping[str, str]) -> Phase | None:
    """The longest phase of the busiest pool, from shares of its time; None where none is busy and each waits for the
    others."""
    by_pool = loads(shares, pools)
    busiest = max(by_pool, key=lambda pool: by_pool[pool], default="")
    if by_pool.get(busiest, 0.0) < SATURATED:
        return None
    return max((phase for phase in shares if pools.get(phase, phase) == busiest), key=lambda phase: shares[phase])


def best_rate(service: Service, workers: int, decoders: int = 0) -> float:
    """Units per second of so many workers at best, for whom so many `decoders` prepare, if there are any.

    Raises ValueError where nothing takes any time.
    """
    workers = max(workers, 1)
    seconds = {
        "prepare": service.prepare_s / (decoders or workers),
        "apply": service.apply_s / workers,
        "write": service.write_s / workers,
        "commit": service.commit_s,
    }
    slowest_s = max(loads(seconds, pools(decoders > 0)).values())
    if slowest_s <= 0:
        raise ValueError("no phase takes any time: nothing limits")
    return 1 / slowest_s
