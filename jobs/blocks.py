"""What Ray's workers do: rows with a block in, rows with its pickled receipt out. Nothing here needs Ray itself."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pyarrow as pa

from miner.errors import MinerError
from miner.halves import ApplyWorker, Prepared, PrepareWorker, row_of, units_of
from miner.runlog import one_line
from miner.stage import Stage
from miner.store import Store
from miner.worker import BlockWorker, Receipt, failed


class _Worker:
    """What is made once per actor. An exception while it is made would have Ray start the actor again and again: it
    becomes the receipt of the first block."""

    def __init__(self, make: Callable[[], Callable[..., Receipt]]) -> None:
        self._broken: Exception | None = None
        try:
            self._work = make()
        except Exception as error:
            self._broken = error

    def done(self, block: pa.Table, argument: object) -> pa.Table:
        if self._broken is None:
            receipt = self._work(argument)
        else:
            receipt = _unable(block, self._broken)
        return pa.table({"receipt": pa.array([pickle.dumps(receipt)], pa.large_binary())})


class Whole(_Worker):
    """A `BlockWorker` behind Ray Data."""

    def __init__(self, stage: Stage, store: Store, unit_timeout_s: float) -> None:
        super().__init__(lambda: BlockWorker(stage, store, unit_timeout_s, may_end_process=True))

    def __call__(self, row: pa.Table) -> pa.Table:
        """The receipt of a `packed` block."""
        block = units_of(row["block"])
        return self.done(block, block)


class Applying(_Worker):
    """An `ApplyWorker` behind Ray Data."""

    def __init__(self, stage: Stage, store: Store, unit_timeout_s: float) -> None:
        super().__init__(lambda: ApplyWorker(stage, store, unit_timeout_s, may_end_process=True))

    def __call__(self, row: pa.Table) -> pa.Table:
        """The receipt of what `prepare` gave."""
        prepared = Prepared.from_row(row)
        return self.done(prepared.block, prepared)


def whole(row: pa.Table, stage: Stage, store: Store, unit_timeout_s: float) -> pa.Table:
    """The same for stages that are cheap to make: in a task, whose process Ray reuses for the next stage."""
    return Whole(stage, store, unit_timeout_s)(row)


def prepare(row: pa.Table, stage: Stage, store: Store, unit_timeout_s: float) -> pa.Table:
    """The first half of a `packed` block's work, in a task."""
    block = units_of(row["block"])
    try:
        worker = PrepareWorker(stage, store, unit_timeout_s, may_end_process=True)
    except Exception as error:
        return Prepared(block, block.slice(0, 0), receipt=_unable(block, error)).to_row()
    return worker(block).to_row()


def packed(block: pa.Table) -> pa.Table:
    """A block as one row: with GPUs Ray Data wants a number of rows per call, and two blocks must never share one."""
    return pa.table({"block": row_of(block)})


def _unable(block: pa.Table, error: Exception) -> Receipt:
    told = error if isinstance(error, MinerError) else MinerError(f"a worker cannot start: {one_line(error)}")
    return failed(tuple(block["key"].to_pylist()), error, told)
