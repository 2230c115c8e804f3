"""What is searched: an index and the clips its rows are in, as they were when it was loaded."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property

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
from miner.kept import Kept
from miner.query.evaluate import Evaluator
from miner.ranks import Ranks
from miner.schema import CLIPS
from miner.sound import Sound, check_manifests, readable
from miner.store import Store, one_of

Vector = NDArray[np.float32]
_CLIP = ["clip_id", "scene_id", "start_ns", "end_ns"]
_WORTH_SAYING = 100_000


@dataclass(frozen=True)
class Corpus:
    """An index and which clips its rows are in: pairs (row, clip), by row, then clip; clip -1 where a row is in none.

    `sound` reads what else an answer needs of the lake; it is None for a corpus of no lake. `kept` is what filters read
    and gave, for the next one.

    Loading it costs more than a search: who asks again keeps it. For several threads at once.
    """

    index: Index
    clips: pa.Table
    row: Ints
    clip: Ints
    sound: Sound | None = field(default=None, repr=False, compare=False)
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)
    evaluator: Evaluator = field(default_factory=Evaluator, repr=False, compare=False)

    @classmethod
    def load(cls, store: Store, encoder: str | None = None, modality: str | None = None) -> Corpus:
        """Vectors of the table that `choose_table` chooses, and clips, as they are now. Raises as it does."""
        return cls.of(store, choose_table(store, encoder, modality))

    @classmethod
    def of(cls, store: Store, table: str, notify: Callable[[str], None] = lambda message: None) -> Corpus:
        """Vectors of a table of embeddings, and clips, as they are now. `notify` is told of what takes seconds."""
        sound = Sound(store)
        count = store.count(table)
        if count >= _WORTH_SAYING:
            dim = int(store.schema(table).metadata[b"dim"])
            notify(f"loading {count:,} vectors of {table} ({count * dim * 4 / 1e9:.1f} GB), once for all searches")
        index = load_index(store, table, sound)
        clips = sound.scan("clips", _CLIP) if sound.has("clips") else CLIPS.empty_table().select(_CLIP)
        clips = clips.sort_by([("scene_id", "ascending"), ("start_ns", "ascending"), ("clip_id", "ascending")])
        row, clip = _join(index.rows, clips)
        return cls(index, clips.combine_chunks(), row, clip, sound)

    def beside(self, store: Store) -> Corpus:
        """The same vectors and clips, with all else as `store` has it."""
        again = copy(self)  # with what was worked out of vectors and clips
        object.__setattr__(again, "sound", self.sound and self.sound.of(store))
        object.__setattr__(again, "kept", Kept())
        return again

    @property
    def asked(self) -> Sound:
        """The lake behind the corpus. Raises NotFound where there is none."""
        if self.sound is None:
            raise NotFound("this corpus is of no lake, so there is nothing to filter by")
        return self.sound

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever gets an answer should know: of damaged files, and of the index."""
        return tuple(dict.fromkeys((*self.asked.notes, *self.index.notes)))

    @cached_property
    def readings(self) -> Ranks:
        """The reading of each row."""
        return Ranks.of(self.index.rows["sample_data_id"])

    @cached_property
    def views(self) -> int:
        """How many rows a reading has, about, at least one."""
        return -(-len(self.readings.rank) // (int(self.readings.rank.max(initial=0)) + 1)) or 1

    @cached_property
    def clip_ids(self) -> Ranks:
        """The id of each clip."""
        return Ranks.of(self.clips["clip_id"])

    @cached_property
    def all_in_clips(self) -> bool:
        """Whether every row is in a clip."""
        return not len(self.clip) or int(self.clip.min()) >= 0

    @cached_property
    def pairs_are_rows(self) -> bool:
        """Whether every row is in one pair, the one with its number, as where no two clips share a frame."""
        return bool(np.array_equal(self.row, np.arange(len(self.index.rows))))

    def pairs_of_rows(self, rows: Ints) -> tuple[Ints, Ints]:
        """The pairs of some rows: the place of each in `rows`, and its number."""
        return _in_order(self.row, rows)

    def pairs_of_clips(self, clips: Ints) -> Ints:
        """The numbers of the pairs of some clips."""
        return self._by_clip[_in_order(self.clip, clips, self._by_clip)[1]]

    @cached_property
    def _by_clip(self) -> Ints:
        return np.argsort(self.clip, kind="stable")


def _in_order(values: Ints, wanted: Ints, order: Ints | None = None) -> tuple[Ints, Ints]:
    """Where each of `wanted` is in `values`, in `order`, with repeats: its place in `wanted`, and that in order."""
    first = np.searchsorted(values, wanted, side="left", sorter=order)
    counts = np.searchsorted(values, wanted, side="right", sorter=order) - first
    which = np.repeat(np.arange(len(wanted)), counts)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, first[which] + offset


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
    alone = np.flatnonzero(np.bincount(row, minlength=len(rows)) == 0)
    if not len(alone):
        return row, clip  # in order already
    row, clip = np.concatenate([row, alone]), np.concatenate([clip, np.full(len(alone), -1)])
    order = np.lexsort((clip, row))
    return row[order], clip[order]


def _codes(names: pa.ChunkedArray, known: pa.Array) -> Ints:
    codes: Ints = pc.fill_null(pc.index_in(names, known), -1).to_numpy().astype(np.int64)
    return codes
