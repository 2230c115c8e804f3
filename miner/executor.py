"""The engine: `map` a stage over its pending units, `reduce` tables to a table, each unit exactly once.

An executor only decides where blocks run. Everything that makes the result exact is here, once, for all of them:
planning by anti-join, leases, fragments by workers and group commits by the driver, retries in ever smaller blocks,
quarantine.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from miner.commit import Committer
from miner.errors import MinerError
from miner.lease import lease
from miner.lineage import Run, Span, record, recover, unrecorded
from miner.plan import Plan, make_plan, pending
from miner.stage import Failure, Reduction, Stage
from miner.store import Store
from miner.worker import BlockWorker, Receipt

MAX_ATTEMPTS = 3
_BLOCKS_PER_WORKER = 4
_MAX_BLOCK_UNITS = 1000
_PIECES = 8


@dataclass(frozen=True)
class Progress:
    """Where a stage stands: shown by whoever runs it."""

    stage: str
    done: int
    total: int
    quarantined: int


@dataclass(frozen=True)
class Report:
    """What one verb of the engine did: units seen, rows written by table, quarantined units, table versions."""

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

    @property
    def changed(self) -> bool:
        """Whether any table changed."""
        return bool(self.rows) or self.quarantined > 0


@dataclass
class Executor(ABC):
    """Runs stages and reductions over a lake. Subclasses say where the blocks of a stage are worked on."""

    wait: bool = True
    on_progress: Callable[[Progress], None] = lambda progress: None
    notify: Callable[[str], None] = lambda message: None

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many blocks run at once."""

    @abstractmethod
    def run_blocks(self, stage: Stage, store: Store, blocks: Sequence[pa.Table]) -> Iterator[Receipt]:
        """Work on blocks anywhere, in any order; a block whose worker died simply gives no receipt."""

    def run_reduction(self, reduction: Reduction, store: Store, stamp: Mapping[str, str]) -> None:
        """Compute and replace the rows of a reduction."""
        store.replace(reduction.output.table, reduction.compute(store), reduction.owned, stamp)

    def map(self, stage: Stage, store: Store, run: Run) -> Report:
        """Bring the stage's outputs up to its input; the same call again changes nothing."""
        started = time.perf_counter()
        plan = make_plan(store, stage)  # before any table is made: it raises what is wrong with the stage's input
        store.ensure("quarantine")
        for output in stage.outputs:
            store.ensure(output.table, output.schema)
        tables = [output.table for output in stage.outputs]
        if not _has_work(store, plan) and not any(unrecorded(store, table) for table in tables):
            return _report(plan, None, store, started)
        with lease(store, tables, run.run_id, self.wait, self.notify) as assert_held:
            for table in tables:
                recover(store, table)
            plan = make_plan(store, stage)  # another run may have finished while this one waited
            inputs = [Span(table, store.version(table), store.version(table)) for table in stage.reads]
            committer = Committer(store, stage, run, assert_held)
            try:
                for chunk in pending(store, plan):
                    self._run_chunk(store, plan, chunk, committer)
            finally:  # also when interrupted: what is finished counts
                committer.flush()
            report = _report(plan, committer, store, started)
            record(store, run, inputs, committer.spans(), _cost(report, committer))
        return report

    def reduce(self, reduction: Reduction, store: Store, run: Run) -> Report:
        """Replace the reduction's rows if a table it reads has changed since they were computed."""
        started = time.perf_counter()
        table = reduction.output.table
        store.ensure(table, reduction.output.schema)
        rows: dict[str, int] = {}
        inputs = [Span(name, store.version(name), store.version(name)) for name in reduction.reads]
        if _source(store, reduction) != repr(inputs):
            with lease(store, [table], run.run_id, self.wait, self.notify):
                recover(store, table)
                before = store.version(table)
                self.run_reduction(
                    reduction, store, run.stamp(stage=reduction.name, owned=reduction.owned, source=repr(inputs))
                )
                rows = {table: store.count(table, reduction.owned)}
                cost = {"seconds": round(time.perf_counter() - started, 3)}
                record(store, run, inputs, [Span(table, before + 1, store.version(table))], cost)
        seconds = time.perf_counter() - started
        return Report(reduction.name, 0, 0, 0, 0, rows, {table: store.version(table)}, seconds)

    def _run_chunk(self, store: Store, plan: Plan, chunk: pa.Table, committer: Committer) -> None:
        """Work on the pending units of one chunk until each is committed or in quarantine."""
        stage = plan.stage
        blocks, alone = _blocks(chunk, self.workers, stage.batch_size), 0
        while blocks:
            unfinished = {block["key"][0].as_py(): block for block in blocks}
            errors: dict[str, str] = {}
            for receipt in self.run_blocks(stage, store, blocks):
                if receipt.fatal is not None:
                    raise receipt.fatal
                if receipt.error:
                    errors[receipt.units[0]] = receipt.error
                elif unfinished.pop(receipt.units[0], None) is not None:  # each block counts once
                    committer.add(receipt)
                    self._show(plan, committer)
            if len(errors) == len(blocks) > 1 and len({_last_line(error) for error in errors.values()}) == 1:
                raise MinerError(f"every block of stage {stage.name} failed alike:\n{next(iter(errors.values()))}")
            single = all(len(block) == 1 for block in unfinished.values())
            alone += single
            if single and alone >= MAX_ATTEMPTS:
                if not committer.taken and len(chunk) > 1:
                    raise MinerError(f"stage {stage.name}: not one of {len(chunk)} units got through", _any(errors))
                committer.add(Receipt(tuple(unfinished), failures=_give_up(unfinished, errors)))
                break
            blocks = [half for block in unfinished.values() for half in _split(block)]
        committer.flush()
        self._show(plan, committer)

    def _show(self, plan: Plan, committer: Committer) -> None:
        done = plan.total - plan.open_units + committer.taken
        self.on_progress(Progress(plan.stage.name, done, plan.total, len(committer.failures)))


