"""What happens to a block of units inside a worker, whichever executor runs it."""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from miner.disk import DiskError, explained
from miner.errors import BadInput, MinerError, SchemaError
from miner.failpoints import failpoint
from miner.fragments import data_bytes
from miner.limits import UNIT_TIMEOUT_S, Stuck, assert_wanted, watched
from miner.runlog import one_line
from miner.schema import key_of
from miner.stage import Apply, Failure, Outcome, Prepare, Stage
from miner.store import Store, one_of
from miner.usage import Clock, Meter, Usage

T = TypeVar("T")


@dataclass(frozen=True)
class Receipt:
    """What a worker gives back for a block: the units it finished and the data files it wrote, not yet committed."""

    units: tuple[str, ...]
    fragments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    reason: str = "error"
    cause: str = ""  # an exception in one line: nothing of the block counts
    trace: str = ""
    fatal: MinerError | None = None  # no unit's fault (configuration, weights, a full disk): retrying cannot help
    usage: Usage = field(default_factory=Usage)  # also where nothing of the block counts: it was spent
    worker: str = ""
    preparer: str = ""  # where another worker did the first half


class BlockWorker:
    """Does a block of units in a worker: prepare, apply, write. Made once per worker, called for many blocks.

    `unit_timeout_s` is for each unit; `may_end_process` see `miner.limits.watched`; `prepare` takes the place of the
    stage's.
    """

    def __init__(
        self,
        stage: Stage,
        store: Store,
        unit_timeout_s: float = UNIT_TIMEOUT_S,
        may_end_process: bool = False,
        prepare: Prepare | None = None,
    ) -> None:
        self._stage, self._store, self._given = stage, store, prepare
        self._unit_timeout_s, self._may_end_process = unit_timeout_s, may_end_process
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        self._begin()
        start_s, start_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        self._untold = iter([(start_s, start_cpu_s)])  # goes with one of the blocks
        self._clock = Clock()

    def __call__(self, block: pa.Table) -> Receipt:
        """The receipt of a block (units that all lack the same outputs); never raises for what is in the data."""
        meter = Meter()
        with self._clock.running() as share:
            work = partial(self._receipt, meter=meter)
            done, stuck = without_stuck(work, block, self._unit_timeout_s, self._may_end_process, self._begin)
        keys = tuple(block["key"].to_pylist())
        receipt = done or Receipt(keys)
        usage = meter.usage(len(block), share.cpu_s, self._stage.num_gpus, share.idle_s, share.part)
        start = next(self._untold, None)
        usage = usage if start is None else usage.as_first(*start, self._stage.num_gpus)
        return replace(receipt, units=keys, failures=[*receipt.failures, *stuck], usage=usage, worker=own_name())

    def _begin(self) -> None:
        _ = self._stage.outputs  # loads what the stage is described by, weights too: now, not with the first block
        self._prepare: Prepare = self._given or self._stage.prepare(self._store)
        self._apply: Apply = self._stage.apply(self._store)

    def _receipt(self, block: pa.Table, meter: Meter) -> Receipt:
        keys = tuple(block["key"].to_pylist())
        try:
            failpoint("worker:block")
            wanted = _wanted(self._stage, block)
            with meter.counting():
                rows, failures = self._work(block, wanted, meter)
            self._account(block, wanted, rows, failures)
            with meter.phase("write"):
                fragments = {table: self._store.write(table, part) for table, part in rows.items()}
            meter.bytes_written += sum(map(data_bytes, chain.from_iterable(fragments.values())))
            failpoint("worker:written")
        except Exception as error:  # whatever it is, the driver isolates the unit that causes it
            return failed(keys, error, fatal(error, self._store), self._store.storage_options)
        counts = {table: len(part) for table, part in rows.items()}
        return Receipt(keys, fragments, counts, failures)

    def _work(self, block: pa.Table, wanted: frozenset[str], meter: Meter) -> tuple[dict[str, pa.Table], list[Failure]]:
        parts: dict[str, list[pa.Table]] = {table: [] for table in wanted}
        failures: list[Failure] = []
        for start in range(0, len(block), self._stage.batch_size):
            outcome = self._batch(block.slice(start, self._stage.batch_size), wanted, meter)
            failures += outcome.failures
            for table in wanted & outcome.rows.keys():
                parts[table].append(outcome.rows[table])
        rows = {o.table: pa.concat_tables(parts[o.table]) for o in self._stage.outputs if parts.get(o.table)}
        return {table: self._unwritten(table, part, block) for table, part in rows.items()}, failures

    def _batch(self, units: pa.Table, wanted: frozenset[str], meter: Meter) -> Outcome:
        with meter.phase("prepare"):
            prepared = self._prepare(units)
        assert_wanted()  # a thread that was given up comes back here
        with meter.phase("apply"):
            return self._applied(prepared, wanted)

    def _applied(self, prepared: pa.Table, wanted: frozenset[str]) -> Outcome:
        if "failure" not in prepared.column_names:
            return self._apply(prepared, wanted)
        if prepared["failure"].null_count == len(prepared):  # filtering copies
            return self._apply(prepared.drop_columns("failure"), wanted)
        bad = prepared.filter(pc.is_valid(prepared["failure"])).select(["key", "scene_id", "failure"]).to_pylist()
        failures = [Failure(row["key"], row["scene_id"], **row["failure"]) for row in bad]
        good = prepared.filter(pc.is_null(prepared["failure"])).drop_columns("failure")
        outcome = self._apply(good, wanted) if len(good) else Outcome({})
        return Outcome(outcome.rows, [*failures, *outcome.failures])

    def _account(
        self, block: pa.Table, wanted: frozenset[str], rows: Mapping[str, pa.Table], failures: Sequence[Failure]
    ) -> None:
        """Rows in = rows out + quarantined, for every wanted output that says what is done."""
        failed = {failure.key for failure in failures}
        for output in self._stage.outputs:
            if output.unit is not None and output.table in wanted:
                expected = set(block["key"].filter(pa.array(output.of_kind(block))).to_pylist()) - failed
                found = set(rows[output.table][output.unit].to_pylist()) if output.table in rows else set()
                missing = expected - found
                if missing:
                    raise RuntimeError(f"stage {self._stage.name} lost {len(missing)} units, e.g. {min(missing)}")

    def _unwritten(self, table: str, rows: pa.Table, block: pa.Table) -> pa.Table:
        """Without the rows a run that died between two commits already left in a child table."""
        scenes = pc.unique(block.filter(block["partial"])["scene_id"]).to_pylist()
        if not scenes:
            return rows
        [key] = key_of(self._store.schema(table))
        there = self._store.scan(table, [key], one_of("scene_id", scenes))
        return rows.filter(pc.invert(pc.is_in(rows[key], there[key])))


