"""What mining looks at: clips as vectors of each encoder, when and where they were recorded, and how much driving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Ints, Spans, instants, overlaps
from miner.corpus import Corpus, Vector, choose_table
from miner.errors import NotFound
from miner.sound import Sound
from miner.store import Store

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_SAME_BITS = 10  # of 64: near-duplicates (see `kernels.image.perceptual_hash`)
_EARLIEST_NS = 946_684_800 * 10**9  # the year 2000: clocks that show less count from the start of the recording


@dataclass(frozen=True)
class Footage:
    """Clips (n,) by start time, then id.

    `vectors` by encoder: unit float32 (n, dim), rows of zeros for clips without one. `place` (n, 3) metres and `metres`
    (n,) driven are NaN where no pose is known. `continues` (n,): no picture of the clip differs from the one before it,
    the first one from the last of the clip before. `scene` (n,) numbers `scene_ids`.
    """

    clip_ids: pa.Array
    scene_ids: pa.Array
    scene: Ints
    start_ns: Ints
    end_ns: Ints
    vectors: Mapping[str, Vector]
    place: Floats
    metres: Floats
    continues: Bools

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def encoders(self) -> tuple[str, ...]:
        """Their names; the first one's vectors are asked first."""
        return tuple(self.vectors)

    @property
    def seconds(self) -> Floats:
        """Length of each clip (n,)."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def clock(self) -> Bools:
        """Whether a clip's times are those of a calendar (n,), so that clips of different recordings compare."""
        return self.start_ns >= _EARLIEST_NS

    def has(self, encoder: str) -> Bools:
        """Which clips have a vector of an encoder (n,)."""
        return np.asarray(self.vectors[encoder].any(axis=1))

    def take(self, rows: Ints) -> Footage:
        """Some of the clips, in the order of `rows`."""
        return Footage(
            self.clip_ids.take(pa.array(rows)),
            self.scene_ids,
            self.scene[rows],
            self.start_ns[rows],
            self.end_ns[rows],
            {name: vectors[rows] for name, vectors in self.vectors.items()},
            self.place[rows],
            self.metres[rows],
            self.continues[rows],
        )


def mined_tables(store: Store, encoders: Sequence[str] = ()) -> list[str]:
    """The embeddings tables to mine: of `encoders`, else of the cameras' and of the LiDAR's, as far as there are any.

    Raises as `miner.corpus.choose_table`.
    """
    if encoders:
        return [choose_table(store, encoder) for encoder in encoders]
    tables = []
    for modality in ("camera", "lidar"):
        try:
            tables.append(choose_table(store, None, modality))
        except NotFound:
            continue
    return tables or [choose_table(store, None)]


def load_footage(store: Store, corpora: Mapping[str, Corpus]) -> Footage:
    """The clips that have vectors, of the corpora by encoder. Raises NotFound where no clip has any."""
    clips = next(iter(corpora.values())).clips
    vectors = {name: clip_vectors(corpus, clips) for name, corpus in corpora.items()}
    there = np.zeros(len(clips), np.bool_)
    for each in vectors.values():
        there |= each.any(axis=1)
    if not there.any():
        raise NotFound(
            f"no clip has vectors of {', '.join(map(repr, corpora))}", "Run: miner cut LAKE, miner embed LAKE"
        )
    ids = clips["clip_id"].to_numpy().astype(str)
    starts = clips["start_ns"].to_numpy()
    rows = np.flatnonzero(there)
    rows = rows[np.lexsort((ids[rows], starts[rows]))]
    scenes = clips["scene_id"].combine_chunks().dictionary_encode()
    sound = next(iter(corpora.values())).sound or Sound(store)
    place, metres = _driven(sound, clips, scenes)
    whole = Footage(
        clips["clip_id"].combine_chunks(),
        scenes.dictionary,
        scenes.indices.to_numpy().astype(np.int64),
        starts,
        clips["end_ns"].to_numpy(),
        vectors,
        place,
        metres,
        _continues(sound, clips, scenes),
    )
    return whole.take(rows)


