"""The ray caster against a plain NumPy oracle, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.raycast import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    GROUND,
    ROUND,
    SKY,
    Shapes,
    corners,
    image_windows,
    raycast,
    turn_windows,
)
from kernels.se3 import wxyz_to_matrix


def random_shapes(rng, m, reach=12.0):
    return Shapes(
        centre=rng.uniform(-reach, reach, (m, 3)),
        rotation=wxyz_to_matrix(rng.normal(size=(m, 4))) if m else np.empty((0, 3, 3)),
        half=rng.uniform(0.2, 2.5, (m, 3)),
        taper=rng.uniform(0, 1, (m, 2)),
        kind=rng.integers(0, 3, m).astype(np.int8),
    )


def random_rays(rng, rows, cols):
    rays = rng.normal(size=(rows, cols, 3))
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def everywhere(shapes, rays):
    return np.tile(np.array([0, rays.shape[0], 0, rays.shape[1]], np.int32), (len(shapes.kind), 1))


def excess(kind, taper, local):
    """How far points of the unit frame are outside the solid; negative inside, 0 on its surface."""
    x, y, z = np.moveaxis(local, -1, 0)
    if kind == ELLIPSOID:
        return np.sqrt(x**2 + y**2 + z**2) - 1
    if kind == CYLINDER:
        return np.maximum(np.hypot(x, y), np.abs(z)) - 1
    room_x, room_y = (1 - t * (z + 1) / 2 for t in taper)
    return np.maximum(np.abs(z) - 1, np.maximum(np.abs(x) - room_x, np.abs(y) - room_y))


def inside(kind, taper, local):
    """Whether points of the unit frame are in the solid."""
    return excess(kind, taper, local) <= 0


def march(origin, ray, shapes, far=40.0, step=0.004):
    """Walk along one ray in small steps: (distance, solid) of the first step that is inside anything."""
    at = np.arange(step, far, step)
    points = origin + at[:, None] * ray
    best = (np.inf, SKY)
    below = np.flatnonzero(points[:, 2] < 0)
    if origin[2] > 0 and len(below):
        best = (at[below[0]], GROUND)
    for i, kind in enumerate(shapes.kind):
        local = (points - shapes.centre[i]) @ shapes.rotation[i] / shapes.half[i]
        found = np.flatnonzero(inside(kind, shapes.taper[i], local))
        if len(found) and at[found[0]] < best[0] and not inside(kind, shapes.taper[i], local[0]):
            best = (at[found[0]], i)
    return best


def test_nothing_but_ground_and_sky():
    rays = np.array([[[0.0, 0.0, 1.0], [0.0, 0.6, -0.8], [1.0, 0.0, 0.0]]])
    hits = raycast(
        np.array([1.0, 2.0, 4.0]), rays, random_shapes(np.random.default_rng(0), 0), np.empty((0, 4), np.int32)
    )
    np.testing.assert_allclose(hits.distance, [[np.inf, 5.0, np.inf]])
    assert hits.solid.tolist() == [[SKY, GROUND, SKY]]


@pytest.mark.parametrize(
    ("kind", "taper", "ray", "distance", "face"),
    [
        (BOX, (0.0, 0.0), (1.0, 0.0, 0.0), 9.0, 0),
        (BOX, (1.0, 0.0), (1.0, 0.0, 0.0), 9.5, 0),
        (ELLIPSOID, (0.0, 0.0), (1.0, 0.0, 0.0), 9.0, ROUND),
        (CYLINDER, (0.0, 0.0), (1.0, 0.0, 0.0), 9.0, ROUND),
        (BOX, (0.0, 0.0), (-1.0, 0.0, 0.0), np.inf, -1),
    ],
)
def test_known_hits(kind, taper, ray, distance, face):
    one = Shapes(
        np.array([[10.0, 0.0, 5.0]]),
        np.eye(3)[None],
        np.array([[1.0, 2.0, 3.0]]),
        np.array([taper]),
        np.array([kind], np.int8),
    )
    rays = np.array([[ray]])
    hits = raycast(np.array([0.0, 0.0, 5.0]), rays, one, everywhere(one, rays))
    assert hits.distance[0, 0] == pytest.approx(distance)
    assert hits.face[0, 0] == face


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_marching(seed):
    rng = np.random.default_rng(seed)
    shapes, rays, origin = random_shapes(rng, 12), random_rays(rng, 6, 10), np.array([0.3, -0.2, 1.5])
    hits = raycast(origin, rays, shapes, everywhere(shapes, rays))
    want = [[march(origin, rays[r, c], shapes) for c in range(10)] for r in range(6)]
    distance = np.array([[w[0] for w in row] for row in want])
    near = hits.distance < 39
    assert near.any() and (~near).any()
    missed = near & ~np.isclose(hits.distance, distance, rtol=0, atol=0.01)
    assert missed.sum() <= 1  # the march steps over edges thinner than its step
    assert (hits.solid == np.array([[w[1] for w in row] for row in want]))[near & ~missed].mean() > 0.98


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 8))
def test_hits_lie_on_the_solid_they_name(seed, m):
    rng = np.random.default_rng(seed)
    shapes, rays, origin = random_shapes(rng, m), random_rays(rng, 8, 8), np.array([0.0, 0.0, 2.0])
    hits = raycast(origin, rays, shapes, everywhere(shapes, rays))
    points = origin + np.where(np.isfinite(hits.distance), hits.distance, 0)[..., None] * rays
    for i in range(m):
        local = (points[hits.solid == i] - shapes.centre[i]) @ shapes.rotation[i] / shapes.half[i]
        np.testing.assert_allclose(excess(shapes.kind[i], shapes.taper[i], local), 0, atol=1e-6)
    np.testing.assert_allclose(points[hits.solid == GROUND][:, 2], 0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_rigid_motion_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    shapes, rays, origin = random_shapes(rng, 6), random_rays(rng, 8, 8), np.array([0.0, 0.0, -1.0])
    turn, shift = wxyz_to_matrix(rng.normal(size=4)), np.array([4.0, 5.0, -100.0])
    moved = shapes._replace(centre=shapes.centre @ turn.T + shift, rotation=turn @ shapes.rotation)
    first = raycast(origin, rays, shapes, everywhere(shapes, rays))
    second = raycast(turn @ origin + shift, rays @ turn.T, moved, everywhere(shapes, rays))
    np.testing.assert_allclose(first.distance, second.distance, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_image_windows_lose_no_hit(seed):
    rng = np.random.default_rng(seed)
    shapes, size, origin = random_shapes(rng, 10, 6.0), (24, 40), np.array([0.0, 0.0, 0.5])
    intrinsic = np.array([[30.0, 0.0, 20.0], [0.0, 30.0, 12.0], [0.0, 0.0, 1.0]])
    turn = wxyz_to_matrix(rng.normal(size=4))
    v, u = np.mgrid[0:24, 0:40] + 0.5
    camera = np.stack([(u - 20) / 30, (v - 12) / 30, np.ones_like(u)], -1)
    rays = camera / np.linalg.norm(camera, axis=-1, keepdims=True) @ turn.T
    windows = image_windows((corners(shapes) - origin) @ turn, intrinsic, size)
    culled, full = raycast(origin, rays, shapes, windows), raycast(origin, rays, shapes, everywhere(shapes, rays))
    far = full.distance > 0.2  # nearer than the near plane a window may miss
    np.testing.assert_array_equal(culled.distance[far], full.distance[far])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_turn_windows_lose_no_hit(seed):
    rng = np.random.default_rng(seed)
    shapes, origin = random_shapes(rng, 10, 6.0), np.array([0.0, 0.0, 0.5])
    azimuth, elevation = 2 * np.pi / 90 * np.arange(90)[None], np.linspace(-0.5, 0.4, 8)[:, None]
    flat = np.cos(elevation)
    rays = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation) + 0 * azimuth], -1)
    windows = turn_windows(corners(shapes) - origin, 8, 90)
    culled, full = raycast(origin, rays, shapes, windows), raycast(origin, rays, shapes, everywhere(shapes, rays))
    np.testing.assert_array_equal(culled.distance, full.distance)
