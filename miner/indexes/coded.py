"""An index in files: FAISS finds candidates by their codes, their vectors, mapped from the disk, score them exactly.

Built at one version of a table it answers for any: rows that it does not have, or has as they were before an update,
are compared one by one, rows that are gone are not found. A row is the same if its id and its last change are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kernels.neighbors import Found, merge_top_k, rescored, top_k
from miner.indexes import DEFAULT, Ask, Estimate, check_search
from miner.indexes.curve import Curve, Setting
from miner.indexes.faiss import Allowed, Codes
from miner.indexes.files import opened
from miner.indexes.flat import scan_ms
from miner.indexes.snapshot import OfSnapshot, Snapshot
from miner.sound import Sound
from miner.store import Store

VECTORS, IDS = "vectors.f32", "rows.i64"
_WIDER = 4  # times the effort where too few were found
_TILE = 65_536

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stored:
    """What is in the folder of an index: codes by row id, and vectors (m, dim) with `ids` (m,) and `updated` (m,).

    Some of them may be of rows that the codes do not have any more.
    """

    codes: Codes
    vectors: Vectors
    ids: Ints
    updated: Ints

    @classmethod
    def read(cls, folder: Path, method: str, dim: int, mapped: bool = True) -> Stored:
        """What a build wrote; `mapped` leaves codes and vectors on the disk until they are asked for."""
        ids, updated = np.fromfile(folder / IDS, np.int64).reshape(2, -1)
        vectors: Vectors = np.memmap(folder / VECTORS, np.float32, "r").view(np.ndarray).reshape(-1, dim)
        return cls(Codes.read(method, folder, mapped), vectors, ids, updated)

    def allowed(self, mask: NDArray[np.bool_]) -> Allowed:
        """The ids of the vectors that a mask (m,) lets through."""
        marked = np.zeros(int(self.ids.max(initial=0)) + 1, np.bool_)
        marked[self.ids[mask]] = True
        return Allowed(marked)

    def places(self, snapshot: Snapshot) -> Ints:
        """Where the vector of each row of a snapshot is, (n,); -1 for a row that is not here as it is now."""
        order = np.argsort(self.ids, kind="stable")
        at = np.searchsorted(self.ids, snapshot.ids, side="right", sorter=order) - 1  # of equal ids the last
        place = order[at.clip(min=0)] if len(order) else np.zeros(len(at), np.int64)
        if not len(order):
            return np.full(len(snapshot.ids), -1)
        same = (at >= 0) & (self.ids[place] == snapshot.ids) & (self.updated[place] == snapshot.updated)
        return np.where(same, place, -1)


@dataclass(frozen=True)
class FaissIndex(OfSnapshot):
    """The rows of `snapshot`: those with a `place` (n,) in what is `stored`, and `fresh` ones with vectors (m, dim)."""

    exact: ClassVar[bool] = False
    index_id: str
    kind: str
    curve: Curve = field(repr=False)
    stored: Stored = field(repr=False)
    place: Ints = field(repr=False)
    fresh: Ints = field(repr=False)
    fresh_vectors: Vectors = field(repr=False)
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, store: Store, row: Mapping[str, Any], sound: Sound, version: int | None = None) -> FaissIndex:
        """The index that a row of `indexes` names, for the table now or at `version`.

        Raises Damaged for files that are not what was written or of another table, NotFound for no such table.
        """
        folder, facts = opened(store, row)
        snapshot = Snapshot.of(store, row["table"], sound, version)
        stored = Stored.read(folder, facts["method"], facts["dim"])
        place = stored.places(snapshot)
        fresh = np.flatnonzero(place < 0)
        curve = Curve.from_dict(json.loads(row["params"])["curve"])
        vectors, notes = snapshot.vectors(store, fresh), (*sound.notes, *_told(len(fresh), len(place)))
        return cls(snapshot, row["index_id"], row["kind"], curve, stored, place, fresh, vectors, notes)

    def search(self, queries: Vectors, k: int, mask: NDArray[np.bool_] | None = None, ask: Ask = DEFAULT) -> Found:
        """About the nearest rows, see `miner.indexes.Index`; exactly, by comparing all, where that is cheaper."""
        check_search(queries, k, mask, (len(self.rows), self.dim))
        passing = len(self.rows) if mask is None else int(mask.sum())
        kept = min(k, passing)
        setting, estimate = self._setting(kept, passing, ask)
        if self._compares_all(passing, setting, estimate):
            return self._scan(queries, k, _numbers(mask, len(self.rows)))
        return self._found(queries, kept, mask, setting)

    def scan(self, queries: Vectors, k: int, rows: Ints) -> Found:
        """The nearest among some rows (ascending), exactly."""
        check_search(queries, k, None, (len(self.rows), self.dim))
        return self._scan(queries, k, rows)

    def exhaustive(self, queries: Vectors, k: int, mask: NDArray[np.bool_] | None = None) -> Found:
        """As `search`, with every list read and every row a candidate: as exact as `scan`, and slower."""
        check_search(queries, k, mask, (len(self.rows), self.dim))
        passing = len(self.rows) if mask is None else int(mask.sum())
        return self._found(queries, min(k, passing), mask, Setting(len(self.stored.ids), len(self.stored.ids)))

    def estimate(self, k: int, passing: int, ask: Ask = DEFAULT) -> Estimate:
        """What `search` costs for one query where a mask lets `passing` rows through."""
        setting, estimate = self._setting(min(k, passing), passing, ask)
        if self._compares_all(passing, setting, estimate):
            return Estimate(self.scan_ms(passing), 1.0)
        return Estimate(estimate.cpu_ms + self.scan_ms(min(len(self.fresh), passing)), estimate.recall)

    def scan_ms(self, passing: int) -> float:
        """What `scan` of so many rows costs for one query, CPU milliseconds."""
        return scan_ms(passing, self.dim)

    def vectors(self, rows: Ints) -> Vectors:
        """The vectors of some rows, (len(rows), dim)."""
        place = self.place[rows]
        found = self.stored.vectors[place]
        fresh = np.flatnonzero(place < 0)
        if len(fresh):
            found[fresh] = self.fresh_vectors[np.searchsorted(self.fresh, rows[fresh])]
        return found

    # -- inside --------------------------------------------------------------------------------------------------------

    def _setting(self, k: int, passing: int, ask: Ask) -> tuple[Setting, Estimate]:
        return self.curve.choose(max(k, 1), passing / max(len(self.rows), 1), ask)

    def _compares_all(self, passing: int, setting: Setting, estimate: Estimate) -> bool:
        all_are = passing <= setting.candidates or len(self.fresh) == len(self.rows)
        return all_are or self.scan_ms(passing) <= estimate.cpu_ms

    def _scan(self, queries: Vectors, k: int, rows: Ints) -> Found:
        parts = [top_k(queries, self.vectors(some), k) for some in _tiles(rows)]
        found = [(some[part[0]], part[1]) for some, part in zip(_tiles(rows), parts, strict=True)]
        empty = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        return merge_top_k([empty, *found], k)

    def _found(self, queries: Vectors, kept: int, mask: NDArray[np.bool_] | None, setting: Setting) -> Found:
        """The best `kept` of the candidates and of the fresh rows; with more effort for queries that find too few, in
        the end by comparing all."""
        allowed = self._allowed if mask is None else self._masked(mask)
        newer = self._newer(queries, kept, mask)
        rows, scores = np.empty((len(queries), kept), np.int64), np.empty((len(queries), kept), np.float32)
        todo, (effort, count) = np.arange(len(queries)), setting
        while len(todo) and effort < _WIDER * len(self.stored.ids):
            candidates = self.stored.codes.search(queries[todo], min(count, len(self.stored.ids)), effort, allowed)
            short = []
            for i, ids in zip(todo, candidates, strict=True):
                found = self._rescored(queries[i], ids[ids >= 0], kept)
                if newer is not None:
                    found = _joined(found, (newer[0][i], newer[1][i]), kept)
                if len(found[0]) == kept:
                    rows[i], scores[i] = found
                else:
                    short.append(i)
            todo, effort, count = np.array(short, np.int64), effort * _WIDER, max(count, 2 * kept)
        if len(todo):
            rows[todo], scores[todo] = self._scan(queries[todo], kept, _numbers(mask, len(self.rows)))
        return rows, scores

    def _newer(self, queries: Vectors, k: int, mask: NDArray[np.bool_] | None) -> Found | None:
        """The best among the fresh rows that a mask lets through; None where there are none."""
        fresh = self.fresh if mask is None else self.fresh[mask[self.fresh]]
        return self._scan(queries, k, fresh) if len(fresh) else None

    def _masked(self, mask: NDArray[np.bool_]) -> Allowed:
        """The indexed ids that a mask lets through."""
        indexed = mask & (self.place >= 0) if len(self.fresh) else mask
        if self._dense:
            return Allowed(indexed)
        marked = np.zeros(int(self.snapshot.ids.max()) + 1, np.bool_)
        marked[self.snapshot.ids[indexed]] = True
        return Allowed(marked)

    def _rescored(self, query: Vectors, ids: Ints, k: int) -> Found:
        """The best k of the candidates of one query: rows and exact scores."""
        rows = ids if self._dense else self._row_of(ids)
        return rescored(query, rows, self.stored.vectors[self.place[rows]], k)

    def _row_of(self, ids: Ints) -> Ints:
        """The rows with these ids, all of which are indexed."""
        if self._in_order:
            return np.searchsorted(self.snapshot.ids, ids)
        return self._by_id[np.searchsorted(self.snapshot.ids, ids, sorter=self._by_id)]

    @cached_property
    def _in_order(self) -> bool:
        return bool((np.diff(self.snapshot.ids) > 0).all())

    @cached_property
    def _dense(self) -> bool:
        return self._in_order and int(self.snapshot.ids[-1]) == len(self.rows) - 1

    @cached_property
    def _by_id(self) -> Ints:
        return np.argsort(self.snapshot.ids)

    @cached_property
    def _allowed(self) -> Allowed | None:
        """The ids that may be found without a mask; None for all that are in the codes."""
        whole = int((self.place >= 0).sum()) == len(self.stored.codes)
        return None if whole else self._masked(np.ones(len(self.rows), np.bool_))


def _joined(one: Found, other: Found, k: int) -> Found:
    """The best k of what was found for one query in two places."""
    rows, scores = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def _numbers(mask: NDArray[np.bool_] | None, count: int) -> Ints:
    return np.arange(count) if mask is None else np.flatnonzero(mask)


def _tiles(rows: Ints) -> Iterator[Ints]:
    for start in range(0, len(rows), _TILE):
        yield rows[start : start + _TILE]


def _told(fresh: int, rows: int) -> Iterator[str]:
    if fresh:
        share = f"{fresh:,} of {rows:,} vectors ({100 * fresh / rows:.1f} %)"
        yield f"{share} are newer than the index and compared one by one; miner index LAKE takes them in"
