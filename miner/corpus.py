"""What is searched: an index and the clips its rows are in; what passes a filter; the best of each clip or frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embeddings.encoder import slug
from kernels.spans import Ints, Spans, instants, overlaps
from miner.embed import DEFAULT_ENCODERS
from miner.errors import NotFound, UsageError
from miner.indexes import Index
from miner.indexes.load import load_index
from miner.query.filters import CLIP_COLUMNS, Filter
from miner.schema import CLIPS
from miner.sound import Sound, check_manifests, readable
from miner.store import Store, one_of

Vector = NDArray[np.float32]
_CLIP = ["clip_id", "scene_id", "start_ns", "end_ns"]


@dataclass(frozen=True)
class Corpus:
    """An index and which clips its rows are in: pairs (row, clip), by row; clip -1 where a row is in none.

    `sound` reads what else an answer needs of the lake; it is None for a corpus of no lake.

    Loading it costs more than a search: who asks again keeps it.
    """

    index: Index
    clips: pa.Table
    row: Ints
    clip: Ints
    sound: Sound | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, store: Store, encoder: str | None = None, modality: str | None = None) -> Corpus:
        """Vectors of the table that `choose_table` chooses, and clips, as they are now. Raises as it does."""
        return cls.of(store, choose_table(store, encoder, modality))

    @classmethod
    def of(cls, store: Store, table: str) -> Corpus:
        """Vectors of a table of embeddings, and clips, as they are now."""
        sound = Sound(store)
        index = load_index(store, table, sound)
        clips = sound.scan("clips", _CLIP) if sound.has("clips") else CLIPS.empty_table().select(_CLIP)
        clips = clips.sort_by([("scene_id", "ascending"), ("start_ns", "ascending"), ("clip_id", "ascending")])
        row, clip = _join(index.rows, clips)
        return cls(index, clips, row, clip, sound)


def choose_table(store: Store, encoder: str | None, modality: str | None = None) -> str:
    """The embeddings table of `encoder`, or the only one for readings of `modality` (if None: of cameras, else LiDAR).

    Raises NotFound with the command that would make it; UsageError where there are several to choose from, or where
    the encoder's are of another modality.
    """
    with readable(store):
        tables = store.vector_tables()
        check_manifests(store, tables)
        of = {table: (_said(store, table, "encoder"), _said(store, table, "modality")) for table in tables}
    encoder = encoder or _only_encoder(store, of, modality)
    table = f"embeddings/{slug(encoder)}"
    if of.get(table, ("", ""))[0] != encoder:
        known = ", ".join(sorted(name for name, _ in of.values())) or "none"
        hint = f"Encoders with vectors: {known}. Make them with: miner embed LAKE --encoder {encoder}"
        raise NotFound(f"{store.uri} has no vectors of encoder {encoder!r}", hint)
    if modality not in (None, of[table][1]):
        message = f"encoder {encoder!r} has vectors of {of[table][1]} readings, the query is for {modality}"
        raise UsageError(message, "Leave out --encoder, or name another.")
    if not store.count(table):
        raise _none_found(store, of[table][1], f" --encoder {encoder}")
    return table


def _only_encoder(store: Store, of: dict[str, tuple[str, str]], modality: str | None) -> str:
    wanted = modality or ("camera" if any(kind == "camera" for _, kind in of.values()) else "lidar")
    names = sorted(name for name, kind in of.values() if kind == wanted)
    if len(names) > 1:
        raise UsageError(
            f"the lake has vectors of several {wanted} encoders: {', '.join(names)}", "Choose one with --encoder NAME."
        )
    if not names:
        raise _none_found(store, modality)
    return names[0]


def _none_found(store: Store, modality: str | None, option: str = "") -> NotFound:
    """Why a lake has no vectors of a modality (None: none at all)."""
    if modality and store.count("sample_data") and not store.count("sample_data", one_of("modality", [modality])):
        return NotFound(f"{store.uri} has no {modality} readings", "What it has: miner ls LAKE")
    if modality not in (None, *DEFAULT_ENCODERS):
        return NotFound(f"no encoder takes {modality} readings: {store.uri} has no vectors of them")
    what = f"vectors of {modality} readings" if modality else "vectors"
    return NotFound(f"{store.uri} has no {what} yet", f"Make them with: miner embed LAKE{option}")


def _said(store: Store, table: str, key: str) -> str:
    said: bytes = store.schema(table).metadata[key.encode()]
    return said.decode()


def _join(rows: pa.Table, clips: pa.Table) -> tuple[Ints, Ints]:
    """Pairs (row, clip) where the row's time falls in the clip; (row, -1) for the others."""
    scenes = clips["scene_id"].unique()
    times = instants(rows["timestamp_ns"].to_numpy(), _codes(rows["scene_id"], scenes))
    windows = Spans(clips["start_ns"].to_numpy(), clips["end_ns"].to_numpy(), _codes(clips["scene_id"], scenes))
    row, clip = overlaps(times, windows)
    alone = np.setdiff1d(np.arange(len(rows)), row)
    row, clip = np.concatenate([row, alone]), np.concatenate([clip, np.full(len(alone), -1)])
    order = np.lexsort((clip, row))
    return row[order], clip[order]


