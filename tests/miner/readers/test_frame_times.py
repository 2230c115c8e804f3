"""Times from file names: each kind, what is no time, and the laws of the nominal ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.readers.frame_times import frame_times, natural

_S = 10**9


def _times(*stems: str) -> list[int]:
    return frame_times([("CAM", stem) for stem in stems])


@pytest.mark.parametrize(
    ("stem", "time_ns"),
    [
        ("1532402927612460123", 1532402927612460123),
        ("n015-2018-07-24-11-22-45+0800__CAM_FRONT__1532402927612460", 1532402927612460000),
        ("img 1532402927612 (copy) [1]", 1532402927612000000),
        ("front_1532402927", 1532402927 * _S),
        ("2018-07-24-11-22-45+0800", 1532402565 * _S),
        ("2018-07-24T11:22:45+08:00", 1532402565 * _S),
        ("2018-07-23T22-22-45-05:00", 1532402565 * _S),
        ("cam_20180724_032245", 1532402565 * _S),
        ("20180724032245", 1532402565 * _S),
        ("2018-07-24 03:22:45.25Z", 1532402565 * _S + _S // 4),
        ("2018-07-24-03-22-45-0100", 1532402565 * _S),  # a frame number, no zone
        ("雨 2018.07.24 03.22.45", 1532402565 * _S),
    ],
)
def test_a_time_in_the_name(stem: str, time_ns: int) -> None:
    assert _times(stem) == [time_ns]


@pytest.mark.parametrize(
    "stem",
    [
        "0000000014",
        "9999999999",
        "15324029276124",
        "2018-13-24-11-22-45",
        "20180724",
        "1999-07-24-11-22-45",
        "IMG_4711",
        "",
    ],
)
def test_no_time_in_the_name(stem: str) -> None:
    assert _times(stem) == [0]


def test_one_name_without_a_time_makes_all_nominal() -> None:
    assert _times("1532402927", "1532402928") == [1532402927 * _S, 1532402928 * _S]
    assert _times("1532402927", "1532402928", "cover") == [0, _S, 61 * _S]
    two = [("a", "1532402927"), ("b", "x1")]  # a scene is never half absolute, half nominal
    assert max(frame_times(two)) <= 60 * _S


def test_the_start_of_the_log_is_no_frame_time() -> None:
    assert _times("2018-07-24-11-22-45_0001", "2018-07-24-11-22-45_0002") == [0, _S]


def test_nominal_times_run_by_the_second_and_jump_by_the_minute() -> None:
    assert _times("a_10", "a_2", "b_1", "a_11", "ok1", "1x") == [61 * _S, 60 * _S, 122 * _S, 62 * _S, 182 * _S, 0]
    assert _times("0000000011", "0000000012") == [0, _S]  # KITTI frame numbers start where the excerpt starts
    assert _times("aachen_000002_000019_leftImg8bit", "aachen_000004_000019_leftImg8bit") == [0, 60 * _S]


def test_cameras_share_the_time_of_a_frame_even_if_one_missed_it() -> None:
    names = [("left", "0"), ("left", "1"), ("left", "2"), ("right", "0"), ("right", "2")]
    assert frame_times(names) == [0, _S, 2 * _S, 0, 2 * _S]
    named = [("CAM_A", "x_CAM_A_7"), ("CAM_A", "x_CAM_A_8"), ("CAM_B", "x_CAM_B_8")]
    assert frame_times(named) == [0, _S, _S]


def test_equal_times_are_moved_apart_in_order_of_names() -> None:
    assert _times("1532402927_b", "1532402927_a", "1532402928_a") == [
        1532402927 * _S + 1,
        1532402927 * _S,
        1532402928 * _S,
    ]
    assert _times("a1", "a1") == [0, 1]  # a1.jpg and a1.png
    assert frame_times([("l", "a1"), ("r", "a1")]) == [0, 0]
    assert _times() == []


def test_natural_order() -> None:
    names = ["frame 10", "frame 2", "frame 02", "a", "10", "9", "x[1](b)", "é1"]
    assert sorted(names, key=natural) == ["9", "10", "a", "frame 02", "frame 2", "frame 10", "x[1](b)", "é1"]


@given(st.lists(st.tuples(st.sampled_from(["l", "r"]), st.text("ab01_-²٣", max_size=6)), max_size=12))
def test_times_do_not_depend_on_the_order_of_the_listing(names: list[tuple[str, str]]) -> None:
    names = list(dict.fromkeys(names))
    times = dict(zip(names, frame_times(names), strict=True))
    shuffled = sorted(names, reverse=True)
    assert dict(zip(shuffled, frame_times(shuffled), strict=True)) == times
    for channel in ("l", "r"):
        of_channel = [time_ns for (name, _), time_ns in times.items() if name == channel]
        assert len(set(of_channel)) == len(of_channel)
        assert all(time_ns >= 0 for time_ns in of_channel)
