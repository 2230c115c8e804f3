"""Boxes and the points in them, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from kernels.boxes import assign_points, box_corners, points_in_box, points_in_boxes
from kernels.se3 import SE3
from tests.kernels.sweeps import Cloud, clouds

_IDENTITY = SE3.from_wxyz([0, 0, 0], [1, 0, 0, 0])
_QUATERNION = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 1e-3)
_POSE = st.builds(SE3.from_wxyz, arrays(np.float64, 3, elements=st.floats(-50, 50)), _QUATERNION)
_SIZE = arrays(np.float64, 3, elements=st.floats(0.1, 20))


def oracle(points: np.ndarray, poses: list[SE3], sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All points against one box after the other."""
    counts, first = np.zeros(len(poses), np.int64), np.full(len(points), -1, np.int32)
    x, y, z = points[:, :3].astype(np.float64).T
    for i in reversed(range(len(poses))):
        r, t, inside = poses[i].rotation, poses[i].translation, np.ones(len(points), bool)
        for axis in range(3):
            shift = -(r[0, axis] * t[0] + r[1, axis] * t[1] + r[2, axis] * t[2])
            inside &= np.abs(r[0, axis] * x + r[1, axis] * y + r[2, axis] * z + shift) <= sizes[i, axis] / 2
        counts[i], first[inside] = inside.sum(), i
    return counts, first


def test_corners_of_a_turned_box() -> None:
    left = Rotation.from_euler("z", 90, degrees=True).as_quat(scalar_first=True)
    corners = box_corners(SE3.from_wxyz([10, 0, 1], left), [4, 2, 1.5])
    # The nose points left (+y): length spans y, width spans x.
    np.testing.assert_allclose(corners.min(axis=0), [9, -2, 0.25], atol=1e-12)
    np.testing.assert_allclose(corners.max(axis=0), [11, 2, 1.75], atol=1e-12)
    np.testing.assert_allclose(corners[:4, 1], 2, atol=1e-12)  # the front four come first
    np.testing.assert_allclose(corners[0], [9, 2, 1.75], atol=1e-12)  # front, left, top


@given(_POSE, _SIZE, arrays(np.float64, (10, 3), elements=st.floats(-0.9, 0.9)))
def test_a_box_holds_what_is_between_its_corners(pose: SE3, size: np.ndarray, shares: np.ndarray) -> None:
    inside = pose.transform(shares * size / 2)
    assert points_in_box(inside, pose, size).all()
    far = shares.copy()
    far[:, 1] = 1.1
    assert not points_in_box(pose.transform(far * size / 2), pose, size).any()
    assert points_in_box(box_corners(pose, size * 0.999999), pose, size).all()


@given(st.lists(st.tuples(_POSE, _SIZE), max_size=4), arrays(np.float64, (30, 3), elements=st.floats(-60, 60)))
def test_counts_equal_another_library(boxes: list[tuple[SE3, np.ndarray]], points: np.ndarray) -> None:
    expected = []
    for pose, size in boxes:
        turn = Rotation.from_matrix(pose.rotation).inv()
        local = turn.apply(points - pose.translation)
        expected.append(sum(all(abs(p[axis]) <= size[axis] / 2 for axis in range(3)) for p in local))
    counts = points_in_boxes(points, [pose for pose, _ in boxes], [size for _, size in boxes])
    assert counts.dtype == np.int64
    assert counts.tolist() == expected


@st.composite
def boxes(draw: st.DrawFn) -> tuple[list[SE3], np.ndarray]:
    """Up to 150 boxes near the origin, upright or not, some of no size and some that hold nothing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.sampled_from([0, 1, 2, 20, 64, 65, 150]))
    wxyz = rng.normal(size=(count, 4)) * ([1, 0, 0, 1] if draw(st.booleans()) else 1)
    wxyz[rng.random(count) < 0.3] = [1, 0, 0, 0]
    poses = [SE3.from_wxyz(t, q) for t, q in zip(np.round(rng.normal(size=(count, 3)) * 6), wxyz, strict=True)]
    sizes = np.round(rng.uniform(0, 12, (count, 3)))
    odd = rng.random(sizes.shape) < draw(st.sampled_from([0.0, 0.05]))
    sizes[odd] = rng.choice([np.nan, -1.0, 0.0, 1e9], int(odd.sum()))
    return poses, sizes


@pytest.mark.parametrize("examples", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_equal_to_all_against_all(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(clouds(), boxes())
    def check(points: Cloud, some: tuple[list[SE3], np.ndarray]) -> None:
        with np.errstate(invalid="ignore"):
            counts, first = oracle(points, *some)
        found = assign_points(points, *some)
        assert (found.counts.dtype, found.box.dtype) == (np.int64, np.int32)
        assert np.array_equal(found.counts, counts) and np.array_equal(found.box, first)

    check()


def test_faces_are_inside() -> None:
    points = np.array([[1, 1, 1], [-1, -1, -1], [1, 0, 0], [np.nextafter(1, 2), 0, 0]])
    assert points_in_box(points, _IDENTITY, [2, 2, 2]).tolist() == [True, True, True, False]
    assert assign_points(points, [_IDENTITY, _IDENTITY], [[2, 2, 2], [4, 4, 4]]).box.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("points", "pose", "size"),
    [
        (np.zeros(3), _IDENTITY, [1, 1, 1]),
        (np.zeros((4, 2)), _IDENTITY, [1, 1, 1]),
        (np.zeros((4, 3)), _IDENTITY, [1, 1]),
        (np.zeros((4, 3)), SE3(np.eye(3), np.array([0, 0, np.nan])), [1, 1, 1]),
        (np.zeros((4, 3)), SE3(np.eye(3), np.array([0, 0, 1e200])), [1, 1, 1]),
        (np.zeros((4, 3)), SE3(np.full((3, 3), np.nan), np.zeros(3)), [1, 1, 1]),
    ],
)
def test_refuses(points: np.ndarray, pose: SE3, size: list[float]) -> None:
    with pytest.raises(ValueError):
        assign_points(points, [pose], size)
