"""Claim: whatever share of a million frames a filter lets through, 50 of them come back, nearly always the best 50, in
milliseconds.

The filter is on a count in `clip_facts` that lets 100, 10, 1, 0.1 and 0.01 % of the clips through; queries are as
texts are: beside the distribution of frames. Ours is `matching` and `best`, as a search calls them, with a filter that
was not asked before ("new filter": parsed and evaluated for each query) and with one that was. Rivals answer the same
queries over the same vectors: FAISS (IVF-SQ8) with a selector made from a column of numbers, Lance with its own
pre-filter (IVF_PQ, refined), LanceDB with its defaults, pandas and NumPy by comparing all that pass. They take turns of
ten queries, after a pause (threads of some go on for a while when they have answered) and one query that does not
count: what is measured is a system that is warm.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.embeddings_like import World
from benchmarks.hybrid_rivals import Answer, Rival, rivals
from benchmarks.made_lake import RANGE, SHARES, make, ranks_of, within
from benchmarks.report import Row, run
from kernels.neighbors import top_k
from miner.corpus import Corpus
from miner.indexes import Ask
from miner.lake import open
from miner.query.filters import parse_filter
from miner.query.matching import matching
from miner.query.plan import best
from miner.store import Store

K = 50
_TURN, _PAUSE_S = 10, 0.1
ASK = Ask(kind="text", recall=0.99)


@dataclass
class Measured:
    """What one system gave at one selectivity, a query each."""

    recall: list[float] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--rows", type=int, help="frames [1,000,000; with --quick 50,000]")
    parser.add_argument("--dim", type=int, help="numbers a vector [512; with --quick 128]")
    parser.add_argument("--queries", type=int, default=50, help="per selectivity")
    parser.add_argument("--lake", type=Path, help="where to make the lake and keep it; taken as it is if it is there")
    parser.add_argument("--kind", default="auto", help="of our index, as miner index takes it")
    parser.add_argument("--without", nargs="*", default=[], help="rivals to leave out")


def measure(options: argparse.Namespace) -> list[Row]:
    """Build all, then ask all the same."""
    rows = options.rows or (50_000 if options.quick else 1_000_000)
    drawn = World(options.dim or (128 if options.quick else 512)).draw(rows, options.queries)
    with tempfile.TemporaryDirectory() as folder:
        lake, ranks = str(options.lake or Path(folder) / "lake"), ranks_of(rows)
        if not Path(lake).exists():
            make(lake, drawn.frames)
            open(lake).index(kind=options.kind, target_recall=ASK.recall)
        started = time.perf_counter()
        corpus = Corpus.load(Store.open(lake))
        loading = time.perf_counter() - started
        systems = {
            "new filter": _ours(corpus, fresh=True),
            "same filter": _ours(corpus, fresh=False),
            **rivals(Path(folder), drawn.frames, ranks, [*options.without]),
        }
        shares = [share for share in (100, *SHARES) if np.count_nonzero(ranks < RANGE * share / 100) >= K]
        measured = {share: _asked(systems, corpus, (drawn.queries["text"], ranks, share)) for share in shares}
    case = f"{rows:,} x {drawn.frames.shape[1]}, {corpus.index.kind}"
    found = [Row(case, "loading a corpus", "s", loading)]
    return [*found, *(row for share, each in measured.items() for row in _rows(case, share, each, options.quick))]


def _ours(corpus: Corpus, fresh: bool) -> Rival:
    asked = iter(range(10**9))

    def answer(query: NDArray[np.float32], share: float) -> Answer:
        text = within(share) + (f" and num_frames > {-1 - next(asked)}" if fresh else "")
        matches = matching(corpus, None if share == 100 else parse_filter(text), "frame")
        return best(matches, query, K, ASK).row

    return answer


def _asked(
    systems: dict[str, Rival], corpus: Corpus, asked: tuple[NDArray[np.float32], NDArray[np.int64], float]
) -> dict[str, Measured]:
    """Every query to every system, in turns."""
    queries, ranks, share = asked
    passing = np.flatnonzero(ranks < RANGE * share / 100)
    vectors = corpus.index.vectors(passing)
    truth = passing[top_k(queries, vectors, K)[0]]
    del vectors
    measured = {name: Measured() for name in systems}
    for start in range(0, len(queries), _TURN):
        for name, system in systems.items():
            time.sleep(_PAUSE_S)
            system(queries[start - 1], share)
            for number in range(start, min(start + _TURN, len(queries))):
                wall, cpu = time.perf_counter(), time.process_time()
                found = system(queries[number], share)
                times = (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
                measured[name].recall.append(len(np.intersect1d(found, truth[number])) / truth.shape[1])
                measured[name].returned.append(len(np.unique(found)))
                measured[name].wall_ms.append(times[0])
                measured[name].cpu_ms.append(times[1])
    return measured


def _rows(case: str, share: float, measured: dict[str, Measured], quick: bool) -> list[Row]:
    ours, known = measured["new filter"], {name: each for name, each in measured.items() if name != "new filter"}
    what = f"{case}, {share:g} % pass"
    judged: list[tuple[str, str, Callable[[Measured], float], str, Callable[[float], bool]]] = [
        ("recall@50", "share", lambda each: float(np.mean(each.recall)), ">= 0.99", lambda value: value >= 0.99),
        ("returned, fewest", "rows", lambda each: min(each.returned), f"{K}", lambda value: value == K),
        ("p50", "ms", lambda each: float(np.percentile(each.wall_ms, 50)), "<= 10", lambda value: value <= 10),
        ("p95", "ms", lambda each: float(np.percentile(each.wall_ms, 95)), "<= 20", lambda value: value <= 20),
        ("p50 of CPU", "ms", lambda each: float(np.percentile(each.cpu_ms, 50)), "", lambda value: True),
    ]
    rows = []
    for metric, unit, value, target, holds in judged:
        for name, each in known.items():
            mine = value(ours)
            judge = None if quick or not target else holds(mine)
            rows.append(Row(what, metric, unit, mine, value(each), name, None, target or None, judge))
    return rows


if __name__ == "__main__":
    run("hybrid", measure, add_options)
