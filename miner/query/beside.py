"""The columns that filters read, laid beside the clips or the rows of a corpus, and kept there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.spans import Ints
from miner.corpus import Corpus
from miner.errors import NotFound
from miner.query.columns import OF_READING, OF_SCENE, SOURCES, VECTOR_ROWS
from miner.query.filters import Filter, count_of
from miner.store import one_of

T = TypeVar("T")
_OWN = {*VECTOR_ROWS, "clip_id", "start_ns", "end_ns"}  # what a corpus has from the start
_MADE_BY = {"clip_facts": "miner index LAKE", "scores": "miner rare LAKE", "assets": "miner embed LAKE"}


def is_of_reading(name: str) -> bool:
    """Whether a column of the language is one of readings; else it is one of clips."""
    return name in VECTOR_ROWS or SOURCES[name].table in OF_READING


@dataclass(frozen=True)
class Beside:
    """Columns beside the clips of a corpus (with a last row of nulls for no clip), or beside its rows.

    Of tables as they are when first asked for: made for one query. Raises NotFound for a table that is not there.
    """

    corpus: Corpus
    _versions: dict[str, int] = field(default_factory=dict)

    def versions(self, parts: Sequence[Filter]) -> tuple[tuple[str, int], ...]:
        """The tables that filters read beside the corpus itself, and their versions."""
        names = {SOURCES[name].table for part in parts for name in part.columns if name not in _OWN}
        names |= {"clip_facts" for part in parts if part.categories} | {"scores" for part in parts if part.scores}
        return tuple((table, self._version(table)) for table in sorted(names))

    def clips(self, part: Filter) -> pa.Table:
        """What a filter reads of each clip, and a last row of nulls."""
        columns = {name: self._clip_column(name) for name in part.columns}
        columns |= {f"count_{i}": self._count(category) for i, category in enumerate(part.categories)}
        columns |= {f"score_{i}": self._score(scorer) for i, scorer in enumerate(part.scores)}
        return pa.table({"clip": pa.nulls(len(self.corpus.clips) + 1)} | columns)

    def rows(self, part: Filter) -> pa.Table:
        """What a filter reads of each row's reading."""
        return pa.table({name: self._row_column(name) for name in part.columns})

    def pairs(self, part: Filter, pairs: Ints) -> pa.Table:
        """What a filter reads of some pairs."""
        of_reading = tuple(name for name in part.columns if is_of_reading(name))
        of_clip = tuple(name for name in part.columns if name not in of_reading)
        clips = self.clips(Filter("", (), of_clip, part.categories, part.scores))
        clip = self.corpus.clip[pairs]
        table = clips.take(np.where(clip < 0, len(clips) - 1, clip))
        for name in of_reading:
            table = table.append_column(name, self._row_column(name).take(self.corpus.row[pairs]))
        return table

    def _clip_column(self, name: str) -> pa.ChunkedArray:
        if name in _OWN:
            return _with_null(self.corpus.clips[name])
        source = SOURCES[name]
        return self._clip_field(source.table, source.field, "scene_id" if source.table in OF_SCENE else "clip_id")

    def _clip_field(self, table: str, column: str, key: str = "clip_id") -> pa.ChunkedArray:
        keys = _with_null(self.corpus.clips[key])
        return self._kept(table, column, lambda: self._looked_up(table, column, (key, keys)))

    def _count(self, category: str) -> pa.Array:
        def counted() -> pa.Array:
            lists = self._clip_field("clip_facts", "categories")
            unknown = pc.is_null(lists).to_numpy().astype(np.bool_)
            return pa.array(count_of(lists, category), mask=unknown)

        return self._kept("clip_facts", f"count('{category}')", counted)

    def _score(self, scorer: str) -> pa.ChunkedArray:
        keys, only = _with_null(self.corpus.clips["clip_id"]), one_of("scorer", [scorer])
        look = ("clip_id", keys)
        return self._kept("scores", f"score('{scorer}')", lambda: self._looked_up("scores", "value", look, only))

    def _row_column(self, name: str) -> pa.ChunkedArray:
        if name in VECTOR_ROWS:
            return self.corpus.index.rows[name]
        source, rows = SOURCES[name], self.corpus.index.rows["sample_data_id"]
        look = ("sample_data_id", rows)
        return self._kept(source.table, source.field, lambda: self._looked_up(source.table, source.field, look))

    def _looked_up(
        self, table: str, column: str, keys: tuple[str, pa.ChunkedArray], filter: str | None = None
    ) -> pa.ChunkedArray:
        """A column of a table beside keys of a name; null where the table has no such row."""
        name, wanted = keys
        found = self.corpus.asked.scan(table, [*{name, column}], filter, self._version(table))
        place = pc.index_in(wanted, found[name].combine_chunks(), skip_nulls=True)
        return _plain(found[column].take(place))

    def _kept(self, table: str, what: str, make: Callable[[], T]) -> T:
        return self.corpus.kept.get(("column", table, self._version(table), what), make)

    def _version(self, table: str) -> int:
        if table not in self._versions:
            sound = self.corpus.asked
            try:
                self._versions[table] = sound.version(table)
            except NotFound as error:
                if sound.has(table):
                    raise
                hint = f"Make them with: {_MADE_BY[table]}" if table in _MADE_BY else ""
                raise NotFound(f"{sound.uri} has no {table}, which the filter needs", hint) from error
        return self._versions[table]


def _with_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([*column.chunks, pa.nulls(1, column.type)])


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As the language sees it: lists of texts joined by commas, numbers with a fraction as float64."""
    if column.type == pa.list_(pa.string()):
        return pc.binary_join(column, ",")
    return column.cast(pa.float64()) if column.type == pa.float32() else column
