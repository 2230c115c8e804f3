"""How rows are fetched: which way is chosen, that k come back whatever the way, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.neighbors import Found
from miner.corpus import Corpus
from miner.errors import Damaged
from miner.indexes import DEFAULT, Ask, Estimate
from miner.indexes.flat import FlatIndex
from miner.query.explain import Plan, plan_text
from miner.query.filters import parse_filter
from miner.query.matching import Matches, Passing, matching
from miner.query.plan import Way, best, chosen
from miner.search import Query, search
from miner.store import Store, one_of
from tests.miner.test_corpus import corpus_of
from tests.miner.test_search import ENCODER, ROWS, lake_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return lake_of(tmp_path_factory.mktemp("plan"), ROWS)


def way(name: str, cpu_ms: float, recall: float) -> Way:
    def run(vector: Any) -> Found:
        raise AssertionError("only weighed")

    return Way(name, cpu_ms, recall, 1, 1, run)


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        ([way("scan", 5, 1), way("masked", 1, 0.99)], "masked"),
        ([way("scan", 1, 1), way("masked", 5, 0.99)], "scan"),
        ([way("scan", 5, 1), way("masked", 1, 0.9), way("over-fetch", 3, 0.99)], "over-fetch"),
        ([way("scan", 5, 1), way("masked", 1, 0.9)], "scan"),
        ([way("scan", float("inf"), 1), way("masked", 1, 0.9), way("over-fetch", 9, 0.95)], "over-fetch"),
    ],
)
def test_the_cheapest_that_finds_enough(ways: list[Way], expected: str) -> None:
    assert chosen(ways, Ask(recall=0.99)).name == expected


@dataclass(frozen=True)
class Approximate(FlatIndex):
    """Says that it is cheap, and finds at most `gives` rows."""

    gives: int = 10**9
    scans_ms: float = 1e9

    def search(self, queries: Any, k: int, mask: Any = None, ask: Ask = DEFAULT) -> Found:
        rows, scores = super().search(queries, k, mask, ask)
        return rows[:, : self.gives], scores[:, : self.gives]

    def estimate(self, k: int, passing: int, ask: Ask = DEFAULT) -> Estimate:
        return Estimate(0.1 + k / 1000, 1.0)

    def scan_ms(self, passing: int) -> float:
        return self.scans_ms


@pytest.mark.parametrize("share", [1.0, 0.9, 0.2, 0.01])
@pytest.mark.parametrize("gives", [10**9, 70, 0])
@pytest.mark.parametrize("per", ["clip", "frame"])
def test_k_come_back_whatever_the_way(share: float, gives: int, per: str) -> None:
    exact = corpus_of(3, rows=600, clips=20, distinct=90)
    made = exact.index
    assert isinstance(made, FlatIndex)
    index = Approximate("embeddings/x", 1, "x", "1", "camera", made.rows, made.matrix, gives=gives)
    corpus = Corpus(index, exact.clips, exact.row, exact.clip)
    pairs = (np.random.default_rng(0).random(600) < share) & (exact.clip >= 0)
    vector, plan = np.array([1, 0], np.float32), Plan()
    for k in (1, 7, 1000):
        got = best(Matches(Passing(corpus, pairs), per, plan=plan), vector, k)
        expected = best(Matches(Passing(exact, pairs), per), vector, k)
        assert got.row.tolist() == expected.row.tolist() and got.score.tolist() == expected.score.tolist()
    ways = {step.what.partition(",")[0] for step in plan.steps}
    assert ways & {"masked", "over-fetch"} and ("scan" in ways) >= (gives == 0)


def test_a_plan_tells_each_step(store: Store) -> None:
    corpus, where = Corpus.load(store), "dataset = 'd0' and channel = 'CAM_BACK' and (location is null or part_of)"
    where = where.replace("part_of", "timestamp_ns < 20")
    query = Query(texts=("night",), k=3, where=where)
    plain = search(store, query, ENCODER, corpus)
    assert plain.plan is None and "plan" not in plain.to_dict()
    fresh = Corpus.load(store)
    first, again = (search(store, query, ENCODER, fresh, Plan()) for _ in range(2))
    assert first.hits == again.hits == plain.hits
    steps = first.to_dict()["plan"]["steps"]
    assert [step["step"] for step in steps] == ["query", "filter", "filter", "filter", "match", "fetch", "describe"]
    passing = int(matching(corpus, parse_filter(where), "clip").passing.count)
    assert steps[1]["rows"] == steps[1]["expected_rows"] == 6 and steps[4]["rows"] == passing
    assert steps[-1]["rows"] == 3 and all(step["ms"] >= 0 for step in steps)
    assert [step["step"] for step in again.to_dict()["plan"]["steps"]] == ["query", "match", "fetch", "describe"]
    assert "kept from an earlier query" in repr(again) and "weighed: scan" in plan_text(first.plan or {})


def test_a_second_answer_knows_the_files_and_a_lost_one_is_never_shown(tmp_path: Path) -> None:
    store = lake_of(tmp_path, ROWS)
    query, corpus = Query(texts=("night",), k=3, per="frame"), Corpus.load(store)
    first, second = (search(store, query, ENCODER, corpus) for _ in range(2))
    assert first.hits == second.hits and first[0].uri
    store.delete("sample_data", one_of("sample_data_id", [first[0].sample_data_id]))
    assert search(store, query, ENCODER, corpus).hits == first.hits  # as it was loaded
    for _ in range(2):
        with pytest.raises(Damaged, match="1 row of the answer is not in"):
            search(store, query, ENCODER, Corpus.load(store))
