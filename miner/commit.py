"""Group commits: what workers wrote becomes visible, many fragments at a time, stamped with the run."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from miner.errors import MinerError
from miner.failpoints import failpoint
from miner.lineage import Run, Span
from miner.schema import QUARANTINE
from miner.stage import Failure, Stage
from miner.store import Store
from miner.usage import Usage
from miner.worker import Receipt

GROUP_FRAGMENTS = 32  # so many new ones, or a group so old, are committed
GROUP_S = 30.0
OLDEST_S = 300.0  # however long commits take: so much work at most is lost with the driver
COMMIT_SHARE = 0.1  # of the time at most: a commit takes longer the more data files a table has
_PRESENT_S = 60.0  # blocks may be short, and waits between them are not
_ABSENT = {"missing-file", "unreadable"}
_ABSENT_UNITS = 10


class Committer:
    """Collects receipts and commits them in groups: children first, the parent last, then the quarantine."""

    def __init__(self, store: Store, stage: Stage, run: Run, assert_held: Callable[[], None]) -> None:
        self._store, self._stage, self._run, self._assert_held = store, stage, run, assert_held
        self._seen = {output.table: store.version(output.table) for output in stage.outputs}
        self._group: list[Receipt] = []
        self._files = 0  # of the group
        self._number, self._opened = 0, time.monotonic()
        self.first = dict(self._seen)
        self.rows: dict[str, int] = {}
        self.reasons: Counter[str] = Counter()  # of the units put into quarantine
        self.taken = 0
        self.units = 0
        self.usage = Usage()  # of all blocks that came back, good or not
        self.workers: dict[str, float] = {}  # when each gave its last block
        self.preparers: dict[str, float] = {}
        self._longest_s = 0.0  # of any block
        self.commit_s = 0.0
        self._last_s = 0.0  # what the last commit took

    def add(self, receipt: Receipt) -> None:
        """Take a finished block; commits when the group is full or old enough, but not all the time: groups grow with
        what committing them takes."""
        self._group.append(receipt)
        self.taken += len(receipt.units)
        self._files += sum(map(len, receipt.fragments.values()))
        age_s = time.monotonic() - self._opened
        due = self._files >= GROUP_FRAGMENTS or age_s > GROUP_S
        if due and age_s >= min(self._last_s / COMMIT_SHARE, OLDEST_S):
            self.flush()

    def account(self, receipt: Receipt) -> None:
        """Add up what a block cost, whether it is to be committed or tried again."""
        self.usage += receipt.usage
        self._longest_s = max(self._longest_s, receipt.usage.busy_s)
        for seen, name in ((self.workers, receipt.worker), (self.preparers, receipt.preparer)):
            if name:
                seen[name] = time.monotonic()

    def present(self, now_s: float) -> int:
        """How many workers and preparers are there: who gave no block for twice as long as any took has ended."""
        since_s = now_s - max(_PRESENT_S, 2 * self._longest_s)
        return sum(last_s >= since_s for seen in (self.workers, self.preparers) for last_s in seen.values())

    def flush(self) -> None:
        """Commit what is collected."""
        group, self._group, self._files, self._opened = self._group, [], 0, time.monotonic()
        if group:
            began = time.perf_counter()
            self._commit(group)
            self._last_s = time.perf_counter() - began
            self.commit_s += self._last_s

    def _commit(self, group: list[Receipt]) -> None:
        self._refuse_an_absent_source(group)
        self._assert_held()
        stamp = self._run.stamp(stage=self._stage.name, group=self._number, cost=json.dumps(self._cost()))
        failpoint("commit:before")
        for output in self._stage.outputs:
            fragments = [text for receipt in group for text in receipt.fragments.get(output.table, ())]
            if fragments:
                self._seen[output.table] = self._store.commit(output.table, fragments, stamp, self._seen[output.table])
                failpoint("commit:between-tables")
        failpoint("quarantine:before")
        self._quarantine([failure for receipt in group for failure in receipt.failures], stamp)
        failpoint("commit:after")
        for receipt in group:
            self.units += len(receipt.units)
            for table, rows in receipt.rows.items():
                self.rows[table] = self.rows.get(table, 0) + rows
        self._number += 1

    def _cost(self) -> dict[str, Any]:
        """What was used until now: all that lineage has of a run that does not live to tell its cost."""
        used = {"usage": self.usage.to_dict(), "worker_seconds": round(self.usage.busy_s, 3)}
        return {"stage": self._stage.name, **used}

    def _refuse_an_absent_source(self, group: list[Receipt]) -> None:
        """Where no file at all can be read it is the disk that is missing, and quarantine would outlast its return."""
        failures = [failure for receipt in group for failure in receipt.failures]
        absent = all(failure.reason in _ABSENT for failure in failures)
        if absent and not self.units and len(failures) == sum(len(receipt.units) for receipt in group) >= _ABSENT_UNITS:
            raise MinerError(
                f"stage {self._stage.name}: not one of {len(failures)} files could be read, e.g. {failures[0].detail}",
                "Is the disk mounted, the path the same on this machine? Nothing was put into quarantine.",
            )

    @property
    def failed(self) -> int:
        """How many units were put into quarantine."""
        return self.reasons.total()

    def spans(self) -> list[Span]:
        """The versions this run wrote, by table."""
        return [Span(t, self.first[t] + 1, last) for t, last in self._seen.items() if last > self.first[t]]

    def _quarantine(self, failures: list[Failure], stamp: Mapping[str, str]) -> None:
        if failures:
            whose: dict[str, Any] = {"stage": self._stage.name, "reader": self._stage.source_reader}
            whose |= {"run_id": self._run.run_id, "time_ns": time.time_ns()}
            rows = [{**whose, **vars(failure)} for failure in failures]
            self._store.append("quarantine", pa.Table.from_pylist(rows, schema=QUARANTINE), stamp)
            self.reasons.update(failure.reason for failure in failures)
