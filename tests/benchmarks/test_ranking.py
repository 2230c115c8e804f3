"""Measures of a ranking, on rankings small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.query_quality import rrf
from benchmarks.ranking import METRICS, average_precision, by_chance, precision_at, recall_at, relevance
from benchmarks.search_quality import expected_precision

FOUND = relevance(["a", "x", "b", "ignored", "y", "c"], frozenset("abc"), frozenset({"ignored"}))


def test_relevance_leaves_out_what_is_not_judged() -> None:
    assert FOUND.tolist() == [True, False, True, False, True]


def test_by_hand() -> None:
    assert recall_at(2)(FOUND) == 1 / 2 and recall_at(10)(FOUND) == 1
    assert precision_at(2)(FOUND) == 1 / 2 and precision_at(4)(FOUND) == 1 / 2
    assert average_precision(FOUND) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    gains, ideal = 1 + 1 / np.log2(4) + 1 / np.log2(6), 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert METRICS["nDCG@10"](FOUND) == pytest.approx(gains / ideal)
    assert METRICS["MRR"](FOUND) == 1 and METRICS["MRR"](FOUND[1:]) == 1 / 2


@pytest.mark.parametrize("metric", METRICS)
def test_the_best_order_is_one_and_nothing_is_none(metric: str) -> None:
    assert METRICS[metric](np.array([True] * 3 + [False] * 30)) == pytest.approx(1)
    assert METRICS[metric](np.zeros(5, bool)) == 0


def test_chance() -> None:
    assert by_chance(average_precision, 40, 7) == pytest.approx(expected_precision(40, 7), abs=0.01)
    assert by_chance(recall_at(10), 40, 7) == pytest.approx(1 / 4, abs=0.01)


def test_reciprocal_rank_fusion() -> None:
    assert rrf([["a", "b", "c"], ["b", "c", "a"]]) == ["b", "a", "c"]
    assert rrf([["a"], ["b"]]) == ["a", "b"], "ties by id"
