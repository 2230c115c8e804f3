"""Which kind of index a table gets: by its size, the memory an index may take, and the recall that is wanted."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from miner.errors import UnknownName, UsageError
from miner.indexes import RECALL
from miner.indexes.build import curve_of, lists_for
from miner.indexes.coded import Stored, Vectors
from miner.indexes.faiss import KINDS, Codes, code_bytes
from miner.indexes.files import takes_files
from miner.indexes.probes import Probes
from miner.store import Store

AUTO, FLAT = "auto", "flat"
SMALL = 50_000  # vectors; below that comparing all of them takes a few milliseconds
FILES = tuple(f"faiss:{method}" for method in KINDS)
TABLES = ("lance:IVF_PQ", "lance:IVF_HNSW_SQ", "lance:IVF_RQ")
_FEWEST = 256  # vectors; fewer are nothing to learn codes from
_TRIED = ("IVF-RaBitQ", "IVF-SQ8", "IVF-Flat")  # the smaller, which is the faster, first
_ON_DISK = "lance:IVF_RQ"
_TRIAL_ROWS = 40_000
_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class Wanted:
    """What `miner index` is asked for. `memory_gb` (10^9 bytes) is for the codes of one index, half of what the
    machine has where it is None; vectors stay on the disk. With `mend` the files of an index are read to see whether
    they hold. Raises UnknownName and UsageError.
    """

    kind: str = AUTO
    target_recall: float = RECALL
    memory_gb: float | None = None
    mend: bool = True

    def __post_init__(self) -> None:
        known = (AUTO, FLAT, *FILES, *TABLES)
        if self.kind not in known:
            raise UnknownName.of("kind of index", self.kind, known)
        if not 0 < self.target_recall <= 1:
            raise UsageError(f"target recall {self.target_recall}: expected above 0, at most 1")

    def kind_for(self, store: Store, rows: int, dim: int) -> str:
        """The kind for a table of so many vectors, as far as that decides: AUTO where a trial has to.

        Raises UsageError for one in files where the lake is in an object store.
        """
        if self.kind in FILES and not takes_files(store):
            hint = f"Choose one that is part of the table: --kind {_ON_DISK}"
            raise UsageError(f"{store.uri} is in an object store: an index in files needs a disk", hint)
        if rows < _FEWEST:
            return FLAT
        if self.kind != AUTO:
            return self.kind
        if rows < SMALL:
            return FLAT
        if not takes_files(store) or not self._fitting(rows, dim):
            return _ON_DISK
        return AUTO

    def tried(self, sample: Vectors, probes: Probes, rows: int) -> str:
        """The first kind that fits into memory and reaches the recall for texts in a trial on a sample (s, dim)."""
        fitting = self._fitting(rows, sample.shape[1])
        sample = sample[:_TRIAL_ROWS]
        ids = np.arange(len(sample))
        for method in fitting[:-1]:
            codes = Codes.train(method, sample, lists_for(len(sample)))
            codes.add(ids, sample)
            if curve_of(Stored(codes, sample, ids, ids), probes).reaches("text") >= self.target_recall:
                return f"faiss:{method}"
        return f"faiss:{fitting[-1]}"

    def _fitting(self, rows: int, dim: int) -> list[str]:
        memory = _machine_bytes() * _SHARE_OF_MEMORY if self.memory_gb is None else self.memory_gb * 1e9
        return [method for method in _TRIED if rows * code_bytes(method, dim) <= memory]


def _machine_bytes() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
