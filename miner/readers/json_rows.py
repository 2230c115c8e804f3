"""Long JSON lists of objects, one at a time: walked in a window, and found again by the value of one field.

A list of millions of rows need not fit in memory: an index keeps 24 bytes a row, the rows stay in the file.
"""

from __future__ import annotations

import io
import json
import re
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from miner.errors import BadInput
from miner.readers.places import AnyPath, downloaded, open_place

Row = dict[str, Any]

_CHUNK_CHARS = 1 << 22
_ROW_CHARS = 1 << 20  # the window always holds this much to come, so no row may be longer
_SPACE = re.compile(r"[ \t\r\n]*")


def iter_rows(path: AnyPath, copy: AnyPath | None = None) -> Iterator[tuple[int, int, Row]]:
    """Each object of the list in file `path` (read from its `copy`) with its first byte and the byte after its last.

    Raises BadInput naming file, line and cause where the file is no list of objects.
    """
    decode = json.JSONDecoder().raw_decode
    with open_place(copy or path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        window = _Window(path, file)
        window.take("[")
        more = window.next_char() != "]"
        while more:
            start = window.offset
            try:
                row, end = decode(window.text, window.at)
            except (ValueError, RecursionError) as error:
                window.fail(str(error))
            if not isinstance(row, dict):
                window.fail(f"expected an object, got {type(row).__name__}")
            window.move(end)
            yield start, window.offset, row
            more = window.take(",]") == ","
            window.next_char()


class RowIndex:
    """The rows of a list by the value of one field. Not for pickling: string hashes differ between processes."""

    def __init__(self, path: AnyPath, field: str) -> None:
        """Walks the file once (an object of a store is copied here first); a file that is not there has no rows.

        Raises BadInput as `iter_rows`.
        """
        self._field = field
        self._copy = None if isinstance(path, Path) or not path.exists() else downloaded(path)
        self._path = Path(self._copy.name) if self._copy else path
        hashes, spans = array("q"), array("q")
        for start, end, row in iter_rows(path, self._path) if path.exists() else ():
            hashes.append(hash(str(row.get(field))))
            spans.extend((start, end))
        order = np.argsort(np.asarray(hashes, np.int64), kind="stable")
        self._hashes = np.asarray(hashes, np.int64)[order]
        self._spans = np.asarray(spans, np.int64).reshape(-1, 2)[order]

    def rows(self, values: Collection[str]) -> list[Row]:
        """All rows whose field has one of the values, in the order of the file."""
        wanted = set(values)
        if not wanted or not len(self._hashes):
            return []
        keys = np.unique(np.array([hash(value) for value in wanted], np.int64))
        left, right = np.searchsorted(self._hashes, keys, "left"), np.searchsorted(self._hashes, keys, "right")
        spans = np.concatenate([self._spans[first:last] for first, last in zip(left, right, strict=True)])
        rows = []
        with open_place(self._path) as file:
            for start, end in spans[np.argsort(spans[:, 0])].tolist():
                file.seek(start)
                rows.append(json.loads(file.read(end - start)))
        return [row for row in rows if str(row.get(self._field)) in wanted]  # two values may share a hash


class _Window:
    """A sliding view of a UTF-8 text file: `text[at:]` comes next; `offset` in bytes and `line` say where that is."""

    def __init__(self, path: AnyPath, file: TextIO) -> None:
        self.path, self.file = path, file
        self.text, self.at, self.offset, self.line, self.ended = "", 0, 0, 1, False

    def next_char(self) -> str:
        """Step over white space; the character after it, "" at the end of the file."""
        if not self.ended and len(self.text) - self.at < _ROW_CHARS:
            try:
                more = self.file.read(_CHUNK_CHARS)
            except UnicodeDecodeError as error:
                self.fail(f"or later: {error}")
            self.text, self.at, self.ended = self.text[self.at :] + more, 0, not more
        blank = _SPACE.match(self.text, self.at)
        self.move(blank.end() if blank else self.at)
        return self.text[self.at : self.at + 1]

    def move(self, to: int) -> None:
        passed = self.text[self.at : to]
        self.offset += len(passed) if passed.isascii() else len(passed.encode())
        self.line += passed.count("\n")
        self.at = to

    def take(self, allowed: str) -> str:
        """Step over the next character, which must be one of `allowed`."""
        char = self.next_char()
        if not char or char not in allowed:
            self.fail(f"expected {' or '.join(allowed)}, got {char or 'the end of the file'!r}: no list of objects")
        self.move(self.at + 1)
        return char

    def fail(self, cause: str) -> NoReturn:
        raise BadInput("bad-json", f"{self.path}: line {self.line}: {cause}")
