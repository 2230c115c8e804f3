"""Pinhole projection and boxes, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from kernels.project import box_corners, points_in_box, points_in_boxes, project_points
from kernels.se3 import SE3

_INTRINSIC = np.array([[1000.0, 0, 800], [0, 900, 450], [0, 0, 1]])
_IDENTITY = SE3.from_wxyz([0, 0, 0], [1, 0, 0, 0])
_QUATERNION = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 1e-3)
_POSE = st.builds(SE3.from_wxyz, arrays(np.float64, 3, elements=st.floats(-50, 50)), _QUATERNION)
_SIZE = arrays(np.float64, 3, elements=st.floats(0.1, 20))


def _project_one(point: np.ndarray, pose: SE3) -> tuple[float, float, float]:
    x, y, z = Rotation.from_matrix(pose.rotation).apply(point) + pose.translation
    return 1000 * x / z + 800, 900 * y / z + 450, z


@given(_POSE, arrays(np.float64, (6, 3), elements=st.floats(-50, 50)))
def test_pixels_equal_a_plain_loop(pose: SE3, points: np.ndarray) -> None:
    projected = project_points(points, pose, _INTRINSIC, 1600, 900)
    for i, point in enumerate(points):
        z = (Rotation.from_matrix(pose.rotation).apply(point) + pose.translation)[2]
        assert projected.depth_m[i] == pytest.approx(z, abs=1e-9)
        if z < 0.1 - 1e-9:
            assert np.isnan(projected.pixels[i]).all() and not projected.visible[i]
        elif z > 0.1 + 1e-9:
            u, v, _ = _project_one(point, pose)
            np.testing.assert_allclose(projected.pixels[i], [u, v], rtol=1e-9, atol=1e-6)
            if min(abs(u), abs(u - 1600), abs(v), abs(v - 900)) > 1e-6:
                assert projected.visible[i] == (0 <= u < 1600 and 0 <= v < 900)


@pytest.mark.parametrize(
    ("point", "visible"),
    [
        ((0, 0, 10), True),
        ((0, 0, -10), False),  # behind: its pixel would be the image centre
        ((0, 0, 0), False),
        ((-8, -5, 10), True),  # pixel 0, 0 is in
        ((8, 0, 10), False),  # pixel 1600 is out of 0..1599
        ((0, 5, 10), False),
    ],
)
def test_the_edges_of_the_image(point: tuple[float, ...], visible: bool) -> None:
    assert project_points([point], _IDENTITY, _INTRINSIC, 1600, 900).visible.tolist() == [visible]


def test_no_points_and_flat_intrinsic() -> None:
    empty = project_points(np.empty((0, 3)), _IDENTITY, _INTRINSIC.ravel(), 10, 10)
    assert empty.pixels.shape == (0, 2) and empty.depth_m.shape == (0,) and empty.visible.shape == (0,)


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
def test_counts_equal_a_plain_loop(boxes: list[tuple[SE3, np.ndarray]], points: np.ndarray) -> None:
    expected = []
    for pose, size in boxes:
        turn = Rotation.from_matrix(pose.rotation).inv()
        local = turn.apply(points - pose.translation)
        expected.append(sum(all(abs(p[axis]) <= size[axis] / 2 for axis in range(3)) for p in local))
    counts = points_in_boxes(points, [pose for pose, _ in boxes], [size for _, size in boxes])
    assert counts.dtype == np.int64
    assert counts.tolist() == expected
