"""The engine: `map` a stage over its pending units, `reduce` tables to a table, each unit exactly once.

An executor only decides where blocks run. Everything that makes the result exact is here, once, for all of them:
planning by anti-join, leases, fragments by workers and group commits by the driver, retries in ever smaller blocks,
quarantine.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from miner.commit import Committer
from miner.digests import seal
from miner.errors import MinerError
from miner.failpoints import failpoint
from miner.key_indexes import mend_keys
from miner.lease import is_holder, lease
from miner.limits import UNIT_TIMEOUT_S
from miner.lineage import Run, Span, record, recover, unrecorded
from miner.plan import Plan, forget_quarantined, make_plan, pending
from miner.prices import Prices
from miner.reporting import Beginning, Observation, Progress, Report, Terms, cost_of, report_of, with_usage
from miner.runlog import RunLog, logged
from miner.sound import check_manifests
from miner.stage import Failure, Part, Reduction, Stage
from miner.store import Store
from miner.transactions import RUN
from miner.usage import Usage
from miner.versions import OWNED, content_version
from miner.worker import BlockWorker, Receipt

MAX_ATTEMPTS = 3
_KEPT_BESIDE = "quarantine", "lineage"  # by every stage
_BLOCKS_PER_WORKER = 4
_PIECES = 8
_DIED = f"its worker died {MAX_ATTEMPTS} times on this unit alone"
_ALL_DIED = "Every worker died: Ray's logs know the cause (memory? a broken library?)."


@dataclass
class Executor(ABC):
    """Runs stages and reductions over a lake. Subclasses say where the blocks of a stage are worked on.

    `unit_timeout_s` is how long reading one unit may take before it goes to quarantine.
    """

    wait: bool = True
    retry_quarantined: bool = False
    in_process: ClassVar[bool] = False  # whether blocks are worked on in this process
    unit_timeout_s: float = UNIT_TIMEOUT_S
    prices: Prices = field(default_factory=Prices)
    on_progress: Callable[[Progress], None] = lambda progress: None
    notify: Callable[[str], None] = lambda message: None

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many blocks run at once."""

    @property
    def decoders(self) -> int:
        """How many at once prepare blocks for workers with GPUs, where these do not do so themselves."""
        return self.workers

    @abstractmethod
    def run_blocks(self, stage: Stage, store: Store, blocks: Sequence[pa.Table]) -> Generator[Receipt, None, None]:
        """Work on blocks anywhere, in any order; a block whose worker died simply gives no receipt."""

    def observe(self, seen: Observation) -> None:  # noqa: B027  nobody has to watch
        """Told of each block that comes back and of the end of a stage: for whoever watches from outside."""

    def run_reduction(self, reduction: Reduction, store: Store, stamp: Mapping[str, str], since: int) -> None:
        """Compute and replace the rows of a reduction; `since` is the version of its table as the lease was taken."""
        parts: Sequence[Part] = [lambda: None]
        while parts and reduction.divided:
            reduction, parts = reduction.begin(store)
            with ThreadPoolExecutor(self.workers) as pool:
                try:
                    for done in as_completed([pool.submit(part) for part in parts]):
                        done.result()
                finally:  # where one fails, or somebody interrupts, the others are not begun
                    pool.shutdown(cancel_futures=True)
        replace_rows(reduction, store, stamp, since)

    def map(self, stage: Stage, store: Store, run: Run) -> Report:
        """Bring the stage's outputs up to its input; the same call again changes nothing.

        Raises Damaged for a table of which the newest manifest is not what was written: rows would be built on it.
        """
        with logged(store, run, f"stage {stage.name}") as log:
            return self._map(stage, store, run, log)

    def _map(self, stage: Stage, store: Store, run: Run, log: RunLog) -> Report:
        began = Beginning()
        tables = [output.table for output in stage.outputs]
        built_on = [*stage.reads, *tables, *_KEPT_BESIDE]
        check_manifests(store, built_on)
        plan = make_plan(store, stage)  # before any table is made: it raises what is wrong with the stage's input
        store.ensure("quarantine")
        for output in stage.outputs:
            store.ensure(output.table, output.schema)
        retried = self.retry_quarantined and plan.quarantined > 0
        if not retried and not _has_work(store, plan) and not any(unrecorded(store, table) for table in tables):
            return report_of(plan, None, store, began)
        with lease(store, tables, run.run_id, self.wait, self.notify) as held:
            check_manifests(store, built_on)
            for table in tables:
                recover(store, table)
                mend_keys(store, table)
            if retried:
                forget_quarantined(store, plan)
            plan = make_plan(store, stage)  # another run may have finished while this one waited
            inputs = [Span(table, store.version(table), store.version(table)) for table in stage.reads]
            committer = Committer(store, stage, run, held)
            try:
                for chunk in pending(store, plan):
                    self._run_chunk(_Job(store, plan, committer, log), chunk)
            finally:  # also when interrupted: what is finished counts
                committer.flush()
            report = report_of(plan, committer, store, began, held.waited_s)
            if committer.taken:  # else Ray would be started to tell of nothing
                self.observe(_Job(store, plan, committer, log).observed(Usage()))
                terms = Terms(self.workers, self.decoders, self.in_process, self.prices)
                report = with_usage(report, committer, began, terms)
            record(store, run, inputs, committer.spans(), cost_of(report))
            seal(store, [*tables, *_KEPT_BESIDE])
        return report

    def reduce(self, reduction: Reduction, store: Store, run: Run) -> Report:
        """Replace the reduction's rows if a table it reads has changed since they were computed.

        Raises Damaged as `map` does.
        """
        started = time.perf_counter()
        with logged(store, run, f"stage {reduction.name}"):
            rows, waited_s = self._reduce(reduction, store, run, started)
        table, seconds = reduction.output.table, time.perf_counter() - started - waited_s
        versions = {table: store.version(table)}
        return Report(reduction.name, 0, 0, 0, 0, rows, versions, seconds, waited_s=waited_s)

    def _reduce(self, reduction: Reduction, store: Store, run: Run, started: float) -> tuple[dict[str, int], float]:
        """Rows by table, and the seconds another run held it first."""
        table = reduction.output.table
        built_on = [*reduction.reads, table, *_KEPT_BESIDE]
        check_manifests(store, built_on)
        store.ensure(table, reduction.output.schema)
        if not is_stale(reduction, store) and not unrecorded(store, table):
            return {}, 0.0
        with lease(store, [table], run.run_id, self.wait, self.notify) as held:
            check_manifests(store, built_on)
            recover(store, table)
            if not is_stale(reduction, store):  # another run made the rows while this one waited
                return {}, held.waited_s
            inputs, before = _inputs(store, reduction), store.version(table)
            stamp = run.stamp(stage=reduction.name, owned=reduction.owned, source=_source(reduction, inputs))
            try:
                self.run_reduction(reduction, store, stamp, before)
            finally:
                if is_holder(store, table, run.run_id):  # else the files are those of the run that took it over
                    reduction.end(store)
            failpoint("reduce:after")
            cost = {"seconds": round(time.perf_counter() - started - held.waited_s, 3)}
            record(store, run, inputs, [Span(table, before + 1, store.version(table))], cost)
            seal(store, [table, "lineage"])
            return {table: store.count(table, reduction.owned)}, held.waited_s

    def _run_chunk(self, job: _Job, chunk: pa.Table) -> None:
        """Work on the pending units of one chunk until each is committed or in quarantine."""
        stage = job.plan.stage
        at_work = max(self.workers, self.decoders) if stage.num_gpus else self.workers
        blocks, attempts, alone = _blocks(chunk, at_work, stage), 0, False
        self._show(job)  # the work begins: rates are counted from here
        while blocks:
            left = self._round(job, [[block] for block in blocks] if alone else [blocks])
            if left and all(len(each.block) == 1 for each in left):
                attempts += 1
                # Who shares a worker with a unit that kills it gives no receipt either: from now on one at a time.
                alone = any(each.receipt is None for each in left)
            if attempts == MAX_ATTEMPTS:
                _refuse_if_all_failed(job, chunk, left)
                keys = tuple(each.block["key"][0].as_py() for each in left)
                job.committer.add(Receipt(keys, failures=[each.failure(job) for each in left]))
                break
            blocks = [piece for each in left for piece in _split(each.block)]
        job.committer.flush()
        self._show(job)

    def _round(self, job: _Job, batches: Sequence[Sequence[pa.Table]]) -> list[_Unfinished]:
        """Run batches of blocks one after the other; gives the blocks that are not done, and why if it is known."""
        left = {block["key"][0].as_py(): _Unfinished(block, None) for batch in batches for block in batch}
        for batch in batches:
            with closing(self.run_blocks(job.plan.stage, job.store, batch)) as receipts:  # an error stops the workers
                for receipt in receipts:
                    job.committer.account(receipt)
                    self.observe(job.observed(receipt.usage))
                    first = receipt.units[0]
                    if receipt.fatal is not None:
                        raise job.told(receipt.fatal, receipt.trace)
                    if receipt.cause and first in left:
                        left[first] = _Unfinished(left[first].block, receipt)
                    elif left.pop(first, None) is not None:  # each block counts once
                        job.committer.add(receipt)
                        self._show(job)
        return list(left.values())

    def _show(self, job: _Job) -> None:
        done = job.plan.total - job.plan.pending + job.committer.taken
        self.on_progress(Progress(job.plan.stage.name, done, job.plan.total, job.committer.failed))


