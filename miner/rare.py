"""The rarest events of a lake as hits: the scores of its clips, a hit an event (or a clip), and why each is rare."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.spans import Ints
from miner.corpus import Corpus
from miner.errors import UnknownName, UsageError
from miner.exposure import conditions_of
from miner.files import index_id
from miner.footage import Bools, Floats, Footage
from miner.hits import Hit, Hits
from miner.query.filters import parse_filter
from miner.query.matching import passing
from miner.query.plan import Ranked
from miner.scarcity import Estimate
from miner.search import MAX_K, described
from miner.sound import Sound
from miner.store import Store, quoted
from miner.why import Events, categories_of

BY = ("event", "clip")


@dataclass(frozen=True)
class Scored:
    """The clips of a lake with the event and the rarity of each: what is asked. `corpora` by encoder."""

    corpora: Mapping[str, Corpus]
    footage: Footage
    leader: Ints
    rarity: Estimate
    scorer: str
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Corpus:
        """The corpus whose readings are shown where a clip has several."""
        return next(iter(self.corpora.values()))


def rare(store: Store, scored: Scored, k: int = 20, by: str = "event", where: str | None = None) -> Hits:
    """The `k` rarest events (or clips) of those with a clip that matches `where`, the rarest first, then by clip id.

    The score of a hit is its rarity, 0 to 1; its evidence the limits of the rarity, by encoder how many times as far
    from the nearest common event as is usual, and the rates of events alike (see `Events.rates`). An event is shown by
    its first clip that matches. Raises UsageError for limits.
    """
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
        raise UsageError(f"k = {k!r}: expected a whole number from 1 to {MAX_K:,}")
    if by not in BY:
        raise UnknownName.of("by", by, BY)
    started = time.perf_counter()
    ids = np.array(scored.footage.clip_ids.to_pylist())
    value = scored.rarity.value
    allowed = np.isfinite(value) & _matching(scored, where)
    order = np.lexsort((ids, ids[scored.leader], -value))
    order = order[allowed[order]]
    if by == "event":
        _, first = np.unique(scored.leader[order], return_index=True)
        order = order[np.sort(first)]
        earliest = {int(scored.leader[row]): int(row) for row in np.flatnonzero(allowed)[::-1]}
        order = np.array([earliest[int(scored.leader[row])] for row in order], np.int64)
    best = order[:k]
    sound = scored.first.sound or Sound(store)
    query = {"verb": "rare", "k": k, "by": by, "per": by, "where": where, "scorer": scored.scorer}
    return Hits(
        lake=store.uri,
        query=query,
        encoder=" + ".join(scored.corpora),
        index_id=index_id(scored.first),
        table_version=scored.first.index.table_version,
        elapsed_ms=round((time.perf_counter() - started) * 1e3, 3),
        hits=_hits(store, scored, best, sound),
        notes=tuple(dict.fromkeys((*scored.notes, *(note for each in scored.corpora.values() for note in each.notes)))),
    )


def events_of(scored: Scored, sound: Sound) -> Events:
    """The events behind the clips, with what is known of each."""
    footage, leader = scored.footage, scored.leader
    heads = np.unique(leader)
    place = np.searchsorted(heads, leader)
    metres = footage.metres
    return Events(
        footage.take(heads),
        scored.rarity.value[heads],
        np.bincount(place).astype(np.int64),
        np.asarray(np.bincount(place, footage.seconds), np.float64),
        categories_of(sound, footage.clip_ids, leader),
        float(footage.seconds.sum()),
        float(np.nansum(metres)) if np.isfinite(metres).any() else float("nan"),
        conditions_of(sound, footage, leader),
    )


def _matching(scored: Scored, where: str | None) -> Bools:
    """Which clips have a row that passes the filter (n,)."""
    matching = np.full(len(scored.footage), where is None)
    if where is not None:
        parsed = parse_filter(where)
        for corpus in scored.corpora.values():
            clips = np.unique(corpus.clip[passing(corpus, parsed)])
            ids = corpus.clips["clip_id"].take(pa.array(clips[clips >= 0]))
            matching |= pc.is_in(scored.footage.clip_ids, ids.combine_chunks()).to_numpy(zero_copy_only=False)
    return matching


def _hits(store: Store, scored: Scored, best: Ints, sound: Sound) -> tuple[Hit, ...]:
    """Clips as hits, each shown by the row that is least like what is common, of the encoder that finds it so."""
    if not len(best):
        return ()
    events = events_of(scored, sound)
    place = np.searchsorted(np.unique(scored.leader), scored.leader[best])
    reasons = [events.reason(int(row)) for row in place]
    scenes = {row["scene_id"]: row["name"] for row in sound.scan("scenes", ["scene_id", "name"]).to_pylist()}
    hits = []
    for rank, (row, event, reason) in enumerate(zip(best, place, reasons, strict=True), 1):
        encoder = _shown_by(scored, int(row), reason.distance)
        corpus = scored.corpora[encoder]
        common = events.footage.vectors[encoder][reason.neighbours]
        rows, clip = _rows_of(corpus, scored.footage.clip_ids[int(row)].as_py())
        likeness = corpus.index.vectors(rows) @ (common.mean(axis=0) if len(common) else 0 * common.sum(axis=0))
        odd = rows[int(np.argmin(likeness))]
        score = np.float32(scored.rarity.value[row])
        [hit] = described(store, corpus, Ranked(np.array([odd]), np.array([clip]), np.array([score])))
        limits = {"low": float(scored.rarity.low[row]), "high": float(scored.rarity.high[row])}
        hits.append(
            replace(
                hit,
                rank=rank,
                score=float(scored.rarity.value[row]),
                evidence=limits | reason.distance | events.rates(reason),
                why=events.told(int(event), reason, scenes),
            )
        )
    return tuple(hits)


def _shown_by(scored: Scored, row: int, distance: Mapping[str, float]) -> str:
    """The encoder to whom a clip is most unusual, of those that saw it."""
    seen = [name for name in scored.corpora if scored.footage.vectors[name][row].any()]
    return max(seen, key=lambda name: (distance.get(name, 0.0), -seen.index(name)))


def _rows_of(corpus: Corpus, clip_id: str) -> tuple[Ints, int]:
    """The rows of a clip that its vector is of (whole frames, else tiles), and its number in the corpus."""
    clip = int(pc.index(corpus.clips["clip_id"], clip_id).as_py())
    rows = corpus.row[corpus.clip == clip]
    whole = rows[pc.is_null(corpus.index.rows["region"].take(pa.array(rows))).to_numpy().astype(np.bool_)]
    return (whole if len(whole) else rows), clip


def read_scores(store: Store, sound: Sound, footage: Footage, scorer: str) -> Estimate:
    """The stored scores (n,) of the clips, NaN for a clip without one."""
    rows = sound.scan("scores", ["clip_id", "value", "low", "high"], f"scorer = {quoted(scorer)}")
    place = pc.index_in(footage.clip_ids, rows["clip_id"].combine_chunks())
    found: list[Floats] = [_filled(rows[name], place) for name in ("value", "low", "high")]
    return Estimate(*found)


def read_events(sound: Sound, footage: Footage) -> Ints:
    """The row of the leader of each clip's event, as the table `events` says; a clip it does not know is its own."""
    rows = sound.scan("events", ["clip_id", "event_id"])
    events = rows["event_id"].take(pc.index_in(footage.clip_ids, rows["clip_id"].combine_chunks()))
    place = pc.index_in(events, footage.clip_ids)
    own = pa.array(np.arange(len(footage)), pa.int32())
    return np.asarray(pc.coalesce(place, own).to_numpy(), np.int64)


def _filled(column: pa.ChunkedArray, place: pa.Array) -> Floats:
    found: Floats = pc.fill_null(column.take(place).cast(pa.float64()), float("nan")).to_numpy().astype(np.float64)
    return found
