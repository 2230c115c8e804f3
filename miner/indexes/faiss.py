"""FAISS: vectors as short codes, in lists or a graph, found by the stable ids of their rows.

FAISS learns, codes, keeps and searches; but lists of RaBitQ codes are read by a kernel of ours, `kernels.bit_codes`,
which guesses only what of a query is not along the centre, not all that is off it.

What it finds are candidates: codes know the order of scores only about. Who asks takes more of them than are wanted and
scores them again by their vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.bit_codes import CodeLists, best_coded, code_size
from miner.errors import MinerError, UnknownName
from miner.indexes.lists import Lists

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]

KINDS = ("IVF-Flat", "IVF-SQ8", "IVF-RaBitQ", "IVF-PQ", "HNSW")
CODES, TURN = "codes.faiss", "turn.npy"
SAMPLE_PER_LIST = 64
_ROUNDS = 10  # of k-means
_LINKS, _BUILD_WIDTH = 32, 80  # of the graph: neighbours a vector, and how many are looked at to choose them
_LAYOUT = "Install the faiss-cpu that miner doctor names as tested."
_PER_PART = 4  # PQ: numbers in one part of a vector, which becomes a code of 4 bits


def code_bytes(kind: str, dim: int) -> int:
    """How many bytes a vector of `dim` numbers takes in memory, its id included. Raises UnknownName."""
    if kind not in KINDS:
        raise UnknownName.of("kind of FAISS index", kind, KINDS)
    links = 4 * (2 * _LINKS + 1)
    own = {"IVF-Flat": 4 * dim, "IVF-SQ8": dim, "IVF-RaBitQ": code_size(dim), "IVF-PQ": dim // 8, "HNSW": dim + links}
    return own[kind] + 8


class Codes:
    """A FAISS index over ids; empty but trained, a shard, or the whole of it.

    `lists` are None for a graph. `turn` (dim, dim) is a rotation that spreads what vectors say evenly over their
    numbers, as RaBitQ wants it; it changes no inner product.
    """

    def __init__(self, kind: str, index: Any, lists: Lists | None, turn: Vectors | None) -> None:
        self.kind, self._index, self._lists, self._turn = kind, index, lists, turn
        self._code_lists: CodeLists | None = None  # where they are now, once it is asked for

    @classmethod
    def train(cls, kind: str, sample: Vectors, lists: int) -> Codes:
        """Learn lists and codes from a sample (s, dim). Raises UnknownName for another kind."""
        code_bytes(kind, sample.shape[1])
        turn = _rotation(sample.shape[1]) if kind == "IVF-RaBitQ" else None
        turned = _turned(sample, turn)
        if kind == "HNSW":
            index, learned = _graph(sample.shape[1]), None
        else:
            learned = learned_lists(turned, lists)
            index = _inverted(kind, learned)
        index.train(turned)
        return cls(kind, index, learned, turn)

    @classmethod
    def read(cls, kind: str, folder: Path, mapped: bool) -> Codes:
        """What `write` wrote; `mapped` leaves it on the disk until it is asked for, and lets nothing be removed."""
        faiss = _library()
        flags = faiss.IO_FLAG_MMAP_IFC if mapped else 0
        lists = None if kind == "HNSW" else Lists.read(folder)
        turn = np.load(folder / TURN) if kind == "IVF-RaBitQ" else None
        return cls(kind, faiss.read_index(str(folder / CODES), flags), lists, turn)

    def write(self, folder: Path) -> None:
        """Store it in a folder, as CODES and, where there are, LISTS and TURN."""
        faiss = _library()
        faiss.write_index(self._index, str(folder / CODES))
        if self._lists is not None:
            self._lists.write(folder)
        if self._turn is not None:
            np.save(folder / TURN, self._turn)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def merges(self) -> bool:
        """Whether it can be filled in shards."""
        return self.kind != "HNSW"

    @property
    def lists(self) -> int:
        """How many lists there are; 0 for a graph."""
        return 0 if self._lists is None else len(self._lists)

    def add(self, ids: Ints, vectors: Vectors) -> None:
        """Take in vectors (n, dim) under their ids (n,)."""
        self._index.add_with_ids(_turned(vectors, self._turn), np.ascontiguousarray(ids, np.int64))
        self._code_lists = None

    def absorb(self, shard: Codes) -> None:
        """Take over all of a shard that was filled from the same trained index; not for a graph."""
        self._index.merge_from(shard._index, 0)
        self._code_lists = shard._code_lists = None

    def remove(self, ids: Ints) -> None:
        """Forget some ids; a graph cannot, there they have to be left out of what is allowed."""
        if self.kind != "HNSW" and len(ids):
            self._index.remove_ids(np.ascontiguousarray(ids, np.int64))
            self._code_lists = None

    def search(self, queries: Vectors, count: int, effort: int, allowed: Allowed | None = None) -> Ints:
        """The ids of about the nearest vectors to queries (q, dim), (q, count), best first; -1 where there are none.

        `effort` is how many lists are read, or how many vertices of the graph are kept in sight.
        """
        turned = _turned(queries, self._turn)
        if self._lists is not None:
            return self._in_lists(self._lists, turned, count, min(effort, len(self._lists)), allowed)
        options = _library().SearchParametersHNSW(efSearch=max(effort, count), sel=allowed and allowed.selector)
        found: Ints = self._index.search(turned, count, params=options)[1]
        return found

    def _in_lists(self, lists: Lists, queries: Vectors, count: int, effort: int, allowed: Allowed | None) -> Ints:
        chosen = lists.best(queries, effort, len(self) / len(lists))
        if self.kind == "IVF-RaBitQ":
            return best_coded(self._codes_of(lists), queries, *chosen, count, None if allowed is None else allowed.bits)
        faiss = _library()
        options = faiss.SearchParametersIVF(nprobe=effort, sel=allowed and allowed.selector)
        found, scores = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
        arrays = [faiss.swig_ptr(each) for each in (*chosen, scores, found)]
        # Of all that FAISS gives Python, only this takes lists and parameters.
        self._index.search_preassigned_c(len(queries), faiss.swig_ptr(queries), count, *arrays, False, options)
        return found

    def _codes_of(self, lists: Lists) -> CodeLists:
        if self._code_lists is None:
            stored, numbers = self._index.invlists, range(len(lists))
            if stored.code_size != code_size(self._index.d):
                raise MinerError(f"this release of FAISS lays RaBitQ codes out in {stored.code_size} bytes", _LAYOUT)
            of_lists = (stored.get_codes, stored.get_ids)
            codes, ids = ([int(at(i) or 0) for i in numbers] for at in of_lists)  # nowhere if it is empty
            sizes = np.array([stored.list_size(i) for i in numbers])
            self._code_lists = CodeLists.of(np.array(codes, np.uint64), np.array(ids, np.uint64), sizes, lists.centres)
        return self._code_lists


class Allowed:
    """Which ids may be found: `marked` (largest id + 1,) has one truth for each."""

    def __init__(self, marked: NDArray[np.bool_]) -> None:
        faiss = _library()
        self.bits = np.packbits(marked, bitorder="little")  # the selector does not own them
        self.selector = faiss.IDSelectorBitmap(self.bits)


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS uses one thread in here, for whoever runs several of these at once."""
    faiss = _library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of the calling thread
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _library() -> Any:
    """FAISS itself; the types that come with it lack much of what it has."""
    import faiss

    return faiss


