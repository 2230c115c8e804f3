"""Exact nearest neighbours of unit vectors by inner product: tiled search, all pairs above a score, merging shards.

Matrix products are fast but their last bits depend on the shape of the tile. So they only choose candidates, with a
margin for their rounding error; the candidates are scored again one row at a time in float64, and those scores decide.
The answer is then the same for every tile size, row order and number of threads, ties included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Found = tuple[NDArray[np.int64], NDArray[np.float32]]

_QUERIES_AT_ONCE = 256
_SCORED_AT_ONCE = 4096
_NONE: Found = (np.empty(0, np.int64), np.empty(0, np.float32))


class Pairs(NamedTuple):
    """Pairs of rows `left < right`, int64 (p,) each, and their inner products, float32 (p,)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    scores: NDArray[np.float32]


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
    found: list[Found] = []
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        some = queries[first : first + _QUERIES_AT_ONCE]
        best = [_NONE] * len(some)
        for start in range(0, len(rows), tile):
            chosen = rows[start : start + tile]
            part = vectors[start : start + tile] if mask is None else vectors[chosen]
            for i, rough in enumerate(some @ part.T):
                best[i] = _improved(best[i], some[i], (chosen, part), rough, kept)
        found += best
    if any(len(indices) < kept for indices, _ in found):
        raise ValueError("vectors hold NaN")
    return _stacked(found, kept)


def knn(vectors: NDArray[np.float32], k: int, groups: NDArray[np.integer] | None = None, tile: int = 65_536) -> Found:
    """The `k` nearest rows of each row among those of other groups: a join of `vectors` (n, d) with itself.

    `groups` (n,) integers, such as the number of a row's scene; without them only the row itself is left out. Gives row
    numbers int64 and scores float32, both (n, k), ordered as by `top_k`; where fewer rows than k are allowed, the rest
    is -1 and -inf. Memory beyond the input is O(tile (256 + d) + n k). Raises ValueError for k < 1, other shapes, or
    numbers that are not finite.
    """
    owner = np.arange(len(vectors)) if groups is None else np.asarray(groups)
    _check(vectors, vectors, k, None)
    if owner.shape != (len(vectors),) or not np.issubdtype(owner.dtype, np.integer):
        raise ValueError(f"groups must be {len(vectors)} integers, got {owner.dtype} {owner.shape}")
    found: list[Found] = []
    for first in range(0, len(vectors), _QUERIES_AT_ONCE):
        some, own = vectors[first : first + _QUERIES_AT_ONCE], owner[first : first + _QUERIES_AT_ONCE]
        best = [_NONE] * len(some)
        for start in range(0, len(vectors), tile):
            part, of = vectors[start : start + tile], owner[start : start + tile]
            chosen = np.arange(start, start + len(part))
            for i, rough in enumerate(some @ part.T):
                rough[of == own[i]] = np.nan  # no score: never near
                best[i] = _improved(best[i], some[i], (chosen, part), rough, k)
        found += [_padded(one, k) for one in best]
    return _stacked(found, k)


def radius_pairs(vectors: NDArray[np.float32], min_score: float, tile: int = 1024) -> Iterator[Pairs]:
    """All pairs of unit rows of `vectors` (n, d) whose inner product, scored as by `top_k`, is at least `min_score`.

    Comes by tiles, those without a pair left out, each sorted by (left, right), so that memory beyond the input is
    O(tile (tile + d)) however many pairs there are. Every pair comes once; which tile it comes in depends on `tile`,
    its score does not. Raises ValueError for another shape, or numbers that are not finite.
    """
    _check(vectors, vectors, 1, None)
    if not np.isfinite(min_score):
        raise ValueError(f"min_score must be finite, got {min_score}")
    return _radius_pairs(vectors, min_score, tile)


def _radius_pairs(vectors: NDArray[np.float32], min_score: float, tile: int) -> Iterator[Pairs]:
    for first in range(0, len(vectors), tile):
        some = vectors[first : first + tile]
        for start in range(first, len(vectors), tile):
            rough = some @ vectors[start : start + tile].T
            if start == first:
                rough[np.tril_indices(len(rough))] = -np.inf
            left, right = np.nonzero(rough >= min_score - _slack(vectors))
            left, right = left + first, right + start
            scores = _score_pairs(vectors, left, right)
            near = scores >= np.float64(min_score)  # not rounded to float32 first
            if near.any():
                yield Pairs(left[near], right[near], scores[near])


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
    if not all(np.isfinite(queries[i : i + _SCORED_AT_ONCE]).all() for i in range(0, len(queries), _SCORED_AT_ONCE)):
        raise ValueError("queries hold numbers that are not finite")


def _slack(vectors: NDArray[np.float32]) -> float:
    """How far the rough score of two rows of unit length may be from the exact one."""
    return float((vectors.shape[1] + 4) * np.finfo(np.float32).eps)


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


def _score_pairs(
    vectors: NDArray[np.float32], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float32]:
    """As `_score`, of pairs of rows."""
    scores = np.empty(len(left), np.float32)
    for start in range(0, len(left), _SCORED_AT_ONCE):
        some = slice(start, start + _SCORED_AT_ONCE)
        scores[some] = (vectors[left[some]] * vectors[right[some]].astype(np.float64)).sum(axis=1)
    return scores


def _improved(
    best: Found,
    query: NDArray[np.float32],
    tile: tuple[NDArray[np.int64], NDArray[np.float32]],
    rough: NDArray[np.float32],
    k: int,
) -> Found:
    """The best k of those known and of a tile's rows, given their numbers, vectors and rough scores."""
    chosen, part = tile
    near = _near(rough, best[1], k, _slack(part))
    indices = np.concatenate([best[0], chosen[near]])
    scores = np.concatenate([best[1], _score(query, part[near])])
    order = np.lexsort((indices, -scores))[:k]
    return indices[order], scores[order]


def _padded(found: Found, k: int) -> Found:
    missing = k - len(found[0])
    return np.pad(found[0], (0, missing), constant_values=-1), np.pad(found[1], (0, missing), constant_values=-np.inf)


def _stacked(found: list[Found], k: int) -> Found:
    indices = np.array([one[0] for one in found], np.int64).reshape(len(found), k)
    return indices, np.array([one[1] for one in found], np.float32).reshape(len(found), k)
