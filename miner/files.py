"""What an answer says beside rows and scores: the files of readings, the names of scenes, the id of the index.

The first answer of a corpus looks readings up by their keys. A second one is a sign that more will follow: then the
files of all readings come into memory, if they are little beside the vectors, and stay as they were then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from kernels.spans import Ints
from miner.corpus import Corpus
from miner.schema import SAMPLE_DATA
from miner.store import one_of

_FILE = ["sample_data_id", "uri", "offset", "length", "fileformat", "ego_SE3_sensor"]
_SCENE = ["scene_id", "name"]
_ABOUT_BYTES = 200  # of these columns, a reading
_SHARE = 0.25  # of the memory of the vectors
_LITTLE_BYTES = 256 * 1024 * 1024

Rows = dict[str, dict[str, Any]]


class _Said(NamedTuple):
    """Something small that is kept."""

    value: Any
    nbytes: int


@dataclass(frozen=True)
class _Files:
    """The columns of all readings, and where the one of each row of the index is; -1 for nowhere."""

    table: Any
    place: Ints

    @property
    def nbytes(self) -> int:
        return int(self.table.nbytes) + self.place.nbytes


def files_of(corpus: Corpus, rows: Ints) -> Rows:
    """Where the readings of some rows of the index are stored, by id of the reading; nothing in a lake of vectors only.

    Raises Damaged if one is not there: a hit is never shown without its file.
    """
    again = ("asked",) in corpus.kept
    corpus.kept.get(("asked",), lambda: _Said(None, 0))
    count = len(corpus.index.rows)
    if again and _ABOUT_BYTES * count <= max(_LITTLE_BYTES, _SHARE * 4 * corpus.index.dim * count):
        files = corpus.kept.get(("files",), lambda: _all_files(corpus))
        place = files.place[rows]
        if (place >= 0).all():
            return {row[_FILE[0]]: row for row in files.table.take(place).to_pylist()}
    return _by_key(corpus, "sample_data", _FILE, {*corpus.index.rows["sample_data_id"].take(rows).to_pylist()})


def scene_names(corpus: Corpus, ids: set[str]) -> dict[str, str]:
    """The names of scenes by id; nothing in a lake without scenes. Raises Damaged where one is not there."""
    names: dict[str, str] = corpus.kept.get(("scenes",), lambda: _all_names(corpus)).value
    if new := ids - names.keys():
        return names | {name: row["name"] for name, row in _by_key(corpus, "scenes", _SCENE, new).items()}
    return names


def index_id(corpus: Corpus) -> str | None:
    """The id under which the manifest knows the index; None for vectors newer than the last `miner index`."""
    sound, index = corpus.asked, corpus.index
    if index.index_id is not None:
        return index.index_id
    if not sound.has("indexes"):
        return None
    version = sound.version("indexes")

    def looked_up() -> _Said:
        same = f"{one_of('table', [index.table])} AND kind = '{index.kind}' AND table_version = {index.table_version}"
        found = sound.scan("indexes", ["index_id"], same, version)["index_id"].to_pylist()
        return _Said(found[0] if found else None, 0)

    found: str | None = corpus.kept.get(("index_id", version), looked_up).value
    return found


def _all_files(corpus: Corpus) -> _Files:
    table = corpus.asked.scan("sample_data", _FILE) if corpus.asked.has("sample_data") else SAMPLE_DATA.empty_table()
    table = table.select(_FILE).combine_chunks()
    place = pc.index_in(corpus.index.rows["sample_data_id"], table["sample_data_id"].combine_chunks())
    return _Files(table, pc.fill_null(place, -1).to_numpy().astype(np.int64))


def _all_names(corpus: Corpus) -> _Said:
    if not corpus.asked.has("scenes"):
        return _Said({}, 0)
    scenes = corpus.asked.scan("scenes", _SCENE)
    names = dict(zip(scenes["scene_id"].to_pylist(), scenes["name"].to_pylist(), strict=True))
    return _Said(names, 2 * scenes.nbytes)


def _by_key(corpus: Corpus, table: str, columns: list[str], keys: set[str]) -> Rows:
    """The rows of a table with these keys, by the key, the first of `columns`; none where there is no such table.

    Raises Damaged if one is not there.
    """
    if not keys or not corpus.asked.has(table):
        return {}
    rows = corpus.asked.scan(table, columns, one_of(columns[0], sorted(keys))).to_pylist()
    found = {row[columns[0]]: row for row in rows}
    if lost := keys - found.keys():
        raise corpus.asked.lost(table, lost)
    return found
