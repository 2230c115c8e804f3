"""Rigid transforms in float64: unit quaternions `(w, x, y, z)`, poses `dst_SE3_src`, interpolation.

A pose takes points of frame src to frame dst, `p_dst = R @ p_src + t`; so `a_SE3_c = a_SE3_b @ b_SE3_c`, and names that
meet must be equal. Right-handed frames, metres. q and -q are the same rotation; what we return has `w >= 0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def wxyz_to_matrix(wxyz: ArrayLike) -> Array:
    """Quaternions (..., 4), normalised here, to matrices (..., 3, 3). Raises ValueError for a zero or NaN one."""
    w, x, y, z = np.moveaxis(_unit(wxyz), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_wxyz(matrix: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) to unit quaternions (..., 4) with w >= 0.

    Each row of `4 q q^T` is the quaternion times one of its parts; the row of the largest part is well conditioned
    (Shepperd 1978, J. Guidance and Control 1(3)).
    """
    m = np.asarray(matrix, np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = [
        [1 + xx + yy + zz, wx, wy, wz],
        [wx, 1 + xx - yy - zz, xy, xz],
        [wy, xy, 1 - xx + yy - zz, yz],
        [wz, xz, yz, 1 - xx - yy + zz],
    ]
    outer = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    best = np.argmax(np.einsum("...ii->...i", outer), axis=-1)
    return _canonical(_unit(np.take_along_axis(outer, best[..., None, None], axis=-2)[..., 0, :]))


def slerp(from_wxyz: ArrayLike, to_wxyz: ArrayLike, fraction: ArrayLike) -> Array:
    """Rotations (..., 4) at `fraction` (...) of the shorter arc, at constant speed (Shoemake 1985, SIGGRAPH)."""
    a, b = _unit(from_wxyz), _unit(to_wxyz)
    b = np.where(np.sum(a * b, axis=-1, keepdims=True) < 0, -b, b)
    # The half-angle form stays exact where arccos(dot) loses digits: for poses that are nearly equal.
    angle = 2 * np.arctan2(np.linalg.norm(b - a, axis=-1), np.linalg.norm(a + b, axis=-1))[..., None]
    t = np.asarray(fraction, np.float64)[..., None]
    sine = np.where(angle > 0, np.sin(angle), 1.0)
    share_a = np.where(angle > 1e-9, np.sin((1 - t) * angle) / sine, 1 - t)
    share_b = np.where(angle > 1e-9, np.sin(t * angle) / sine, t)
    return _canonical(_unit(share_a * a + share_b * b))


def wxyz_to_vector(wxyz: ArrayLike) -> Array:
    """Rotation vectors (..., 3) of quaternions (..., 4): the axis times the angle, 0..pi rad, of the shorter turn."""
    q = _canonical(_unit(wxyz))
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    # 2 atan2(s, w) / s tends to 2 for a turn of nothing; the quotient of subnormal numbers would not.
    per_sine = np.where(sine > 1e-150, 2 * np.arctan2(sine, q[..., :1]) / np.where(sine > 1e-150, sine, 1.0), 2.0)
    vectors: Array = per_sine * q[..., 1:]
    return vectors


@dataclass(frozen=True, eq=False)
class SE3:
    """One pose `dst_SE3_src`: rotation float64 (3, 3) and translation float64 (3,), in metres."""

    rotation: Array
    translation: Array

    @classmethod
    def from_wxyz(cls, translation: ArrayLike, rotation_wxyz: ArrayLike) -> SE3:
        """The pose of a row: translation (3,) and quaternion (4,). Raises ValueError for other shapes or values."""
        t, q = np.asarray(translation, np.float64), np.asarray(rotation_wxyz, np.float64)
        if t.shape != (3,) or q.shape != (4,) or not np.isfinite(t).all():
            raise ValueError(
                f"expected 3 finite numbers and a quaternion of 4, got {translation!r} and {rotation_wxyz!r}"
            )
        return cls(wxyz_to_matrix(q), t)

    @property
    def wxyz(self) -> Array:
        """The rotation as unit quaternion (4,), w >= 0."""
        return matrix_to_wxyz(self.rotation)

    def inverse(self) -> SE3:
        """`src_SE3_dst`."""
        return SE3(self.rotation.T, -self.rotation.T @ self.translation)

    def __matmul__(self, other: SE3) -> SE3:
        """`a_SE3_b @ b_SE3_c = a_SE3_c`."""
        return SE3(self.rotation @ other.rotation, self.rotation @ other.translation + self.translation)

    def transform(self, points_src: ArrayLike) -> Array:
        """Points (..., 3) of frame src, in frame dst."""
        return np.asarray(points_src, np.float64) @ self.rotation.T + self.translation


def interpolate(
    times_ns: ArrayLike, translations: ArrayLike, rotations_wxyz: ArrayLike, at_ns: ArrayLike
) -> tuple[Array, Array]:
    """Poses at `at_ns` (m,): lerp of translations (n, 3), slerp of rotations (n, 4), given at rising `times_ns` (n,).

    Returns translations (m, 3) and rotations (m, 4). Raises ValueError for an empty or not strictly rising `times_ns`
    and for a time outside of it: a pose is not guessed.
    """
    times, at = np.asarray(times_ns, np.int64), np.asarray(at_ns, np.int64)
    if not len(times) or (np.diff(times) <= 0).any():
        raise ValueError("times_ns must be strictly rising and not empty")
    if len(at) and (at.min() < times[0] or at.max() > times[-1]):
        raise ValueError(f"times {at.min()}..{at.max()} ns leave the known {times[0]}..{times[-1]} ns")
    t, q = np.asarray(translations, np.float64), np.asarray(rotations_wxyz, np.float64)
    right = np.clip(np.searchsorted(times, at), min(1, len(times) - 1), None)
    left = np.maximum(right - 1, 0)
    fraction = (at - times[left]) / np.maximum(times[right] - times[left], 1)
    return t[left] + fraction[:, None] * (t[right] - t[left]), slerp(q[left], q[right], fraction)


@dataclass(frozen=True, eq=False)
class PoseTrack:
    """Poses `dst_SE3_src` of one body at strictly rising times, as logs give them.

    times_ns int64 (n,); translations float64 (n, 3), metres; rotations_wxyz float64 (n, 4).
    """

    times_ns: NDArray[np.int64]
    translations: Array
    rotations_wxyz: Array

    def at(self, at_ns: ArrayLike) -> tuple[Array, Array]:
        """Translations (m, 3) and rotations (m, 4) at times (m,): `interpolate`, which see for what raises."""
        return interpolate(self.times_ns, self.translations, self.rotations_wxyz, at_ns)


def _unit(wxyz: ArrayLike) -> Array:
    q = np.asarray(wxyz, np.float64)
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if not (np.isfinite(norm) & (norm > 1e-12)).all():
        raise ValueError("a quaternion is zero or not finite")
    unit: Array = q / norm
    return unit


def _canonical(wxyz: Array) -> Array:
    return np.where(wxyz[..., :1] < 0, -wxyz, wxyz)
