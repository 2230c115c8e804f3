"""Lance's own index, part of the table: nothing but codes in memory, and it works in an object store.

Lance answers for the version that is asked, rows that came after the index among them. It finds candidates; their
vectors, read from the table, score them exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.neighbors import Found, merge_top_k, rescored, top_k
from miner.digests import load_digests, problems
from miner.errors import Damaged
from miner.indexes import DEFAULT, Ask, Estimate, check_search
from miner.indexes.curve import Curve, Setting, measured
from miner.indexes.probes import Probes
from miner.indexes.snapshot import ID, OfSnapshot, Snapshot, as_matrix
from miner.sound import Sound
from miner.store import Store

NAME = "vector_idx"
_EFFORTS = (2, 4, 8, 16, 32, 64)
_TAKE_MS, _SCAN_MS = 0.005, 0.0012  # to read one vector by its id, and in a scan of all

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]


def has_index(store: Store, table: str, version: int | None = None) -> bool:
    """Whether the table has a vector index of its own."""
    return any(index.name == NAME for index in store.dataset(table, version).describe_indices())


def problem_of(store: Store, table: str, version: int | None = None) -> str:
    """Why the index of a table cannot be asked; empty if it can."""
    indexes = store.dataset(table, version).describe_indices()
    folders = {str(segment.uuid) for index in indexes if index.name == NAME for segment in index.segments}
    if not folders:
        return f"{table} has no index {NAME}"
    known = load_digests(store, f"file LIKE '{table}.lance/_indices/%'")
    wrong = problems(store, {file: each for file, each in known.items() if file.split("/")[-2] in folders})
    return next((f"{file} {problem}" for file, problem in wrong.items()), "")


def build_in_table(store: Store, table: str, method: str) -> None:
    """Make (or replace) the index of a table, as `method` says: IVF_PQ, IVF_HNSW_SQ or IVF_RQ. Under its lease."""
    dataset = store.dataset(table)
    rows, dim = dataset.count_rows(), int(dataset.schema.metadata[b"dim"])
    lists = 16 if method == "IVF_HNSW_SQ" else 2 ** round(math.log2(max(rows**0.5, 1)))
    options: dict[str, Any] = {"num_partitions": int(np.clip(lists, 1, max(rows // 32, 1)))}
    if method == "IVF_PQ":
        options["num_sub_vectors"] = max(each for each in range(1, max(dim // 8, 1) + 1) if dim % each == 0)
    dataset.create_index("vector", method, name=NAME, metric="cosine", replace=True, **options)


def drop_from_table(store: Store, table: str) -> None:
    """Remove the index of a table. Under its lease."""
    store.dataset(table).drop_index(NAME)


def measure_table(store: Store, table: str, probes: Probes) -> tuple[int, str]:
    """The version of a table with its index, and the params of the row that names it: its curve."""
    snapshot = Snapshot.of(store, table, Sound(store))
    index = LanceIndex(snapshot, "", "lance", store, Curve([], {}, [], 0.0), Sound(store))
    vectors = as_matrix(store.scan(table, ["vector"], version=snapshot.version)["vector"], snapshot.dim)
    queries = {kind: asked[:60] for kind, asked in probes.queries.items()}

    def search(asked: Vectors, count: int, effort: int, mask: NDArray[np.bool_] | None) -> Ints:
        return index.candidates(asked[0], min(count, len(vectors)), effort)[None]

    curve = measured(search, vectors, queries, _EFFORTS, (1.0,))
    said = {"text_queries": probes.text_source, "curve": curve.to_dict()}
    return snapshot.version, json.dumps(said)


@dataclass(frozen=True)
class LanceIndex(OfSnapshot):
    """The rows of a `snapshot`, found by the index in the table, read from `store`."""

    exact: ClassVar[bool] = False
    index_id: str
    kind: str
    store: Store = field(repr=False)
    curve: Curve = field(repr=False)
    sound: Sound = field(repr=False, compare=False)
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, store: Store, row: Mapping[str, Any], sound: Sound, version: int | None = None) -> LanceIndex:
        """The index that a row of `indexes` names, for the table now or at `version`.

        Raises Damaged where it is not there, or its files or those of the table are damaged.
        """
        table = row["table"]
        snapshot = Snapshot.of(store, table, sound, version)
        if sound.notes:  # Lance would answer from damaged files
            raise Damaged(sound.notes[0])
        if problem := problem_of(store, table, snapshot.version):
            raise Damaged(problem)
        curve = Curve.from_dict(json.loads(row["params"])["curve"])
        return cls(snapshot, row["index_id"], row["kind"], store, curve, sound)

    def search(self, queries: Vectors, k: int, mask: NDArray[np.bool_] | None = None, ask: Ask = DEFAULT) -> Found:
        """About the nearest rows, see `miner.indexes.Index`; exactly, by comparing all, where that is cheaper."""
        check_search(queries, k, mask, (len(self.rows), self.dim))
        passing = len(self.rows) if mask is None else int(mask.sum())
        kept, share = min(k, passing), passing / max(len(self.rows), 1)
        setting, estimate = self.curve.choose(max(kept, 1), 1.0, ask)
        if not passing or self.scan_ms(passing) <= estimate.cpu_ms / max(share, 1e-9):
            return self._scan(queries, k, mask)
        count = min(math.ceil(setting.candidates / share), len(self.rows))
        return self._found(queries, kept, mask, Setting(setting.effort, count))

    def scan(self, queries: Vectors, k: int, rows: Ints) -> Found:
        """The nearest among some rows (ascending), exactly."""
        check_search(queries, k, None, (len(self.rows), self.dim))
        mask = np.zeros(len(self.rows), np.bool_)
        mask[rows] = True
        return self._scan(queries, k, mask)

    def exhaustive(self, queries: Vectors, k: int, mask: NDArray[np.bool_] | None = None) -> Found:
        """As `search`, with every list read and every row a candidate: as exact as `scan`, and slower."""
        check_search(queries, k, mask, (len(self.rows), self.dim))
        passing = len(self.rows) if mask is None else int(mask.sum())
        return self._found(queries, min(k, passing), mask, Setting(len(self.rows), len(self.rows)))

    def estimate(self, k: int, passing: int, ask: Ask = DEFAULT) -> Estimate:
        """What `search` costs for one query where a mask lets `passing` rows through."""
        _, found = self.curve.choose(max(min(k, passing), 1), 1.0, ask)
        cost = found.cpu_ms * len(self.rows) / max(passing, 1)
        if not passing or self.scan_ms(passing) <= cost:
            return Estimate(self.scan_ms(passing), 1.0)
        return Estimate(cost, found.recall)

    def scan_ms(self, passing: int) -> float:
        """What `scan` of so many rows costs for one query, CPU milliseconds."""
        return 1.0 + min(passing * _TAKE_MS, len(self.rows) * _SCAN_MS)

    def vectors(self, rows: Ints) -> Vectors:
        """The vectors of some rows, (len(rows), dim), read from the table."""
        return self.snapshot.vectors(self.store, rows)

    def candidates(self, query: Vectors, count: int, effort: int) -> Ints:
        """The rows that Lance takes for the nearest, best first, in `effort` lists."""
        nearest = {"column": "vector", "q": query, "k": count, "minimum_nprobes": effort, "maximum_nprobes": effort}
        dataset = self.store.dataset(self.table, self.table_version)
        found = dataset.scanner(columns=[ID, "_distance"], nearest=nearest).to_table()
        return self._row_of(found[ID].to_numpy().astype(np.int64))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _found(self, queries: Vectors, kept: int, mask: NDArray[np.bool_] | None, setting: Setting) -> Found:
        parts = []
        for query in queries:
            rows = self.candidates(query, setting.candidates, setting.effort)
            rows = rows if mask is None else rows[mask[rows]]
            if len(rows) < kept:
                return self._scan(queries, kept, mask)
            parts.append(rescored(query, rows, self.vectors(rows), kept))
        shape = (len(queries), kept)
        rows, scores = (np.array([part[which] for part in parts]).reshape(shape) for which in (0, 1))
        return rows.astype(np.int64), scores.astype(np.float32)

    def _scan(self, queries: Vectors, k: int, mask: NDArray[np.bool_] | None) -> Found:
        """The nearest rows that a mask lets through, all compared: few are fetched, else the table is read."""
        rows = np.arange(len(self.rows)) if mask is None else np.flatnonzero(mask)
        empty = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        if len(rows) * _TAKE_MS <= len(self.rows) * _SCAN_MS:
            found, scores = top_k(queries, self.vectors(rows), k)
            return merge_top_k([empty, (rows[found], scores)], k)
        parts = [empty]
        dataset = self.store.dataset(self.table, self.table_version)
        for batch in dataset.scanner(columns=["vector", ID], batch_size=65_536).to_batches():
            some = self._row_of(batch[ID].to_numpy().astype(np.int64))
            part = as_matrix(pa.chunked_array([batch["vector"]]), self.dim)
            found, scores = top_k(queries, part, k, None if mask is None else mask[some])
            parts.append((some[found], scores))
        return merge_top_k(parts, k)

    def _row_of(self, ids: Ints) -> Ints:
        order = np.argsort(self.snapshot.ids, kind="stable")
        return order[np.searchsorted(self.snapshot.ids, ids, sorter=order)]