@dataclass
class LocalExecutor(Executor):
    """Threads of this process: no cluster, the same commits. The kernels and encoders release the interpreter lock."""

    in_process = True
    threads: int = 0

    @property
    def workers(self) -> int:
        return self.threads or len(os.sched_getaffinity(0))

    def run_blocks(self, stage: Stage, store: Store, blocks: Sequence[pa.Table]) -> Generator[Receipt, None, None]:
        worker = BlockWorker(stage, store, self.unit_timeout_s)
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(worker, block) for block in blocks]
            given: set[Future[Receipt]] = set()
            try:
                for future in as_completed(futures):
                    given.add(future)
                    yield future.result()
            except KeyboardInterrupt:  # what has begun is finished and counts, the rest does not begin
                pool.shutdown(cancel_futures=True)
                yield from (each.result() for each in futures if each not in given and not each.cancelled())
                raise
            finally:
                pool.shutdown(cancel_futures=True)


def replace_rows(reduction: Reduction, store: Store, stamp: Mapping[str, str], since: int) -> None:
    """Compute a reduction and make its rows the only ones it owns, wherever this runs, unless a run that took the table
    over since is at it."""
    rows = reduction.compute(store)
    failpoint("reduce:before")
    store.replace(reduction.output.table, rows, reduction.owned, stamp, since)
    failpoint("reduce:committed")


