"""Laws of rigid transforms, with scipy's Rotation as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from kernels.se3 import SE3, PoseTrack, interpolate, matrix_to_wxyz, slerp, wxyz_to_matrix, wxyz_to_vector

_METRES = st.floats(-1e4, 1e4)
_QUATERNION = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 1e-3)
_POSE = st.builds(SE3.from_wxyz, arrays(np.float64, 3, elements=_METRES), _QUATERNION)
_POINTS = arrays(np.float64, (5, 3), elements=_METRES)


def _oracle(wxyz: np.ndarray) -> Rotation:
    return Rotation.from_quat(wxyz, scalar_first=True)


@given(_QUATERNION)
def test_matrix_equals_scipy_and_comes_back(q: np.ndarray) -> None:
    matrix = wxyz_to_matrix(q)
    np.testing.assert_allclose(matrix, _oracle(q).as_matrix(), atol=1e-12)
    back = matrix_to_wxyz(matrix)
    assert back[0] >= 0
    assert abs(back @ q) / np.linalg.norm(q) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("q", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (-1, 0, 0, 0), (1e-9, 1, 0, 0)])
def test_half_turns_and_identity(q: tuple[float, ...]) -> None:
    assert abs(matrix_to_wxyz(wxyz_to_matrix(q)) @ q) == pytest.approx(1, abs=1e-12)


def test_many_at_once_equal_one_by_one() -> None:
    q = np.random.default_rng(0).normal(size=(2, 6, 4))
    np.testing.assert_array_equal(wxyz_to_matrix(q)[1, 3], wxyz_to_matrix(q[1, 3]))
    np.testing.assert_allclose(matrix_to_wxyz(wxyz_to_matrix(q))[1, 3], matrix_to_wxyz(wxyz_to_matrix(q[1, 3])))
    assert wxyz_to_matrix(np.empty((0, 4))).shape == (0, 3, 3)


@given(_POSE, _POINTS)
def test_inverse_undoes(pose: SE3, points: np.ndarray) -> None:
    np.testing.assert_allclose(pose.inverse().transform(pose.transform(points)), points, atol=1e-9)
    np.testing.assert_allclose((pose @ pose.inverse()).translation, 0, atol=1e-9)
    np.testing.assert_allclose((pose @ pose.inverse()).rotation, np.eye(3), atol=1e-12)


@given(_POSE, _POSE, _POSE, _POINTS)
def test_composition_is_associative_and_is_application_in_turn(a: SE3, b: SE3, c: SE3, points: np.ndarray) -> None:
    np.testing.assert_allclose(((a @ b) @ c).transform(points), (a @ (b @ c)).transform(points), atol=1e-8)
    np.testing.assert_allclose((a @ b).transform(points), a.transform(b.transform(points)), atol=1e-8)


@given(_POSE, _POINTS)
def test_distances_are_kept(pose: SE3, points: np.ndarray) -> None:
    before = np.linalg.norm(points[:, None] - points, axis=-1)
    moved = pose.transform(points)
    np.testing.assert_allclose(np.linalg.norm(moved[:, None] - moved, axis=-1), before, atol=1e-8)


@given(_POSE, _POINTS)
def test_transform_equals_scipy(pose: SE3, points: np.ndarray) -> None:
    expected = _oracle(pose.wxyz).apply(points) + pose.translation
    np.testing.assert_allclose(pose.transform(points), expected, atol=1e-8)


@given(_QUATERNION, _QUATERNION, st.floats(0, 1))
def test_slerp_equals_scipy(a: np.ndarray, b: np.ndarray, fraction: float) -> None:
    cosine = abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
    if cosine < 1e-6:
        return  # a half turn: both arcs are equally short, scipy may take the other one
    expected = Slerp([0, 1], Rotation.concatenate([_oracle(a), _oracle(b)]))(fraction)
    assert (_oracle(slerp(a, b, fraction)) * expected.inv()).magnitude() < 1e-6


@given(_QUATERNION, _QUATERNION)
def test_slerp_ends_and_is_symmetric(a: np.ndarray, b: np.ndarray) -> None:
    for fraction, end in ((0.0, a), (1.0, b)):
        assert (_oracle(slerp(a, b, fraction)) * _oracle(end).inv()).magnitude() < 1e-7
    if abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) > 1e-6:
        assert (_oracle(slerp(a, b, 0.3)) * _oracle(slerp(b, a, 0.7)).inv()).magnitude() < 1e-6


def test_interpolated_poses() -> None:
    quarter = Rotation.from_euler("z", 90, degrees=True).as_quat(scalar_first=True)
    times, places, turns = [0, 10, 30], [[0, 0, 0], [10, 0, 0], [10, 40, 0]], [[1, 0, 0, 0], [1, 0, 0, 0], quarter]
    translations, rotations = interpolate(times, places, turns, [0, 5, 10, 20, 30])
    np.testing.assert_allclose(translations, [[0, 0, 0], [5, 0, 0], [10, 0, 0], [10, 20, 0], [10, 40, 0]])
    yaw = [_oracle(q).as_euler("zyx")[0] for q in rotations]
    np.testing.assert_allclose(yaw, np.deg2rad([0, 0, 0, 45, 90]), atol=1e-12)


def test_interpolation_keeps_nanoseconds_of_epoch_times() -> None:
    start = 1_532_402_927_647_951_000
    translations, _ = interpolate([start, start + 10], [[0, 0, 0], [10, 0, 0]], [[1, 0, 0, 0]] * 2, [start + 3])
    assert translations[0, 0] == pytest.approx(3)


def test_interpolation_edges() -> None:
    one = ([7], [[1, 2, 3]], [[1, 0, 0, 0]])
    np.testing.assert_array_equal(interpolate(*one, [7])[0], [[1, 2, 3]])
    assert interpolate(*one, [])[0].shape == (0, 3)
    with pytest.raises(ValueError, match=r"leave the known 7\.\.7"):
        interpolate(*one, [8])
    with pytest.raises(ValueError, match="strictly rising"):
        interpolate([1, 1], [[0, 0, 0]] * 2, [[1, 0, 0, 0]] * 2, [1])
    with pytest.raises(ValueError, match="not empty"):
        interpolate([], np.empty((0, 3)), np.empty((0, 4)), [])


@pytest.mark.parametrize("q", [(0, 0, 0, 0), (np.nan, 0, 0, 1), (np.inf, 0, 0, 1)])
def test_no_rotation_is_an_error(q: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="quaternion"):
        SE3.from_wxyz([0, 0, 0], q)


@pytest.mark.parametrize("translation", [[0, 0], [0, 0, np.nan], [[0, 0, 0]]])
def test_no_translation_is_an_error(translation: list[float]) -> None:
    with pytest.raises(ValueError, match="expected 3 finite numbers"):
        SE3.from_wxyz(translation, [1, 0, 0, 0])


@given(arrays(np.float64, 3, elements=st.floats(-1.8, 1.8)))
def test_rotation_vectors_go_there_and_back(vector: np.ndarray) -> None:
    wxyz = Rotation.from_rotvec(vector).as_quat(scalar_first=True)
    np.testing.assert_allclose(wxyz_to_vector(wxyz), Rotation.from_rotvec(vector).as_rotvec(), atol=1e-9)
    np.testing.assert_allclose(wxyz_to_vector(-wxyz), wxyz_to_vector(wxyz), atol=1e-12)


def test_a_turn_of_almost_nothing() -> None:
    for angle in (0.0, 1e-300, 1e-160, 1e-12):
        np.testing.assert_allclose(wxyz_to_vector([1, 0, angle / 2, 0]), [0, angle, 0], rtol=1e-12)


def test_a_track_interpolates() -> None:
    track = PoseTrack(np.array([0, 10]), np.array([[0, 0, 0], [2, 0, 0]]), np.array([[1, 0, 0, 0], [0, 0, 0, 1]]))
    [translation], [wxyz] = track.at([5])
    np.testing.assert_allclose(translation, [1, 0, 0])
    np.testing.assert_allclose(wxyz_to_vector(wxyz), [0, 0, np.pi / 2], atol=1e-12)
