"""The lists of an inverted index, and which of them to read for a query.

The usual rule reads the lists with the centres nearest to the query. For a text it finds little: texts lie far from all
frames, so lists hardly differ in that, and what counts is how far the vectors of a list reach towards the query. So
lists are ranked by the best score that is to be expected in them: that of the centre, and on top the largest of n draws
from a normal distribution, sqrt(2 ln n) deviations (Cramer 1946, 28.6). The deviation of a list towards a query is how
far its vectors are from the centre, times how much of that lies in the query's direction, as measured over all lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

LISTS = "lists.npz"
_TILE = 512  # queries at once


class Chosen(NamedTuple):
    """Lists to read, best first, (q, count) int64, and inner products of queries and centres, (q, count) float32."""

    numbers: NDArray[np.int64]
    scores: Vectors


@dataclass(frozen=True)
class Lists:
    """Centres (lists, dim), how far the vectors of each are from it, `reach` (lists,), root mean square, and in which
    directions, `shape` (dim, dim): the second moments of all differences, each divided by the reach of its list."""

    centres: Vectors
    reach: Vectors
    shape: Vectors

    @classmethod
    def measured(cls, centres: Vectors, sample: Vectors, nearest: NDArray[np.int64]) -> Lists:
        """Of a sample (s, dim) and the list of each of its vectors (s,)."""
        off: Vectors = sample - centres[nearest]
        squares = np.einsum("ij,ij->i", off, off)
        sums, sizes = np.bincount(nearest, squares, len(centres)), np.bincount(nearest, minlength=len(centres))
        # A list that has no other vector in the sample is as wide as lists are.
        reach = np.sqrt((sums + squares.mean() + np.finfo(np.float32).tiny) / (sizes + 1)).astype(np.float32)
        off /= reach[nearest, None]
        shape: Vectors = off.T @ off
        return cls(centres, reach, shape / np.float32(len(off)))

    @classmethod
    def read(cls, folder: Path) -> Lists:
        """What `write` wrote."""
        with np.load(folder / LISTS) as stored:
            return cls(*(stored[name] for name in ("centres", "reach", "shape")))

    def write(self, folder: Path) -> None:
        """Store them in a folder, as LISTS."""
        np.savez(folder / LISTS, centres=self.centres, reach=self.reach, shape=self.shape)

    def __len__(self) -> int:
        return len(self.centres)

    def best(self, queries: Vectors, count: int, size: float) -> Chosen:
        """The `count` lists to read for each of some queries (q, dim), where a list has `size` vectors on average."""
        parts = [self._best(queries[start : start + _TILE], count, size) for start in range(0, len(queries), _TILE)]
        return parts[0] if len(parts) == 1 else Chosen(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def _best(self, queries: Vectors, count: int, size: float) -> Chosen:
        scores = queries @ self.centres.T
        towards = np.sqrt(np.einsum("ij,ij->i", queries @ self.shape, queries).clip(min=0) * (2 * np.log1p(size)))
        hoped = scores + towards[:, None].astype(np.float32) * self.reach
        numbers, each = np.argpartition(hoped, len(self) - count, axis=1)[:, -count:], np.arange(len(queries))[:, None]
        numbers = numbers[each, np.argsort(-hoped[each, numbers], axis=1)]
        return Chosen(numbers, scores[each, numbers])
