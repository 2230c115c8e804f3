"""What makes a lake answer fast: key indexes on the tables, the facts of each clip, and a manifest per vector index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from miner.facts import READS, clip_facts
from miner.ids import make_id
from miner.indexes.choose import FLAT, Wanted
from miner.indexes.lance import build_in_table, drop_from_table, has_index, problem_of
from miner.indexes.load import built_row
from miner.indexes.making import Making, effective, is_kept
from miner.schema import CLIP_FACTS, INDEXES
from miner.stage import Output, Part, Reduction
from miner.store import Store

ANY = Wanted()
KEYED = ("scenes", "sample_data", "annotations", "clips", "assets")


@dataclass(frozen=True)
class FactsReduction(Reduction):
    """`clip_facts`: one row per clip, what filters ask for."""

    name = "facts"
    reads = tuple(READS)
    output = Output("clip_facts", CLIP_FACTS, None)

    def compute(self, store: Store) -> pa.Table:
        return clip_facts(*(store.scan(table, columns) for table, columns in READS.items()))


@dataclass(frozen=True)
class FlatReduction(Reduction):
    """The manifest of the exact index of one embeddings table: no file, the table itself is searched."""

    table: str
    name = "flat"
    output = Output("indexes", INDEXES, None)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.table,)

    @property
    def index_id(self) -> str:
        """The same for every version of the table: a newer manifest replaces the older."""
        return make_id("index", self.table, "flat")

    @property
    def owned(self) -> str:  # type: ignore[override]
        return f"index_id = '{self.index_id}'"

    def compute(self, store: Store) -> pa.Table:
        version = store.version(self.table)
        row = {
            "index_id": self.index_id,
            "table": self.table,
            "table_version": version,
            "encoder": store.schema(self.table).metadata[b"encoder"].decode(),
            "kind": "flat",
            "metric": "cosine",
            "params": "{}",
            "num_vectors": store.count(self.table),
        }
        return pa.Table.from_pylist([row], schema=INDEXES)


@dataclass(frozen=True)
class VectorReduction(Reduction):
    """The manifest of the index of one embeddings table that is in files, made, updated or kept as it is.

    `made` is what `begin` decided: the parts of a new index, an update of the one there is, or nothing to do.
    """

    table: str
    wanted: Wanted
    made: Making | None = None
    name = "vectors"
    output = Output("indexes", INDEXES, None)

    @property
    def divided(self) -> bool:  # type: ignore[override]
        return self.made is None

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.table,)

    @property
    def index_id(self) -> str:
        """The same for every version of the table, and whatever the kind: a table has one index beside the exact."""
        return built_id(self.table)

    @property
    def owned(self) -> str:  # type: ignore[override]
        return f"index_id = '{self.index_id}'"

    def outdated(self, store: Store) -> bool:
        """Whether the index there is holds, and is of the kind that is wanted."""
        row = built_row(store, self.table)
        return row is not None and not is_kept(store, row, self.wanted)

    def begin(self, store: Store) -> tuple[Reduction, Sequence[Part]]:
        """Decide, and train what is to be built. Raises Damaged where files of the table are."""
        making = Making.begun(store, self.table, self.wanted, built_row(store, self.table))
        return replace(self, made=making), making.tasks(store)

    def compute(self, store: Store) -> pa.Table:
        """The row that names the index; none where comparing all vectors is what is wanted."""
        assert self.made is not None, "begin comes first"
        rows = self.made.rows(store, self.index_id)
        return pa.Table.from_pylist(rows, schema=INDEXES)


def built_id(table: str) -> str:
    """The id of the index of a table that is built, beside the exact one."""
    return make_id("index", table, "built")


def table_task(store: Store, table: str, wanted: Wanted) -> Callable[[], None] | None:
    """What has to be done to a table itself, under its lease: an index in it made or removed; None for nothing."""
    row = built_row(store, table)
    kind = effective(store, table, wanted, row)
    if not kind.startswith("lance:"):
        return partial(drop_from_table, store, table) if has_index(store, table) else None
    if row is not None and row["kind"] == kind and has_index(store, table):
        if not wanted.mend or not problem_of(store, table):
            return None
    return partial(build_in_table, store, table, kind.partition(":")[2])


def reductions(store: Store, wanted: Wanted = ANY) -> list[Reduction]:
    """What `index` keeps up to date: the clip facts, a manifest per table of vectors, an index where that helps."""
    tables = store.vector_tables()
    found: list[Reduction] = [FactsReduction(), *(FlatReduction(table) for table in tables)]
    for table in tables:
        old = built_row(store, table)
        if old is not None or effective(store, table, wanted, None) != FLAT:
            found.append(VectorReduction(table, wanted))
    return found
