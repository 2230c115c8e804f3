"""How the best rows are found among those that match: the cheapest of the ways that find what was asked for.

- `scan`: compare the query with every row that matches. Always right; the way where few match.
- `masked`: the index, told which rows match.
- `over-fetch`: the index, told nothing; what does not match is dropped. The way where nearly all match.

The filter is worked out first, so the number of rows that match is known, not estimated; what each way costs is
estimated by the index from what was measured when it was built. More is fetched until k clips or frames are there,
whatever the way, so k come back whenever k match.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from kernels.neighbors import Found
from kernels.spans import Ints
from miner.corpus import Corpus, Vector
from miner.indexes import Ask
from miner.query.explain import weighed
from miner.query.matching import Matches

# What a search asks for unless told. Among half a million vectors a text costs some 2 CPU-ms, or half at 0.95: little
# beside encoding it (tens of ms), and of ten hits a tenth of one is missed, not half of one.
EXACTLY = Ask(recall=0.99)
_PER_CLIP = 4  # rows fetched at first for each wanted clip
_SPARE, _LEAST = 16, 64
_MARGIN = 1.2
_MOST_SCANNED_BYTES = 512 * 1024 * 1024  # they are gathered at once
_NEARLY = 0.005  # how far an estimated recall may be below what is asked for


class Ranked(NamedTuple):
    """Rows of an index, the clip of each (-1 for none) and its score."""

    row: Ints
    clip: Ints
    score: Vector

    def take(self, places: Ints) -> Ranked:
        """Some of them."""
        return Ranked(self.row[places], self.clip[places], self.score[places])


@dataclass(frozen=True)
class Way:
    """One way to fetch rows: what it costs (CPU milliseconds) and the share of the true best it finds, estimated.

    `run` gives the best `asks` rows and scores by score, fewer only where there are not so many (`all_there_are`).
    """

    name: str
    cpu_ms: float
    recall: float
    asks: int
    all_there_are: int
    run: Callable[[Vector], Found]


def best(matches: Matches, vector: Vector, k: int, ask: Ask = EXACTLY) -> Ranked:
    """The best row in each of the best k clips or frames that match, by score descending, then id of the group.

    `vector` (dim,) is of unit length. More rows are fetched until k groups are there and all rows that tie with the
    k-th have been seen, or none is left. So they are exactly the best if what fetched them is exact.
    """
    available = matches.passing.count
    fetch, scan = _at_first(matches, k) if available else 0, False
    while available:
        started = time.perf_counter()
        ways = _ways(matches, min(fetch, available), ask)
        way = ways[0] if scan else chosen(ways, ask)
        found, scores = way.run(vector)
        winners = _winners(matches, _candidates(matches, found, scores))
        if matches.plan is not None:
            what = f"{way.name}, with the best of {len(winners.row):,} {matches.per}s"
            matches.plan.add("fetch", what, (way.asks, len(found)), started, way.cpu_ms, note=weighed(ways))
        if len(winners.row) >= k and scores[-1] < winners.score[k - 1]:
            return winners.take(np.arange(k))
        if len(found) >= way.all_there_are:
            return winners.take(np.arange(min(k, len(winners.row))))
        scan = len(found) < way.asks  # an index that gives less than it is asked for is not asked again
        fetch = available if scan else _more(fetch, k, len(winners.row))
    return Ranked(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def chosen(ways: list[Way], ask: Ask) -> Way:
    """The cheapest way that is expected to find the share that is asked for; else the one that finds most."""
    able = [way for way in ways if way.cpu_ms < float("inf")]
    good = [way for way in able if way.recall >= ask.recall - _NEARLY]
    return min(good, key=lambda way: way.cpu_ms) if good else max(able, key=lambda way: way.recall)


def _ways(matches: Matches, fetch: int, ask: Ask) -> list[Way]:
    """The ways to fetch the best `fetch` rows that match; scanning them comes first."""
    index, passing = matches.corpus.index, matches.passing
    count, total = passing.count, len(index.rows)
    scan_ms = index.scan_ms(count) if count * index.dim * 4 <= _MOST_SCANNED_BYTES else float("inf")

    def scan(vector: Vector) -> Found:
        return _one(index.scan(vector[None], fetch, passing.rows))

    def masked(vector: Vector) -> Found:
        return _one(index.search(vector[None], fetch, passing.mask, ask))

    def wide(vector: Vector) -> Found:
        return _one(index.search(vector[None], wider, None, ask))

    wider = min(total, fetch if count == total else int(_MARGIN * fetch * total / count) + 1)
    told, untold = index.estimate(fetch, count, ask), index.estimate(wider, total, ask)
    ways = [Way("scan", scan_ms, 1.0, fetch, count, scan)]
    if count == total:
        return [*ways, Way("search", untold.cpu_ms, untold.recall, wider, total, wide)]
    ways += [Way("masked", told.cpu_ms, told.recall, fetch, count, masked)]
    return [*ways, Way("over-fetch", untold.cpu_ms, untold.recall, wider, total, wide)]


def _at_first(matches: Matches, k: int) -> int:
    """How many rows to fetch first: for frames as many as they have views, a few more to see the end of ties."""
    each = matches.corpus.views if matches.per == "frame" else _PER_CLIP
    return max(each * k + _SPARE, _LEAST)


def _one(found: Found) -> Found:
    """The answer for the only query."""
    return found[0][0], found[1][0]


def _more(fetch: int, k: int, groups: int) -> int:
    """How many rows to fetch next, after `fetch` gave so many groups."""
    return fetch * min(max(4, -(-k // max(groups, 1)) + 1), 16)


def _candidates(matches: Matches, found: Ints, scores: Vector) -> Ranked:
    """Found rows with each clip they are in that may be found."""
    which, pairs = matches.corpus.pairs_of_rows(found)
    allowed = matches.allow(pairs)
    which, pairs = which[allowed], pairs[allowed]
    return Ranked(found[which], matches.corpus.clip[pairs], scores[which])


def _winners(matches: Matches, candidates: Ranked) -> Ranked:
    """The best candidate of each clip or frame, by score, then id; within one by score, then ids of reading and row."""
    corpus = matches.corpus
    reading = corpus.readings.rank[candidates.row]
    group = reading if matches.per == "frame" else corpus.clip_ids.rank[candidates.clip]
    order = np.lexsort((candidates.clip, _row_order(corpus, candidates.row), reading, group, -candidates.score))
    _, first = np.unique(group[order], return_index=True)
    return candidates.take(order[np.sort(first)])


def _row_order(corpus: Corpus, rows: Ints) -> Ints:
    """Numbers that order rows as their ids do."""
    rank: Ints = pc.rank(corpus.index.rows["embedding_id"].take(rows), tiebreaker="dense").to_numpy().astype(np.int64)
    return rank
