"""An executor that another one works for, which keeps when each receipt came: of that rates and loads are made."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from miner.executor import Executor
from miner.stage import Stage
from miner.store import Store
from miner.usage import Usage
from miner.worker import Receipt


@dataclass
class Clocked(Executor):
    """Runs blocks by `inner`. `came` is (seconds, receipt), in the order they came."""

    inner: Executor | None = None
    came: list[tuple[float, Receipt]] = field(default_factory=list)

    @classmethod
    def of(cls, inner: Executor) -> Clocked:
        """With the settings of `inner`."""
        return cls(unit_timeout_s=inner.unit_timeout_s, notify=inner.notify, inner=inner)

    @property
    def workers(self) -> int:
        assert self.inner is not None
        return self.inner.workers

    @property
    def decoders(self) -> int:
        assert self.inner is not None
        return self.inner.decoders

    def run_blocks(self, stage: Stage, store: Store, blocks: Sequence[pa.Table]) -> Generator[Receipt, None, None]:
        assert self.inner is not None
        for receipt in self.inner.run_blocks(stage, store, blocks):
            self.came.append((time.perf_counter(), receipt))
            yield receipt


@dataclass(frozen=True)
class Pace:
    """How fast workers went once they were at work: `rate` units per second, all workers together; by stage the share
    of the time its servers were busy."""

    rate: float
    busy: Mapping[str, float]


def pace(came: Sequence[tuple[float, Receipt]], commit_s: float, decoders: int = 0) -> Pace:
    """The pace of some receipts. With `decoders`, so many prepare for the workers.

    A worker's time is from the start of its first block to the end of its last: starting it, which is done once, and
    waiting for the others at the end are of the trial, not of a run of hours. So is what decoders did before there was
    a worker to hand it to, for which no share goes above 1. Raises ValueError without receipts.
    """
    if not came:
        raise ValueError("no receipts: no pace")
    own = [(at, receipt.worker, _own_s(receipt.usage, decoders), receipt.usage) for at, receipt in came]
    workers = {worker for _, worker, _, _ in own}
    spans = {}
    for worker in workers:
        times = [(at - own_s, at, usage.units) for at, name, own_s, usage in own if name == worker]
        began_s, ended_s = min(first for first, _, _ in times), max(last for _, last, _ in times)
        spans[worker] = (began_s, ended_s, sum(units for _, _, units in times))
    total = sum((usage for *_, usage in own), Usage())
    workers_s = sum(ended_s - began_s for began_s, ended_s, _ in spans.values())
    wall_s = max(ended_s for _, ended_s, _ in spans.values()) - min(began_s for began_s, _, _ in spans.values())
    busy = {
        "prepare": min(total.prepare_s / (decoders * wall_s if decoders else workers_s), 1.0),
        "apply": total.apply_s / workers_s,
        "write": total.write_s / workers_s,
        "commit": min(commit_s / wall_s, 1.0),
    }
    return Pace(sum(units / (ended_s - began_s) for began_s, ended_s, units in spans.values()), busy)


def _own_s(usage: Usage, decoders: int) -> float:
    """Seconds that the worker itself was at a block."""
    return usage.busy_s - (usage.prepare_s if decoders else 0.0)
