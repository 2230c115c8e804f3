"""Nearest vectors: exact ones of a large matrix, and questions to a lake of simulated drives."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from jobs.bench.measure import Cases, per_second
from kernels.neighbors import top_k
from miner.lake import Lake, create
from miner.simulation import Spec, record

ROWS, DIM = 100_000, 512
_QUERIES = 16
_SPEC = Spec(4, 4.0, 2.0, 0.0, ("CAM_FRONT",), 160, 90)


def cases(rows: int = ROWS, encoder: str = "lite") -> Cases:
    """Queries a second."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((rows, DIM), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    some = vectors[:: rows // _QUERIES][:_QUERIES]
    named = f"exact, of {rows:,} x {DIM}"
    yield per_second(f"{named}, one", "queries", 1, lambda: top_k(some[:1], vectors, 10))
    yield per_second(f"{named}, {len(some)} at once", "queries", len(some), lambda: top_k(some, vectors, 10))
    half = np.arange(rows) % 2 == 0
    yield per_second(f"{named}, half pass a filter", "queries", 1, lambda: top_k(some[:1], vectors, 10, half))
    with tempfile.TemporaryDirectory(prefix="miner-bench-") as folder:
        lake = _lake(Path(folder), encoder)
        clip_id = lake.store.scan("clips", ["clip_id"])["clip_id"][0].as_py()
        yield per_second("a small lake, by example", "queries", 1, lambda: lake.search(like=clip_id, k=3))
        yield per_second("a small lake, by a known text", "queries", 1, lambda: lake.search("a truck at night", k=3))


def _lake(folder: Path, encoder: str) -> Lake:
    record(_SPEC, folder / "drives", threads=2)
    lake = create(folder / "lake")
    lake.ingest(folder / "drives")
    lake.cut(2.0)
    lake.embed([encoder], "whole")
    lake.index()
    return lake