def without_stuck(
    work: Callable[[pa.Table], T], block: pa.Table, limit_s: float, may_end_process: bool, again: Callable[[], None]
) -> tuple[T | None, list[Failure]]:
    """What `work` makes of a block, and the units that it is stuck at: the others are done anew without them, after
    `again`. None where no unit is left."""
    stuck: list[Failure] = []
    while len(block):
        try:
            return watched(partial(work, block), limit_s, may_end_process), stuck
        except Stuck as error:
            own = pc.equal(block["key"], error.key)
            [scene_id] = block.filter(own)["scene_id"].to_pylist()
            stuck.append(Failure(error.key, scene_id, "timed-out", error.detail))
            block = block.filter(pc.invert(own))
            again()  # the thread that is stuck may come back to what it has
    return None, stuck


def failed(
    keys: tuple[str, ...], error: Exception, fatal: MinerError | None, options: Mapping[str, str] | None = None
) -> Receipt:
    """The receipt of a block that an exception ended."""
    reason, cause = (error.reason, error.detail) if isinstance(error, BadInput) else ("error", one_line(error, options))
    return Receipt(keys, reason=reason, cause=cause, trace="".join(traceback.format_exception(error)), fatal=fatal)


def fatal(error: Exception, store: Store) -> MinerError | None:
    """The error if no unit is to blame, so that retrying cannot help: the caller's mistake, a full disk, no right to a
    table."""
    if isinstance(error, MinerError):
        return None if isinstance(error, BadInput | SchemaError) else error
    told = explained(error, store.uri)
    of_recording = isinstance(told, DiskError) and not told.full and "LanceError" not in str(error)
    return None if of_recording else told


def own_name() -> str:
    """Of this worker: the same for all blocks it does."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"


def _wanted(stage: Stage, block: pa.Table) -> frozenset[str]:
    """The output tables that the units of a block lack."""
    lacks = block["lacks"][0].as_py()
    return frozenset(output.table for bit, output in enumerate(stage.outputs) if lacks >> bit & 1)