def _codes(names: pa.ChunkedArray, known: pa.Array) -> Ints:
    codes: Ints = pc.fill_null(pc.index_in(names, known), -1).to_numpy().astype(np.int64)
    return codes


def passing(store: Store, corpus: Corpus, where: Filter) -> NDArray[np.bool_]:
    """Which pairs pass the filter. Columns of the clip are null for a row that is in no clip."""
    of_reading = [name for name in where.columns if name in corpus.index.rows.column_names]
    facts = _clip_rows(store, corpus, where)
    if not of_reading:
        return where.mask(facts)[corpus.clip]
    table = facts.drop_columns([name for name in of_reading if name in facts.column_names]).take(
        np.where(corpus.clip < 0, len(facts) - 1, corpus.clip)
    )
    for name in of_reading:
        table = table.append_column(name, corpus.index.rows[name].take(corpus.row))
    return where.mask(table)


def _clip_rows(store: Store, corpus: Corpus, where: Filter) -> pa.Table:
    """The clip columns of the filter for each clip of the corpus, and a last row of nulls for no clip."""
    number = pa.array([*range(len(corpus.clips)), None], pa.int64())
    if not where.categories and not set(where.columns) & (set(CLIP_COLUMNS) - {"scene_id"}):
        return pa.table({"clip": number})
    sound = corpus.sound or Sound(store)
    if not sound.has("clip_facts"):
        raise NotFound(f"{store.uri} has no clip_facts, which the filter needs", "Make them with: miner index LAKE")
    wanted = [name for name in where.columns if name in CLIP_COLUMNS] + (["categories"] if where.categories else [])
    facts = sound.scan("clip_facts", sorted({*wanted, "clip_id"}))
    place = pc.index_in(corpus.clips["clip_id"], facts["clip_id"].combine_chunks())
    return (
        where.clip_columns(facts)
        .append_column("clip", pa.nulls(len(facts), pa.int64()))
        .take(pa.concat_arrays([place.combine_chunks(), pa.nulls(1, pa.int32())]))
    )


class Ranked(NamedTuple):
    """Rows of an index, the clip of each (-1 for none) and its score."""

    row: Ints
    clip: Ints
    score: Vector

    def take(self, places: Ints) -> Ranked:
        """Some of them."""
        return Ranked(self.row[places], self.clip[places], self.score[places])


def best(corpus: Corpus, pairs: Ints, vector: Vector, k: int, per: str) -> Ranked:
    """The best of the `pairs` in each of the best k clips or frames, by score descending, then id of the group.

    More rows are fetched until k groups are there and all rows that tie with the k-th have been seen, or none is left.
    So they are exactly the best if the index is exact.
    """
    rows, clips = corpus.row[pairs], corpus.clip[pairs]
    mask = np.zeros(len(corpus.index.rows), np.bool_)
    mask[rows] = True
    available, fetch = int(mask.sum()), max(4 * k, 64)
    limit = None if available == len(mask) else mask
    while available:
        found, scores = (each[0] for each in corpus.index.search(vector[None], fetch, limit))
        candidates = _candidates(found, scores, rows, clips)
        winners = _winners(corpus, candidates, per)
        done = len(winners.row) >= k and scores[-1] < winners.score[k - 1]
        if done or len(found) >= available:
            return winners.take(np.arange(min(k, len(winners.row))))
        fetch *= 4
    return Ranked(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def _candidates(found: Ints, scores: Vector, rows: Ints, clips: Ints) -> Ranked:
    """Found rows with each clip they are in: `rows`, sorted, and `clips` are the allowed pairs."""
    first = np.searchsorted(rows, found, side="left")
    counts = np.searchsorted(rows, found, side="right") - first
    which = np.repeat(np.arange(len(found)), counts)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Ranked(found[which], clips[first[which] + offset], scores[which])


def _winners(corpus: Corpus, candidates: Ranked, per: str) -> Ranked:
    """The best candidate of each clip or frame, by score, then id; within one by score, then ids of reading and row."""
    table = corpus.index.rows.select(["sample_data_id", "embedding_id"]).take(candidates.row)
    readings, rows = (table[name].to_numpy() for name in table.column_names)
    names = readings if per == "frame" else corpus.clips["clip_id"].take(candidates.clip).to_numpy()
    order = np.lexsort((candidates.clip, rows.astype(str), readings.astype(str), names.astype(str), -candidates.score))
    _, first = np.unique(names[order].astype(str), return_index=True)
    return candidates.take(order[np.sort(first)])
