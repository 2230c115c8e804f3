"""All rows' nearest neighbours at a stated recall: rows are put into buckets in several ways, each bucket is one
product, and each row is compared with the neighbours of its neighbours.

What is on the border of two buckets one time is inside of one another time. The exact neighbours of some rows drawn at
random tell when the graph is good enough, so the recall holds for the data at hand, not for those the settings were
tuned on.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.buckets import Buckets, by_label, fit_buckets
from kernels.kmeans import Vectors
from kernels.neighbor_join import joined_neighbors, merged
from kernels.neighbors import Found, Rows, best_of, knn, knn_of, not_found

_EXACT_BELOW = 4096  # rows
_ROWS_A_BUCKET = 64
_PROBED = 256
_BUCKETINGS, _JOINS = 5, 2
_HOPELESS = 0.7  # recall after two ways to put rows into buckets: more of them will not do
_AT_ONCE = 256


def knn_graph(
    vectors: Vectors,
    k: int,
    groups: NDArray[np.integer] | None = None,
    min_recall: float = 0.99,
    seed: int = 0,
) -> Found:
    """The `k` nearest rows of each unit row of `vectors` (n, d), of other `groups` (n,) only: as by `knn`.

    At least the share `min_recall` of them is right, as estimated on 256 rows; all, where it is 1 or rows are few.
    Scores are those of a float32 product, so rows whose scores differ by less than its rounding may come in another
    order. Gives indices int64 and scores float32, both (n, k), -1 and -inf where there are no more. Same seed, same
    answer. Raises ValueError as `knn`.
    """
    owner = np.arange(len(vectors)) if groups is None else np.asarray(groups)
    if len(vectors) < _EXACT_BELOW or min_recall >= 1:
        return knn(vectors, k, owner)
    probed = np.sort(np.random.default_rng(seed).choice(len(vectors), _PROBED, replace=False))
    true, _ = knn_of(probed, vectors, k, owner)
    wanted = (1 + min_recall) / 2  # and half of what may lack: other rows are not those probed
    found, reached = not_found(len(vectors), k), 0.0
    for number in range(_BUCKETINGS):
        plan = _Plan.of(vectors, seed + number)
        found = merged(found, _looked(vectors, k, owner, plan, 1))
        for _ in range(_JOINS if number else 0):
            found = joined_neighbors(vectors, owner, found)
        reached = _recall(found[0][probed], true)
        if reached >= wanted or (number and reached < _HOPELESS):
            break
    if reached < wanted:
        looked_at = _enough(probed, true, plan, wanted)
        if looked_at * 4 > len(plan.buckets.centres):
            return knn(vectors, k, owner)
        found = merged(found, _looked(vectors, k, owner, plan, looked_at))
    short = np.flatnonzero(found[0][:, -1] < 0)
    found[0][short], found[1][short] = knn_of(short, vectors, k, owner)
    return found


class _Plan(NamedTuple):
    """Buckets, and the bucket of each row (n,)."""

    buckets: Buckets
    labels: Rows

    @classmethod
    def of(cls, vectors: Vectors, seed: int) -> _Plan:
        buckets = fit_buckets(vectors, len(vectors) // _ROWS_A_BUCKET, seed)
        return cls(buckets, buckets.of(vectors))


def _enough(probed: Rows, true: Rows, plan: _Plan, share: float) -> int:
    """How many of the nearest buckets hold a share of the `true` neighbours (p, k) of some rows (p,)."""
    count, ranks = len(plan.buckets.centres), []
    for row, neighbours in zip(probed, true, strict=True):
        rank = np.empty(count, np.int64)
        rank[plan.buckets.near(plan.labels[row], count)] = np.arange(count)
        ranks.append(rank[plan.labels[neighbours[neighbours >= 0]]])
    needed = np.sort(np.concatenate(ranks))
    return 1 + int(needed[math.ceil(share * len(needed)) - 1]) if len(needed) else 1


def _recall(found: Rows, true: Rows) -> float:
    """The share of the true neighbours (p, k) that are among those found."""
    hit = sum(np.isin(own[own >= 0], rows).sum() for own, rows in zip(true, found, strict=True))
    return float(hit / max((true >= 0).sum(), 1))


def _looked(vectors: Vectors, k: int, owner: Rows, plan: _Plan, looked_at: int) -> Found:
    """What each bucket's rows find in the `looked_at` buckets nearest to it."""
    found = not_found(len(vectors), k)
    order, bounds = by_label(plan.labels, len(plan.buckets.centres))
    members = [order[low:high] for low, high in itertools.pairwise(bounds)]
    for bucket, rows in enumerate(members):
        if not len(rows):
            continue
        candidates = np.concatenate([members[near] for near in plan.buckets.near(bucket, looked_at)])
        others = vectors[candidates]
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            rough = vectors[some] @ others.T
            rough[owner[some, None] == owner[candidates]] = -np.inf
            found[0][some], found[1][some] = best_of(rough, candidates, k)
    return found
