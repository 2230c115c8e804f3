"""Vectors the user already has: a file of them becomes rows of `embeddings/<encoder>`, as if embed had made them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embeddings.encoder import slug
from miner.embed import table_of
from miner.errors import NotFound, UsageError
from miner.ids import make_id
from miner.schema import IMPORTED, embeddings_schema
from miner.stage import Apply, Failure, Outcome, Output, Stage
from miner.store import Store

_READING = ["sample_data_id", "scene_id", "channel", "timestamp_ns", "uri"]


@dataclass(frozen=True)
class ImportStage(Stage):
    """A unit is a camera reading that the file has a vector for. Vectors are brought to unit length.

    `.npy`: float (n, dim), one row per camera reading of the lake, in order of (scene_id, channel, timestamp_ns,
    sample_data_id). `.parquet`: a column `vector` (list of floats), and `sample_data_id` or `uri` to say which reading.
    """

    file: Path
    encoder: str
    loads = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """One per encoder: a vector that is bad in one file says nothing of another's."""
        return f"import {slug(self.encoder)}"

    @cached_property
    def outputs(self) -> tuple[Output, ...]:  # type: ignore[override]
        schema = embeddings_schema(self.encoder, IMPORTED, self._vectors.shape[1])
        return (Output(table_of(self.encoder), schema, "sample_data_id", "part = 0"),)

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "encoder": self.encoder}

    @property
    def reads(self) -> tuple[str, ...]:
        return ("sample_data",)

    def counts(self, store: Store) -> pa.Table:
        self._check_table(store)
        rows = self.units(store, "true", pa.array([], pa.string()))
        if not len(rows):
            raise UsageError(
                f"{self.file}: none of its {len(self._vectors):,} vectors is of a camera reading of the lake"
            )
        return rows.group_by("scene_id").aggregate([([], "count_all")]).rename_columns(["scene_id", "units"])

    def _check_table(self, store: Store) -> None:
        """Raise UsageError if the table of that name holds other vectors than these."""
        table = table_of(self.encoder)
        if store.exists(table) and store.schema(table).metadata != self.outputs[0].schema.metadata:
            held = {key.decode(): value.decode() for key, value in store.schema(table).metadata.items()}
            described = f"{held['encoder']} (version {held['version']}, {held['dim']}-d)"
            raise UsageError(f"{table!r} of {store.uri} holds vectors of {described}", "Give another --encoder NAME.")

    def units(self, store: Store, scene_filter: str, scene_ids: pa.Array) -> pa.Table:
        by_order = self._names is None
        wanted = "modality = 'camera'" + ("" if by_order else f" AND {scene_filter}")
        rows = store.scan("sample_data", _READING, wanted)
        if by_order:
            order = [(name, "ascending") for name in ("scene_id", "channel", "timestamp_ns", "sample_data_id")]
            rows = rows.sort_by(order).append_column("row", pa.array(np.arange(len(rows))))
            if len(rows) != len(self._vectors):
                raise UsageError(
                    f"{self.file}: {len(self._vectors):,} rows for {len(rows):,} camera readings of the lake"
                )
        else:
            column, names = self._names or ("", pa.array([]))
            rows = rows.append_column("row", pc.index_in(rows[column], names)).filter(pc.is_in(rows[column], names))
        return rows.append_column("key", rows["sample_data_id"])

    def notes(self, store: Store, done_before: int) -> list[str]:
        """What to tell about rows that were not written: of no reading, or of readings that have vectors already."""
        total = len(self._vectors)
        strangers = total - len(self.units(store, "true", pa.array([], pa.string())))
        notes = [f"{strangers:,} of {total:,} vectors are of no camera reading of the lake"] if strangers else []
        if done_before:
            notes.append(f"{done_before:,} readings have vectors of {self.encoder!r} already; these were not compared")
        return notes

    def apply(self, store: Store) -> Apply:
        return self._take

    def _take(self, units: pa.Table, wanted: frozenset[str]) -> Outcome:
        vectors = np.asarray(self._vectors[units["row"].to_numpy()], np.float32)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        good = np.isfinite(norms) & (norms > 0)
        bad = units.filter(pa.array(~good)).to_pylist()
        detail = f"{self.file}: the vector is zero or not finite"
        failures = [Failure(row["key"], row["scene_id"], "bad-vector", f"{detail} ({row['uri']})") for row in bad]
        rows = units.filter(pa.array(good)).select(_READING[:4])
        unit = (vectors[good] / norms[good, None]).astype(np.float32)
        more = {
            "embedding_id": pa.array(
                [make_id("embedding", name, 0) for name in rows["sample_data_id"].to_pylist()], pa.string()
            ),
            "part": pa.array(np.zeros(len(rows), np.int16)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(unit.reshape(-1)), vectors.shape[1]),
        }
        for column, values in more.items():
            rows = rows.append_column(column, values)
        return Outcome({self.outputs[0].table: rows}, failures)

    @cached_property
    def _vectors(self) -> NDArray[Any]:
        """All vectors of the file, (n, dim), mapped from disk where the format allows."""
        vectors = _load_npy(self.file) if self._columns is None else _matrix(self._column("vector"), self.file)
        if vectors.ndim != 2 or not vectors.size or not np.issubdtype(vectors.dtype, np.floating):
            raise UsageError(f"{self.file}: expected floats of shape (n, dim), got {vectors.dtype} {vectors.shape}")
        return vectors

    @cached_property
    def _names(self) -> tuple[str, pa.Array] | None:
        """The column that says which reading a row is of, and its values; None for a file in the lake's order."""
        if self._columns is None:
            return None
        for column in ("sample_data_id", "uri"):
            if column in self._columns:
                return column, self._column(column).cast(pa.string())
        raise UsageError(f"{self.file}: no column sample_data_id or uri", f"It has: {', '.join(self._columns)}")

    @cached_property
    def _columns(self) -> list[str] | None:
        """The columns of a parquet file; None for an npy file. Raises NotFound, and UsageError for any other file."""
        if not self.file.is_file():
            raise NotFound(f"no such file: {self.file}")
        if self.file.suffix == ".npy":
            return None
        if self.file.suffix != ".parquet":
            raise UsageError(f"{self.file}: expected .npy or .parquet")
        try:
            columns: list[str] = pq.read_schema(self.file).names
        except pa.ArrowInvalid as error:
            raise UsageError(f"{self.file}: not a Parquet file: {error}") from error
        if "vector" not in columns:
            raise UsageError(f"{self.file}: no column vector", f"It has: {', '.join(columns)}")
        return columns

    def _column(self, name: str) -> pa.Array:
        return pq.read_table(self.file, columns=[name])[name].combine_chunks()


def _load_npy(file: Path) -> NDArray[Any]:
    try:
        vectors: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UsageError(f"{file}: not a NumPy array of numbers: {error}") from error
    return vectors


def _matrix(column: pa.Array, file: Path) -> NDArray[Any]:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise UsageError(f"{file}: column vector is {kind}, expected lists of floats")
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or lengths[0] is None:
        raise UsageError(f"{file}: column vector has lists of several lengths: {lengths[:5]}")
    matrix: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), lengths[0])
    return matrix
