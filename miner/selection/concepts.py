"""Concepts as conditions of a specification: how probable it is that a clip shows one that the lake keeps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Spans, instants, overlaps
from miner.concepts.kept import TABLE, known_of
from miner.errors import NotFound, UnknownName
from miner.snapshot import Snapshot
from miner.store import one_of

Floats = NDArray[np.float64]


def concept_probability(snapshot: Snapshot, table: str, clips: pa.Table, name: str) -> Floats:
    """The probability (n,) that each of `clips` shows a kept concept, by its best row of `table`; 0 without vectors.

    Raises NotFound where the lake keeps no concepts for the encoder, UnknownName listing those it keeps.
    """
    encoder = snapshot.store.dataset(table, snapshot.version(table)).schema.metadata[b"encoder"].decode()
    rows = snapshot.scan(TABLE, filter=one_of("encoder", [encoder])).to_pylist() if snapshot.has(TABLE) else []
    if not rows:
        raise NotFound(f"the lake keeps no concepts for {encoder!r}", f"Make them with: miner concepts fit LAKE {name}")
    kept = {row["name"]: row for row in rows}
    if name not in kept:
        raise UnknownName.of("concept", name, kept)
    known = known_of(kept[name])
    best = np.full(len(clips), np.nan)
    scenes = pc.unique(clips["scene_id"])
    windows = Spans(clips["start_ns"].to_numpy(), clips["end_ns"].to_numpy(), _codes(clips["scene_id"], scenes))
    for batch in snapshot.batches(table, ("scene_id", "timestamp_ns", "vector")):
        times = instants(batch["timestamp_ns"].to_numpy(), _codes(batch["scene_id"], scenes))
        row, clip = overlaps(times, windows)
        vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
        np.fmax.at(best, clip, (vectors @ known.direction).astype(np.float64)[row])
    found: Floats = np.nan_to_num(known.calibration.probability(best), nan=0.0)
    return found


def _codes(names: pa.ChunkedArray, known: pa.Array) -> NDArray[np.int64]:
    found: NDArray[np.int64] = (
        pc.fill_null(pc.index_in(names, known), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return found
