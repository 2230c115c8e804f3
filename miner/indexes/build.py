"""Building an index in files: trained from a sample, filled in parts wherever the executor has room, merged, measured.

Nothing that answers is touched: a new folder is filled, and the row of `indexes` that names it comes last, in one
commit. A build that dies leaves the old index as it is; what it left is removed by the next one.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from miner.failpoints import failpoint
from miner.indexes.coded import IDS, VECTORS, Ints, Stored, Vectors
from miner.indexes.curve import Curve, measured
from miner.indexes.faiss import SAMPLE_PER_LIST, Codes, one_thread
from miner.indexes.files import home, sealed
from miner.indexes.probes import Probes
from miner.indexes.snapshot import ID, UPDATED, Snapshot, as_matrix
from miner.store import Store

_PART_ROWS = 200_000
_TRAINED = "trained"
_EFFORTS = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 256, 512)


@dataclass(frozen=True)
class Part:
    """Fragments of the table whose rows are those from `first` on in the files of the index."""

    fragments: tuple[int, ...]
    first: int
    rows: int


@dataclass(frozen=True)
class Build:
    """An index of `method` being made of `rows` rows of a table at a version, in `folder`. Small and picklable."""

    table: str
    version: int
    method: str
    folder: Path
    rows: int
    dim: int

    @property
    def name(self) -> str:
        """The folder below the lake, as the row of `indexes` has it."""
        return "/".join(self.folder.parts[-self.table.count("/") - 3 :])

    @classmethod
    def begun(cls, store: Store, table: str, version: int, method: str) -> Build:
        """An empty folder for a new index of a table at a version."""
        dataset = store.dataset(table, version)
        folder = home(store, table) / uuid.uuid4().hex[:12]
        folder.mkdir(parents=True)
        return cls(table, version, method, folder, dataset.count_rows(), int(dataset.schema.metadata[b"dim"]))

    def train(self, store: Store) -> list[Part]:
        """Learn lists and codes from a sample; gives the parts to be filled. Every file has its full length then."""
        lists = lists_for(self.rows)
        codes = Codes.train(self.method, sampled(store, self.table, self.version, lists * SAMPLE_PER_LIST), lists)
        (self.folder / _TRAINED).mkdir()
        codes.write(self.folder / _TRAINED)
        for name, size in ((VECTORS, 4 * self.rows * self.dim), (IDS, 16 * self.rows)):
            with open(self.folder / name, "wb") as file:
                file.truncate(size)
        return _parts(store, self)

    def fill(self, store: Store, part: Part) -> None:
        """Read the rows of a part, write vectors and ids where they belong, and a shard of the codes."""
        failpoint("index:part")
        vectors = np.memmap(self.folder / VECTORS, np.float32, "r+", shape=(self.rows, self.dim))
        ids = np.memmap(self.folder / IDS, np.int64, "r+", shape=(2, self.rows))
        codes = Codes.read(self.method, self.folder / _TRAINED, mapped=False)
        at = part.first
        with one_thread():
            for batch in _batches(store, self, part.fragments):
                where = slice(at, at + len(batch))
                vectors[where] = as_matrix(pa.chunked_array([batch["vector"]]), self.dim)
                ids[0, where], ids[1, where] = batch[ID].to_numpy(), batch[UPDATED].to_numpy()
                if codes.merges:
                    codes.add(ids[0, where], vectors[where])
                at += len(batch)
        if at != part.first + part.rows:
            raise RuntimeError(f"{self.table} at {self.version}: {at - part.first} rows, not {part.rows}")
        vectors.flush()
        ids.flush()
        if codes.merges:
            shard = self.folder / _shard(part)
            shard.mkdir()
            codes.write(shard)

    def merge(self, parts: Sequence[Part]) -> Stored:
        """The whole index, of its shards; their files go."""
        codes = Codes.read(self.method, self.folder / _TRAINED, mapped=False)
        vectors = np.memmap(self.folder / VECTORS, np.float32, "r").reshape(-1, self.dim)
        ids = np.fromfile(self.folder / IDS, np.int64).reshape(2, -1)
        for part in parts:
            if codes.merges:
                codes.absorb(Codes.read(self.method, self.folder / _shard(part), mapped=False))
                shutil.rmtree(self.folder / _shard(part))
            else:
                where = slice(part.first, part.first + part.rows)
                codes.add(ids[0, where], vectors[where])
        shutil.rmtree(self.folder / _TRAINED)
        return Stored(codes, vectors, ids[0], ids[1])

    def finished(self, stored: Stored, probes: Probes) -> dict[str, Any]:
        """Write the codes, measure how well they find, seal the folder; gives what the row of `indexes` says."""
        stored.codes.write(self.folder)
        curve = curve_of(stored, probes)
        facts = {"table": self.table, "table_version": self.version, "method": self.method, "dim": self.dim}
        sha256 = sealed(self.folder, {**facts, "rows": self.rows})
        failpoint("index:sealed")
        params = {"lists": stored.codes.lists, "text_queries": probes.text_source, "curve": curve.to_dict()}
        return {"params": json.dumps(params), "sha256": sha256, "uri": self.name}


def sampled(store: Store, table: str, version: int, rows: int) -> Vectors:
    """The vectors of `rows` random rows of a table, all where it has fewer, (m, dim)."""
    dataset = store.dataset(table, version)
    count, dim = dataset.count_rows(), int(dataset.schema.metadata[b"dim"])
    if count <= rows:
        return as_matrix(dataset.to_table(columns=["vector"])["vector"], dim)
    chosen = np.sort(np.random.default_rng(0).choice(count, rows, replace=False))
    return as_matrix(dataset.take(chosen.tolist(), columns=["vector"])["vector"], dim)


def updated(old: Stored, build: Build, snapshot: Snapshot, store: Store) -> Stored:
    """An index with the rows of a snapshot, made of one that has most of them: new rows in, old ones out."""
    place = old.places(snapshot)
    fresh = np.flatnonzero(place < 0)
    gone = np.setdiff1d(old.ids, snapshot.ids[place >= 0])
    old.codes.remove(gone)
    vectors = snapshot.vectors(store, fresh)
    kept = place[place >= 0]
    ids = np.concatenate([old.ids[kept], snapshot.ids[fresh]])
    changes = np.concatenate([old.updated[kept], snapshot.updated[fresh]])
    with open(build.folder / VECTORS, "wb") as file:
        for start in range(0, len(kept), 65_536):
            file.write(old.vectors[kept[start : start + 65_536]].tobytes())
        file.write(vectors.tobytes())
    np.stack([ids, changes]).tofile(build.folder / IDS)
    old.codes.add(snapshot.ids[fresh], vectors)
    mapped = np.memmap(build.folder / VECTORS, np.float32, "r").reshape(-1, build.dim)
    return Stored(old.codes, mapped, ids, changes)


def lists_for(rows: int) -> int:
    """How many lists: about three times the root of the number of rows, a power of two, each with 20 rows at least."""
    return 1 << int(np.clip(np.log2(max(min(3.5 * rows**0.5, rows / 20), 1)), 0, 17))


def curve_of(stored: Stored, probes: Probes) -> Curve:
    """How well the codes find the rows of what is stored."""
    order = np.argsort(stored.ids)

    def search(queries: Vectors, count: int, effort: int, mask: Any) -> Ints:
        allowed = None if mask is None else stored.allowed(mask)
        ids = stored.codes.search(queries, min(count, len(stored.ids)), effort, allowed)
        return order[np.searchsorted(stored.ids, ids[ids >= 0], sorter=order)][None]

    lists = stored.codes.lists or len(stored.ids)
    efforts = sorted({min(effort, lists) for effort in _EFFORTS})
    with one_thread():
        return measured(search, stored.vectors.view(np.ndarray), probes.queries, efforts)


def _parts(store: Store, build: Build) -> list[Part]:
    """Neighbouring fragments together, so that a part is worth a task."""
    parts: list[Part] = []
    for fragment in store.dataset(build.table, build.version).get_fragments():
        rows, last = fragment.count_rows(), parts[-1] if parts else None
        if last is not None and last.rows + rows <= _PART_ROWS:
            parts[-1] = Part((*last.fragments, fragment.fragment_id), last.first, last.rows + rows)
        else:
            parts.append(Part((fragment.fragment_id,), last.first + last.rows if last else 0, rows))
    return parts


def _batches(store: Store, build: Build, fragments: Sequence[int]) -> Iterator[pa.RecordBatch]:
    dataset = store.dataset(build.table, build.version)
    known = {fragment.fragment_id: fragment for fragment in dataset.get_fragments()}
    chosen = [known[number] for number in fragments]
    yield from dataset.scanner(columns=["vector", ID, UPDATED], fragments=chosen, batch_size=8192).to_batches()


def _shard(part: Part) -> str:
    return f"shard-{part.first}"
