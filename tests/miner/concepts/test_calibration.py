"""Scores to probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.concepts.calibration import ENOUGH, by_contrast, by_labels


def test_labels_give_the_odds_they_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0.2, 0.05, 20_000)
    slope, offset = 60.0, -13.0
    shown = rng.random(len(scores)) < 1 / (1 + np.exp(-(slope * scores + offset)))
    found = by_labels(scores, shown)
    assert found is not None and found.method == "labels"
    assert found.slope == pytest.approx(slope, rel=0.05) and found.offset == pytest.approx(offset, rel=0.05)
    assert found.positives == shown.sum() and found.negatives == (~shown).sum()
    assert found.even == pytest.approx(13 / 60, rel=0.02)
    assert found.brier is not None and found.brier < shown.mean() * (1 - shown.mean())
    np.testing.assert_allclose(found.probability(scores).mean(), shown.mean(), atol=1e-3)


def test_a_clear_cut_stays_finite() -> None:
    scores = np.array([0.1] * 10 + [0.9] * 10)
    found = by_labels(scores, scores > 0.5)
    assert found is not None
    low, high = found.probability(np.array([0.1, 0.9]))
    assert low == pytest.approx(1 / 12, abs=0.02) and high == pytest.approx(11 / 12, abs=0.02), "Platt's targets"


def test_too_few_labels_or_labels_that_contradict() -> None:
    scores = np.linspace(0, 1, 40)
    assert by_labels(scores, np.arange(40) < ENOUGH - 1) is None
    assert by_labels(scores, scores < 0.5) is None
    assert by_labels(np.empty(0), np.empty(0, bool)) is None


@given(st.lists(st.floats(-1, 1), max_size=30))
def test_without_labels_what_stands_out_is_likelier(scores: list[float]) -> None:
    values = np.array(scores)
    found = by_contrast(values)
    likely = found.probability(np.sort(values))
    assert found.method == "contrast" and (np.diff(likely) >= 0).all() and ((likely >= 0) & (likely <= 1)).all()


def test_without_labels_a_fixed_share_is_likely() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.01, 10_000)
    likely = by_contrast(values).probability(values)
    assert 0.1 < likely.mean() < 0.2 and 0.02 < (likely > 0.5).mean() < 0.06
    np.testing.assert_allclose(likely, by_contrast(5 * values + 2).probability(5 * values + 2), atol=1e-9)
    assert np.isnan(by_contrast(values).probability(np.array([np.nan]))).all()
