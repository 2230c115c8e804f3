"""Running stages of a job one after the other: the executor a config asks for, and what the job says at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs import estimates
from jobs.config import JobConfig
from jobs.costs import costs
from jobs.versions import untested
from miner.executor import Executor, LocalExecutor
from miner.lake import Lake, create, open
from miner.plan import Plan, Share, make_plan
from miner.reporting import Progress, Report
from miner.stage import Stage
from miner.store import Store
from miner.summary import summaries

QUARANTINED = 3


@dataclass(frozen=True)
class Listener:
    """Who watches a job: progress of stages, and lines worth telling."""

    on_progress: Callable[[Progress], None] = lambda progress: None
    notify: Callable[[str], None] = lambda message: None


@dataclass(frozen=True)
class Result:
    """What a job did: one report per stage, and facts for the reader.

    `shares` say how much of what the job is about is in quarantine: of the source, or of the lake, after this run and
    all before it. `exit_code` is 3 where one is above `max_bad`, so a run that goes on where another was killed ends as
    that one would have. A run that finds nothing to do ends with 0: what is there was judged before. `clips` is how
    many the lake has, to tell what one cost.
    """

    job: str
    lake: str
    reports: Sequence[Report]
    facts: dict[str, Any] = field(default_factory=dict)
    max_bad: float = 1.0
    shares: Sequence[Share] = ()
    clips: int = 0

    @property
    def changed(self) -> bool:
        """Whether the lake changed."""
        return any(report.changed for report in self.reports)

    @property
    def exit_code(self) -> int:
        """0, or 3 if more of a stage's units are in quarantine than `max_bad`."""
        return QUARANTINED if self.changed and any(each.exceeds(self.max_bad) for each in self.shares) else 0

    def to_dict(self) -> dict[str, Any]:
        """The result as one JSON document."""
        stages = [asdict(report) for report in self.reports]
        bad = [asdict(each) for each in self.shares if each.bad]
        end = {"bad": bad, "max_bad": self.max_bad, "exit_code": self.exit_code}
        told = {"summary": [asdict(each) for each in summaries(self.reports)], "cost": costs(self.reports, self.clips)}
        head = {"job": self.job, "lake": self.lake, **self.facts, "changed": self.changed}
        return {**head, "stages": stages, **told, **end}


def make_executor(config: JobConfig, listener: Listener) -> Executor:
    """The executor of a config. Ray is imported, and started, only when there is something to run."""
    common: dict[str, Any] = {"wait": config.wait, "retry_quarantined": config.retry_quarantined}
    common |= {"unit_timeout_s": config.unit_timeout_s, "prices": config.prices}
    common |= {"on_progress": listener.on_progress, "notify": listener.notify}
    if config.executor == "local":
        return LocalExecutor(threads=config.num_workers or config.num_cpus or 0, **common)
    from jobs.engine import RayExecutor

    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    return RayExecutor(
        address=address,
        num_cpus=config.num_cpus,
        memory_gb=config.memory_gb,
        num_workers=config.num_workers,
        decode_workers=config.decode_workers,
        object_store_gb=config.object_store_gb,
        wait_nodes_s=config.wait_nodes_s,
        **common,
    )


def open_lake(config: JobConfig, listener: Listener, new: bool = False) -> Lake:
    """The lake of a config, made if `new`, with the executor and the settings of the config."""
    lake = (create if new else open)(config.lake, make_executor(config, listener))
    lake.settings = config.model_dump(mode="json")
    for line in untested():
        listener.notify(line)
    return lake


def count_clips(store: Store) -> int:
    """Clips of a lake; 0 where nothing was cut."""
    return store.count("clips") if store.exists("clips") else 0


def plan_document(
    job: str, config: JobConfig, store: Store, stages: Sequence[Stage], calibrate: int | None = None
) -> dict[str, Any]:
    """What a job would do, without writing anything: units and pending units per stage, and what they will take, from
    earlier runs or, with `calibrate`, from a sample of so many units."""
    store.assert_current()
    plans = [make_plan(store, stage) for stage in stages]
    if calibrate is None:
        expected = [estimates.from_lineage(store, plan) for plan in plans]
    else:
        size = estimates.sample_size(calibrate)
        expected = [estimates.from_sample(config, plan.stage, store, size, plan.pending) for plan in plans]
    return planned(job, store, plans) | {"estimate": estimates.document(config, expected)}


def planned(job: str, store: Store, plans: Sequence[Plan]) -> dict[str, Any]:
    """Units and pending units of the stages of a job."""
    counts = [{"stage": each.stage.name, "units": each.total, "pending": each.pending} for each in plans]
    return {"job": job, "lake": store.uri, "stages": counts}
