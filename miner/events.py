"""Clips to events: near-duplicates, and the clips of one occasion, count once.

Driving data comes in bursts: a rare thing fills many clips that look alike. Two clips are of one event where they look
alike to every encoder that saw both, and nothing says that they are different occasions: they are of one drive and lie
close in time and place, or times and places do not tell them apart. Copies in other drives are of the event wherever
they are. Each event is held by its first clip, the *leader*; every other clip is near the leader itself, or, on one
drive, shows nothing that differs from picture to picture since: fog makes vectors wander. So nothing chains further
than time and place let it.

What is near follows from the data, so that every encoder has its own measure: a quarter of the cosine distance under
which 5 of 100 pairs of different drives lie. (Pairs of one event are few among all pairs, however large its burst.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.independent_set import independent_set
from kernels.neighbors import Pairs, radius_pairs, radius_pairs_between
from kernels.spans import Ints
from miner.corpus import Vector
from miner.footage import Bools, Floats, Footage
from miner.schema import EVENTS

_SAMPLE = 1_000
_PAIRS_AT, _OF_IT = 0.05, 0.25
_ROUNDING = 1e-6  # of the inner product of a float32 vector with itself
_COPY = 0.1  # of what is near: alike to the noise of recoding


@dataclass(frozen=True)
class Occasion:
    """What keeps alike clips apart: `gap_s` seconds, `gap_m` metres. On one drive an event lasts while the view of its
    leader does, within `gap_m` of it; without poses at most `longest_s`."""

    gap_s: float = 60.0
    gap_m: float = 200.0
    longest_s: float = 60.0


def near_distances(footage: Footage) -> dict[str, float]:
    """By encoder the cosine distance within which two clips are near-duplicates."""
    return {name: near_distance(vectors, footage.scene) for name, vectors in footage.vectors.items()}


def near_distance(vectors: Vector, scene: Ints) -> float:
    """A quarter of the 5 % quantile of the cosine distances between clips of different scenes.

    At least what rounding makes of equal vectors.

    From evenly spaced clips, at most 1,000: the same for the same clips in the same order.
    """
    rows = np.flatnonzero(vectors.any(axis=1))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(np.int64)] if len(rows) else rows
    wide = vectors[rows].astype(np.float64)
    apart = np.triu(scene[rows, None] != scene[None, rows])
    away = 1 - (wide @ wide.T)[apart]
    return max(float(np.quantile(away, _PAIRS_AT)) * _OF_IT if len(away) else 0.0, _ROUNDING)


def collapse(footage: Footage, near: Mapping[str, float], occasion: Occasion | None = None) -> Ints:
    """For each clip the row of its event's leader (n,): its own row for a leader. Leaders come first in `footage`."""
    occasion = occasion or Occasion()
    leader = along_drives(footage, near, occasion)
    heads = footage.take(np.flatnonzero(leader == np.arange(len(leader))))
    pairs = near_pairs(heads.vectors, near)
    return across_drives(leader, heads, pairs, distances_of(heads.vectors, near, pairs), occasion)


def across_drives(leader: Ints, heads: Footage, pairs: Pairs, distance: Floats, occasion: Occasion) -> Ints:
    """Leaders (n,) over all drives: of those within drives, the `heads`, the greedy independent set of those alike.

    `pairs` of heads are near to all encoders; `distance` (p,) by how much, of what is near to the strictest.
    """
    other_drive = heads.scene[pairs.left] != heads.scene[pairs.right]
    one = other_drive & ((distance <= _COPY) | ~_apart(heads, pairs.left, pairs.right, occasion))
    kept = independent_set(Pairs(pairs.left[one], pairs.right[one], pairs.scores[one]), len(heads))
    rows = np.flatnonzero(leader == np.arange(len(leader)))
    place = np.empty(len(leader), np.int64)
    place[rows] = rows[np.asarray(kept.keeper)]
    return place[leader]


def event_rows(clip_ids: pa.Array, scene_ids: pa.Array, leader: Ints) -> pa.Table:
    """The table `events`: which event each clip (n,), of these scenes, is of."""
    columns = {"clip_id": clip_ids, "scene_id": scene_ids, "event_id": clip_ids.take(pa.array(leader))}
    return pa.table(columns, schema=EVENTS)


