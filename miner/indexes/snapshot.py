"""The rows of an embeddings table at one version as an index sees them: what each is of, its id, its last change."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miner.sound import Sound
from miner.store import Store

ROWS = ["embedding_id", "sample_data_id", "scene_id", "channel", "timestamp_ns", "region"]
ID, UPDATED = "_rowid", "_row_last_updated_at_version"
_TAKEN_AT_ONCE = 4096

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Snapshot:
    """`rows` has the columns ROWS; `ids` (n,) are stable row ids, `updated` (n,) the versions that last changed them.

    A row is the one that was indexed if both are the same: an update keeps the id, a restored table may use ids again.
    """

    table: str
    version: int
    encoder: str
    encoder_version: str
    modality: str
    dim: int
    rows: pa.Table = field(repr=False)
    ids: Ints = field(repr=False)
    updated: Ints = field(repr=False)

    @classmethod
    def of(cls, store: Store, table: str, sound: Sound, version: int | None = None) -> Snapshot:
        """The table as it is now or was at `version`, without the rows of damaged files.

        Raises NotFound for no such table, Damaged for one that cannot be read.
        """
        said = {key.decode(): value.decode() for key, value in store.schema(table).metadata.items()}
        version, rows = sound.snapshot(table, [*ROWS, ID, UPDATED], version=version)
        ids, updated = (rows[name].to_numpy().astype(np.int64) for name in (ID, UPDATED))
        facts = rows.select(ROWS).combine_chunks()  # taking rows of many chunks is slow
        whose = said["encoder"], said["version"], said["modality"], int(said["dim"])
        return cls(table, version, *whose, facts, ids, updated)

    def vectors(self, store: Store, rows: Ints) -> Vectors:
        """The vectors of some rows (m,) from the table itself, (m, dim). Raises Damaged if one is not there."""
        made = np.empty((len(rows), self.dim), np.float32)
        if not len(rows):
            return made
        dataset = store.dataset(self.table, self.version)
        for start in range(0, len(rows), _TAKEN_AT_ONCE):
            ids = self.ids[rows[start : start + _TAKEN_AT_ONCE]]
            found = dataset._take_rows(ids.tolist(), columns=["vector", ID])  # in no order one may rely on
            known = found[ID].to_numpy().astype(np.int64)
            order = np.argsort(known)
            place = order[np.searchsorted(known, ids, sorter=order).clip(max=len(known) - 1)]
            made[start : start + len(ids)] = as_matrix(found["vector"], self.dim)[place]
        return made


def as_matrix(column: pa.ChunkedArray, dim: int) -> Vectors:
    """Fixed size lists, in any number of chunks, as one array (n, dim)."""
    made = np.empty((len(column), dim), np.float32)
    start = 0
    for chunk in column.chunks:
        made[start : start + len(chunk)] = chunk.flatten().to_numpy().reshape(-1, dim)
        start += len(chunk)
    return made


@dataclass(frozen=True)
class OfSnapshot:
    """What an index of a `snapshot` says of its rows, as `miner.indexes.Index` wants it."""

    snapshot: Snapshot

    @property
    def table(self) -> str:
        return self.snapshot.table

    @property
    def table_version(self) -> int:
        return self.snapshot.version

    @property
    def encoder(self) -> str:
        return self.snapshot.encoder

    @property
    def encoder_version(self) -> str:
        return self.snapshot.encoder_version

    @property
    def modality(self) -> str:
        return self.snapshot.modality

    @property
    def rows(self) -> pa.Table:
        return self.snapshot.rows

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.snapshot.dim
