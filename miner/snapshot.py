"""The tables of a lake as they were at one moment: each read at the version it had then, whatever is written since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from miner.errors import Conflict, NotFound
from miner.store import Store

BOOKS = (
    "digests",
    "indexes",
    "leases",
    "lineage",
    "quarantine",
    "selections",
    "versions",
)  # about the tables, not of them
_LOOKS = 100


@dataclass(frozen=True)
class Snapshot:
    """Tables of `store` at `versions`."""

    store: Store
    versions: Mapping[str, int]

    @classmethod
    def now(cls, store: Store) -> Snapshot:
        """All tables at one moment: the versions are looked at until two looks in a row agree, so that at the moment
        between them all of them held.

        Raises Conflict where the tables change all the time.
        """
        seen = _look(store)
        for _ in range(_LOOKS):
            again = _look(store)
            if again == seen:
                return cls(store, seen)
            seen = again
        raise Conflict(f"the tables of {store.uri} change faster than they can be looked at", "Run it again later.")

    def has(self, table: str) -> bool:
        """Whether the table was there."""
        return table in self.versions

    def version(self, table: str) -> int:
        """The version of a table. Raises NotFound for one that was not there."""
        if table not in self.versions:
            raise NotFound(f"{self.store.uri} had no table {table!r} then")
        return self.versions[table]

    def scan(self, table: str, columns: Sequence[str] | None = None, filter: str | None = None) -> pa.Table:
        """Rows as Arrow, by a trusted filter."""
        return self.store.scan(table, columns, filter, self.version(table))

    def batches(
        self, table: str, columns: Sequence[str] | None = None, filter: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows as a stream of record batches, in the order of the version."""
        chosen = None if columns is None else list(columns)
        dataset = self.store.dataset(table, self.version(table))
        yield from dataset.scanner(columns=chosen, filter=filter).to_batches()


def _look(store: Store) -> dict[str, int]:
    return {table: store.version(table) for table in store.tables() if table not in BOOKS}
