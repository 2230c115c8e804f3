"""Duplicates: which clips stand for which. Nothing is deleted.

Two clips are duplicates if they are the same bytes (*exact*), the same pictures and sweeps but for their coding
(*near*: perceptual hashes, and vectors of sweeps), or within `eps` of one another in the space of every encoder that
saw both (*semantic*). What is kept is a maximal independent set of that graph, greedy by quality: every removed clip
has a kept duplicate, no two kept are duplicates; both are checked on every run. The rule of SemDeDup (Abbas et al.
2023: drop what is near any earlier item, kept or not) is counted beside it, over the same graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.independent_set import Kept
from kernels.spans import Ints
from kernels.thinning import Edges, Space, faults, near_pairs, thin
from miner.dedup_shards import Asked, Work
from miner.errors import MinerError, UsageError
from miner.events import near_distances
from miner.footage import Floats, Footage
from miner.pictures import Pictures, exact_pairs, pictures_of, recoded_pairs
from miner.rarity import whole_footage
from miner.schema import DUPLICATES
from miner.scratch import Scratch, sweep
from miner.semdedup import SemDedup, semdedup
from miner.sound import Sound
from miner.stage import Output, Part, Reduction
from miner.store import Store

_SAME_SWEEP = 0.1  # of what is near: the noise of recoding
_ROUNDING = 1e-6  # of the inner product of a float32 vector with itself
SHARD = 20_000
KINDS = ("exact", "near", "semantic")
Keep = Literal["quality", "labels", "first"]


@dataclass(frozen=True)
class Rule:
    """How to judge: `eps` cosine distance (None: what is near to each encoder, see `miner.events`), which of duplicates
    to `keep`. Raises UsageError for values out of limits."""

    eps: float | None = None
    keep: Keep = "quality"

    def __post_init__(self) -> None:
        if self.eps is not None and not 0 <= self.eps < 1:
            raise UsageError(f"eps = {self.eps}: expected a cosine distance from 0 to below 1")
        if self.keep not in get_args(Keep):
            raise UsageError(f"keep = {self.keep!r}", f"Known: {', '.join(get_args(Keep))}")


@dataclass(frozen=True)
class Thinned:
    """What became of the clips of a footage: `kept` and who stands for whom, why, and that the promises hold.

    `eps` by encoder. `kind` (n,) numbers KINDS, -1 for a kept clip; `distance` (n,) is that to the clip that stands for
    it, the largest of all encoders'.
    """

    footage: Footage = field(repr=False)
    kept: Kept = field(repr=False)
    eps: Mapping[str, float]
    kind: Ints = field(repr=False)
    distance: Floats = field(repr=False)
    uncovered: int
    close: int
    semdedup: SemDedup

    def rows(self) -> pa.Table:
        """The table `duplicates`: the removed clips."""
        return duplicate_rows(*_ids(self.footage), self.kept, self.kind, self.distance)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        kinds = {name: int((self.kind == place).sum()) for place, name in enumerate(KINDS)}
        return {
            "clips": len(self.footage),
            "kept": int(self.kept.kept.sum()),
            "removed": kinds,
            "eps": dict(self.eps),
            "guarantee": {
                "removed_without_a_kept_duplicate": self.uncovered,
                "kept_that_are_duplicates": self.close,
                "holds": not (self.uncovered or self.close),
            },
            "semdedup": self.semdedup._asdict(),
        }


@dataclass(frozen=True)
class DedupReduction(Reduction):
    """`duplicates`: the clips that another one stands for.

    More than `shard` clips are judged that many at a time, anywhere (`work` is what has been laid out and done).
    """

    tables: tuple[str, ...]
    rule: Rule = Rule()
    shard: int = SHARD
    work: Work | None = None
    name = "dedup"
    output = Output("duplicates", DUPLICATES, None)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.tables, "clips", "sample_data", "assets", "clip_facts")

    @property
    def settings(self) -> str:  # type: ignore[override]
        return repr(self.rule)

    @property
    def divided(self) -> bool:  # type: ignore[override]
        return self.work is None or self.work.settled < self.work.shards

    def begin(self, store: Store) -> tuple[Reduction, Sequence[Part]]:
        work = self.work
        if work is None:
            if store.count("clips") <= self.shard:
                return self, ()
            question = _Question.of(store, whole_footage(store, self.tables), self.rule)
            work = Work.begun(Scratch.fresh(store, self.output.table), question.asked, self.shard)
        work, parts = work.next()
        return replace(self, work=work), parts

    def compute(self, store: Store) -> pa.Table:
        """The removed clips; that the promises hold is looked at by whoever reads the table: see `stored`."""
        if self.work is not None:
            asked, kept = self.work.merged()
        else:
            asked = _Question.of(store, whole_footage(store, self.tables), self.rule).asked
            kept = thin(asked.spaces, asked.order, _edges(asked.same))
        return duplicate_rows(asked.ids, asked.scenes, kept, *_kinds(kept, asked.spaces, asked.same))

    def end(self, store: Store) -> None:
        sweep(store, self.output.table)


@dataclass(frozen=True)
class _Question:
    """What is asked of a footage: duplicates are near in the `spaces`, or by the edges of the same bytes or pictures.

    `order` (n,) is by value: of duplicates the first is kept.
    """

    footage: Footage
    eps: Mapping[str, float]
    spaces: list[Space]
    same: tuple[Edges, Edges]
    order: Ints

    @classmethod
    def of(cls, store: Store, footage: Footage, rule: Rule) -> _Question:
        sound = Sound(store)
        near = near_distances(footage)
        eps = near if rule.eps is None else dict.fromkeys(footage.encoders, rule.eps)
        spaces = [Space(vectors, 1 - eps[name] - _ROUNDING) for name, vectors in footage.vectors.items()]
        pictures = pictures_of(sound, footage)
        same = exact_pairs(pictures), _same_pictures(footage, pictures, near)
        order = np.lexsort((np.arange(len(footage)), -_value(sound, footage, pictures, rule.keep)))
        return cls(footage, eps, spaces, same, order)

    @property
    def edges(self) -> Edges:
        """Pairs that are the same whatever the encoders say."""
        return _edges(self.same)

    @property
    def asked(self) -> Asked:
        """The same without the footage."""
        ids, scenes = _ids(self.footage)
        return Asked(ids, scenes, self.spaces, self.same, self.order)

    def checked(self, kept: Kept, kind: Ints, distance: Floats) -> Thinned:
        """The answer with its promises looked at, pair by pair. Raises MinerError where one does not hold."""
        wrong = faults(self.spaces, kept, self.edges)
        if len(wrong.uncovered) or len(wrong.close.left):
            raise MinerError(
                f"dedup broke its promise: {len(wrong.uncovered)} uncovered, {len(wrong.close.left)} close"
            )
        counted = semdedup(self.spaces, self.edges, self.order)
        return Thinned(self.footage, kept, self.eps, kind, distance, 0, 0, counted)


def thinned(store: Store, footage: Footage, rule: Rule) -> Thinned:
    """Judge the clips. Raises MinerError where the promises do not hold, which would be a fault of this program."""
    question = _Question.of(store, footage, rule)
    kept = thin(question.spaces, question.order, question.edges)
    return question.checked(kept, *_kinds(kept, question.spaces, question.same))


def stored(store: Store, footage: Footage, rule: Rule) -> Thinned:
    """What the table `duplicates` says of a footage, its promises looked at. Raises MinerError as `thinned`."""
    rows = store.scan("duplicates")
    place, keeper = (pc.index_in(rows[name], footage.clip_ids).to_numpy() for name in ("clip_id", "kept_id"))
    kept = Kept(np.ones(len(footage), np.bool_), np.arange(len(footage)))
    kept.kept[place], kept.keeper[place] = False, keeper
    kind, distance = np.full(len(footage), -1), np.zeros(len(footage))
    kind[place] = [KINDS.index(each) for each in rows["kind"].to_pylist()]
    distance[place] = rows["distance"].to_numpy()
    return _Question.of(store, footage, rule).checked(kept, kind, distance)


def duplicate_rows(ids: NDArray[Any], scenes: NDArray[Any], kept: Kept, kind: Ints, distance: Floats) -> pa.Table:
    """Rows of the table `duplicates`: of the clips with these ids and scenes (n,) those that are removed."""
    removed = np.flatnonzero(~kept.kept)
    columns = {
        "clip_id": pa.array(ids[removed].tolist(), pa.string()),
        "scene_id": pa.array(scenes[removed].tolist(), pa.string()),
        "kept_id": pa.array(ids[kept.keeper[removed]].tolist(), pa.string()),
        "kind": pa.array([KINDS[each] for each in kind[removed]], pa.string()),
        "distance": pa.array(distance[removed]),
    }
    return pa.table(columns, schema=DUPLICATES)


def _ids(footage: Footage) -> tuple[NDArray[Any], NDArray[Any]]:
    """The id and the scene of each clip."""
    scenes = footage.scene_ids.take(pa.array(footage.scene))
    return np.array(footage.clip_ids.to_pylist(), np.str_), np.array(scenes.to_pylist(), np.str_)


def _edges(same: tuple[Edges, Edges]) -> Edges:
    return Edges(*(np.concatenate([part[side] for part in same]) for side in range(2)))


def _same_pictures(footage: Footage, pictures: Pictures, near: Mapping[str, float]) -> Edges:
    """Clips of the same pictures, whose sweeps are the same too: to the encoders that saw both of them."""
    edges = recoded_pairs(pictures)
    same = np.ones(len(edges.left), np.bool_)
    for name, vectors in list(footage.vectors.items())[1:]:
        both = footage.has(name)[edges.left] & footage.has(name)[edges.right]
        space = Space(vectors, 1 - _SAME_SWEEP * near[name])
        same &= ~both | near_pairs([space], edges.left, edges.right)
    return Edges(edges.left[same], edges.right[same])


def _value(sound: Sound, footage: Footage, pictures: Pictures, keep: Keep) -> Floats:
    """What a clip is worth (n,): of duplicates the one that is worth most is kept, of equal ones the earliest."""
    sharp = np.nan_to_num(pictures.sharpness, nan=0.0)
    quality: Floats = sharp / (sharp.max(initial=0.0) + 1) - pictures.flagged  # below 1
    if keep == "first":
        return np.zeros(len(footage))
    if keep == "quality" or not sound.has("clip_facts"):
        return quality
    facts = sound.scan("clip_facts", ["clip_id", "categories"])
    labels = {row["clip_id"]: sum(each["count"] for each in row["categories"]) for row in facts.to_pylist()}
    counts = np.array([labels.get(name, 0) for name in footage.clip_ids.to_pylist()], np.float64)
    return np.asarray(counts + quality)


def _kinds(kept: Kept, spaces: Sequence[Space], same: tuple[Edges, Edges]) -> tuple[Ints, Floats]:
    """Why each clip is removed (n,), -1 for a kept one, and its distance (n,) to the one that stands for it."""
    rows = np.arange(len(kept.kept))
    kind = np.full(len(rows), 2)
    for place in (1, 0):
        pairs = {*zip(*map(np.ndarray.tolist, same[place]), strict=True)}
        listed = [(min(pair), max(pair)) in pairs for pair in zip(rows.tolist(), kept.keeper.tolist(), strict=True)]
        kind[np.array(listed, np.bool_)] = place
    distance = np.zeros(len(rows))
    for vectors, _ in spaces:
        both = vectors.any(axis=1) & vectors[kept.keeper].any(axis=1)
        own = 1 - np.einsum("ij,ij->i", vectors.astype(np.float64), vectors[kept.keeper])
        distance = np.maximum(distance, np.where(both, own, 0.0))
    return np.where(kept.kept, -1, kind), np.where(kept.kept, 0.0, distance)


def removed_ids(store: Store) -> pa.ChunkedArray:
    """The clips that another one stands for, as the table says; none where `dedup` never ran."""
    if not store.exists("duplicates"):
        return pa.chunked_array([], pa.string())
    return pc.unique(store.scan("duplicates", ["clip_id"])["clip_id"])
