"""Which clips are unlike all others: the mean distance to the nearest clips of other scenes, in an encoder's space.

The distance to the k nearest neighbours is the plain and strong score of outlier mining (Ramaswamy, Rastogi and Shim
2000, SIGMOD; Angiulli and Pizzuti 2002). Clips of the same scene do not count: ten seconds later the same rare truck is
still there.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from kernels.neighbors import knn
from kernels.spans import Ints
from miner.corpus import Corpus, Vector
from miner.errors import NotFound, UsageError
from miner.files import index_id
from miner.hits import Hit, Hits
from miner.query.filters import parse_filter
from miner.query.matching import passing
from miner.query.plan import Ranked
from miner.search import MAX_K, described
from miner.sound import Sound
from miner.store import Store

MAX_NEIGHBOURS = 100
_SELDOM = 0.05  # a category in at most this share of the clips is worth a word
_SAID = 3


class _Pairs(NamedTuple):
    """Rows of the index that count for clips of the corpus, and the clip of each, both (p,), by clip."""

    row: Ints
    clip: Ints


class _Distances(NamedTuple):
    """Per clip of the corpus with a vector: its number, unit vector (m, dim), mean distance to its neighbours (m,)."""

    clips: Ints
    vectors: Vector
    neighbours: Ints
    distance: Vector


def rare(
    store: Store, k: int = 20, neighbours: int = 5, where: str | None = None, corpus: Corpus | None = None
) -> Hits:
    """The `k` clips that are farthest from their nearest clips of other scenes, of those that match `where`.

    Scores are mean cosine distances, 0 to 2; a clip's vector is the mean of its whole frames (of its tiles, where only
    those have vectors). Each hit shows the row that is least like the neighbours, and says why. Raises UsageError for
    limits, NotFound where fewer than two scenes have vectors.
    """
    if not 1 <= k <= MAX_K or not 1 <= neighbours <= MAX_NEIGHBOURS:
        raise UsageError(f"k = {k}, neighbours = {neighbours}: expected 1 to {MAX_K:,} and 1 to {MAX_NEIGHBOURS}")
    corpus = corpus or Corpus.load(store)
    started = time.perf_counter()
    pairs = _whole_frames(corpus)
    found = _distances(corpus, pairs, neighbours)
    allowed = np.ones(len(found.clips), np.bool_)
    if where is not None:
        allowed = np.isin(found.clips, corpus.clip[passing(corpus, parse_filter(where))])
    order = np.lexsort((found.clips, -found.distance))
    best = order[allowed[order]][:k]
    rows = np.array([_odd_row(corpus, pairs, found, i) for i in best], np.int64)
    hits = described(store, corpus, Ranked(rows, found.clips[best], found.distance[best]))
    usual = float(np.median(found.distance))
    seldom = _seldom(corpus.asked, hits)
    return Hits(
        lake=store.uri,
        query={"verb": "rare", "k": k, "neighbours": neighbours, "per": "clip", "where": where},
        encoder=corpus.index.encoder,
        index_id=index_id(corpus),
        table_version=corpus.index.table_version,
        elapsed_ms=round((time.perf_counter() - started) * 1e3, 3),
        hits=tuple(_explained(hit, usual, said) for hit, said in zip(hits, seldom, strict=True)),
        notes=corpus.notes,
    )


def _whole_frames(corpus: Corpus) -> _Pairs:
    """Whole frames and sweeps of each clip; all tiles of a clip that has vectors of tiles only."""
    order = np.argsort(corpus.clip, kind="stable")
    order = order[corpus.clip[order] >= 0]
    row, clip = corpus.row[order], corpus.clip[order]
    whole = pc.is_null(corpus.index.rows["region"]).to_numpy().astype(np.bool_)[row]
    kept = whole | ~np.isin(clip, clip[whole])
    return _Pairs(row[kept], clip[kept])


def _distances(corpus: Corpus, pairs: _Pairs, neighbours: int) -> _Distances:
    """Clip vectors and how far each is from its nearest clips of other scenes."""
    if not len(pairs.row):
        raise NotFound(f"no clip has vectors of {corpus.index.encoder!r}", "Run: miner cut LAKE, miner embed LAKE")
    clips, starts = np.unique(pairs.clip, return_index=True)
    sums = np.add.reduceat(corpus.index.vectors(pairs.row), starts, axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1)
    clips, vectors = clips[lengths > 0], (sums[lengths > 0] / lengths[lengths > 0, None]).astype(np.float32)
    scenes = corpus.clips["scene_id"].take(clips).combine_chunks().dictionary_encode()
    if len(scenes.dictionary) < 2:
        raise NotFound("rarity compares scenes, and fewer than two have clips with vectors", "Ingest more recordings.")
    nearest, similar = knn(vectors, neighbours, scenes.indices.to_numpy())
    known = nearest >= 0
    distance = 1 - np.where(known, similar, 0).sum(axis=1) / known.sum(axis=1)
    return _Distances(clips, vectors, nearest, distance.astype(np.float32))


def _odd_row(corpus: Corpus, pairs: _Pairs, found: _Distances, place: int) -> int:
    """The row of a clip that is least like the clip's neighbours."""
    first, last = np.searchsorted(pairs.clip, [found.clips[place], found.clips[place] + 1])
    rows, near = pairs.row[first:last], found.neighbours[place]
    likeness = corpus.index.vectors(rows) @ found.vectors[near[near >= 0]].mean(axis=0)
    return int(rows[np.argmin(likeness)])


def _explained(hit: Hit, usual: float, seldom: str) -> Hit:
    times = f", {hit.score / usual:.1f} times the usual {usual:.3f}" if usual > 0 else ""
    why = f"{hit.score:.3f} from the nearest clips of other scenes{times}"
    return replace(hit, evidence={"knn_distance": hit.score}, why=f"{why}; {seldom}" if seldom else why)


def _seldom(sound: Sound, hits: tuple[Hit, ...]) -> list[str]:
    """Per hit the categories that few clips have, the rarest first: `animal in 1 of 60 clips`."""
    if not sound.has("clip_facts"):
        return [""] * len(hits)
    facts = sound.scan("clip_facts", ["clip_id", "categories"])
    names = {row["clip_id"]: [entry["name"] for entry in row["categories"]] for row in facts.to_pylist()}
    count = Counter(name for each in names.values() for name in each)
    few = int(_SELDOM * len(names))
    said = []
    for hit in hits:
        own = [name for name in names.get(hit.clip_id or "", ()) if count[name] <= few]
        own.sort(key=lambda name: (count[name], name))
        said.append(", ".join(f"{name} in {count[name]} of {len(names)} clips" for name in own[:_SAID]))
    return said
