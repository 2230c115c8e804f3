"""Ids as numbers: the place of each among all of them in order, so that ties and groups need no text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Ints

_MOST_BYTES = 64


@dataclass(frozen=True)
class Ranks:
    """Texts with repeats: `rank` (n,) int64 grows with the text (by code point) and is equal for equal ones.

    `order` (n,) are the places by rank, the first of equal ones first.
    """

    texts: pa.ChunkedArray
    rank: Ints
    order: Ints

    @classmethod
    def of(cls, texts: pa.ChunkedArray) -> Ranks:
        """Ranks of texts without nulls; O(n log n), without a Python object per text."""
        flat = texts.chunk(0) if texts.num_chunks == 1 else pa.concat_arrays([*texts.chunks, pa.array([], pa.string())])
        keys = _words(flat)
        if keys is None:  # ids of the user's own
            rank = pc.rank(flat, tiebreaker="dense").to_numpy().astype(np.int64) - 1
            return cls(pa.chunked_array([flat], pa.string()), rank, np.argsort(rank, kind="stable"))
        order = np.argsort(keys[0], kind="stable")
        same, rest = _alike(keys[:1], order), _alike(keys, order)
        if (same != rest).any():  # ids that begin alike and are not the same
            order = np.lexsort(keys[::-1])
            rest = _alike(keys, order)
        rank = np.empty(len(flat), np.int64)
        rank[order] = np.cumsum(~rest) - 1
        return cls(pa.chunked_array([flat], pa.string()), rank, order)

    def find(self, text: str) -> Ints:
        """The places of a text, ascending; none if it is not there."""
        first = self._bisected(text, after=False)
        last = self._bisected(text, after=True) if first < len(self.order) else first
        return np.sort(self.order[first:last])

    def _bisected(self, text: str, after: bool) -> int:
        low, high = 0, len(self.order)
        while low < high:
            middle = (low + high) // 2
            there = self.texts[int(self.order[middle])].as_py()
            low, high = (middle + 1, high) if there < text or (after and there == text) else (low, middle)
        return low


def _alike(keys: list[NDArray[Any]], order: Ints) -> NDArray[np.bool_]:
    """Whether each text, in order, has the keys of the one before."""
    alike = np.ones(len(order), np.bool_)
    alike[:1] = False
    for key in keys:
        ordered = key[order]
        alike[1:] &= ordered[1:] == ordered[:-1]
    return alike


def _words(texts: pa.StringArray) -> list[NDArray[Any]] | None:
    """Numbers that order as texts of one length do: their bytes by eight, as big-endian integers; None for others."""
    _, starts, data = texts.buffers()
    offsets = np.frombuffer(starts, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    length = int(offsets[1] - offsets[0]) if len(texts) else 0
    if not 0 < length <= _MOST_BYTES or (np.diff(offsets) != length).any():
        return None
    padded = np.zeros((len(texts), -(-length // 8) * 8), np.uint8)
    padded[:, :length] = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].reshape(-1, length)
    words = padded.view(">u8")
    return [words[:, word].astype(np.uint64) for word in range(words.shape[1])]
