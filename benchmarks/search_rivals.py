"""The rivals of `benchmarks.search`: plain FAISS, hnswlib, ScaNN and LanceDB, each with a sweep of its own setting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Search = Callable[[Vectors], NDArray[np.int64]]

K = 10


@dataclass(frozen=True)
class Rival:
    """A built index: `set_to` changes what `search` does with a query (1, dim), `settings` are worth trying."""

    build_s: float
    bytes_per_vector: float
    settings: tuple[int, ...]
    search: Callable[[Vectors, int], NDArray[np.int64]]

    def searches(self) -> Iterator[Search]:
        """One for each setting."""
        for setting in self.settings:
            yield lambda query, setting=setting: self.search(query, setting)


def faiss_ivf_flat(frames: Vectors, folder: Path) -> Rival | None:
    """Plain FAISS with 4 sqrt(n) lists, as its guidelines say, at 8 to 128 of them."""
    import faiss

    cpu, lists = time.process_time(), 2 ** round(np.log2(4 * len(frames) ** 0.5))
    index: Any = faiss.index_factory(frames.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(frames[np.random.default_rng(0).permutation(len(frames))[: 40 * lists]])
    index.add(frames)

    def search(query: Vectors, setting: int) -> NDArray[np.int64]:
        index.nprobe = setting
        return np.asarray(index.search(query, K)[1][0])

    return Rival(time.process_time() - cpu, 4 * frames.shape[1] + 8, (8, 16, 32, 64, 128), search)


def hnswlib_graph(frames: Vectors, folder: Path) -> Rival | None:
    """hnswlib with M = 16, at ef = 16 to 512."""
    try:
        import hnswlib
    except ImportError:
        return None
    cpu = time.process_time()
    index = hnswlib.Index("ip", frames.shape[1])
    index.init_index(len(frames), M=16, ef_construction=200)
    index.add_items(frames, num_threads=1)

    def search(query: Vectors, setting: int) -> NDArray[np.int64]:
        index.set_ef(setting)
        return np.asarray(index.knn_query(query, K, num_threads=1)[0][0]).astype(np.int64)

    links = 4 * (2 * 16 + 1) + 8
    return Rival(time.process_time() - cpu, 4 * frames.shape[1] + links, (16, 32, 64, 128, 256, 512), search)


def scann_tree(frames: Vectors, folder: Path) -> Rival | None:
    """ScaNN as its guide has it: a tree, anisotropic hashing, reordering of 100; at 8 to 128 leaves."""
    try:
        import scann
    except ImportError:
        return None
    cpu, leaves = time.process_time(), int(2 * len(frames) ** 0.5)
    builder = scann.scann_ops_pybind.builder(frames, K, "dot_product").tree(leaves, 32, min(len(frames), 250_000))
    index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()

    def search(query: Vectors, setting: int) -> NDArray[np.int64]:
        return np.asarray(index.search(query[0], K, leaves_to_search=setting)[0]).astype(np.int64)

    held = frames.shape[1] / 4 + 4 * frames.shape[1]
    return Rival(time.process_time() - cpu, held, (8, 16, 32, 64, 128), search)


def lancedb_default(frames: Vectors, folder: Path) -> Rival | None:
    """LanceDB with the index it makes unless told, at its 20 probes, its answers refined 1, 10 and 50 times."""
    try:
        import lancedb
    except ImportError:
        return None
    import pyarrow as pa

    column = pa.FixedSizeListArray.from_arrays(pa.array(frames.reshape(-1)), frames.shape[1])
    rows = pa.table({"row": np.arange(len(frames)), "vector": column})
    cpu = time.process_time()
    table = lancedb.connect(str(folder / "lancedb")).create_table("vectors", rows, mode="overwrite")
    table.create_index(metric="cosine", vector_column_name="vector")

    def search(query: Vectors, setting: int) -> NDArray[np.int64]:
        asked = table.search(query[0]).distance_type("cosine").limit(K).refine_factor(setting)
        return np.asarray(asked.select(["row"]).to_arrow()["row"].to_numpy())

    return Rival(time.process_time() - cpu, frames.shape[1] / 16, (1, 10, 50), search)


RIVALS: dict[str, Callable[[Vectors, Path], Rival | None]] = {
    "FAISS IVF-Flat": faiss_ivf_flat,
    "hnswlib": hnswlib_graph,
    "ScaNN": scann_tree,
    "LanceDB": lancedb_default,
}
