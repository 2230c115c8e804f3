"""What every strategy must do, over everything registered."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings.plugins import UnknownPlugin, plugin_names
from kernels.candidates import Candidates, Picked
from miner.strategies import Strategy, load_strategy
from tests.kernels.test_neighbors import unit

N = 300
VECTORS = np.repeat(unit(np.random.default_rng(0), N // 3, 24), 3, axis=0)  # every row three times
GROUPS = np.arange(N) // 30


@pytest.fixture(params=plugin_names("miner.strategies"))
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return load_strategy(request.param)


def same(first: Picked, second: Picked) -> bool:
    return np.array_equal(first.rows, second.rows) and np.array_equal(first.gains, second.gains)


def test_picks_distinct_rows_and_says_what_each_gained(strategy: Strategy) -> None:
    assert isinstance(strategy, Strategy) and strategy.name in plugin_names("miner.strategies")
    picked = strategy.select(Candidates(), VECTORS, 40, seed=1)
    assert picked.rows.dtype == np.int64 and picked.gains.dtype == np.float32
    assert picked.rows.shape == picked.gains.shape == (40,) and np.isfinite(picked.gains).all()
    assert len(np.unique(picked.rows)) == 40 and picked.rows.min() >= 0 and picked.rows.max() < N


def test_same_seed_same_set(strategy: Strategy) -> None:
    first, again = (strategy.select(Candidates(), VECTORS.copy(), 40, seed=1) for _ in range(2))
    assert same(first, again)


def test_keeps_to_mask_groups_and_what_is_there(strategy: Strategy) -> None:
    mask = np.arange(N) % 2 == 0
    weights = np.linspace(0, 1, N)
    asked = Candidates(mask, weights, GROUPS, 3, np.array([0, 1, 2, 30, 31]))
    picked = strategy.select(asked, VECTORS, N, seed=2)
    assert mask[picked.rows].all() and not np.isin(picked.rows, asked.chosen).any()
    assert np.bincount(GROUPS[picked.rows], minlength=10).tolist() == [0, 1, *[3] * 8]


def test_a_budget_no_data_can_meet_gets_all(strategy: Strategy) -> None:
    assert sorted(strategy.select(Candidates(), VECTORS, N + 5, seed=3).rows.tolist()) == list(range(N))
    assert len(strategy.select(Candidates(mask=np.zeros(N, np.bool_)), VECTORS, 5, seed=3).rows) == 0


def test_nothing_to_choose_from_or_to_choose(strategy: Strategy) -> None:
    for picked in (strategy.select(Candidates(), VECTORS[:0], 5, 0), strategy.select(Candidates(), VECTORS, 0, 0)):
        assert picked.rows.shape == picked.gains.shape == (0,)
        assert picked.rows.dtype == np.int64 and picked.gains.dtype == np.float32


def test_arguments_are_left_as_they_were(strategy: Strategy) -> None:
    vectors, mask, weights = VECTORS.copy(), np.ones(N, np.bool_), np.ones(N)
    for part in (vectors, mask, weights):
        part.flags.writeable = False
    strategy.select(Candidates(mask=mask, weights=weights), vectors, 10, 0)


def test_refuses_what_does_not_fit(strategy: Strategy) -> None:
    for asked, vectors, budget in (
        (Candidates(mask=np.ones(3, np.bool_)), VECTORS, 2),
        (Candidates(), VECTORS * np.float32(np.nan), 2),
        (Candidates(), VECTORS, -1),
    ):
        with pytest.raises(ValueError):
            strategy.select(asked, vectors, budget, 0)


def test_random_draws_in_proportion_to_weights() -> None:
    weights = np.repeat([1.0, 3.0, 0.0], 100)
    draws = [load_strategy("random").select(Candidates(weights=weights), VECTORS, 1, s).rows[0] for s in range(400)]
    heavy, none = np.mean(np.array(draws) // 100 == 1), np.mean(np.array(draws) >= 200)
    assert 0.65 < heavy < 0.85 and none == 0


def test_an_unknown_strategy_lists_the_known() -> None:
    with pytest.raises(
        UnknownPlugin, match=r"unknown strategy 'best'\. Known: dpp, facility_location, k_center, random"
    ):
        load_strategy("best")
