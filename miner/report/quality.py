"""How good the readings of some clips are: sharpness, exposure, points, flags, and what was never read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Spans, instants, overlaps
from miner.snapshot import Snapshot

BINS = 24
_MEASURES = ("sharpness", "exposure", "num_points")


def quality(snapshot: Snapshot, clips: pa.Table) -> dict[str, Any]:
    """Of the readings of `clips` (scene_id, start_ns, end_ns): how many were read, with which flags, and how they are.

    `measures` has a histogram for each measure, of the readings that have it.
    """
    ids = _readings(snapshot, clips)
    if not snapshot.has("assets"):
        return {"readings": len(ids), "read": 0, "flags": {}, "measures": [], "copies": 0}
    assets = snapshot.scan("assets", ["sample_data_id", "sha256", "flags", *_MEASURES])
    assets = assets.filter(pc.is_in(assets["sample_data_id"], ids))
    flags = Counter(pc.list_flatten(assets["flags"]).to_pylist())
    copies = len(assets) - len(pc.unique(assets["sha256"]))
    measures = [found for name in _MEASURES if (found := _measure(name, assets[name])) is not None]
    return {"readings": len(ids), "read": len(assets), "flags": dict(sorted(flags.items())), "measures": measures,
            "copies": copies}  # fmt: skip


def _readings(snapshot: Snapshot, clips: pa.Table) -> pa.Array:
    """Ids of the readings in the clips."""
    scenes = pc.unique(clips["scene_id"])
    codes = pc.index_in(clips["scene_id"], scenes).to_numpy().astype(np.int64)
    windows = Spans(clips["start_ns"].to_numpy(), clips["end_ns"].to_numpy(), codes)
    found = [pa.array([], pa.string())]
    for batch in snapshot.batches("sample_data", ("sample_data_id", "scene_id", "timestamp_ns")):
        group = pc.fill_null(pc.index_in(batch["scene_id"], scenes), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        row, _ = overlaps(instants(batch["timestamp_ns"].to_numpy(), group), windows)
        found.append(batch["sample_data_id"].take(pa.array(np.unique(row))))
    return pa.concat_arrays(found)


def _measure(name: str, column: pa.ChunkedArray) -> dict[str, Any] | None:
    values: NDArray[np.float64] = column.drop_null().to_numpy().astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [0.001, 0.999])
    edges = np.linspace(*((low, high) if high > low else (low - 0.5, low + 0.5)), BINS + 1)
    shares = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
    quantiles = [float(f"{value:.5g}") for value in np.quantile(values, [0.05, 0.5, 0.95])]
    return {"measure": name, "readings": len(values), "quantiles": quantiles, "edges": edges.round(6).tolist(),
            "set": shares.round(5).tolist()}  # fmt: skip
