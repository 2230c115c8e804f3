"""The unit-of-work contract: a `Stage` turns units into rows of its output tables, or into quarantine records.

A unit is one scene or one reading. The engine (`miner.executor`) finds the units that lack rows, hands them to workers
in blocks, writes what comes back and commits it; a stage knows nothing of that. Everything in and out is Arrow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from miner.errors import BadInput
from miner.store import Store


@dataclass(frozen=True)
class Output:
    """One table a stage writes.

    `unit` is the column that holds the key of the row's unit: a unit with rows there is done as far as this table goes.
    None marks a child table: its rows say nothing about the unit. `one_per_unit` is a filter that leaves one row of
    each unit where it may have several, so that counting rows counts units. `kind` is the kind of units the table is
    for (None: all): a unit of another kind is done as far as this table goes.
    """

    table: str
    schema: pa.Schema
    unit: str | None
    one_per_unit: str | None = None
    kind: str | None = None

    def of_kind(self, units: pa.Table) -> NDArray[np.bool_]:
        """Which units this table is for."""
        if self.kind is None:
            return np.ones(len(units), np.bool_)
        same: NDArray[np.bool_] = pc.equal(units["kind"], self.kind).to_numpy().astype(np.bool_)
        return same


@dataclass(frozen=True)
class Failure:
    """A unit that gives no rows: a record of the quarantine."""

    key: str
    scene_id: str
    reason: str
    detail: str
    attempts: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of some units: rows by output table, and failures. Every unit is in one or the other."""

    rows: Mapping[str, pa.Table]
    failures: Sequence[Failure] = ()


Prepare = Callable[[pa.Table], pa.Table]
Part = Callable[[], None]  # of a divided reduction: picklable, done anywhere, beside the others
Apply = Callable[[pa.Table, frozenset[str]], Outcome]


class Stage(ABC):
    """Picklable description of a step. `prepare` and `apply` are called once per worker; what they return does the
    work.

    Attributes: `name`; `outputs`, children first and the parent last (its row means done); `batch_size`, units per
    call, which bounds memory; `block_size`, units per task and data file at most, 10 to 30 s of work, or just so many
    with `fixed_blocks`; `loads`, whether making `apply` loads something costly such as weights; `source_reader`, the
    name of the reader whose scenes the units are; `num_gpus` per `apply` worker.
    """

    name: str
    outputs: tuple[Output, ...]
    batch_size: int = 64
    block_size: int = 1000
    fixed_blocks: bool = False
    loads: bool = False
    source_reader: str | None = None
    num_gpus: float = 0.0

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The tables the units come from, for lineage; empty for a source outside the lake."""

    @abstractmethod
    def counts(self, store: Store) -> pa.Table:
        """Units per scene: columns scene_id (string), units (int64), and `units:<kind>` for each kind of an output."""

    @abstractmethod
    def units(self, store: Store, scene_filter: str, scene_ids: pa.Array) -> pa.Table:
        """The units of some scenes: columns `key`, `scene_id` and whatever `prepare` wants, one row a unit; `kind` if
        an output has one.

        `scene_filter` is SQL on the column scene_id that lets through at least `scene_ids`; rows of other scenes are
        dropped by the caller.
        """

    def prepare(self, store: Store) -> Prepare:
        """CPU work before `apply`: units to units with more columns. Rows may carry a `failure` (see
        `with_failures`)."""
        return lambda units: units

    @abstractmethod
    def apply(self, store: Store) -> Apply:
        """The work: prepared units and the names of the wanted output tables to an Outcome."""


class Reduction(ABC):
    """Tables to table: replaces its own rows (those matching `owned`) in one commit, and only if an input changed.

    `settings` are what the rows depend on beside the tables it reads.
    One that is `divided` has work for several: `begin`, then its parts in any order; so again with what `begin` gave,
    while that is `divided` and there are parts; then `compute`, and `end` whatever came of that. All of it may be done
    twice, where a worker dies.
    """

    name: str
    reads: tuple[str, ...]
    output: Output
    owned: str = "true"
    settings: str = ""
    divided: bool = False

    def begin(self, store: Store) -> tuple[Reduction, Sequence[Part]]:
        """For one that is `divided`: the reduction that puts parts together, and the parts. Called under the lease."""
        return self, ()

    def end(self, store: Store) -> None:
        """For one that is `divided`: remove what `begin` and the parts left. Called under the lease."""
        return

    def outdated(self, store: Store) -> bool:
        """Whether its rows have to be computed anew though no table that it reads has changed."""
        return False

    @abstractmethod
    def compute(self, store: Store) -> pa.Table:
        """All rows this reduction owns."""


FAILURE = pa.struct([pa.field("reason", pa.string(), nullable=False), pa.field("detail", pa.string(), nullable=False)])


def with_failures(units: pa.Table, failures: Iterable[BadInput | None]) -> pa.Table:
    """`units` with a `failure` column, one entry a row, None where the unit is fine."""
    cells = [None if bad is None else {"reason": bad.reason, "detail": bad.detail} for bad in failures]
    return units.append_column("failure", pa.array(cells, FAILURE))
