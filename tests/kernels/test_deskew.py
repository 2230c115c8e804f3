"""Motion compensation against one transform per point."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from kernels.deskew import azimuth_times_ns, deskew
from kernels.se3 import SE3, PoseTrack

SECOND = 1_000_000_000


def _turn(*vector: float) -> Rotation:
    return Rotation.from_rotvec(vector)


def _track(rng: np.random.Generator, poses: int, reach_rad: float) -> PoseTrack:
    times = np.cumsum(rng.integers(1, SECOND // 10, poses)) + 1_600_000_000 * SECOND
    turns = Rotation.from_rotvec(np.cumsum(rng.uniform(-reach_rad, reach_rad, (poses, 3)), axis=0))
    wxyz = turns.as_quat(scalar_first=True) * rng.choice([-1, 1], (poses, 1))
    far = np.array([4e5, 5e6, 100])
    return PoseTrack(times, far + np.cumsum(rng.normal(size=(poses, 3)), axis=0), wxyz)


def oracle(points: np.ndarray, times: np.ndarray, track: PoseTrack, ego_SE3_sensor: SE3, at_ns: int) -> np.ndarray:
    start = track.times_ns[0]
    turns = Rotation.from_quat(track.rotations_wxyz, scalar_first=True)
    turn = (
        Slerp((track.times_ns - start) / SECOND, turns) if len(turns) > 1 else lambda at: turns[np.zeros(len(at), int)]
    )

    def global_SE3_sensor(at: int) -> SE3:
        t = [np.interp(at - start, track.times_ns - start, column) for column in track.translations.T]
        return SE3(turn([(at - start) / SECOND])[0].as_matrix(), np.array(t)) @ ego_SE3_sensor

    back = global_SE3_sensor(at_ns).inverse()
    moved = [(back @ global_SE3_sensor(at)).transform(point[:3]) for point, at in zip(points, times, strict=True)]
    return np.reshape(moved, (len(points), 3))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 1, 40]), st.integers(1, 6), st.sampled_from([0.0, 1e-9, 0.05, 1.0]))
def test_equal_to_one_transform_per_point(seed: int, count: int, poses: int, reach_rad: float) -> None:
    rng = np.random.default_rng(seed)
    track = _track(rng, poses, reach_rad)
    sensor = SE3(_turn(*rng.normal(size=3)).as_matrix(), rng.normal(size=3))
    points = (rng.normal(size=(count, 5)) * 30).astype(np.float32)
    times = rng.integers(track.times_ns[0], track.times_ns[-1] + 1, count)
    times[: min(poses, count)] = track.times_ns[: min(poses, count)]
    at_ns = int(rng.integers(track.times_ns[0], track.times_ns[-1] + 1))
    moved = deskew(points, times, track, sensor, at_ns)
    assert moved.dtype == np.float32 and moved.shape == points.shape
    np.testing.assert_allclose(moved[:, :3], oracle(points, times, track, sensor, at_ns), atol=3e-5)
    assert np.array_equal(moved[:, 3:], points[:, 3:])


def test_a_wall_seen_from_a_moving_car_is_straight_again() -> None:
    """10 m/s ahead and 0.5 rad/s to the left; the wall is at x = 20 of where the car is in the middle of the sweep."""
    track = PoseTrack(
        np.array([0, SECOND // 10]),
        np.array([[0, 0, 0], [1, 0, 0.0]]),
        Rotation.from_rotvec([[0, 0, 0], [0, 0, 0.05]]).as_quat(scalar_first=True),
    )
    times = np.linspace(0, SECOND // 10, 200).astype(np.int64)
    wall = np.column_stack([np.full(200, 20.0), np.linspace(-8, 8, 200), np.ones(200)])
    t, q = track.at(times)
    seen = np.array([SE3.from_wxyz(*pose).inverse().transform(p) for *pose, p in zip(t, q, wall, strict=True)])
    level = SE3.from_wxyz([0, 0, 0], [1, 0, 0, 0])
    [middle_t], [middle_q] = track.at([SECOND // 20])
    moved = deskew(seen.astype(np.float32), times, track, level, SECOND // 20)
    np.testing.assert_allclose(SE3.from_wxyz(middle_t, middle_q).transform(moved), wall, atol=1e-5)
    assert np.abs(seen - moved).max() > 0.4


def test_odd_numbers_stay_in_their_rows() -> None:
    track = _track(np.random.default_rng(0), 3, 0.1)
    points = np.ones((4, 4), np.float32)
    points[1, 0], points[2, 2] = np.nan, np.inf
    times = np.full(4, track.times_ns[1])
    moved = deskew(points, times, track, SE3(np.eye(3), np.zeros(3)), int(track.times_ns[1]))
    assert np.isfinite(moved).all(axis=1).tolist() == [True, False, False, True]
    np.testing.assert_allclose(moved[[0, 3]], points[[0, 3]], atol=1e-6)


@pytest.mark.parametrize(("early", "count", "at"), [(1, 4, 0), (0, 3, 0), (0, 4, -1)])
def test_refuses(early: int, count: int, at: int) -> None:
    track = _track(np.random.default_rng(0), 3, 0.1)
    times = np.full(count, track.times_ns[0] - early)
    with pytest.raises(ValueError):
        deskew(np.ones((4, 4), np.float32), times, track, SE3(np.eye(3), np.zeros(3)), int(track.times_ns[0] + at))


def test_times_from_azimuth() -> None:
    points = np.array([[-1, 1e-6], [0, 1], [1, 0], [0, -1], [-1, -1e-6], [np.nan, 0]], np.float32)
    assert azimuth_times_ns(points, 1000, 2000).tolist() == [1000, 1250, 1500, 1750, 2000, 1000]
    assert azimuth_times_ns(points, 0, 1000, 0.0, clockwise=False).tolist() == [500, 250, 0, 750, 500, 0]
    assert azimuth_times_ns(points, 0, 1000, math.pi / 2).tolist()[:4] == [750, 0, 250, 500]
    assert azimuth_times_ns(points[:0], 0, 1000).shape == (0,)
