"""What makes a lake answer fast: key indexes on the tables, the facts of each clip, and a manifest per vector index."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from miner.facts import READS, clip_facts
from miner.ids import make_id
from miner.schema import CLIP_FACTS, INDEXES
from miner.stage import Output, Reduction
from miner.store import Store

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


def reductions(store: Store) -> list[Reduction]:
    """What `index` keeps up to date: the clip facts, and a manifest per table of vectors."""
    return [FactsReduction(), *(FlatReduction(table) for table in store.vector_tables())]
