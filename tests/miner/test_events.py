"""Which clips are one event: by look, time, place and copy; and what holds for any footage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.events import collapse, event_rows, near_distance, near_distances
from miner.footage import Footage
from tests.footages import around, footage, mixture, unit

NEAR = {"camera": 0.05}
ONE = unit(np.ones((1, 32)))


def alike(count: int, spread: float = 0.15) -> np.ndarray:
    return around(np.repeat(ONE, count, axis=0), spread, np.random.default_rng(0))


def events(made: Footage, near: dict[str, float] | None = None) -> int:
    return len(np.unique(collapse(made, near or NEAR)))


def test_one_drive_that_stands_is_one_event() -> None:
    scene, starts = np.zeros(12, np.int64), 10.0 * np.arange(12)
    assert events(footage(alike(12), scene, starts, np.zeros((12, 3)))) == 1


def test_one_drive_that_moves_is_an_event_each_200_metres() -> None:
    scene, starts = np.zeros(12, np.int64), 10.0 * np.arange(12)
    place = np.column_stack([100.0 * np.arange(12), np.zeros(12), np.zeros(12)])
    assert events(footage(alike(12), scene, starts, place)) == 4
    assert events(footage(alike(12), scene, starts)) == 2, "60 s where places are not known"


def test_a_gap_in_the_recording_ends_an_event() -> None:
    scene, starts = np.zeros(4, np.int64), np.array([0.0, 10.0, 100.0, 110.0])
    assert events(footage(alike(4), scene, starts, np.zeros((4, 3)))) == 2


def test_what_looks_different_is_another_event_unless_the_picture_goes_on() -> None:
    vectors = np.concatenate([alike(3), unit(-np.ones((3, 32)))])
    made = footage(vectors, np.zeros(6, np.int64), 10.0 * np.arange(6), np.zeros((6, 3)))
    assert events(made) == 2
    assert events(replace(made, continues=np.ones(6, np.bool_))) == 1


def test_drives_hours_apart_are_events_of_their_own_but_copies_are_not() -> None:
    assert events(footage(alike(6))) == 6
    copies = around(np.repeat(ONE, 6, axis=0), 0.02, np.random.default_rng(0))
    assert events(footage(copies)) == 1


def test_times_that_count_from_a_start_keep_nothing_apart() -> None:
    assert events(footage(alike(6), since_ns=0)) == 1


def test_two_vehicles_at_one_place_and_time_see_one_event() -> None:
    scene, starts = np.arange(4), np.array([0.0, 5.0, 10.0, 15.0])
    assert events(footage(alike(4), scene, starts, np.zeros((4, 3)))) == 1
    far = np.column_stack([1000.0 * np.arange(4), np.zeros(4), np.zeros(4)])
    assert events(footage(alike(4), scene, starts, far)) == 4


def test_all_encoders_that_saw_both_must_agree() -> None:
    other = unit(np.random.default_rng(3).normal(size=(6, 8)))
    made = footage(alike(6), since_ns=0, lidar=other)
    near = NEAR | {"lidar": 0.05}
    assert events(made, near) == 6
    assert events(footage(alike(6), since_ns=0, lidar=np.zeros_like(other)), near) == 1
    half = np.where(np.arange(6)[:, None] < 3, alike(6), np.float32(0))
    only_lidar = unit(np.repeat(other[:1], 6, axis=0))
    assert events(footage(half, since_ns=0, lidar=only_lidar), near) == 1


def test_what_is_near_does_not_change_with_copies() -> None:
    rng = np.random.default_rng(5)
    common = mixture(600, 12, rng)
    before = near_distance(common, np.arange(600))
    copied = np.concatenate([common, common[rng.integers(600, size=1800)]])
    after = near_distance(copied, np.arange(len(copied)))
    assert 0 < before < 0.25 and after == pytest.approx(before, rel=0.15)
    assert near_distance(common[:1], np.arange(1)) == near_distance(common, np.zeros(600, np.int64)) == 1e-6


def test_copies_are_one_event_where_there_is_nothing_else() -> None:
    for seed in range(20):
        vector = unit(np.random.default_rng(seed).normal(size=(1, 64)))
        made = footage(np.repeat(vector, 6, axis=0), np.arange(6) // 3, np.zeros(6))
        assert events(made, near_distances(made)) == 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.booleans())
def test_laws(seed: int, count: int, timed: bool) -> None:
    """Leaders lead themselves, come first, and are near to whom they lead."""
    rng = np.random.default_rng(seed)
    vectors = mixture(count, 4, rng, spread=0.3)
    scene, starts = rng.integers(3, size=count), np.sort(rng.uniform(0, 300, count))
    made = footage(vectors, scene, starts, since_ns=10**18 if timed else 0)
    leader = collapse(made, NEAR)
    assert (leader[leader] == leader).all() and len(event_rows(made.clip_ids, made.clip_ids, leader)) == count
    near = np.einsum("ij,ij->i", made.vectors["camera"].astype(float), made.vectors["camera"][leader])
    along = made.scene == made.scene[leader]
    assert (1 - near[along] <= NEAR["camera"] + 1e-6).all(), "within a drive nobody is further from the leader"
    assert (1 - near <= 4 * NEAR["camera"] + 1e-6).all(), "and elsewhere from whom the leader's leader stands for"
