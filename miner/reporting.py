"""What a stage tells while it runs and at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from miner.commit import Committer
from miner.plan import Plan
from miner.prices import Bill, Cost, Prices
from miner.store import Store
from miner.usage import Usage


@dataclass(frozen=True)
class Progress:
    """Where a stage stands: shown by whoever runs it."""

    stage: str
    done: int
    total: int
    quarantined: int


@dataclass(frozen=True)
class Observation:
    """What is seen of a stage as a block comes back: its `usage`; in all so far `rows` committed, units `quarantined`
    and seconds at commits; how many units are in the `queue`, and for how many workers that are there now."""

    lake: str
    run_id: str
    stage: str
    usage: Usage
    rows: Mapping[str, int]
    quarantined: int
    commit_s: float
    queue: int
    workers: int


@dataclass(frozen=True)
class Report:
    """What one verb of the engine did: units seen, rows written by table, quarantined units, table versions.

    `seconds` are without `waited_s`, in which another run held the tables. `usage` is what its `workers` used, for whom
    `decoders`, if there are any, prepared; `driver_cpu_s` is CPU of the process that planned and committed, beside
    blocks it worked on itself, and `commit_s` the seconds it was at commits; `money` is None without prices.
    """

    stage: str
    units: int
    done_before: int
    written: int
    quarantined: int
    rows: Mapping[str, int]
    versions: Mapping[str, int]
    seconds: float
    quarantined_before: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    usage: Usage = field(default_factory=Usage)
    workers: int = 0
    decoders: int = 0
    commit_s: float = 0.0
    driver_cpu_s: float = 0.0
    money: Bill | None = None
    waited_s: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether any table changed."""
        return bool(self.rows) or self.quarantined > 0

    @property
    def cost(self) -> Cost:
        """What it took: CPU of workers, of making them, and of the process that planned and committed."""
        return self.usage.cost + Cost(cpu_s=self.driver_cpu_s)


@dataclass(frozen=True)
class Beginning:
    """When a stage began, on this process's clocks."""

    wall_s: float = field(default_factory=time.perf_counter)
    cpu_s: float = field(default_factory=time.process_time)


def report_of(plan: Plan, committer: Committer | None, store: Store, began: Beginning, waited_s: float = 0.0) -> Report:
    """What a stage did; without a committer, that there was nothing to do."""
    failed = committer.failed if committer else 0
    written = committer.units - failed if committer else 0
    return Report(
        stage=plan.stage.name,
        units=plan.total,
        done_before=plan.total - written - failed - plan.quarantined,
        written=written,
        quarantined=failed,
        rows=dict(committer.rows) if committer else {},
        versions={output.table: store.version(output.table) for output in plan.stage.outputs},
        seconds=time.perf_counter() - began.wall_s - waited_s,
        waited_s=waited_s,
        quarantined_before=plan.quarantined,
        reasons=dict(committer.reasons) if committer else {},
    )


@dataclass(frozen=True)
class Terms:
    """On which a stage is run: by at most so many workers, for whom at most so many `decoders` prepare; whether in this
    process; at what prices."""

    workers: int
    decoders: int
    in_process: bool
    prices: Prices


def with_usage(report: Report, committer: Committer, began: Beginning, terms: Terms) -> Report:
    """The report with what was used."""
    usage = committer.usage
    own_s = usage.cpu_s + usage.start_cpu_s if terms.in_process else 0.0
    measured = replace(
        report,
        usage=usage,
        workers=min(len(committer.workers), terms.workers),
        decoders=min(len(committer.preparers), terms.decoders),
        commit_s=committer.commit_s,
        driver_cpu_s=max(time.process_time() - began.cpu_s - own_s, 0.0),
    )
    return replace(measured, money=terms.prices.bill(measured.cost))


def cost_of(report: Report) -> dict[str, Any]:
    """What lineage keeps of it."""
    return {
        "stage": report.stage,
        "units": report.written,
        "tables": sorted(report.versions),
        "quarantined": report.quarantined,
        "rows": dict(report.rows),
        "seconds": round(report.seconds, 3),
        "waited_s": round(report.waited_s, 3),
        "worker_seconds": round(report.usage.busy_s, 3),
        "workers": report.workers,
        "decoders": report.decoders,
        "usage": report.usage.to_dict(),
        "commit_s": round(report.commit_s, 3),
        "driver_cpu_s": round(report.driver_cpu_s, 3),
        **({} if report.money is None else {"money": asdict(report.money)}),
    }
