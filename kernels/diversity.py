"""How varied a set of unit vectors is, and how well a sample stands for a population: numbers with stated laws.

- `vendi`: the effective number of different rows, exp of the entropy of the eigenvalues of their similarity matrix
  (Friedman and Dieng 2023, The Vendi Score). Rows that are equal count once, so copies never raise it.
- `energy_coefficient`: 0 where two samples have one distribution, up to 1 (Rizzo and Szekely 2016, Energy Distance,
  coefficient H).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
_TILE = 2048


def distinct(vectors: Vectors) -> NDArray[np.int64]:
    """The first row of each set of equal rows of `vectors` (n, d), in order."""
    if not len(vectors):
        return np.empty(0, np.int64)
    rows = np.ascontiguousarray(vectors + np.float32(0))  # -0 is 0
    _, first = np.unique(rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel(), return_index=True)
    found: NDArray[np.int64] = np.sort(first)
    return found


def vendi(vectors: Vectors, weights: Floats | None = None) -> float:
    """The Vendi score of unit `vectors` (n, d) with the cosine kernel, 1 to min(n, d); 0 of no row.

    `weights` (n,) say how often a row counts; without, equal rows count once. The kernel matrix has the eigenvalues of
    the second moment (d, d), so it is never made: O(n d^2).
    """
    if weights is None:
        vectors = vectors[distinct(vectors)]
        weights = np.ones(len(vectors))
    total = float(weights.sum())
    if total <= 0:
        return 0.0
    wide = vectors.astype(np.float64) * np.sqrt(weights / total)[:, None]
    moment = wide.T @ wide if wide.shape[1] <= len(wide) else wide @ wide.T
    values = np.linalg.eigvalsh(moment)
    values = values[values > 1e-12]
    values /= values.sum()
    return float(np.exp(-(values * np.log(values)).sum()))


class Distances(NamedTuple):
    """Euclidean distances: `between` (n,) of each row of a sample to the population, on average; `own` (n, n) of its
    pairs; `others`, the mean of the pairs of the population."""

    between: Floats
    own: Floats
    others: float

    def coefficient(self, rows: NDArray[np.int64] | None = None) -> float:
        """Energy coefficient of some rows of the sample (all, if not given) and the population."""
        between = float((self.between if rows is None else self.between[rows]).mean())
        own = float((self.own if rows is None else self.own[np.ix_(rows, rows)]).mean())
        return float(np.clip((2 * between - own - self.others) / (2 * between), 0, 1)) if between > 0 else 0.0


def distances(sample: Vectors, population: Vectors) -> Distances:
    """All distances of `sample` (n, d) and `population` (m, d): O(n m d) time, O(n^2) memory. ValueError for no row."""
    if not len(sample) or not len(population):
        raise ValueError(f"a sample of {len(sample)} and a population of {len(population)} rows")
    between = np.concatenate([_matrix(part, population).mean(axis=1) for part in _tiles(sample)])
    others = sum(float(_matrix(part, population).sum()) for part in _tiles(population)) / len(population) ** 2
    return Distances(between, _matrix(sample, sample), others)


def energy_coefficient(sample: Vectors, population: Vectors) -> float:
    """Energy coefficient of rows of `sample` (n, d) and `population` (m, d), 0 to 1; exactly 0 for equal ones."""
    if sample.shape == population.shape and np.array_equal(_ordered(sample), _ordered(population)):
        return 0.0
    return distances(sample, population).coefficient()


def _ordered(rows: Vectors) -> Vectors:
    found: Vectors = rows[np.lexsort(rows.T[::-1])]
    return found


def _tiles(rows: Vectors) -> list[Vectors]:
    return [rows[start : start + _TILE] for start in range(0, len(rows), _TILE)]


def _matrix(left: Vectors, right: Vectors) -> Floats:
    """Euclidean distances (n, m) in float64."""
    wide, other = left.astype(np.float64), right.astype(np.float64)
    squared = (wide**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * wide @ other.T
    squared[squared < 1e-12] = 0  # a row and itself
    found: Floats = np.sqrt(squared)
    return found
