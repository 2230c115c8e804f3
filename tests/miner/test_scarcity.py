"""Rarity of planted events: found whatever the burst, unmoved by copies, the same in two lakes, fused over encoders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from miner.events import collapse, near_distances
from miner.footage import Footage
from miner.scarcity import Estimate, Reference, Space, _upper_tail, reference_of
from tests.footages import YEAR_2024_NS, around, footage, mixture, unit


def rarity(made: Footage) -> tuple[Estimate, np.ndarray]:
    """Of each clip, its event's; and the leaders."""
    leader = collapse(made, near_distances(made))
    heads = np.unique(leader)
    events = made.take(heads)
    found = reference(events).rarity(events, events.scene)
    place = np.searchsorted(heads, leader)
    return Estimate(*(each[place] for each in found)), leader


def reference(events: Footage) -> Reference:
    return reference_of(events, near_distances(events), events.seconds, events.metres)


@pytest.mark.parametrize("burst", [1, 3, 30])
def test_a_burst_is_as_rare_as_one_clip(burst: int) -> None:
    rng = np.random.default_rng(burst)
    common = mixture(1500, 15, rng)
    rare = around(np.repeat(unit(rng.normal(size=(3, 32))), burst, axis=0), 0.1, rng)
    scene = np.concatenate([np.repeat(np.arange(3), burst), 3 + np.arange(1500)])
    starts = 3600.0 * scene + np.concatenate([np.tile(10.0 * np.arange(burst), 3), np.zeros(1500)])
    made = footage(np.concatenate([rare, common]), scene, starts)
    found, leader = rarity(made)
    is_rare = made.scene < 3
    assert len(np.unique(leader[is_rare])) <= 3 * -(-burst // 6), "60 s each"
    assert found.value[is_rare].min() > np.quantile(found.value[~is_rare], 0.98)


def test_copies_of_what_is_common_move_no_rank() -> None:
    rng = np.random.default_rng(0)
    common = np.concatenate([unit(rng.normal(size=(5, 32))), mixture(995, 10, rng)])
    before, _ = rarity(footage(common))
    copied = np.concatenate([common, common[rng.integers(5, 400, size=1500)]])
    after, leader = rarity(footage(copied))
    assert len(np.unique(leader)) == 1000
    moved = np.abs(rankdata(before.value) - rankdata(after.value[:1000]))
    assert moved.max() <= 0.01 * 1000


def test_the_same_clip_in_two_lakes_agrees_within_its_interval() -> None:
    rng = np.random.default_rng(1)
    fleet = mixture(3400, 10, rng)
    shared = fleet[:200]
    lakes = [footage(np.concatenate([shared, part])) for part in (fleet[200:1800], fleet[1800:])]
    one, other = (rarity(lake)[0] for lake in lakes)
    inside = (other.value[:200] >= one.low[:200]) & (other.value[:200] <= one.high[:200])
    assert inside.mean() >= 0.95
    assert (one.low <= one.value).all() and (one.value <= one.high).all()


def test_one_sensor_suffices_to_be_rare() -> None:
    rng = np.random.default_rng(2)
    camera, lidar = mixture(800, 8, rng), mixture(800, 8, rng)
    lidar[:4] = unit(rng.normal(size=(4, 32)))
    camera[4:8] = unit(rng.normal(size=(4, 32)))
    camera[100:200] = 0
    found, _ = rarity(footage(camera, lidar=lidar))
    assert found.value[:8].min() > 0.97 and np.isfinite(found.value).all()
    assert abs(float(np.mean(found.value[100:200])) - 0.5) < 0.15, "a clip one sensor saw is not rare for that"


def test_a_drive_of_its_own_does_not_make_common() -> None:
    """Ten seconds later the same rare truck is still there."""
    rng = np.random.default_rng(3)
    common, truck = mixture(600, 6, rng), unit(rng.normal(size=(1, 32)))
    seen = around(np.repeat(truck, 40, axis=0), 0.7, rng)
    scene = np.concatenate([np.zeros(40, np.int64), 1 + np.arange(600)])
    starts = 3600.0 * scene + np.concatenate([10.0 * np.arange(40), np.zeros(600)])
    found, _ = rarity(footage(np.concatenate([seen, common]), scene, starts))
    assert np.median(found.value[:40]) > 0.9


def test_what_is_common_in_rare_conditions_is_not_rare() -> None:
    """Snow is a tenth of the driving, and no two snowy scenes are as alike as two clear ones."""
    rng = np.random.default_rng(5)
    clear, snow = unit(rng.normal(size=(2, 32)))
    event = unit(clear + 0.7 * unit(rng.normal(size=(4, 32))))  # still like a clear day
    usual = [around(np.repeat(centre[None], many, axis=0), spread, rng) for centre, many, spread in
             ((clear, 900, 0.5), (snow, 100, 0.9))]  # fmt: skip
    found, _ = rarity(footage(np.concatenate([around(event, 0.5, rng), *usual])))
    assert found.value[:4].min() > np.quantile(found.value[904:], 0.9)
    assert float(np.median(found.value[904:])) < 0.6


def test_what_a_reference_measures_by_follows_from_its_events() -> None:
    rng = np.random.default_rng(4)
    vectors = mixture(300, 5, rng)
    drive = np.arange(300) // 3
    order = rng.permutation(300)
    one, other = Space.of(vectors, drive), Space.of(vectors, drive + 7)
    assert (one.concentrations == other.concentrations).all() and (one.surprisals == other.surprisals).all()
    again = one.surprisal(vectors[order], drive[order])
    np.testing.assert_allclose(np.sort(again.value), one.surprisals, atol=1e-8)
    lone = footage(vectors, np.zeros(300, np.int64))
    found = reference(lone).rarity(lone, lone.scene)
    assert (found.value == 0.5).all() and (found.high - found.low > 0.9).all(), "one drive compares with none"


@settings(max_examples=40)
@given(st.lists(st.floats(-5, 50), min_size=1, max_size=30), st.lists(st.floats(-100, 200), min_size=2, max_size=30))
def test_a_tail_falls(numbers: list[float], asked: list[float]) -> None:
    values = np.sort(np.array(asked))
    tail = _upper_tail(np.sort(np.array(numbers)), values)
    assert ((tail > 0) & (tail <= 1)).all() and (np.diff(tail) <= 0).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_laws(seed: int, count: int) -> None:
    """Rarity is 0 to 1 within its interval, of any number of events, and the same wherever the calendar starts."""
    rng = np.random.default_rng(seed)
    vectors = mixture(count, 3, rng, dim=8)
    found, _ = rarity(footage(vectors))
    later, _ = rarity(footage(vectors, since_ns=YEAR_2024_NS + 10**17))
    assert ((found.low >= 0) & (found.low <= found.value) & (found.value <= found.high) & (found.high <= 1)).all()
    np.testing.assert_array_equal(found.value, later.value)
