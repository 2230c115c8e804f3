"""Determinantal point process: rows of high quality that are unlike one another, by greedy maximum a posteriori choice.

The kernel is L = diag(q) (X X^T) diag(q) + ridge I for unit rows X and qualities q; the row that enlarges det L of the
chosen rows most is picked, again and again (Chen, Zhang and Zhou 2018, "Fast greedy MAP inference for determinantal
point process"). What a row would multiply det L by is its variance given the picks, ridge + b^T M b with b = q x and M
= (I + sum of b b^T of the picks / ridge)^-1 (Woodbury): each pick lowers it by the square of an inner product with one
vector of d numbers, so neither L nor Cholesky rows of n numbers a pick are kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.candidates import Candidates, Free, Picked, Rows, Vectors
from kernels.shrinking import State, apply, shrinking_greedy


def dpp(vectors: Vectors, k: int, candidates: Candidates | None = None, ridge: float = 1e-3) -> Picked:
    """At most `k` of the unit rows `vectors` (n, d); the weights of the candidates are qualities. Ties: the lower row.

    Gains are logarithms of what each pick multiplied the determinant by; their sum is that of L of the picks, given the
    preselected rows. Time O(n d k + d^2 k), memory beyond the input O(n + d^2). Raises ValueError for a ridge that is
    not positive, and as `Candidates`.
    """
    if not ridge > 0:
        raise ValueError(f"ridge must be positive, got {ridge}")
    asked = (candidates or Candidates()).checked(vectors, k)
    quality = np.ones(len(vectors)) if asked.weights is None else asked.weights.astype(np.float64)
    goal = _Variance(quality, ridge, vectors.shape[1])
    lengths = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    state = quality**2 * lengths + ridge
    for row in asked.chosen:
        apply(vectors, goal.direction(int(row), vectors[row])[None], goal, state)
    found = shrinking_greedy(vectors, k, Free(asked, len(vectors)), goal, state)
    return Picked(found.rows, np.log(found.gains))


class _Variance:
    """State and worth: the variance of a row given the picks."""

    def __init__(self, quality: NDArray[np.float64], ridge: float, dim: int) -> None:
        self._quality, self._ridge = quality, ridge
        self._given = np.eye(dim)

    def worth(self, state: State, rows: Rows | slice) -> NDArray[np.floating]:
        return state

    def direction(self, row: int, vector: Vectors) -> Vectors:
        b = self._quality[row] * vector.astype(np.float64)
        left: NDArray[np.float64] = self._given @ b
        left /= np.sqrt(self._ridge + max(float(b @ left), 0.0))
        self._given -= np.outer(left, left)
        narrow: Vectors = left.astype(np.float32)
        return narrow

    def changed(self, state: State, products: Vectors, rows: Rows | slice) -> State:
        lowered = state - self._quality[rows] ** 2 * np.einsum("tm,tm->m", products, products, dtype=np.float64)
        kept: State = np.maximum(lowered, self._ridge)
        return kept
