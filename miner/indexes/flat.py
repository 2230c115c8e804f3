"""The exact index: all vectors of a table in memory, every one compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.neighbors import Found, top_k
from miner.indexes import DEFAULT, Ask, Estimate
from miner.indexes.snapshot import ROWS, as_matrix
from miner.sound import Sound
from miner.store import Store

_READ_BYTES_PER_MS = 16e6  # one core, vectors that no cache holds; gathering rows first reads and writes them once more
_GATHERED = 3
_CALL_MS = 0.05


@dataclass(frozen=True)
class FlatIndex:
    """A snapshot of an embeddings table: `matrix` (n, dim) float32 of unit rows, and what each row is of.

    `notes` tell what is not in it, because its files are damaged.
    """

    kind: ClassVar[str] = "flat"
    exact: ClassVar[bool] = True
    index_id: ClassVar[str | None] = None
    table: str
    table_version: int
    encoder: str
    encoder_version: str
    modality: str
    rows: pa.Table = field(repr=False)
    matrix: NDArray[np.float32] = field(repr=False)
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, store: Store, table: str, version: int | None = None, sound: Sound | None = None) -> FlatIndex:
        """The index of `embeddings/<slug>` as it is now or was at `version`, without the rows of damaged files.

        Raises NotFound for no such table, Damaged for one that cannot be read.
        """
        sound = sound or Sound(store)
        metadata = store.schema(table).metadata
        encoder, encoder_version = metadata[b"encoder"].decode(), metadata[b"version"].decode()
        version, rows = sound.snapshot(table, [*ROWS, "vector"], version=version)
        vectors = as_matrix(rows["vector"], int(metadata[b"dim"]))
        facts = rows.drop_columns(["vector"]).combine_chunks()  # taking rows of many chunks is slow
        modality = metadata[b"modality"].decode()
        return cls(table, version, encoder, encoder_version, modality, facts, vectors, sound.notes)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.matrix.shape[1])

    def search(
        self, queries: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None = None, ask: Ask = DEFAULT
    ) -> Found:
        """The nearest rows, exactly, whatever `ask` says. See `miner.indexes.Index`."""
        return top_k(queries, self.matrix, k, mask)

    def scan(self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64]) -> Found:
        """The nearest among some rows (ascending), exactly."""
        return among(queries, k, rows, self.vectors(rows))

    def estimate(self, k: int, passing: int, ask: Ask = DEFAULT) -> Estimate:
        """What `search` costs for one query where a mask lets `passing` rows through."""
        gathered = 1 if passing == len(self.rows) else _GATHERED
        return Estimate(_CALL_MS + gathered * passing * self.dim * 4 / _READ_BYTES_PER_MS, 1.0)

    def scan_ms(self, passing: int) -> float:
        """What `scan` of so many rows costs for one query, CPU milliseconds."""
        return scan_ms(passing, self.dim)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some rows, (len(rows), dim)."""
        return self.matrix[rows]


def among(queries: NDArray[np.float32], k: int, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> Found:
    """The nearest of `rows` (ascending), given their vectors (len(rows), dim): row numbers and scores as of `top_k`."""
    found, scores = top_k(queries, vectors, k)
    return rows[found], scores


def scan_ms(rows: int, dim: int) -> float:
    """What gathering and comparing so many rows costs for one query, CPU milliseconds."""
    return _CALL_MS + _GATHERED * rows * dim * 4 / _READ_BYTES_PER_MS
