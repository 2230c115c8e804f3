"""A block's work in two halves, for stages with GPUs: some workers prepare, others, who hold the GPUs, apply and write.

A block that is prepared travels from worker to worker as one row of Arrow. Whatever becomes of either half, the block
has one receipt or none, as if one worker had done it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from miner.limits import UNIT_TIMEOUT_S, assert_wanted
from miner.stage import Failure, Stage
from miner.store import Store
from miner.usage import Clock, Meter, Usage
from miner.worker import BlockWorker, Receipt, failed, fatal, own_name, without_stuck


@dataclass(frozen=True)
class Prepared:
    """A block after its first half. `units`: what `prepare` made of its units but those that it was `stuck` at. Where
    that failed, `receipt` says so and `units` counts for nothing."""

    block: pa.Table
    units: pa.Table
    stuck: Sequence[Failure] = ()
    receipt: Receipt | None = None
    usage: Usage = field(default_factory=Usage)
    worker: str = ""

    def to_row(self) -> pa.Table:
        """As one row; the arrays of units are copied once, into one piece."""
        about = pickle.dumps((self.stuck, self.receipt, self.usage, self.worker))
        cells = {"block": row_of(self.block), "units": row_of(self.units)}
        return pa.table({**cells, "about": pa.array([about], pa.large_binary())})

    @classmethod
    def from_row(cls, row: pa.Table) -> Prepared:
        """Of such a row, without copying."""
        about = pickle.loads(row["about"][0].as_py())
        return cls(units_of(row["block"]), units_of(row["units"]), *about)


class PrepareWorker:
    """Does the first half of blocks. `unit_timeout_s` and `may_end_process` as for `BlockWorker`."""

    def __init__(
        self, stage: Stage, store: Store, unit_timeout_s: float = UNIT_TIMEOUT_S, may_end_process: bool = False
    ) -> None:
        self._stage, self._store = stage, store
        self._limits = (unit_timeout_s, may_end_process)
        self._clock = Clock()
        self._begin()

    def __call__(self, block: pa.Table) -> Prepared:
        """Prepare a block; never raises for what is in the data."""
        meter, none = Meter(), block.slice(0, 0)
        with self._clock.running() as share:
            done, stuck = without_stuck(partial(self._prepared, meter=meter), block, *self._limits, self._begin)
        if isinstance(done, Receipt):
            return Prepared(block, none, stuck, done, meter.usage(len(block), share.cpu_s), own_name())
        usage = replace(meter.usage(len(stuck), share.cpu_s), blocks=0)  # the second half counts the others
        return Prepared(block, none if done is None else done, stuck, None, usage, own_name())

    def _begin(self) -> None:
        self._prepare = self._stage.prepare(self._store)

    def _prepared(self, block: pa.Table, meter: Meter) -> pa.Table | Receipt:
        try:
            with meter.counting(), meter.phase("prepare"):
                size = self._stage.batch_size
                return pa.concat_tables([self._batch(block.slice(at, size)) for at in range(0, len(block), size)])
        except Exception as error:  # whatever it is, the driver isolates the unit that causes it
            keys = tuple(block["key"].to_pylist())
            return failed(keys, error, fatal(error, self._store), self._store.storage_options)

    def _batch(self, units: pa.Table) -> pa.Table:
        prepared = self._prepare(units)
        assert_wanted()  # a thread that was given up comes back here
        return prepared


class ApplyWorker:
    """Does the second half of blocks: apply, write. Made once per worker."""

    def __init__(
        self, stage: Stage, store: Store, unit_timeout_s: float = UNIT_TIMEOUT_S, may_end_process: bool = False
    ) -> None:
        self._worker = BlockWorker(stage, store, unit_timeout_s, may_end_process, self._units_of)

    def __call__(self, prepared: Prepared) -> Receipt:
        """The receipt of a block, both halves together."""
        keys = tuple(prepared.block["key"].to_pylist())
        receipt = prepared.receipt or self._applied(prepared)
        failures = [*receipt.failures, *prepared.stuck]
        return replace(
            receipt, units=keys, failures=failures, usage=prepared.usage.joined(receipt.usage), preparer=prepared.worker
        )

    def _applied(self, prepared: Prepared) -> Receipt:
        self._units = prepared.units
        stuck = pa.array([each.key for each in prepared.stuck], pa.string())
        block = prepared.block
        return self._worker(block.filter(pc.invert(pc.is_in(block["key"], stuck))) if len(stuck) else block)

    def _units_of(self, block: pa.Table) -> pa.Table:
        """What is prepared of some units of the block at hand: neighbours, but for those that a worker was stuck at."""
        first = pc.index(self._units["key"], block["key"][0]).as_py()
        found = self._units.slice(first, len(block))
        if found["key"].equals(block["key"]):
            return found
        return self._units.filter(pc.is_in(self._units["key"], block["key"]))


def row_of(units: pa.Table) -> pa.Array:
    """Units as one cell, a list of structs."""
    cells = units.to_struct_array().combine_chunks()
    return pa.ListArray.from_arrays(pa.array([0, len(cells)], pa.int32()), cells)


def units_of(cell: pa.ChunkedArray) -> pa.Table:
    """The units of a column with one such cell, without copying."""
    return pa.Table.from_struct_array(cell.chunk(0).flatten())
