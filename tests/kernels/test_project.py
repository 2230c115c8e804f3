"""Pinhole projection, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from kernels.project import project_points
from kernels.se3 import SE3

_INTRINSIC = np.array([[1000.0, 0, 800], [0, 900, 450], [0, 0, 1]])
_IDENTITY = SE3.from_wxyz([0, 0, 0], [1, 0, 0, 0])
_QUATERNION = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 1e-3)
_POSE = st.builds(SE3.from_wxyz, arrays(np.float64, 3, elements=st.floats(-50, 50)), _QUATERNION)


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


def test_points_that_are_not_finite_are_not_visible() -> None:
    points = np.array([[0, 0, np.nan], [0, 0, np.inf], [np.inf, 0, 10], [0, -np.inf, 10], [0, 0, 10]], np.float32)
    assert project_points(points, _IDENTITY, _INTRINSIC, 1600, 900).visible.tolist() == [False] * 4 + [True]


def test_further_columns_and_single_precision_change_nothing() -> None:
    points = np.random.default_rng(0).normal(size=(500, 5)).astype(np.float32) * 20
    whole = project_points(points, _IDENTITY, _INTRINSIC, 1600, 900)
    plain = project_points(points[:, :3].astype(np.float64), _IDENTITY, _INTRINSIC, 1600, 900)
    for got, wanted in zip(whole, plain, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((4, 2))])
def test_refuses(points: np.ndarray) -> None:
    with pytest.raises(ValueError):
        project_points(points, _IDENTITY, _INTRINSIC, 10, 10)