def along_drives(footage: Footage, near: Mapping[str, float], occasion: Occasion) -> Ints:
    """Leaders (n,) within each scene: a clip joins the event of the clip before it while it is near its leader, or goes
    on with the same picture."""
    leader = np.arange(len(footage))
    order = np.lexsort((np.arange(len(footage)), footage.start_ns, footage.scene))
    for before, row in pairwise(order):
        head = leader[before]
        if footage.scene[head] != footage.scene[row]:
            continue
        if not footage.continues[row] and not _alike(footage, near, head, row):
            continue
        if footage.start_ns[row] - footage.end_ns[before] > occasion.gap_s * 1e9:
            continue
        moved = float(np.linalg.norm(footage.place[row] - footage.place[head]))
        lasted_s = (footage.end_ns[row] - footage.start_ns[head]) / 1e9
        if moved <= occasion.gap_m or (np.isnan(moved) and lasted_s <= occasion.longest_s):
            leader[row] = head
    return leader


def _alike(footage: Footage, near: Mapping[str, float], one: int, other: int) -> bool:
    """Whether two clips are near to every encoder that saw both, and one did."""
    seen = False
    for name, vectors in footage.vectors.items():
        left, right = vectors[one].astype(np.float64), vectors[other].astype(np.float64)
        if left.any() and right.any():
            seen = True
            if 1 - float(left @ right) > near[name]:
                return False
    return seen


def near_pairs(vectors: Mapping[str, Vector], near: Mapping[str, float], split: int | None = None) -> Pairs:
    """Pairs of clips that are near to every encoder that saw both; scores of the first one that did.

    With `split` only those of a row before it and one from it on: of two shards.
    """
    found: list[Pairs] = []
    has = {name: np.asarray(each.any(axis=1)) for name, each in vectors.items()}
    for number, name in enumerate(vectors):
        for left, right, scores in _near(vectors[name], np.flatnonzero(has[name]), 1 - near[name], split):
            new = np.ones(len(left), np.bool_)
            for place, other in enumerate(vectors):
                both = has[other][left] & has[other][right]
                if place < number:
                    new &= ~both
                elif place > number:
                    new &= ~both | (1 - _products(vectors[other], left, right) <= near[other])
            found.append(Pairs(left[new], right[new], scores[new]))
    none = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    return Pairs(*(np.concatenate([none[side], *(part[side] for part in found)]) for side in range(3)))


def _near(vectors: Vector, rows: Ints, min_score: float, split: int | None) -> Iterator[Pairs]:
    """Pairs of these rows, or of those before `split` with those from it on."""
    first, second = (rows, rows) if split is None else (rows[rows < split], rows[rows >= split])
    if not len(first) or not len(second):
        return
    if split is None:
        parts = radius_pairs(vectors[rows], min_score)
    else:
        parts = radius_pairs_between(vectors[first], vectors[second], min_score)
    for part in parts:
        yield Pairs(first[part.left], second[part.right], part.scores)


def distances_of(vectors: Mapping[str, Vector], near: Mapping[str, float], pairs: Pairs) -> Floats:
    """How far pairs are apart (p,), of what is near: to the encoder to which that is the most."""
    distance = np.zeros(len(pairs.left))
    for name, each in vectors.items():
        has = np.asarray(each.any(axis=1))
        own = 1 - _products(each, pairs.left, pairs.right)
        both = has[pairs.left] & has[pairs.right]
        distance = np.maximum(distance, np.where(both, own / max(near[name], 1e-12), 0.0))
    return distance


def _products(vectors: Vector, left: Ints, right: Ints) -> Floats:
    """Inner products of pairs of rows, 64k at a time."""
    found = np.empty(len(left))
    for first in range(0, len(left), 65_536):
        some = slice(first, first + 65_536)
        found[some] = np.einsum("ij,ij->i", vectors[left[some]].astype(np.float64), vectors[right[some]])
    return found


def _apart(footage: Footage, left: Ints, right: Ints, occasion: Occasion) -> Bools:
    """Whether clips of two drives are known to be of different occasions: far apart in time, or in place at one time.

    Times compare if both are those of a calendar, places if both are known.
    """
    timed = footage.clock[left] & footage.clock[right]
    gap_ns = np.maximum(footage.start_ns[left], footage.start_ns[right]) - np.minimum(
        footage.end_ns[left], footage.end_ns[right]
    )
    moved: NDArray[np.float64] = np.linalg.norm(footage.place[left] - footage.place[right], axis=1)
    elsewhere = moved > occasion.gap_m  # False for NaN
    apart: Bools = timed & ((gap_ns > occasion.gap_s * 1e9) | elsewhere)
    return apart
