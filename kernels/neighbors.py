"""Exact nearest neighbours of unit vectors by inner product: tiled search, and merging what shards found.

Matrix products are fast but their last bits depend on the shape of the tile. So they only choose candidates, with a
margin for their rounding error; the candidates are scored again one row at a time in float64, and those scores decide.
The answer is then the same for every tile size, row order and number of threads, ties included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Found = tuple[NDArray[np.int64], NDArray[np.float32]]

_QUERIES_AT_ONCE = 256
_SCORED_AT_ONCE = 4096


def top_k(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    mask: NDArray[np.bool_] | None = None,
    tile: int = 65_536,
) -> Found:
    """The `k` rows of `vectors` with the largest inner product, for each query.

    queries (q, d) and vectors (n, d) are of unit length; `mask` (n,) bool says which rows may be found; memory beyond
    the input is O(tile (256 + d) + q k). Gives row numbers int64 and scores float32, both (q, min(k, allowed rows)), by
    score descending, then row ascending. Raises ValueError for k < 1, other shapes, or numbers that are not finite.
    """
    _check(queries, vectors, k, mask)
    rows = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    kept = min(k, len(rows))
    slack = (queries.shape[1] + 4) * float(np.finfo(np.float32).eps)
    found: list[Found] = []
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        some = queries[first : first + _QUERIES_AT_ONCE]
        best: list[Found] = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(some)
        for start in range(0, len(rows), tile):
            chosen = rows[start : start + tile]
            part = vectors[start : start + tile] if mask is None else vectors[chosen]
            for i, rough in enumerate(some @ part.T):
                near = _near(rough, best[i][1], kept, slack)
                best[i] = _better(best[i], (chosen[near], _score(some[i], part[near])), kept)
        found += best
    if any(len(indices) < kept for indices, _ in found):
        raise ValueError("vectors hold NaN")
    shape = (len(queries), kept)
    return np.array([f[0] for f in found], np.int64).reshape(shape), np.array(
        [f[1] for f in found], np.float32
    ).reshape(shape)


def merge_top_k(parts: Sequence[Found], k: int) -> Found:
    """The best `k` of what disjoint shards found for the same queries: each part is (indices, scores), both (q, k_i).

    Same order as `top_k`. Raises ValueError for no parts.
    """
    if not parts:
        raise ValueError("nothing to merge")
    indices = np.concatenate([part[0] for part in parts], axis=1)
    scores = np.concatenate([part[1] for part in parts], axis=1)
    order = np.lexsort((indices, -scores), axis=-1)[:, :k]
    return np.take_along_axis(indices, order, 1), np.take_along_axis(scores, order, 1)


def _check(queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if queries.ndim != 2 or vectors.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise ValueError(f"queries {queries.shape} and vectors {vectors.shape} must be (q, d) and (n, d)")
    if mask is not None and (mask.shape != (len(vectors),) or mask.dtype != np.bool_):
        raise ValueError(f"mask must be {len(vectors)} booleans, got {mask.dtype} {mask.shape}")
    if not np.isfinite(queries).all():
        raise ValueError("queries hold numbers that are not finite")


def _near(rough: NDArray[np.float32], best: NDArray[np.float32], k: int, slack: float) -> NDArray[np.int64]:
    """Positions whose rough score, right to within `slack`, leaves them a chance to be among the best k."""
    floor = best[-1] - slack if len(best) == k and k else -np.inf
    near = np.flatnonzero(rough >= floor)
    if len(near) > k:
        scores = rough[near]
        near = near[scores >= np.partition(scores, len(near) - k)[len(near) - k] - slack]
    return near


def _score(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products summed in float64 row by row, so that a score depends on its row alone."""
    scores, wide = np.empty(len(vectors), np.float32), query.astype(np.float64)
    for start in range(0, len(vectors), _SCORED_AT_ONCE):
        part = vectors[start : start + _SCORED_AT_ONCE]
        scores[start : start + len(part)] = (part * wide).sum(axis=1)
    return scores


def _better(left: Found, right: Found, k: int) -> Found:
    indices, scores = np.concatenate([left[0], right[0]]), np.concatenate([left[1], right[1]])
    order = np.lexsort((indices, -scores))[:k]
    return indices[order], scores[order]
