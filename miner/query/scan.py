"""Similarities of clips (or frames) to several directions at once, for queries that are more than one vector.

A lake of at most `SCANNED` rows is compared as a whole, exactly. Of a larger one the clips are compared that the index
finds near to what is sought, all their rows; all clips for a query such as `NOT rain`, which is true far from anything.
How scores are spread is taken from an evenly spaced sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.spans import Ints
from miner.corpus import Corpus, Vector
from miner.indexes import Ask, QueryKind

SCANNED = 65_536
FETCHED = 2_048
_WIDER = 4
_AT_ONCE = 8_192
_EQUAL = 1e-5  # scores that differ by less do not vary: they are rounded

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Direction(NamedTuple):
    """A unit vector (dim,) to be near to, and where it comes from: beside the distribution of vectors, or from it."""

    vector: Vector
    kind: QueryKind


@dataclass(frozen=True)
class Scan:
    """Similarities (r, directions) of some rows of a corpus; pairs (place of the row, unit), both (q,), by unit."""

    rows: Ints
    similarity: Vector
    place: Ints
    unit: Ints

    def best(self, units: int) -> Floats:
        """The best similarity of each unit to each direction, (units, directions); NaN where it has no rows."""
        best = np.full((units, self.similarity.shape[1]), np.nan)
        if len(self.unit):
            firsts = np.flatnonzero(np.diff(self.unit, prepend=-1))
            best[self.unit[firsts]] = np.maximum.reduceat(self.similarity[self.place], firsts, axis=0)
        return best

    def readings_above(self, direction: int, floor: float, reading: Ints, units: int) -> Ints:
        """How many readings of each unit have a row at least `floor` near; `reading` (r,) numbers those of the rows."""
        near = self.similarity[self.place, direction] >= floor
        seen = np.unique(np.stack([self.unit[near], reading[self.place[near]]]), axis=1)
        return np.bincount(seen[0], minlength=units).astype(np.int64)


def scan(corpus: Corpus, unit: Ints, chosen: Mask, directions: list[Direction]) -> Scan:
    """Compare the rows of the chosen pairs with the directions. `unit` (pairs,) is what each pair counts for."""
    pairs = np.flatnonzero(chosen)
    pairs = pairs[np.argsort(unit[pairs], kind="stable")]
    rows, place = np.unique(corpus.row[pairs], return_inverse=True)
    matrix = np.array([direction.vector for direction in directions], np.float32).reshape(-1, corpus.index.dim).T
    similarity = np.empty((len(rows), len(directions)), np.float32)
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        similarity[some] = corpus.index.vectors(rows[some]) @ matrix
    # Products of float32 differ in the last bits with a row's place; equal rows have to stay equal.
    return Scan(rows, np.round(similarity, 6), place.reshape(-1).astype(np.int64), unit[pairs])


def candidates(corpus: Corpus, unit: Ints, allowed: Mask, leads: list[Direction], k: int) -> Ints:
    """The units worth comparing: all that are allowed in a small corpus or where nothing leads to some, else those the
    index finds, at least k if there are as many."""
    if len(corpus.index.rows) <= SCANNED or not leads:
        return np.unique(unit[allowed])
    mask = np.zeros(len(corpus.index.rows), np.bool_)
    mask[corpus.row[allowed]] = True
    fetch, passing = FETCHED, int(mask.sum())
    while fetch < passing:
        found = np.zeros(len(mask), np.bool_)
        for lead in leads:
            rows, _ = corpus.index.search(lead.vector[None], fetch, mask, Ask(lead.kind))
            found[rows[0]] = True
        units = np.unique(unit[allowed & found[corpus.row]])
        if len(units) >= k:
            return units
        fetch *= _WIDER
    return np.unique(unit[allowed])


def sampled(corpus: Corpus, unit: Ints) -> Mask:
    """The pairs of an evenly spaced sample of units, at most about `SCANNED` rows: what scores usually are."""
    step = -(-len(unit) // SCANNED)
    every: Mask = (unit >= 0) & (unit % max(step, 1) == 0)
    return every


def spread(best: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each direction's scores over the units that have one; 1 where none varies."""
    known = ~np.isnan(best)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, best, 0.0)
    mean = filled.sum(axis=0) / count
    deviation = np.sqrt(np.where(known, (best - mean) ** 2, 0.0).sum(axis=0) / count)
    return mean, np.where(deviation > _EQUAL, deviation, 1.0)


def standardised(values: Any, mean: Any, deviation: Any) -> Floats:
    """Scores in standard deviations above what is usual (ZMUV, Montague and Aslam 2001); 0 where there is none."""
    z: Floats = np.nan_to_num((values - mean) / deviation, nan=0.0)
    return z