@dataclass(frozen=True)
class _Job:
    """One `map` at work."""

    store: Store
    plan: Plan
    committer: Committer
    log: RunLog

    def observed(self, usage: Usage) -> Observation:
        """Where the work stands; `usage` is of the block that came back."""
        plan, done = self.plan, self.committer
        queue, workers = max(plan.pending - done.taken, 0), done.present(time.monotonic())
        so_far = (dict(done.rows), done.failed, done.commit_s, queue, workers)
        return Observation(self.store.uri, self.log.run_id, plan.stage.name, usage, *so_far)

    def told(self, error: MinerError, trace: str) -> MinerError:
        """A worker's error, its trace kept; with where that is, if there is no better next step."""
        where = self.log.keep(f"stage {self.plan.stage.name}", trace)
        error.hint = error.hint or where
        return error


@dataclass(frozen=True)
class _Unfinished:
    """A block to be tried again: with the receipt that says what went wrong, or none where its worker died."""

    block: pa.Table
    receipt: Receipt | None

    def failure(self, job: _Job) -> Failure:
        """The quarantine record of a single unit that was tried often enough."""
        [unit] = self.block.select(["key", "scene_id"]).to_pylist()
        if self.receipt is None:
            return Failure(**unit, reason="worker-died", detail=_DIED, attempts=MAX_ATTEMPTS)
        where = job.log.keep(f"stage {job.plan.stage.name}, unit {unit['key']}", self.receipt.trace)
        detail = f"{self.receipt.cause}. {where}"
        return Failure(**unit, reason=self.receipt.reason, detail=detail, attempts=MAX_ATTEMPTS)


