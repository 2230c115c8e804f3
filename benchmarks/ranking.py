"""How good a ranking is: recall@k, reciprocal rank, nDCG@k, average precision, precision@k, and what chance would give.

A ranking is given as the relevance of its items, best first. Binary relevance throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Relevance = NDArray[np.bool_]
Metric = Callable[[Relevance], float]
_SHUFFLES = 2_000


def relevance(ranking: Sequence[str], relevant: frozenset[str], ignore: frozenset[str] = frozenset()) -> Relevance:
    """Whether each item of a ranking is relevant, those to ignore left out."""
    return np.array([item in relevant for item in ranking if item not in ignore], np.bool_)


def recall_at(k: int) -> Metric:
    """The share of the relevant items among the first k, of those that fit there."""
    return lambda found: float(found[:k].sum() / max(min(found.sum(), k), 1))


def precision_at(k: int) -> Metric:
    """The share of relevant items among the first k."""
    return lambda found: float(found[:k].mean())


def reciprocal_rank(found: Relevance) -> float:
    """One over the rank of the first relevant item; 0 without one."""
    ranks = np.flatnonzero(found)
    return float(1 / (ranks[0] + 1)) if len(ranks) else 0.0


def ndcg_at(k: int) -> Metric:
    """Discounted cumulative gain of the first k over that of the best order (Jarvelin and Kekalainen 2002)."""
    discount = 1 / np.log2(np.arange(2, k + 2))

    def of(found: Relevance) -> float:
        ideal = discount[: min(int(found.sum()), k)].sum()
        return float(found[:k] @ discount[: len(found[:k])] / ideal) if ideal else 0.0

    return of


def average_precision(found: Relevance) -> float:
    """Mean over the relevant items of the precision at their rank."""
    ranks = np.flatnonzero(found) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else 0.0


METRICS: dict[str, Metric] = {
    "recall@10": recall_at(10),
    "MRR": reciprocal_rank,
    "nDCG@10": ndcg_at(10),
    "mAP": average_precision,
}


def by_chance(metric: Metric, items: int, relevant: int) -> float:
    """The mean of a metric over random orders of so many items."""
    rng = np.random.default_rng(0)
    found = np.arange(items) < relevant
    return float(np.mean([metric(rng.permutation(found)) for _ in range(_SHUFFLES)]))
