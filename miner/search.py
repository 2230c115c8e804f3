"""Search: texts, pictures, sweeps and examples in, ranked clips or frames out. The one implementation behind CLI, SDK
and HTTP.

A query is one vector. What must match is a filter, applied before ranking, so k hits come back whenever k exist.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.encoder import Encoder, TextEncoder, encode_all, encode_sweeps
from kernels.spans import Ints
from miner.corpus import Corpus, Vector
from miner.decode.files import read_bytes
from miner.decode.image import decode_image
from miner.decode.sweep import decode_sweep, sweep_format
from miner.decode.views import Region, crop_views, min_side_for
from miner.embed import sweep_points
from miner.encoders import get_encoder
from miner.errors import BadInput, MinerError, NotFound, UnknownName, UsageError
from miner.files import files_of, index_id, scene_names
from miner.hits import Hit, Hits
from miner.indexes import Index
from miner.query.explain import Plan
from miner.query.filters import parse_filter
from miner.query.matching import matching
from miner.query.plan import Ranked, best
from miner.schema import IMPORTED
from miner.store import Store, one_of

MAX_K = 10_000
MAX_TEXT = 1_000
MAX_PARTS = 100
NOT_WEIGHT = 0.5  # what is to be avoided counts less than what is sought, as in Rocchio (1971)


@dataclass(frozen=True)
class Query:
    """What is sought: at least one of texts, images and LiDAR sweeps (paths or URIs), `like` (ids of readings or
    clips).

    Raises UsageError where a value is out of its limits, saying which are.
    """

    texts: tuple[str, ...] = ()
    not_texts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    lidar: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    k: int = 10
    per: str = "clip"
    where: str | None = None
    encoder: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or not 1 <= self.k <= MAX_K:
            raise UsageError(f"k = {self.k!r}: expected a whole number from 1 to {MAX_K:,}")
        if self.per not in ("clip", "frame"):
            raise UsageError(f"per = {self.per!r}: expected 'clip' or 'frame'")
        for name in ("texts", "not_texts", "images", "lidar", "like"):
            object.__setattr__(self, name, _strings(name, getattr(self, name)))
        if not (self.texts or self.images or self.lidar or self.like):
            raise UsageError("nothing to search for", "Give a text, an image, a sweep or the id of something alike.")
        if self.lidar and (self.texts or self.not_texts or self.images):
            raise UsageError("texts and images find camera frames, a sweep finds sweeps: their vectors do not compare")
        if self.where is not None:
            parse_filter(self.where)

    @property
    def needs_encoder(self) -> bool:
        """Whether anything has to be embedded; ids alone do not."""
        return bool(self.texts or self.not_texts or self.images or self.lidar)

    def modality(self, store: Store) -> str | None:
        """Whose vectors are compared: camera or lidar; None where ids of clips alone leave it open.

        Raises UsageError for readings of several.
        """
        kinds = {"camera"} if self.texts or self.not_texts or self.images else {"lidar"} if self.lidar else set()
        if self.like and store.exists("sample_data"):
            named = store.scan("sample_data", ["modality"], one_of("sample_data_id", self.like))
            kinds |= set(named["modality"].to_pylist())
        if len(kinds) > 1:
            raise UsageError(f"the query is of {' and '.join(sorted(kinds))} readings: their vectors do not compare")
        return kinds.pop() if kinds else None

    def to_dict(self) -> dict[str, Any]:
        """The query as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _strings(name: str, values: Any) -> tuple[str, ...]:
    """Checked texts, paths or ids."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{name} = {values!r}: expected a list of strings")
    if len(values) > MAX_PARTS:
        raise UsageError(f"{len(values)} {name}: at most {MAX_PARTS} are allowed")
    for value in values:
        if not value.strip():
            raise UsageError(f"{name}: empty text", f"Expected 1 to {MAX_TEXT:,} characters.")
        if len(value) > MAX_TEXT:
            raise UsageError(f"{name}: a text of {len(value):,} characters; at most {MAX_TEXT:,} are allowed")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise UsageError(f"{name}: {value!r} is not valid Unicode")
    return tuple(values)


def search(
    store: Store, query: Query, encoder: Encoder | None = None, corpus: Corpus | None = None, plan: Plan | None = None
) -> Hits:
    """The best `query.k` clips or frames, by score descending, then id.

    A clip is as good as its best row, a frame as its best view. `encoder` and `corpus` are loaded where not given;
    `plan` takes notes of the steps, and comes back with the hits.
    Raises UsageError (an encoder other than the table's, a filter that makes no sense) and NotFound (no vectors, an
    unknown id, no picture at a path).
    """
    corpus = corpus or Corpus.load(store, query.encoder, query.modality(store))
    started = time.perf_counter()
    examples = [_example(corpus, each) for each in query.like]
    vector = _fused(corpus.index, query, encoder, [example.vector for example in examples])
    if plan is not None:
        plan.add("query", "texts, pictures, sweeps and examples as one vector", (1, 1), started)
    if query.per == "clip" and not len(corpus.clips):
        raise NotFound(f"{store.uri} has no clips", "Make them with: miner cut LAKE, or search per frame.")
    matches = matching(corpus, None if query.where is None else parse_filter(query.where), query.per, plan)
    for example in examples:
        matches = matches.without(example.itself)
    found = best(matches, vector, query.k)
    ranked = time.perf_counter()
    hits = described(store, corpus, found)
    if plan is not None:
        plan.add("describe", "files, clips and scenes of the hits", (query.k, len(hits)), ranked)
    return Hits(
        lake=store.uri,
        query=query.to_dict(),
        encoder=corpus.index.encoder,
        index_id=index_id(corpus),
        table_version=corpus.index.table_version,
        elapsed_ms=round((time.perf_counter() - started) * 1e3, 3),
        hits=hits,
        notes=corpus.asked.notes,
        plan=None if plan is None else plan.to_dict(),
    )


class _Example(NamedTuple):
    """A reading or clip to look alike: its mean whole-frame vector (dim,), and the pairs that are it or its clip."""

    vector: Vector
    itself: Ints


def _example(corpus: Corpus, name: str) -> _Example:
    rows = corpus.readings.find(name)
    pairs = corpus.pairs_of_rows(rows)[1] if len(rows) else corpus.pairs_of_clips(corpus.clip_ids.find(name))
    if not len(pairs):
        hint = "Ids are in the answers of search --json. Readings without a vector: miner verify LAKE."
        raise NotFound(f"no reading or clip with vectors of {corpus.index.encoder!r} has the id {name!r}", hint)
    itself = np.union1d(pairs, corpus.pairs_of_clips(np.setdiff1d(corpus.clip[pairs], [-1])))
    chosen = np.unique(corpus.row[pairs])
    regions = corpus.index.rows["region"].take(chosen)
    whole = chosen[pc.is_null(regions).to_numpy().astype(np.bool_)]
    return _Example(_unit(corpus.index.vectors(whole if len(whole) else chosen).sum(axis=0)), itself)


def _fused(index: Index, query: Query, encoder: Encoder | None, examples: list[Vector]) -> Vector:
    """One unit vector (dim,) for the query: the sum of what is sought, minus half of what is not."""
    sought, avoided = list(examples), []
    if query.needs_encoder:
        encoder = _matching(index, encoder)
        sought += _text_vectors(encoder, query.texts)
        avoided += _text_vectors(encoder, query.not_texts)
        sought += [_image_vector(encoder, uri) for uri in query.images]
        sought += [_sweep_vector(encoder, uri) for uri in query.lidar]
    total: Vector = np.sum(np.stack(sought), axis=0)
    return _unit(total - NOT_WEIGHT * np.sum(np.stack(avoided), axis=0) if avoided else total)


def _matching(index: Index, encoder: Encoder | None) -> Encoder:
    """The encoder whose vectors the table has. Raises UsageError if the one given, or the one here, is another."""
    try:
        encoder = encoder or get_encoder(index.encoder, index.encoder_version)
    except UnknownName as unknown:
        hint = "Search with --like ID, or install the encoder."
        raise UsageError(
            f"table {index.table!r} has vectors of {index.encoder!r}: {unknown.message}", hint
        ) from unknown
    has, uses = (index.encoder, index.encoder_version), (encoder.name, encoder.version)
    same = index.encoder == encoder.name and index.encoder_version in (encoder.version, IMPORTED)
    if not same or index.dim != encoder.dim:
        raise UsageError(
            f"table {index.table!r} has {' '.join(has)} ({index.dim}), query uses {' '.join(uses)} ({encoder.dim})",
            f"Choose the encoder of the table, or embed with this one: miner embed LAKE --encoder {encoder.name}",
        )
    return encoder


def _text_vectors(encoder: Encoder, texts: tuple[str, ...]) -> list[Vector]:
    if not texts:
        return []
    if not isinstance(encoder, TextEncoder):
        raise UsageError(f"encoder {encoder.name!r} knows no text", "Search with --image FILE or --like ID.")
    return list(encoder.encode_text(list(texts)))


def _image_vector(encoder: Encoder, uri: str) -> Vector:
    """The vector of a whole picture. Raises NotFound for no such file, UsageError for no picture."""
    size = encoder.input.size
    try:
        frame = decode_image(read_bytes(uri), PurePath(uri).suffix.lstrip("."), uri, min_side_for(size))
    except BadInput as bad:
        raise _refused("image", bad) from bad
    vector: Vector = encode_all(encoder, crop_views(frame, [None], size))[0]
    return vector


def _sweep_vector(encoder: Encoder, uri: str) -> Vector:
    """The vector of a LiDAR sweep. Raises NotFound for no such file, UsageError for no sweep."""
    try:
        data = read_bytes(uri)
        sweep = decode_sweep(data, sweep_format(PurePath(uri).name, data), uri)
    except BadInput as bad:
        raise _refused("sweep", bad) from bad
    vector: Vector = encode_sweeps(encoder, [sweep_points(sweep, encoder.input.size)])[0]
    return vector


def _refused(what: str, bad: BadInput) -> MinerError:
    return (NotFound if bad.reason == "missing-file" else UsageError)(f"{what} {bad.detail} ({bad.reason})")


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length):
        raise UsageError("the query's vector is not finite: the encoder gave NaN or infinity")
    if length < 1e-6:
        raise UsageError("the parts of the query cancel each other out")
    unit: Vector = (vector / length).astype(np.float32)
    return unit


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
