"""What happens to a block of units inside a worker, whichever executor runs it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from miner.errors import BadInput, MinerError, SchemaError
from miner.schema import key_of
from miner.stage import Apply, Failure, Outcome, Prepare, Stage
from miner.store import Store, one_of


@dataclass(frozen=True)
class Receipt:
    """What a worker gives back for a block: the units it finished and the data files it wrote, not yet committed."""

    units: tuple[str, ...]
    fragments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    reason: str = "error"
    error: str = ""  # the trace of an unexpected exception: nothing of the block counts
    fatal: MinerError | None = None  # the caller's mistake (configuration, missing weights): retrying cannot help
    seconds: float = 0.0


class BlockWorker:
    """Does a block of units in a worker: prepare, apply, write. Made once per worker, called for many blocks."""

    def __init__(self, stage: Stage, store: Store) -> None:
        self._stage, self._store = stage, store
        self._prepare: Prepare = stage.prepare(store)
        self._apply: Apply = stage.apply(store)

    def __call__(self, block: pa.Table) -> Receipt:
        """The receipt of a block (units that all lack the same outputs); never raises for what is in the data."""
        started = time.perf_counter()
        keys = tuple(block["key"].to_pylist())
        try:
            wanted = _wanted(self._stage, block)
            rows, failures = self._work(block, wanted)
            self._account(block, wanted, rows, failures)
            fragments = {table: self._store.write(table, part) for table, part in rows.items()}
        except Exception as error:  # whatever it is, the driver isolates the unit that causes it
            text = "".join(traceback.format_exception(error))
            reason = error.reason if isinstance(error, BadInput) else "error"
            return Receipt(keys, reason=reason, error=text, fatal=_fatal(error))
        counts = {table: len(part) for table, part in rows.items()}
        return Receipt(keys, fragments, counts, failures, seconds=time.perf_counter() - started)

    def _work(self, block: pa.Table, wanted: frozenset[str]) -> tuple[dict[str, pa.Table], list[Failure]]:
        parts: dict[str, list[pa.Table]] = {table: [] for table in wanted}
        failures: list[Failure] = []
        for start in range(0, len(block), self._stage.batch_size):
            outcome = self._batch(block.slice(start, self._stage.batch_size), wanted)
            failures += outcome.failures
            for table in wanted & outcome.rows.keys():
                parts[table].append(outcome.rows[table])
        rows = {o.table: pa.concat_tables(parts[o.table]) for o in self._stage.outputs if parts.get(o.table)}
        return {table: self._unwritten(table, part, block) for table, part in rows.items()}, failures

    def _batch(self, units: pa.Table, wanted: frozenset[str]) -> Outcome:
        prepared = self._prepare(units)
        if "failure" not in prepared.column_names:
            return self._apply(prepared, wanted)
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


def _fatal(error: Exception) -> MinerError | None:
    """The error if it is the caller's, so that no unit is to blame and retrying cannot help."""
    return error if isinstance(error, MinerError) and not isinstance(error, BadInput | SchemaError) else None


def _wanted(stage: Stage, block: pa.Table) -> frozenset[str]:
    """The output tables that the units of a block lack."""
    lacks = block["lacks"][0].as_py()
    return frozenset(output.table for bit, output in enumerate(stage.outputs) if lacks >> bit & 1)