@dataclass
class LocalExecutor(Executor):
    """Threads of this process: no cluster, the same commits. The kernels and encoders release the interpreter lock."""

    threads: int = 0

    @property
    def workers(self) -> int:
        return self.threads or len(os.sched_getaffinity(0))

    def run_blocks(self, stage: Stage, store: Store, blocks: Sequence[pa.Table]) -> Iterator[Receipt]:
        worker = BlockWorker(stage, store)
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(worker, block) for block in blocks]
            try:
                yield from (future.result() for future in as_completed(futures))
            finally:  # also when the driver is interrupted: what has not begun does not begin
                pool.shutdown(cancel_futures=True)


def _blocks(chunk: pa.Table, workers: int, batch_size: int) -> list[pa.Table]:
    """Blocks of units that lack the same outputs: few and large, but enough to keep every worker busy to the end."""
    share = -(-len(chunk) // (workers * _BLOCKS_PER_WORKER))
    size = min(max(share, min(batch_size, -(-len(chunk) // workers))), _MAX_BLOCK_UNITS)
    blocks = []
    for lacks in pc.unique(chunk["lacks"]).to_pylist():
        units = chunk.filter(pc.equal(chunk["lacks"], lacks)).combine_chunks()
        blocks += [units.slice(start, size) for start in range(0, len(units), size)]
    return blocks


def _split(block: pa.Table) -> list[pa.Table]:
    """Smaller blocks to find the unit that kills its worker: eighths take a third of the rounds that halves do."""
    size = -(-len(block) // _PIECES)
    return [block.slice(start, size) for start in range(0, len(block), size)]


def _any(errors: Mapping[str, str]) -> str:
    return next(iter(errors.values()), "Every worker died: see Ray's logs for the cause (memory? a broken library?).")


def _give_up(blocks: Mapping[str, pa.Table], errors: Mapping[str, str]) -> list[Failure]:
    return [
        Failure(
            key,
            block["scene_id"][0].as_py(),
            "error" if key in errors else "worker-died",
            _last_line(errors[key]) if key in errors else f"its worker died {MAX_ATTEMPTS} times on this unit alone",
            MAX_ATTEMPTS,
        )
        for key, block in blocks.items()
    ]


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.strip().splitlines()) if line.strip()), "")


def _has_work(store: Store, plan: Plan) -> bool:
    return bool(plan.open_scenes.any()) and next(pending(store, plan), None) is not None


def _source(store: Store, reduction: Reduction) -> str | None:
    """The input versions the reduction's rows were last computed from."""
    for commit in reversed(store.commits(reduction.output.table)):
        if commit.properties.get("miner.owned") == reduction.owned:
            return commit.properties["miner.source"]
    return None


def _report(plan: Plan, committer: Committer | None, store: Store, started: float) -> Report:
    stage = plan.stage
    failures = committer.failures if committer else []
    reasons: dict[str, int] = {}
    for failure in failures:
        reasons[failure.reason] = reasons.get(failure.reason, 0) + 1
    written = committer.units - len(failures) if committer else 0
    return Report(
        stage=stage.name,
        units=plan.total,
        done_before=plan.total - written - len(failures) - plan.quarantined,
        written=written,
        quarantined=len(failures),
        rows=dict(committer.rows) if committer else {},
        versions={output.table: store.version(output.table) for output in stage.outputs},
        seconds=time.perf_counter() - started,
        quarantined_before=plan.quarantined,
        reasons=reasons,
    )


def _cost(report: Report, committer: Committer) -> dict[str, Any]:
    return {
        "units": report.written,
        "quarantined": report.quarantined,
        "rows": dict(report.rows),
        "seconds": round(report.seconds, 3),
        "worker_seconds": round(committer.busy_s, 3),
    }
