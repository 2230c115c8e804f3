"""Prepared readings to rows of vectors, by one encoder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embeddings.encoder import Encoder, encode_all, encode_sweeps
from miner.ids import make_id


def vectors_of(units: pa.Table, encoder: Encoder) -> pa.Table:
    """One row per view of each unit, in order, as `embeddings_schema` says.

    `units` have `regions` and, as raw bytes, `input:<name of the encoder>`: its frames or sweep. Frames go to the
    encoder as they are in memory, without being copied.
    """
    bytes_of_units, ends = _bytes_and_ends(units[f"input:{encoder.name}"])
    if encoder.input.modality == "lidar":
        points = bytes_of_units.view(np.float32).reshape(-1, 4)
        counts = np.ones(len(units), np.int64)
        vectors = encode_sweeps(encoder, np.split(points, ends[:-1] // (4 * 4)))
    else:
        views = bytes_of_units.reshape(-1, *encoder.input.shape[1:])
        counts = np.diff(ends, prepend=0) // math.prod(encoder.input.shape[1:])
        vectors = encode_all(encoder, views)
    return _rows(units, counts, vectors)


def not_finite(rows: pa.Table) -> set[str]:
    """The readings with a vector that has a number that is none."""
    vectors = rows["vector"].combine_chunks()
    finite = np.isfinite(vectors.flatten().to_numpy()).reshape(len(rows), -1).all(axis=1)
    return set(rows.filter(pa.array(~finite))["sample_data_id"].to_pylist())


def _bytes_and_ends(cells: pa.ChunkedArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All bytes of a column of large_binary, one cell behind the other, and where each cell ends."""
    cell = cells.chunk(0) if cells.num_chunks == 1 else cells.combine_chunks()
    _, places, data = cell.buffers()
    places = np.frombuffer(places, np.int64)[cell.offset : cell.offset + len(cell) + 1]
    return np.frombuffer(data, np.uint8)[places[0] : places[-1]], places[1:] - places[0]


def _rows(units: pa.Table, counts: NDArray[np.int64], vectors: NDArray[np.float32]) -> pa.Table:
    owner = pa.array(np.repeat(np.arange(len(units)), counts))
    part = np.concatenate([np.arange(count, dtype=np.int16) for count in counts])
    rows = units.select(["sample_data_id", "scene_id", "channel", "timestamp_ns"]).take(owner)
    ids = [
        make_id("embedding", reading, int(n))
        for reading, n in zip(rows["sample_data_id"].to_pylist(), part, strict=True)
    ]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    more: dict[str, Any] = {"embedding_id": ids, "part": part, "region": pc.list_flatten(units["regions"])}
    for name, values in (more | {"vector": flat}).items():
        rows = rows.append_column(name, values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values))
    return rows