def _blocks(chunk: pa.Table, workers: int, stage: Stage) -> list[pa.Table]:
    """Blocks of units that lack the same outputs: few and large, but enough to keep every worker busy to the end, if
    the stage does not fix their size."""
    share = -(-len(chunk) // (workers * _BLOCKS_PER_WORKER))
    size = min(max(share, min(stage.batch_size, -(-len(chunk) // workers))), stage.block_size)
    size = stage.block_size if stage.fixed_blocks else size
    blocks = []
    for lacks in pc.unique(chunk["lacks"]).to_pylist():
        units = chunk.filter(pc.equal(chunk["lacks"], lacks)).combine_chunks()
        blocks += [units.slice(start, size) for start in range(0, len(units), size)]
    return blocks


def _split(block: pa.Table) -> list[pa.Table]:
    """Smaller blocks to find the unit that kills its worker: eighths take a third of the rounds that halves do."""
    size = -(-len(block) // _PIECES)
    return [block.slice(start, size) for start in range(0, len(block), size)]


def _refuse_if_all_failed(job: _Job, chunk: pa.Table, left: Sequence[_Unfinished]) -> None:
    """Where nothing ever got through, the stage or its surroundings are broken: no unit is to blame."""
    if len(chunk) == 1 or job.committer.taken or job.plan.open_units != job.plan.total:
        return
    what = f"stage {job.plan.stage.name}: not one of {len(chunk):,} units got through"
    receipt = next((each.receipt for each in left if each.receipt is not None), None)
    if receipt is None:
        raise MinerError(what, _ALL_DIED)
    raise MinerError(f"{what}, e.g. {receipt.cause}", job.log.keep(what, receipt.trace))


def _has_work(store: Store, plan: Plan) -> bool:
    """Whether a unit is pending. Keys are listed only where open scenes may be open for their quarantined units
    alone."""
    if not plan.open_scenes.any() or not (plan.quarantined or plan.dropped):
        return bool(plan.open_scenes.any())
    return next(pending(store, plan), None) is not None


def is_stale(reduction: Reduction, store: Store) -> bool:
    """Whether a table the reduction reads has changed since its rows were computed."""
    if reduction.outdated(store):
        return True
    source = _source(reduction, _inputs(store, reduction))
    history = store.history(reduction.output.table) if store.exists(reduction.output.table) else iter(())
    for commit in history:
        if commit.properties.get(OWNED) == reduction.owned:
            return commit.properties["miner.source"] != source
        if commit.operation == "Restore" and RUN in commit.properties:
            return True  # the rows are those of an older version
    return True


def _inputs(store: Store, reduction: Reduction) -> list[Span]:
    """What the reduction reads, as the versions that wrote these rows: compaction changes nothing for it."""
    versions = [(name, content_version(store, name)) for name in reduction.reads]
    return [Span(name, version, version) for name, version in versions]


def _source(reduction: Reduction, inputs: list[Span]) -> str:
    """What rows are made from, as text to compare."""
    return f"{inputs!r}{reduction.settings}"
