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

from kernels.short_vectors import short_axes, shortened

Rows = NDArray[np.int64]
Found = tuple[Rows, NDArray[np.float32]]

_QUERIES_AT_ONCE = 256
_FEW = 16_384
_SCORED_AT_ONCE = 512
_CHECKED_AT_ONCE = 4096


class Pairs(NamedTuple):
    """Pairs of rows `left < right`, int64 (p,) each, and their inner products, float32 (p,)."""

    left: Rows
    right: Rows
    scores: NDArray[np.float32]


class _Best(NamedTuple):
    """The best rows so far of some queries: number of the query, row, score, (m,) each, ordered as in an answer."""

    query: Rows
    row: Rows
    score: NDArray[np.float32]


_NOTHING = _Best(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def pair_scores(vectors: NDArray[np.float32], left: Rows, right: Rows) -> NDArray[np.float32]:
    """The exact inner products of rows `left` and `right`, (p,) each, of `vectors` (n, d): float32 (p,)."""
    return _scores(vectors, left, vectors, right)


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
    found = not_found(len(queries), kept)
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        some = queries[first : first + _QUERIES_AT_ONCE]
        best = _NOTHING
        for start in range(0, len(rows), tile):
            chosen = rows[start : start + tile]
            part = vectors[start : start + tile] if mask is None else vectors[chosen]
            best = _improved(best, (some, part), _products(some, part), chosen, kept)
        if len(best.query) < kept * len(some):
            raise ValueError("vectors hold NaN")
        _fill(found, first, best)
    return found


def knn(vectors: NDArray[np.float32], k: int, groups: NDArray[np.integer] | None = None, tile: int = 65_536) -> Found:
    """The `k` nearest rows of each row among those of other groups: a join of `vectors` (n, d) with itself.

    `groups` (n,) integers, such as the number of a row's scene; without them only the row itself is left out. Gives row
    numbers int64 and scores float32, both (n, k), ordered as by `top_k`; where fewer rows than k are allowed, the rest
    is -1 and -inf. Memory beyond the input is O(tile (256 + d) + n k). Raises ValueError for k < 1, other shapes, or
    numbers that are not finite.
    """
    return knn_of(np.arange(len(vectors)), vectors, k, groups, tile)


def knn_of(
    rows: Rows,
    vectors: NDArray[np.float32],
    k: int,
    groups: NDArray[np.integer] | None = None,
    tile: int = 65_536,
) -> Found:
    """As `knn`, of some `rows` (m,) only, among all: both parts (m, k)."""
    owner = np.arange(len(vectors)) if groups is None else np.asarray(groups)
    _check(vectors, vectors, k, None)
    if owner.shape != (len(vectors),) or not np.issubdtype(owner.dtype, np.integer):
        raise ValueError(f"groups must be {len(vectors)} integers, got {owner.dtype} {owner.shape}")
    found = not_found(len(rows), k)
    for first in range(0, len(rows), _QUERIES_AT_ONCE):
        chosen = rows[first : first + _QUERIES_AT_ONCE]
        some, own = vectors[chosen], owner[chosen]
        best = _NOTHING
        for start in range(0, len(vectors), tile):
            part, of = vectors[start : start + tile], owner[start : start + tile]
            rough = some @ part.T
            rough[own[:, None] == of] = -np.inf
            best = _improved(best, (some, part), rough, np.arange(start, start + len(part)), k)
        _fill(found, first, best)
    return found


def radius_pairs(vectors: NDArray[np.float32], min_score: float, tile: int = 1024) -> Iterator[Pairs]:
    """All pairs of unit rows of `vectors` (n, d) whose inner product, scored as by `top_k`, is at least `min_score`.

    Comes by tiles, those without a pair left out, each sorted by (left, right), so that memory beyond the input is
    O(tile (tile + d)) however many pairs there are. Every pair comes once; which tile it comes in depends on `tile`,
    its score does not. Raises ValueError for another shape, or numbers that are not finite.
    """
    return _radius_pairs(vectors, vectors, min_score, tile)


def radius_pairs_between(
    left: NDArray[np.float32], right: NDArray[np.float32], min_score: float, tile: int = 1024
) -> Iterator[Pairs]:
    """As `radius_pairs`, of a row of `left` (n, d) and one of `right` (m, d) each: two shards of what is looked at.

    Each shard's own pairs and those between each two of them are the pairs of all.
    """
    return _radius_pairs(left, right, min_score, tile)


def _radius_pairs(
    vectors: NDArray[np.float32], others: NDArray[np.float32], min_score: float, tile: int
) -> Iterator[Pairs]:
    for one, other in ((vectors, others), (others, vectors)):
        _check(one, other, 1, None)
    if not np.isfinite(min_score):
        raise ValueError(f"min_score must be finite, got {min_score}")
    return _pairs_by_tile(vectors, others, min_score, tile)


def _pairs_by_tile(
    vectors: NDArray[np.float32], others: NDArray[np.float32], min_score: float, tile: int
) -> Iterator[Pairs]:
    axes, same = short_axes(vectors), others is vectors
    short = shortened(vectors, axes)
    short_others = short if same else shortened(others, axes)
    for first in range(0, len(vectors), tile):
        for start in range(first if same else 0, len(others), tile):
            some, part = slice(first, first + tile), slice(start, start + tile)
            left, right = _may_be_near((short[some], vectors[some]), (short_others[part], others[part]), min_score)
            if same and start == first:
                left, right = left[left < right], right[left < right]
            left, right = left + first, right + start
            scores = _scores(vectors, left, others, right)
            near = scores >= np.float64(min_score)  # not rounded to float32 first
            if near.any():
                yield Pairs(left[near], right[near], scores[near])


def _may_be_near(
    some: tuple[NDArray[np.float32], NDArray[np.float32]],
    part: tuple[NDArray[np.float32], NDArray[np.float32]],
    min_score: float,
) -> tuple[Rows, Rows]:
    """Pairs of lines that may reach the score, by the short vectors, or the long ones if those rule out too little."""
    slack = _slack(some[1])
    near = some[0] @ part[0].T >= min_score - 2 * slack
    if some[0].shape != some[1].shape and np.count_nonzero(near) > near.size // 50:
        near = some[1] @ part[1].T >= min_score - slack
    left, right = np.nonzero(near)
    return left, right


def rescored(
    query: NDArray[np.float32], rows: NDArray[np.int64], vectors: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best `k` of some candidates for one query (d,), scored and ordered as by `top_k`.

    `rows` (c,) are their numbers, `vectors` (c, d) theirs in the same order. Gives row numbers and scores of
    min(k, c) of them.
    """
    rough = vectors @ query
    near = np.arange(len(rows))
    if len(rows) > k:
        near = np.flatnonzero(rough >= np.partition(rough, len(rough) - k)[len(rough) - k] - _slack(vectors))
    scores = _scores(query[None], np.zeros(len(near), np.int64), vectors, near)
    order = np.lexsort((rows[near], -scores))[:k]
    return rows[near[order]], scores[order]


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
    if not all(np.isfinite(queries[i : i + _CHECKED_AT_ONCE]).all() for i in range(0, len(queries), _CHECKED_AT_ONCE)):
        raise ValueError("queries hold numbers that are not finite")


def _products(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """All inner products (q, n), roughly: of one query and few vectors by one thread, which it costs less than two."""
    if len(queries) == 1 and len(vectors) <= _FEW:
        products: NDArray[np.float32] = np.vecdot(vectors, queries[0])[None]
        return products
    return queries @ vectors.T


def _slack(vectors: NDArray[np.float32]) -> float:
    """How far the rough score of two rows of unit length may be from the exact one."""
    return float((vectors.shape[1] + 4) * np.finfo(np.float32).eps)


def _improved(
    best: _Best, tile: tuple[NDArray[np.float32], NDArray[np.float32]], rough: NDArray[np.float32], rows: Rows, k: int
) -> _Best:
    """The best k of each query of those known and of a tile: (queries, vectors), their rough scores and rows."""
    queries, part = tile
    floor = likely(rough, k)
    if len(best.query) == k * len(queries) and k:
        np.maximum(floor, best.score.reshape(-1, k)[:, -1], out=floor)
    query, column = np.nonzero(rough >= np.maximum(floor - _slack(part), np.finfo(np.float32).min)[:, None])
    scores = _scores(queries, query, part, column)
    query, row = np.concatenate([best.query, query]), np.concatenate([best.row, rows[column]])
    return _ranked(query, row, np.concatenate([best.score, scores]), k)


def _ranked(query: Rows, row: Rows, score: NDArray[np.float32], k: int) -> _Best:
    """The best k rows of each query, in order."""
    order = np.lexsort((row, -score, query))
    query = query[order]
    kept = np.arange(len(order)) - np.searchsorted(query, query) < k
    return _Best(query[kept], row[order[kept]], score[order[kept]])


def best_of(rough: NDArray[np.float32], rows: Rows, k: int) -> Found:
    """The `k` best of the candidates `rows` (c,) by their scores `rough` (q, c): both parts (q, k), padded as by `knn`.

    Scores of -inf are not found. Order as by `top_k`, of the scores as they are.
    """
    query, column = np.nonzero(rough >= np.maximum(likely(rough, k), np.finfo(np.float32).min)[:, None])
    found = not_found(len(rough), k)
    _fill(found, 0, _ranked(query, rows[column], rough[query, column], k))
    return found


def likely(rough: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """For each line of `rough` (q, n) a number, float32 (q,), that k or more of it reach, and few more do.

    It is the k-th largest of the maxima of sets of columns: quicker than the k-th largest itself. -inf where n < k.
    """
    lines, columns = rough.shape
    if columns < k or not k:
        return np.full(lines, -np.inf, np.float32)
    width = min(32, columns // (4 * k))
    if width > 1:
        sets = columns // width
        rough = rough[:, : sets * width].reshape(lines, width, sets).max(axis=1)
    return np.partition(rough, rough.shape[1] - k, axis=1)[:, rough.shape[1] - k]


def _scores(queries: NDArray[np.float32], query: Rows, vectors: NDArray[np.float32], row: Rows) -> NDArray[np.float32]:
    """Inner products of lines summed in float64 one by one, so that a score depends on its two lines alone."""
    scores = np.empty(len(query), np.float32)
    for start in range(0, len(query), _SCORED_AT_ONCE):
        some = slice(start, start + _SCORED_AT_ONCE)
        scores[some] = (vectors[row[some]] * queries[query[some]].astype(np.float64)).sum(axis=1)
    return scores


def not_found(queries: int, k: int) -> Found:
    """The answer of queries that found nothing: -1 and -inf, both (queries, k)."""
    return np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32)


def _fill(found: Found, start: int, best: _Best) -> None:
    """Write what some queries, the first of which is number `start`, have found."""
    place = np.arange(len(best.query)) - np.searchsorted(best.query, best.query)
    found[0][start + best.query, place] = best.row
    found[1][start + best.query, place] = best.score
