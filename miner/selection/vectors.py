"""One vector a clip: the mean of its whole frames or sweeps, in an encoder's space."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Spans, instants, overlaps
from miner.snapshot import Snapshot

Vectors = NDArray[np.float32]
_COLUMNS = ("scene_id", "timestamp_ns", "vector")
_ROWS = 8192


def clip_vectors(snapshot: Snapshot, table: str, clips: pa.Table) -> Vectors:
    """Unit vectors f32 (n, dim) of `clips` (clip_id, scene_id, start_ns, end_ns); zeros for one without vectors.

    Tiles count where the table has no whole frames. Rows are added in the order of the table's version, so the same
    version gives the same bytes.
    """
    metadata = snapshot.store.dataset(table, snapshot.version(table)).schema.metadata
    whole = "region IS NULL" if "whole" in metadata[b"views"].decode() else None
    scenes = pc.unique(clips["scene_id"])
    windows = Spans(_ints(clips["start_ns"]), _ints(clips["end_ns"]), _codes(clips["scene_id"], scenes))
    sums = np.zeros((len(clips), int(metadata[b"dim"])))
    for batch in snapshot.batches(table, _COLUMNS, whole):
        times = instants(_ints(batch["timestamp_ns"]), _codes(batch["scene_id"], scenes))
        row, clip = overlaps(times, windows)
        order = np.argsort(clip, kind="stable")
        row, clip = row[order], clip[order]
        values = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), sums.shape[1])
        for start in range(0, len(row), _ROWS):
            some = clip[start : start + _ROWS]
            touched, firsts = np.unique(some, return_index=True)
            sums[touched] += np.add.reduceat(values[row[start : start + _ROWS]], firsts, axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    unit: Vectors = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0).astype(np.float32)
    return unit


def nearest_similarity(vectors: Vectors, others: Vectors, tile: int = 4096) -> NDArray[np.float64]:
    """For each of unit `vectors` (n, d) its largest cosine to one of `others` (m, d); -1 without any."""
    best = np.full(len(vectors), -1.0)
    for first in range(0, len(vectors), tile):
        for start in range(0, len(others), tile):
            found = (vectors[first : first + tile] @ others[start : start + tile].T).max(axis=1)
            best[first : first + tile] = np.maximum(best[first : first + tile], found)
    return best.clip(-1, 1)


def _codes(names: pa.ChunkedArray, known: pa.Array) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = (
        pc.fill_null(pc.index_in(names, known), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return codes


def _ints(column: pa.ChunkedArray) -> NDArray[np.int64]:
    found: NDArray[np.int64] = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return found
