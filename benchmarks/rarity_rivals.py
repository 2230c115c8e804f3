"""Published scores of what is rare and rules of what is double, as their papers and programs give them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernels.knn_graph import knn_graph

Floats = NDArray[np.float64]
Score = Callable[[NDArray[np.float32]], Floats]
_UNIQUENESS = np.array([0.6, 0.3, 0.1])


def knn_distance(k: int) -> Score:
    """Mean cosine distance to the k nearest (Ramaswamy, Rastogi and Shim 2000; cleanlab's with k = 10).

    cleanlab's out-of-distribution score is exp(-t times this mean) (Kuan and Mueller 2022), which orders alike.
    """

    def score(vectors: NDArray[np.float32]) -> Floats:
        return np.asarray((1 - knn_graph(vectors, k, min_recall=1.0)[1].astype(np.float64)).mean(axis=1))

    return score


def uniqueness(vectors: NDArray[np.float32]) -> Floats:
    """FiftyOne Brain's uniqueness: 0.6, 0.3 and 0.1 of the Euclidean distances to the three nearest, by the largest."""
    cosine = knn_graph(vectors, 3, min_recall=1.0)[1].astype(np.float64)
    sums = np.sqrt(np.maximum(2 - 2 * cosine, 0)) @ _UNIQUENESS
    return np.asarray(sums / sums.max())


RIVALS: dict[str, Score] = {
    "K=3": knn_distance(3),
    "K=10, cleanlab": knn_distance(10),
    "K=20": knn_distance(20),
    "FiftyOne uniqueness": uniqueness,
}
