"""How well an index finds, for which effort: measured once when it is built, asked at every search.

Queries of two kinds are measured: `image`, rows of the table itself (each leaves itself out of what it finds), and
`text`, which lie beside them. For each kind, and for masks that let all, a tenth and a hundredth of the rows through,
the curve has the share of the true ten nearest rows, and of the true fifty, that are among the first candidates: more
rows lie in more lists.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.neighbors import top_k
from miner.indexes import Ask, Estimate

K = 10
WANTED = (K, 50)  # rows: the shares of so many nearest are measured
SHARES = (1.0, 0.1, 0.01)  # of the rows that a mask lets through
REFINES = (1, 2, 4, 7, 10, 14, 20, 28, 40, 80)  # candidates for each of K wanted rows
_SURPLUS = np.array(REFINES) - 1
_RUN = 1000  # rows that a mask lets through or not together: filters ask for scenes, which are neighbours in a table
_TIMED = 10  # searches are timed with K times so many candidates; what more of them cost is told apart
_TIMED_QUERIES = 40
_SAFETY = 0.2  # of what may be missed is kept back: the next queries are not those that were measured

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]
Candidates = Callable[[Vectors, int, int, NDArray[np.bool_] | None], Ints]  # queries, count, effort, mask -> rows


class Setting(NamedTuple):
    """What to ask of an index: `effort` (lists read, or vertices kept in sight), and how many candidates."""

    effort: int
    candidates: int


@dataclass(frozen=True)
class Curve:
    """`recall[kind][share][wanted][effort][refine]` and `cpu_ms[share][effort]` of a search without its candidates, of
    which each takes `candidate_ms` to keep in sight, fetch and score; the indexes are places in SHARES (of which there
    may be the first alone), WANTED, `efforts` and REFINES.
    """

    efforts: Sequence[int]
    recall: Mapping[str, Sequence[Sequence[Sequence[Sequence[float]]]]]
    cpu_ms: Sequence[Sequence[float]]
    candidate_ms: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Curve:
        """What `to_dict` made."""
        return cls(**{name: values[name] for name in ("efforts", "recall", "cpu_ms", "candidate_ms")})

    def reaches(self, kind: str) -> float:
        """The highest recall for queries of a kind, without a mask."""
        return max(max(row) for row in self.recall[kind][0][0])

    def choose(self, k: int, share: float, ask: Ask) -> tuple[Setting, Estimate]:
        """The cheapest setting that is expected to find what is asked, else the one that finds most."""
        place = min(range(len(self.cpu_ms)), key=lambda each: abs(math.log(SHARES[each] / max(share, 1e-9))))
        wanted = int(np.searchsorted(WANTED[:-1], k))
        recall, cpu_ms = self._measured[ask.kind][place, wanted], self._cpu_ms[place]
        counts = k + np.ceil(_SURPLUS * math.sqrt(K * k))
        cost = cpu_ms[:, None] + self.candidate_ms * counts
        enough = recall >= ask.recall + _SAFETY * (1 - ask.recall)
        flat = int(np.argmin(np.where(enough, cost, np.inf))) if enough.any() else int(np.argmax(recall - 1e-6 * cost))
        effort, refine = divmod(flat, len(REFINES))
        setting = Setting(self.efforts[effort], int(counts[refine]))
        return setting, Estimate(float(cost[effort, refine]), float(recall[effort, refine]))

    @cached_property
    def _measured(self) -> dict[str, NDArray[np.float64]]:
        return {kind: np.array(values) for kind, values in self.recall.items()}

    @cached_property
    def _cpu_ms(self) -> NDArray[np.float64]:
        return np.array(self.cpu_ms)


def surplus(k: int, refine: float) -> int:
    """How many candidates k rows need where K need K * refine: the surplus grows with the root of k."""
    return k + math.ceil((refine - 1) * math.sqrt(K * k))


def measured(
    search: Candidates,
    vectors: Vectors,
    queries: Mapping[str, Vectors],
    efforts: Sequence[int],
    shares: Sequence[float] = SHARES,
) -> Curve:
    """The curve of an index whose candidates are rows of `vectors` (n, dim), for queries (q, dim) by kind.

    `image` queries are rows: what scores 1 with one is not looked for. `shares` are the first of SHARES.
    """
    few, most, rng = _TIMED * K, surplus(K, REFINES[-1]) + 1, np.random.default_rng(0)
    masks = [_mask(len(vectors), share, rng) for share in shares]
    recall: dict[str, list[list[list[list[float]]]]] = {kind: [] for kind in queries}
    cpu_ms: list[list[float]] = []
    more: list[float] = []
    for mask in masks:
        own = dict.fromkeys(queries, -1.0)
        costs = {kind: [] for kind in queries}  # type: dict[str, list[float]]
        for kind, asked in queries.items():
            own[kind] = 1 - 1e-5 if kind == "image" else 2.0
            true, scores = top_k(asked, vectors, WANTED[-1] + 1, mask)
            curve: list[list[list[float]]] = [[] for _ in WANTED]
            for effort in efforts:
                found, wide_ms = _timed(search, asked, most, effort, mask)
                cost_ms = _timed(search, asked[:_TIMED_QUERIES], few, effort, mask)[1]
                more.append((wide_ms - cost_ms) / (most - few))
                costs[kind].append(cost_ms)
                for each, k in zip(curve, WANTED, strict=True):
                    each.append(_recalls(found, true, scores, own[kind], k))
            recall[kind].append(curve)
        cpu_ms.append(np.mean([costs[kind] for kind in queries], axis=0).round(4).tolist())
    candidate_ms = max(float(np.median(more)), 0.0)
    without = (np.array(cpu_ms) - few * candidate_ms).clip(min=1e-4).round(4).tolist()
    return Curve([*efforts], recall, without, candidate_ms + _candidate_ms(vectors, rng))


def _timed(
    search: Candidates, queries: Vectors, count: int, effort: int, mask: NDArray[np.bool_] | None
) -> tuple[list[Ints], float]:
    """The candidates of each query, asked one by one, and what one takes in CPU milliseconds."""
    started = time.process_time()
    found = [search(queries[i : i + 1], count, effort, mask)[0] for i in range(len(queries))]
    return found, (time.process_time() - started) / max(len(queries), 1) * 1e3


def _mask(rows: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_] | None:
    """A mask that lets a share of the rows through, in runs; None for all."""
    if share == 1:
        return None
    length = max(min(_RUN, int(rows * share / 4)), 1)
    runs = rng.random(-(-rows // length)) < share
    return runs.repeat(length)[:rows]


def _recalls(found: Sequence[Ints], true: Ints, scores: Vectors, own: float, k: int) -> list[float]:
    """The mean share of the k true rows among the first `surplus(k, refine)` candidates, for each of REFINES."""
    shares = np.zeros((len(found), len(REFINES)))
    for place, (rows, best, score) in enumerate(zip(found, true, scores, strict=True)):
        wanted = best[score < own][:k]
        rows = rows[~np.isin(rows, best[score >= own])]
        hit = np.isin(rows, wanted)
        for which, refine in enumerate(REFINES):
            shares[place, which] = hit[: surplus(k, refine)].sum() / max(len(wanted), 1)
    return [round(float(mean), 4) for mean in shares.mean(axis=0)]


def _candidate_ms(vectors: Vectors, rng: np.random.Generator) -> float:
    """What fetching and scoring one candidate takes, in CPU milliseconds."""
    query, rounds, count = np.ascontiguousarray(vectors[0]), 50, min(200, len(vectors))
    chosen = rng.integers(0, len(vectors), (rounds, count))
    started = time.process_time()
    for rows in chosen:
        vectors[rows] @ query
    return max((time.process_time() - started) / rounds / count * 1e3, 1e-5)