def clip_vectors(corpus: Corpus, clips: pa.Table) -> Vector:
    """The vector of each clip, unit float32 (n, dim): the mean of its whole frames, else of its tiles.

    Zeros for a clip without vectors.
    """
    order = np.argsort(corpus.clip, kind="stable")
    order = order[corpus.clip[order] >= 0]
    row, clip = corpus.row[order], corpus.clip[order]
    whole = pc.is_null(corpus.index.rows["region"]).to_numpy().astype(np.bool_)[row]
    kept = whole | ~np.isin(clip, clip[whole])
    row, clip = row[kept], clip[kept]
    sums = np.zeros((len(corpus.clips), corpus.index.dim))
    if len(row):
        own, starts = np.unique(clip, return_index=True)
        sums[own] = np.add.reduceat(corpus.index.vectors(row), starts, axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    unit: Vector = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0).astype(np.float32)
    if clips is corpus.clips or clips["clip_id"].equals(corpus.clips["clip_id"]):
        return unit
    place = pc.index_in(clips["clip_id"], corpus.clips["clip_id"].combine_chunks())  # cut while the corpora were loaded
    known = pc.is_valid(place).to_numpy()
    found: Vector = np.where(known[:, None], unit[pc.fill_null(place, 0).to_numpy()], np.float32(0))
    return found


def _driven(sound: Sound, clips: pa.Table, scenes: pa.DictionaryArray) -> tuple[Floats, Floats]:
    """Mean place (n, 3) of the vehicle in each clip and the metres it drove (n,), NaN where poses are not known."""
    place, metres = np.full((len(clips), 3), np.nan), np.full(len(clips), np.nan)
    if not sound.has("sample_data"):
        return place, metres
    rows = sound.scan("sample_data", ["scene_id", "timestamp_ns", "global_SE3_ego"], "global_SE3_ego IS NOT NULL")
    rows = rows.filter(pc.is_in(rows["scene_id"], scenes.dictionary))
    if not len(rows):
        return place, metres
    at = pc.list_flatten(pc.struct_field(rows["global_SE3_ego"], "translation")).to_numpy().reshape(-1, 3)
    own = pc.index_in(rows["scene_id"], scenes.dictionary).to_numpy().astype(np.int64)
    order = np.lexsort((rows["timestamp_ns"].to_numpy(), own))
    at, own, times = at[order], own[order], rows["timestamp_ns"].to_numpy()[order]
    steps = np.zeros(len(at))
    steps[1:] = np.where(own[1:] == own[:-1], np.linalg.norm(np.diff(at, axis=0), axis=1), 0.0)
    reading, clip = overlaps(instants(times, own), _windows(clips, scenes))
    count = np.bincount(clip, minlength=len(clips)).astype(np.float64)
    known = count > 0
    for axis in range(3):
        place[known, axis] = np.bincount(clip, at[reading, axis], len(clips))[known] / count[known]
    metres[known] = np.bincount(clip, steps[reading], len(clips))[known]
    return place, metres


def _windows(clips: pa.Table, scenes: pa.DictionaryArray) -> Spans:
    return Spans(clips["start_ns"].to_numpy(), clips["end_ns"].to_numpy(), scenes.indices.to_numpy().astype(np.int64))


def _continues(sound: Sound, clips: pa.Table, scenes: pa.DictionaryArray) -> Bools:
    """Clips (n,) of which half of the cameras, rounded down, or one, see no more change than near-duplicates have."""
    still = np.zeros(len(clips), np.bool_)
    if not sound.has("assets") or not sound.has("sample_data"):
        return still
    hashed = sound.scan("assets", ["sample_data_id", "phash"], "phash IS NOT NULL")
    rows = sound.scan("sample_data", ["sample_data_id", "scene_id", "channel", "timestamp_ns"], "modality = 'camera'")
    place = pc.index_in(rows["sample_data_id"], hashed["sample_data_id"].combine_chunks())
    rows = rows.append_column("phash", hashed["phash"].take(place))
    rows = rows.filter(pc.and_(pc.is_valid(place), pc.is_in(rows["scene_id"], scenes.dictionary)))
    own = pc.index_in(rows["scene_id"], scenes.dictionary).to_numpy().astype(np.int64)
    channel = rows["channel"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    times, hashes = rows["timestamp_ns"].to_numpy(), rows["phash"].to_numpy()
    order = np.lexsort((times, channel, own))
    own, channel, times, hashes = own[order], channel[order], times[order], hashes[order]
    bits = np.full(len(hashes), 64)
    same = (own[1:] == own[:-1]) & (channel[1:] == channel[:-1])
    bits[1:] = np.where(same, np.bitwise_count(hashes[1:] ^ hashes[:-1]), 64)
    reading, clip = overlaps(instants(times, own), _windows(clips, scenes))
    most: dict[tuple[int, int], int] = {}
    for of, seen_by, differ in zip(clip.tolist(), channel[reading].tolist(), bits[reading].tolist(), strict=True):
        most[of, seen_by] = max(most.get((of, seen_by), 0), differ)
    cameras: dict[int, list[int]] = {}
    for (of, _), differ in most.items():
        cameras.setdefault(of, []).append(differ)
    for of, each in cameras.items():
        still[of] = sorted(each)[(len(each) - 1) // 2] <= _SAME_BITS
    return still