def learned_lists(sample: Vectors, count: int) -> Lists:
    """Lists of a sample (s, dim) of at least `count` vectors, by k-means."""
    means = _library().Kmeans(
        sample.shape[1], count, niter=_ROUNDS, min_points_per_centroid=1, max_points_per_centroid=SAMPLE_PER_LIST
    )
    means.train(sample)
    return Lists.measured(np.asarray(means.centroids), sample, means.index.search(sample, 1)[1][:, 0])


def _centres(centres: Vectors) -> Any:
    """What says which list a vector belongs to: that of the nearest centre."""
    index = _library().IndexFlatL2(centres.shape[1])
    index.add(centres)
    return index


def _graph(dim: int) -> Any:
    faiss = _library()
    index = faiss.index_factory(dim, f"HNSW{_LINKS},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _BUILD_WIDTH
    return faiss.IndexIDMap(index)


def _inverted(kind: str, lists: Lists) -> Any:
    faiss = _library()
    dim = lists.centres.shape[1]
    common = _centres(lists.centres), dim, len(lists)
    if kind == "IVF-Flat":
        return faiss.IndexIVFFlat(*common, faiss.METRIC_INNER_PRODUCT)
    if kind == "IVF-SQ8":
        return faiss.IndexIVFScalarQuantizer(*common, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    if kind == "IVF-RaBitQ":
        return faiss.IndexIVFRaBitQ(*common, faiss.METRIC_INNER_PRODUCT)
    parts = max(each for each in range(1, max(dim // _PER_PART, 1) + 1) if dim % each == 0)
    index = faiss.IndexIVFPQFastScan(*common, parts, 4, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.min_points_per_centroid = 1  # a small table is no reason for a warning
    return index


def _rotation(dim: int) -> Vectors:
    return np.linalg.qr(np.random.default_rng(dim).normal(size=(dim, dim)))[0].astype(np.float32)


def _turned(vectors: Vectors, turn: Vectors | None) -> Vectors:
    return np.ascontiguousarray(vectors if turn is None else vectors @ turn, np.float32)
