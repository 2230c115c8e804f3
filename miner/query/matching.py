"""Which rows of a corpus may be found: a filter worked out over its clips and readings, each answer kept.

A filter is a chain of conjuncts. One that reads clips only (their facts, their scene, counts, scores) is evaluated once
per clip, one that reads readings once per row of the index, and one that reads both on the pairs that are left.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.spans import Ints
from miner.corpus import Corpus
from miner.query.beside import Beside, is_of_reading
from miner.query.evaluate import Evaluator
from miner.query.explain import Plan
from miner.query.filters import Filter

Bools = NDArray[np.bool_]
_SAMPLE = 1024


@dataclass(frozen=True, eq=False)
class Passing:
    """Pairs of a corpus that pass a filter: `pairs` (p,) bool, None for all of them."""

    corpus: Corpus
    pairs: Bools | None

    @cached_property
    def rows(self) -> Ints:
        """The rows with such a pair, ascending, each once."""
        if self.pairs is not None and self.corpus.pairs_are_rows:
            return np.flatnonzero(self.pairs)
        rows = self.corpus.row if self.pairs is None else self.corpus.row[self.pairs]
        return rows[np.diff(rows, prepend=-1) > 0]

    @cached_property
    def mask(self) -> Bools:
        """The same rows, (n,) bool."""
        if self.pairs is not None and self.corpus.pairs_are_rows:
            return self.pairs
        mask = np.zeros(len(self.corpus.index.rows), np.bool_)
        mask[self.rows] = True
        return mask

    @cached_property
    def count(self) -> int:
        """How many rows these are."""
        return len(self.corpus.index.rows) if self.pairs is None else len(self.rows)

    @property
    def nbytes(self) -> int:
        """How much memory it takes at most, with what it may come to hold."""
        if self.pairs is None:
            return 0
        return self.pairs.nbytes + len(self.corpus.index.rows) + 8 * int(np.count_nonzero(self.pairs))


@dataclass(frozen=True, eq=False)
class Matches:
    """What may be found: pairs that pass, but the few `left_out` (an example itself); `per` clip or frame.

    `plan` takes notes for whoever wants them.
    """

    passing: Passing
    per: str
    left_out: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    plan: Plan | None = None

    @property
    def corpus(self) -> Corpus:
        """What is searched."""
        return self.passing.corpus

    def without(self, pairs: Ints) -> Matches:
        """The same without some pairs."""
        return replace(self, left_out=np.union1d(self.left_out, pairs))

    def allow(self, pairs: Ints) -> Bools:
        """Which of some pairs may be found."""
        allowed = ~np.isin(pairs, self.left_out) if len(self.left_out) else np.ones(len(pairs), np.bool_)
        return allowed if self.passing.pairs is None else allowed & self.passing.pairs[pairs]


def matching(corpus: Corpus, where: Filter | None, per: str, plan: Plan | None = None) -> Matches:
    """The pairs of clips (with `per` frame: also of no clip) that pass `where`.

    Columns of the clip are null for a row that is in no clip. Raises NotFound where the lake lacks a table that the
    filter reads, saying what makes it.
    """
    started, beside = time.perf_counter(), Beside(corpus)
    parts = () if where is None else where.parts
    key = ("passing", where, per, beside.versions(parts))
    kept, steps = key in corpus.kept, len(plan.steps) if plan is not None else 0
    found = corpus.kept.get(key, lambda: _passing(beside, parts, per, plan))
    if plan is not None:
        total, shares = len(corpus.index.rows), [step.expected_share for step in plan.steps[steps:]]
        expected = None if kept or not parts else round(total * math.prod(shares))
        note = "kept from an earlier query" if kept and parts else ""
        plan.add("match", f"of {total:,} rows may be found", (expected, found.count), started, note=note)
    return Matches(found, per, plan=plan)


def passing(corpus: Corpus, where: Filter) -> Bools:
    """Which pairs pass a filter, (p,) bool. Raises as `matching`."""
    found = matching(corpus, where, "frame").passing.pairs
    return np.ones(len(corpus.row), np.bool_) if found is None else found


def _passing(beside: Beside, parts: Sequence[Filter], per: str, plan: Plan | None) -> Passing:
    corpus = beside.corpus
    if not parts and (per == "frame" or corpus.all_in_clips):
        return Passing(corpus, None)
    clips = np.ones(len(corpus.clips) + 1, np.bool_)  # the last is for no clip, which is number -1
    clips[-1] = per == "frame"
    by = {level: [part for part in parts if _level(part) == level] for level in ("clip", "reading", "both")}
    for part in by["clip"]:
        clips &= _mask(beside, part, beside.clips, plan)
    pairs = clips[corpus.clip]
    for part in by["reading"]:
        pairs &= _mask(beside, part, beside.rows, plan)[corpus.row]
    for part in by["both"]:
        left, started = np.flatnonzero(pairs), time.perf_counter()
        pairs[left] = part.mask(beside.pairs(part, left), corpus.evaluator)
        if plan is not None:
            plan.add("filter", f"{part.text}  (of {len(left):,} pairs)", (None, int(pairs.sum())), started)
    return Passing(corpus, pairs)


def _level(part: Filter) -> str:
    """Whether a filter reads columns of the clip only, of the reading only, or both."""
    of_reading = [is_of_reading(name) for name in part.columns]
    of_clip = not all(of_reading) or bool(part.categories or part.scores)
    return "clip" if not any(of_reading) else "both" if of_clip else "reading"


def _mask(beside: Beside, part: Filter, table: Callable[[Filter], pa.Table], plan: Plan | None) -> Bools:
    """Which rows of a table beside the corpus pass, kept for the next filter with the same part."""
    started, evaluator = time.perf_counter(), beside.corpus.evaluator
    key = ("mask", part, beside.versions([part]))
    kept = key in beside.corpus.kept
    expected = None
    if plan is not None and not kept:
        expected = _expected(part, table(part), evaluator)
    mask = beside.corpus.kept.get(key, lambda: part.mask(table(part), evaluator))
    if plan is not None:
        what = f"{part.text}  (of {len(mask):,} {'rows' if table == beside.rows else 'clips'})"
        note = "kept from an earlier query" if kept else ""
        plan.add("filter", what, (expected, int(mask.sum())), started, of=len(mask), note=note)
    return mask


def _expected(part: Filter, table: pa.Table, evaluator: Evaluator) -> int:
    """How many rows of a table may be expected to pass, from a sample of them."""
    if not len(table):
        return 0
    sample = np.unique(np.linspace(0, len(table) - 1, _SAMPLE).astype(np.int64))
    return round(float(part.mask(table.take(sample), evaluator).mean()) * len(table))
