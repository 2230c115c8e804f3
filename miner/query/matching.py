"""Which rows of a corpus may be found: a filter worked out over its clips and readings, each column and answer kept.

A filter is a chain of conjuncts. One that reads clips only (their facts, their scene, counts, scores) is evaluated once
per clip, one that reads readings once per row of the index, and one that reads both on the pairs that are left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Ints
from miner.corpus import Corpus
from miner.errors import NotFound
from miner.query.columns import OF_READING, OF_SCENE, SOURCES, VECTOR_ROWS
from miner.query.explain import Plan
from miner.query.filters import Filter, count_of
from miner.store import one_of

Bools = NDArray[np.bool_]
T = TypeVar("T")
_NONE = np.empty(0, np.int64)
_MADE_BY = {"clip_facts": "miner index LAKE", "scores": "miner rare LAKE", "assets": "miner embed LAKE"}


class Passing:
    """Pairs of a corpus that pass a filter: `pairs` (p,) bool, None for all of them."""

    def __init__(self, corpus: Corpus, pairs: Bools | None) -> None:
        self.corpus, self.pairs = corpus, pairs

    @cached_property
    def rows(self) -> Ints:
        """The rows with such a pair, ascending, each once."""
        if self.pairs is None:
            return np.unique(self.corpus.row)
        rows = self.corpus.row[self.pairs]
        return rows[np.concatenate([[True], rows[1:] != rows[:-1]])] if len(rows) else rows

    @cached_property
    def mask(self) -> Bools:
        """The same rows, (n,) bool."""
        mask = np.zeros(len(self.corpus.index.rows), np.bool_)
        mask[self.rows] = True
        return mask

    @cached_property
    def count(self) -> int:
        """How many rows these are."""
        return len(self.corpus.index.rows) if self.pairs is None else len(self.rows)


@dataclass(frozen=True)
class Matches:
    """What may be found: pairs that pass, but the few `left_out` (an example itself); `per` clip or frame.

    `plan` takes notes for whoever asked for them.
    """

    passing: Passing
    per: str
    left_out: Ints = field(default_factory=lambda: _NONE)
    plan: Plan | None = None

    @property
    def corpus(self) -> Corpus:
        """What is searched."""
        return self.passing.corpus

    def without(self, pairs: Ints) -> Matches:
        """The same without some pairs."""
        return Matches(self.passing, self.per, np.union1d(self.left_out, pairs), self.plan)

    def allow(self, pairs: Ints) -> Bools:
        """Which of some pairs may be found."""
        allowed = ~np.isin(pairs, self.left_out) if len(self.left_out) else np.ones(len(pairs), np.bool_)
        if self.passing.pairs is not None:
            allowed &= self.passing.pairs[pairs]
        return allowed


def matching(corpus: Corpus, where: Filter | None, per: str, plan: Plan | None = None) -> Matches:
    """The pairs of clips (with `per` frame: also of no clip) that pass `where`.

    Raises NotFound where the lake lacks a table the filter reads, saying what makes it.
    """
    started = time.perf_counter()
    tables = _Tables(corpus)
    parts = () if where is None else where.parts
    versions = tables.versions(parts)
    key = ("passing", where, per, versions)
    known = plan is not None and corpus.kept.has(key)
    passing = corpus.kept.get(key, lambda: _passing(tables, parts, per, plan))
    if plan is not None:
        plan.filtered(passing.count, len(corpus.index.rows), started, known)
    return Matches(passing, per, plan=plan)


def passing(corpus: Corpus, where: Filter) -> Bools:
    """Which pairs pass a filter, (p,) bool. Columns of the clip are null for a row that is in no clip."""
    found = matching(corpus, where, "frame").passing.pairs
    return np.ones(len(corpus.row), np.bool_) if found is None else found


def _passing(tables: _Tables, parts: Sequence[Filter], per: str, plan: Plan | None) -> Passing:
    corpus = tables.corpus
    if not parts and (per == "frame" or corpus.all_in_clips):
        return Passing(corpus, None)
    clips = np.ones(len(corpus.clips) + 1, np.bool_)  # and for no clip, which is number -1
    clips[-1] = per == "frame"
    rows: Bools | None = None
    both = []
    for part in parts:
        level = _level(part)
        if level == "clip":
            clips &= tables.mask(part, tables.of_clips, len(clips), plan)
        elif level == "reading":
            mask = tables.mask(part, tables.of_rows, len(corpus.index.rows), plan)
            rows = mask if rows is None else rows & mask
        else:
            both.append(part)
    pairs = clips[corpus.clip]
    if rows is not None:
        pairs &= rows[corpus.row]
    for part in both:
        left = np.flatnonzero(pairs)
        pairs[left] = part.mask(tables.of_pairs(part, left), corpus.evaluator)
    return Passing(corpus, pairs)


def _level(part: Filter) -> str:
    """Whether a filter reads columns of the clip only, of the reading only, or both."""
    of_reading = [_is_of_reading(name) for name in part.columns]
    of_clip = not all(of_reading) or bool(part.categories or part.scores)
    return "clip" if not any(of_reading) else "both" if of_clip else "reading"


def _is_of_reading(name: str) -> bool:
    return name in VECTOR_ROWS or SOURCES[name].table in OF_READING


@dataclass(frozen=True)
class _Tables:
    """The columns that filters read, beside the clips (with a last row of nulls for no clip) or the rows of a corpus."""

    corpus: Corpus

    def versions(self, parts: Sequence[Filter]) -> tuple[tuple[str, int], ...]:
        """The tables that a filter reads beside the corpus itself, as they are now."""
        names = {SOURCES[name].table for part in parts for name in part.columns if not self._is_own(name)}
        names |= {"clip_facts" for part in parts if part.categories} | {"scores" for part in parts if part.scores}
        return tuple((table, self._version(table)) for table in sorted(names))

    def mask(self, part: Filter, table: Callable[[Filter], pa.Table], rows: int, plan: Plan | None) -> Bools:
        """Which rows of `table` pass, kept for the next filter with the same part."""
        started = time.perf_counter()
        key = ("mask", part, self.versions([part]))
        mask = self.corpus.kept.get(key, lambda: part.mask(table(part), self.corpus.evaluator))
        if plan is not None:
            plan.evaluated(part, int(mask.sum()), rows, started)
        return mask

    def of_clips(self, part: Filter) -> pa.Table:
        """What a filter reads of each clip, and a last row of nulls."""
        columns = {name: self._clip_column(name) for name in part.columns}
        columns |= {f"count_{i}": self._count(category) for i, category in enumerate(part.categories)}
        columns |= {f"score_{i}": self._score(scorer) for i, scorer in enumerate(part.scores)}
        return pa.table({"clip": pa.nulls(len(self.corpus.clips) + 1)} | columns)

    def of_rows(self, part: Filter) -> pa.Table:
        """What a filter reads of each row's reading."""
        return pa.table({name: self._row_column(name) for name in part.columns})

    def of_pairs(self, part: Filter, pairs: Ints) -> pa.Table:
        """What a filter reads of some pairs."""
        of_reading = tuple(name for name in part.columns if _is_of_reading(name))
        of_clip = tuple(name for name in part.columns if name not in of_reading)
        clips = self.of_clips(Filter("", (), of_clip, part.categories, part.scores))
        clip = self.corpus.clip[pairs]
        table = clips.take(np.where(clip < 0, len(clips) - 1, clip))
        for name in of_reading:
            table = table.append_column(name, self._row_column(name).take(self.corpus.row[pairs]))
        return table

    def _is_own(self, name: str) -> bool:
        """Whether a column is one the corpus has from the start."""
        return name in VECTOR_ROWS or name in ("clip_id", "start_ns", "end_ns")

    def _clip_column(self, name: str) -> pa.ChunkedArray:
        if self._is_own(name):
            return pa.chunked_array([*self.corpus.clips[name].chunks, pa.nulls(1, self.corpus.clips[name].type)])
        source = SOURCES[name]
        key = "scene_id" if source.table in OF_SCENE else "clip_id"
        return self._kept(source.table, source.field, lambda: self._beside_clips(source.table, key, source.field))

    def _count(self, category: str) -> pa.Array:
        def counted() -> pa.Array:
            lists = self._kept(
                "clip_facts", "categories", lambda: self._beside_clips("clip_facts", "clip_id", "categories")
            )
            known = pc.is_valid(lists).to_numpy().astype(np.bool_)
            return pa.array(count_of(lists, category), mask=~known)

        return self._kept("clip_facts", f"count {category}", counted)

    def _score(self, scorer: str) -> pa.Array:
        return self._kept(
            "scores",
            f"score {scorer}",
            lambda: self._beside_clips("scores", "clip_id", "value", one_of("scorer", [scorer])),
        )

    def _row_column(self, name: str) -> pa.ChunkedArray:
        if name in VECTOR_ROWS:
            return self.corpus.index.rows[name]
        source, rows = SOURCES[name], self.corpus.index.rows["sample_data_id"]
        return self._kept(source.table, source.field, lambda: self._beside(source.table, source.field, rows))

    def _beside_clips(self, table: str, key: str, column: str, filter: str | None = None) -> pa.ChunkedArray:
        keys = self.corpus.clips[key]
        return self._beside(table, column, pa.chunked_array([*keys.chunks, pa.nulls(1, keys.type)]), key, filter)

    def _beside(
        self, table: str, column: str, keys: pa.ChunkedArray, key: str = "sample_data_id", filter: str | None = None
    ) -> pa.ChunkedArray:
        """A column of a table beside keys; null where the table has no such row."""
        found = self.corpus.asked.scan(table, [key, column], filter, self._version(table))
        place = pc.index_in(keys, found[key].combine_chunks(), skip_nulls=True)
        return found[column].combine_chunks().take(place)

    def _kept(self, table: str, what: str, make: Callable[[], T]) -> T:
        return self.corpus.kept.get(("column", table, self._version(table), what), make)

    def _version(self, table: str) -> int:
        sound = self.corpus.asked
        if not sound.has(table):
            hint = f"Make them with: {_MADE_BY[table]}" if table in _MADE_BY else ""
            raise NotFound(f"{sound.uri} has no {table}, which the filter needs", hint)
        return sound.version(table)
