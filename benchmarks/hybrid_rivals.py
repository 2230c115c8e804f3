"""Other ways to search vectors among those that a filter lets through, each as `(query, share) -> row numbers`.

A frame passes if its column of numbers below RANGE is below that share, in percent, of RANGE.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.made_lake import RANGE

K = 50
_PROBES, _REFINE = 32, 10
_LISTS = 1_024
_WANTED = ["row", "_distance"]

Vectors = NDArray[np.float32]
Answer = NDArray[np.int64]
Rival = Callable[[Vectors, float], Answer]


def rivals(folder: Path, vectors: Vectors, column: NDArray[np.int64], without: list[str]) -> dict[str, Rival]:
    """The rivals that are installed, over vectors (n, dim) with a `column` (n,); the filter is on that."""
    found: dict[str, Rival] = {}
    makers = {"FAISS IVF-SQ8, IDSelector": _faiss, "pandas + NumPy": _pandas}
    for name, make in makers.items():
        if name.split()[0].rstrip(",") not in without:
            found |= _installed(name, lambda make=make: make(vectors, column))
    if "Lance" not in without:
        found |= _lance(folder, vectors, column)
    return found


def _installed(name: str, make: Callable[[], Rival]) -> dict[str, Rival]:
    try:
        return {name: make()}
    except ImportError:
        return {}


def _faiss(vectors: Vectors, column: NDArray[np.int64]) -> Rival:
    import faiss

    lists = min(_LISTS, len(vectors) // 64)
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:: max(1, len(vectors) // (64 * lists))])
    index.add(vectors)

    def answer(query: Vectors, share: float) -> Answer:
        bits = np.packbits(column < RANGE * share / 100, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits) if share < 100 else None
        options = faiss.SearchParametersIVF(nprobe=_PROBES, sel=selector)
        rows = index.search(query[None], K, params=options)[1][0]
        return rows[rows >= 0]

    return answer


def _pandas(vectors: Vectors, column: NDArray[np.int64]) -> Rival:
    import pandas as pd

    frame = pd.DataFrame({"column": column})

    def answer(query: Vectors, share: float) -> Answer:
        rows = frame.index[frame["column"] < RANGE * share / 100].to_numpy()
        scores = (vectors if len(rows) == len(vectors) else vectors[rows]) @ query
        return rows[np.argpartition(-scores, min(K, len(rows)) - 1)[:K]]

    return answer


def _lance(folder: Path, vectors: Vectors, column: NDArray[np.int64]) -> dict[str, Rival]:
    """One index for both, made as LanceDB makes it unless told; Lance is asked with more lists and refined."""
    try:
        import lancedb
    except ImportError:
        return {}
    table = lancedb.connect(str(folder / "rival")).create_table("frames", _batches(vectors, column))
    table.create_index(metric="dot", vector_column_name="vector")
    table.create_scalar_index("column", index_type="BTREE")
    dataset = table.to_lance()

    def own(query: Vectors, share: float) -> Answer:
        nearest = {"column": "vector", "q": query, "k": K, "nprobes": _PROBES, "refine_factor": _REFINE}
        return _rows(dataset.to_table(_WANTED, _below(share), prefilter=True, nearest=nearest))

    def defaults(query: Vectors, share: float) -> Answer:
        found = table.search(query, vector_column_name="vector").distance_type("dot").where(_below(share))
        return _rows(found.limit(K).select(_WANTED).to_arrow())

    return {"Lance, pre-filter": own, "LanceDB, defaults": defaults}


def _below(share: float) -> str:
    return f"column < {RANGE * share / 100:g}"


def _rows(found: pa.Table) -> Answer:
    rows: Answer = found["row"].to_numpy()
    return rows


def _batches(vectors: Vectors, column: NDArray[np.int64], at_once: int = 50_000) -> pa.RecordBatchReader:
    kind = pa.list_(pa.float32(), vectors.shape[1])
    schema = pa.schema([("row", pa.int64()), ("column", pa.int64()), ("vector", kind)])

    def parts() -> Any:
        for start in range(0, len(vectors), at_once):
            part = vectors[start : start + at_once]
            lists = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), vectors.shape[1])
            rows = np.arange(start, start + len(part))
            yield pa.record_batch([pa.array(rows), pa.array(column[start : start + len(part)]), lists], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, parts())
