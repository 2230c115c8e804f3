"""The engine as a line of stations: the driver plans, hands out blocks and commits; workers read, work and write.

What each costs was measured on one node, or is stated by whoever asks (requests of an object store). `foresee` says how
long a run takes on any number of nodes, and what it waits for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jobs.scale.stations import Room, Station, passage
from miner.commit import COMMIT_SHARE, GROUP_FRAGMENTS, GROUP_S, OLDEST_S


@dataclass(frozen=True)
class CommitCost:
    """Seconds to commit to one table: `fixed_s`, more for each new fragment, and for each fragment and version that the
    table has already, since a commit reads and writes the list of them all."""

    fixed_s: float
    new_s: float = 0.0
    fragment_s: float = 0.0
    version_s: float = 0.0

    def seconds(self, new: int, fragments: int, versions: int) -> float:
        """Of one commit of `new` fragments to a table that has so many fragments and versions."""
        return self.fixed_s + new * self.new_s + fragments * self.fragment_s + versions * self.version_s


@dataclass(frozen=True)
class ObjectStore:
    """Requests a block makes of an object store, and how many a second it answers; none by default."""

    gets_per_block: float = 0.0
    puts_per_block: float = 0.0
    gets_per_s: float = float("inf")
    puts_per_s: float = float("inf")


@dataclass(frozen=True)
class Costs:
    """What was measured of a run, in seconds: before the first block and after the last one; the driver's own for each
    block (`dispatch_s`) and receipt (`receive_s`); of a worker between two blocks (`gap_s`) and at one (`block_s`,
    which varies by `spread`, a standard deviation as a share of it)."""

    start_s: float
    end_s: float
    dispatch_s: float
    receive_s: float
    gap_s: float
    block_s: float
    commit: CommitCost
    spread: float = 0.0


@dataclass(frozen=True)
class Fleet:
    """Nodes, and workers on each of them."""

    nodes: int
    workers: int = 1


@dataclass(frozen=True)
class Forecast:
    """How long a run takes; the share of it that each part of the engine is busy; the busiest part; commits made, and
    fragments a table has in the end."""

    seconds: float
    busy: Mapping[str, float]
    limit: str
    commits: int
    fragments: int


def foresee(costs: Costs, blocks: int, tables: int, fleet: Fleet, store: ObjectStore | None = None) -> Forecast:
    """Simulate a run of `blocks` blocks, each of which writes one file to each of `tables` tables."""
    asked = store or ObjectStore()
    committing = _Committing(costs, tables)
    slots = fleet.nodes * fleet.workers
    stations = (
        Station("dispatch", 1, lambda block, now_s: costs.dispatch_s),
        Station("reading requests", 1, lambda block, now_s: asked.gets_per_block / asked.gets_per_s),
        Station("workers", slots, _working(costs)),
        Station("writing requests", 1, lambda block, now_s: asked.puts_per_block / asked.puts_per_s),
        Station("commits", 1, committing),
    )
    passed = passage(stations, blocks, [Room("dispatch", "writing requests", slots)])
    seconds = costs.start_s + passed.seconds + committing.flush_s() + costs.end_s
    return Forecast(seconds, passed.busy, passed.limit, committing.commits, committing.fragments)


def _working(costs: Costs) -> Callable[[int, float], float]:
    """Times of blocks, by a gamma law with the mean and spread that were measured."""
    random_ = random.Random(0)
    shape = 1 / costs.spread**2 if costs.spread else 0.0

    def service_s(block: int, now_s: float) -> float:
        work_s = random_.gammavariate(shape, costs.block_s / shape) if shape else costs.block_s
        return costs.gap_s + work_s

    return service_s


@dataclass
class _Committing:
    """The driver's side: receipts collect until a group of them is committed, table by table."""

    costs: Costs
    tables: int
    commits: int = 0
    fragments: int = 0
    _group: int = field(default=0, init=False)
    _opened_s: float = field(default=0.0, init=False)
    _last_s: float = field(default=0.0, init=False)

    def __call__(self, block: int, now_s: float) -> float:
        self._group += 1
        age_s = now_s - self._opened_s
        due = self._group * self.tables >= GROUP_FRAGMENTS or age_s > GROUP_S
        flushed = due and age_s >= min(self._last_s / COMMIT_SHARE, OLDEST_S)
        return self.costs.receive_s + (self.flush_s(now_s) if flushed else 0.0)

    def flush_s(self, now_s: float = 0.0) -> float:
        """Seconds to commit what is collected."""
        if not self._group:
            return 0.0
        seconds = self.tables * self.costs.commit.seconds(self._group, self.fragments, self.commits)
        self.commits += 1
        self.fragments += self._group
        self._group, self._opened_s, self._last_s = 0, now_s, seconds
        return seconds
