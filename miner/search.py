"""Search: texts, pictures, sweeps, examples and concepts in, ranked clips or frames out. The one implementation behind
CLI, SDK and HTTP.

A query is a tree (`miner.query.tree`). One that comes to a single vector is answered by the index; the rest is composed
(`miner.query.compose`). What must match is a filter, applied before ranking, so k hits come back whenever k exist.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from embeddings.encoder import Encoder
from miner.corpus import Corpus
from miner.decode.views import Region
from miner.errors import NotFound, UsageError
from miner.files import files_of, index_id, scene_names
from miner.hits import Hit, Hits
from miner.query.compose import Asked, Placed, composed
from miner.query.explain import Plan
from miner.query.filters import parse_filter
from miner.query.matching import Matches, matching
from miner.query.plan import EXACTLY, Ranked, best
from miner.query.sought import Sought, seek
from miner.query.sources import Sources, sources_of
from miner.query.terms import is_one_vector, parts_of
from miner.query.text import parse_query
from miner.query.tree import (
    Concept,
    Disagree,
    Frames,
    Image,
    Lidar,
    Like,
    Node,
    Text,
    Weighted,
    check_string,
    fuse,
    leaves,
)
from miner.query.vectors import pairs_of
from miner.store import Store, one_of

MAX_K = 10_000
MAX_PARTS = 100
_LISTS = ("texts", "not_texts", "images", "lidar", "like", "not_like")


@dataclass(frozen=True)
class Query:
    """What is sought: at least one of `query` (as `miner.query.text` writes it), texts, images and LiDAR sweeps (paths
    or URIs), `like` (ids of readings or clips). All of it is added up.

    Raises UsageError where a value is out of its limits, saying which are.
    """

    texts: tuple[str, ...] = ()
    not_texts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    lidar: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    not_like: tuple[str, ...] = ()
    query: str | None = None
    k: int = 10
    per: str = "clip"
    where: str | None = None
    encoder: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or not 1 <= self.k <= MAX_K:
            raise UsageError(f"k = {self.k!r}: expected a whole number from 1 to {MAX_K:,}")
        if self.per not in ("clip", "frame"):
            raise UsageError(f"per = {self.per!r}: expected 'clip' or 'frame'")
        for name in _LISTS:
            object.__setattr__(self, name, _strings(name, getattr(self, name)))
        if not (self.texts or self.images or self.lidar or self.like or self.query is not None):
            raise UsageError("nothing to search for", "Give a text, an image, a sweep or the id of something alike.")
        if self.where is not None:
            parse_filter(self.where)
        _ = self.tree

    @cached_property
    def tree(self) -> Node:
        """All of the query as one tree."""
        parts = list(parts_of(parse_query(self.query))) if self.query is not None else []
        parts += [Weighted(Text(text)) for text in self.texts]
        parts += [Weighted(Image(uri)) for uri in self.images]
        parts += [Weighted(Lidar(uri)) for uri in self.lidar]
        parts += [Weighted(Like(name)) for name in self.like]
        parts += [Weighted(Text(text), -1) for text in self.not_texts]
        parts += [Weighted(Like(name), -1) for name in self.not_like]
        return fuse(tuple(parts))

    @property
    def reads_files(self) -> bool:
        """Whether the query names pictures or sweeps by path, in whatever way."""
        return any(isinstance(leaf, Image | Lidar) for leaf in leaves(self.tree))

    def sensors(self, store: Store) -> tuple[str, ...]:
        """Whose readings are compared: camera, lidar, or both; none where ids of clips or counts leave it open."""
        found: set[str] = set()
        ids = []
        for leaf in leaves(self.tree):
            found |= {"camera"} if isinstance(leaf, Text | Image | Concept | Frames) else set()
            found |= {"lidar"} if isinstance(leaf, Lidar) else set()
            found |= {leaf.alike, leaf.unlike} if isinstance(leaf, Disagree) else set()
            if isinstance(leaf, Like):
                found |= {leaf.sensor} if leaf.sensor else set()
                ids += [] if leaf.sensor else [leaf.id]
        if ids and store.exists("sample_data"):
            found |= set(store.scan("sample_data", ["modality"], one_of("sample_data_id", ids))["modality"].to_pylist())
        return tuple(sorted(found))

    def to_dict(self) -> dict[str, Any]:
        """The query as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _strings(name: str, values: Any) -> tuple[str, ...]:
    """Checked texts, paths or ids."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{name} = {values!r}: expected a list of strings")
    if len(values) > MAX_PARTS:
        raise UsageError(f"{len(values)} {name}: at most {MAX_PARTS} are allowed")
    return tuple(check_string(name, value) for value in values)


def search(
    store: Store,
    query: Query,
    encoder: Encoder | None = None,
    corpus: Corpus | None = None,
    plan: Plan | None = None,
    sources: Sources | None = None,
) -> Hits:
    """The best `query.k` clips or frames, by score descending, then id.

    A clip is as good as its best row, a frame as its best view. `encoder` and `corpus` (of one sensor), or `sources`
    for all, are loaded where not given; `plan` takes notes of the steps, and comes back with the hits. Raises
    UsageError (an encoder other than the table's, a filter that makes no sense) and NotFound (no vectors, an unknown
    id, no picture at a path).
    """
    sources = sources or sources_of(store, query.encoder, encoder, corpus)
    sensors = query.sensors(store) or (sources.corpus(None).index.modality,)
    if query.per == "frame" and len(sensors) > 1:
        said = " and ".join(sensors)
        raise UsageError(f"the query is of {said} readings: their vectors do not compare", "Clips do: search per clip.")
    corpora = [sources.corpus(sensor) for sensor in sensors]
    started = time.perf_counter()
    if query.per == "clip" and not any(len(corpus.clips) for corpus in corpora):
        raise NotFound(f"{store.uri} has no clips", "Make them with: miner cut LAKE, or search per frame.")
    answer = _nearest if is_one_vector(query.tree, sensors) else _composed
    hits, notes = answer(query, sources, sensors, plan)
    first = corpora[0]
    return Hits(
        lake=store.uri,
        query=query.to_dict(),
        encoder=first.index.encoder,
        index_id=index_id(first),
        table_version=first.index.table_version,
        elapsed_ms=round((time.perf_counter() - started) * 1e3, 3),
        hits=hits,
        notes=tuple(dict.fromkeys([*notes, *(note for each in corpora for note in each.notes)])),
        plan=None if plan is None else plan.to_dict(),
    )


_Answer = tuple[tuple[Hit, ...], tuple[str, ...]]


def _nearest(query: Query, sources: Sources, sensors: tuple[str, ...], plan: Plan | None) -> _Answer:
    """What is nearest to the one vector that the query comes to."""
    started, corpus = time.perf_counter(), sources.corpus(sensors[0])
    [sought] = seek(sources, parts_of(query.tree), sensors)
    if plan is not None:
        plan.add("query", "texts, pictures, sweeps and examples as one vector", (1, 1), started)
    ask = replace(EXACTLY, kind=sought.asks)
    found = best(_matches(query, corpus, plan), sought.vector, query.k, ask)
    ranked = time.perf_counter()
    evidence = _evidence(corpus, sought, found)
    hits = described(sources.store, corpus, found)
    if plan is not None:
        plan.add("describe", "files, clips and scenes of the hits", (query.k, len(hits)), ranked)
    return tuple(replace(hit, evidence=each) for hit, each in zip(hits, evidence, strict=True)), ()


def _composed(query: Query, sources: Sources, sensors: tuple[str, ...], plan: Plan | None) -> _Answer:
    """What a query of several sensors or of concepts finds, each hit with what its score is made of."""
    matches = {sensor: _matches(query, sources.corpus(sensor), plan) for sensor in sensors}
    answer = composed(Asked(sources, query.tree, query.k, query.per, matches, plan))
    ranked = time.perf_counter()
    found: dict[int, Hit] = {}
    for sensor in sensors:
        of = {place: each for place, each in enumerate(answer.placed) if each.sensor == sensor}
        shown = described(sources.store, sources.corpus(sensor), _ranked([*of.values()])) if of else ()
        found |= zip(of, shown, strict=True)
    hits = []
    for place, each in enumerate(answer.placed):
        why = ", ".join(f"{name} {value:.2f}" for name, value in each.evidence.items())
        hits.append(replace(found[place], rank=place + 1, evidence=each.evidence, why=why))
    if plan is not None:
        plan.add("describe", "files, clips and scenes of the hits", (query.k, len(hits)), ranked)
    said = [f"{sensor}: {sources.corpus(sensor).index.encoder}" for sensor in sensors]
    return tuple(hits), (*answer.notes, *([f"vectors of {', '.join(said)}"] if len(sensors) > 1 else []))


def _matches(query: Query, corpus: Corpus, plan: Plan | None) -> Matches:
    """What of a corpus may be found: what passes the filter, but no example itself and nothing of its clip."""
    matches = matching(corpus, None if query.where is None else parse_filter(query.where), query.per, plan)
    for leaf in leaves(query.tree):
        if isinstance(leaf, Like):
            matches = matches.without(pairs_of(corpus, leaf.id)[1])
    return matches


def _ranked(placed: Sequence[Placed]) -> Ranked:
    """What was found of one sensor, as rows of its corpus."""
    rows, clips = (np.array([getattr(each, name) for each in placed], np.int64) for name in ("row", "clip"))
    return Ranked(rows, clips, np.array([each.score for each in placed], np.float32))


def _evidence(corpus: Corpus, sought: Sought, found: Ranked) -> list[dict[str, float]]:
    """The similarity of each row to every kind of part behind a vector."""
    if len(sought.kinds) == 1:
        return [{next(iter(sought.kinds)): score} for score in found.score.tolist()]
    matrix = np.stack(list(sought.kinds.values())).T
    values = corpus.index.vectors(found.row) @ matrix
    return [dict(zip(sought.kinds, row, strict=True)) for row in values.tolist()]


def described(store: Store, corpus: Corpus, found: Ranked) -> tuple[Hit, ...]:
    """Ranked rows as hits, with what the lake knows of their files, clips and scenes."""
    rows = corpus.index.rows.take(found.row).to_pylist()
    kind = "lidar" if corpus.index.modality == "lidar" else "image"
    files = files_of(corpus, found.row)
    scenes = scene_names(corpus, {row["scene_id"] for row in rows})
    windows = corpus.clips.take(pa.array(found.clip, mask=found.clip < 0)).to_pylist()
    hits = []
    for rank, (row, window, score) in enumerate(zip(rows, windows, found.score.tolist(), strict=True), 1):
        file = files.get(row["sample_data_id"], {})
        region = None if row["region"] is None else Region(**row["region"])
        hit = Hit(
            rank=rank,
            score=score,
            clip_id=window["clip_id"],
            scene_id=row["scene_id"],
            sample_data_id=row["sample_data_id"],
            channel=row["channel"],
            timestamp_ns=row["timestamp_ns"],
            start_ns=window["start_ns"],
            end_ns=window["end_ns"],
            uri=file.get("uri"),
            evidence={kind: score},
            scene=scenes.get(row["scene_id"], row["scene_id"]),
            region=region,
            fileformat=file.get("fileformat", ""),
            offset=file.get("offset"),
            length=file.get("length"),
            ego_SE3_sensor=file.get("ego_SE3_sensor"),
            store=store,
        )
        hits.append(hit)
    return tuple(hits)
