"""The profile of a sweep, against plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import descriptor as kernel
from kernels.descriptor import BANDS, HEIGHTS, LEVELS, ORDERS, PROFILE, RINGS, SECTORS

_SECTOR_RAD = 2 * math.pi / SECTORS
_BAD = [math.nan, math.inf, -math.inf]


def _cloud(seed: int, count: int, bad: int) -> np.ndarray:
    """`count` points away from the borders of sectors, of all ranges and heights, `bad` of them with a bad number."""
    rng = np.random.default_rng(seed)
    azimuth = (rng.integers(0, SECTORS, count) + rng.uniform(0.01, 0.99, count)) * _SECTOR_RAD
    range_m = rng.choice([rng.uniform(0, 90, count), rng.uniform(0, 20, count)])
    height = rng.normal(rng.uniform(-3, 3), rng.uniform(0, 4), count)
    points = np.stack([range_m * np.cos(azimuth), range_m * np.sin(azimuth), height, rng.uniform(-0.2, 1, count)], 1)
    for row in points[:bad]:
        row[rng.integers(4)] = rng.choice(_BAD)
    return points.astype(np.float32)


def _oracle_grid(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = points[np.isfinite(points[:, :3]).all(axis=1)].astype(np.float64)
    range_m = np.hypot(points[:, 0], points[:, 1])
    points, range_m = (part[(range_m >= 2.5) & (range_m < 75)] for part in (points, range_m))
    steps = np.log(np.floor(range_m * 8) / 8 + 6)
    ring = ((steps - math.log(8.5)) / (math.log(81) - math.log(8.5)) * RINGS + 1e-9).astype(int)
    sector = (np.arctan2(points[:, 1], points[:, 0]) % (2 * math.pi) / _SECTOR_RAD).astype(int)
    patches: dict[tuple[int, int], float] = {}
    for k, s, z in zip(ring, sector, points[:, 2], strict=True):
        if k < RINGS // 2:
            patches[k // 4, s // 3] = min(z, patches.get((k // 4, s // 3), math.inf))
    height = points[:, 2] - (np.median(list(patches.values())) if patches else 0.0)
    level = np.floor(height + 1).clip(0, LEVELS - 1).astype(int)
    top, counts, sums = np.zeros((RINGS, SECTORS)), np.zeros(LEVELS), np.zeros(LEVELS)
    for k, s, h, z, value in zip(ring, sector, level, height, points[:, 3], strict=True):
        top[k, s] = max(top[k, s], min(z, 8.0))
        counts[h] += 1
        sums[h] += value if 0 < value < math.inf else 0
    return top, counts, sums


def _oracle_profile(points: np.ndarray) -> np.ndarray:
    top, counts, sums = _oracle_grid(points)
    weights = np.array([np.interp(np.arange(RINGS), np.linspace(0, RINGS - 1, BANDS), row) for row in np.eye(BANDS)])
    weights /= weights.sum(axis=1, keepdims=True)
    orders = np.fft.rfft(weights[2:] @ np.sqrt(top), axis=1)[:, 1 : ORDERS + 1]
    contrast = np.zeros(LEVELS)
    if sums.sum() > 0:
        mean, prior = sums.sum() / counts.sum(), 0.01 * counts.sum()
        contrast = np.log((sums / mean + prior) / (counts + prior))
    tall = (top[:, :, None] >= 0.5 * np.arange(1, HEIGHTS + 1)).mean(axis=1)
    parts = [np.sqrt(weights @ tall), 3 * np.abs(orders) / SECTORS, contrast]
    return np.concatenate([part.ravel() for part in parts])


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 400), st.integers(0, 20))
def test_profile_equals_plain_numpy(seed: int, count: int, bad: int) -> None:
    points = _cloud(seed, count, bad)
    np.testing.assert_allclose(kernel.sweep_profile(points), _oracle_profile(points), rtol=1e-9, atol=1e-9)


@given(st.floats(0, 2 * math.pi), st.floats(2.5, 75))
def test_sector_is_the_angle(azimuth_rad: float, range_m: float) -> None:
    sector = kernel.sector_of(range_m * math.cos(azimuth_rad), range_m * math.sin(azimuth_rad))
    assert 0 <= sector < SECTORS
    off = (azimuth_rad - (sector + 0.5) * _SECTOR_RAD + math.pi) % (2 * math.pi) - math.pi
    assert abs(off) <= _SECTOR_RAD / 2 + 2e-5


@pytest.mark.parametrize(("x", "y", "share"), [(1, 0, 0), (0, 1, 0.25), (-1, 0, 0.5), (0, -1, 0.75), (-1, -0.0, 0.5)])
def test_sectors_of_the_axes(x: float, y: float, share: float) -> None:
    assert abs(kernel.sector_of(float(x), float(y)) - share * SECTORS) <= 1


def test_rings_grow_with_range_and_bands_cover_them() -> None:
    rings = kernel.RING_OF_RANGE
    inside = rings[rings >= 0]
    assert (np.diff(inside) >= 0).all() and set(inside) == set(range(RINGS)) and rings[-1] == -1 == rings[0]
    np.testing.assert_allclose(kernel.BAND_WEIGHTS.sum(axis=1), 1)
    assert (kernel.BAND_WEIGHTS.sum(axis=0) > 0).all()


def test_ground_among_vehicles_and_reflections() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-25, 25, (2, 40_000))
    z = np.where(rng.random(40_000) < 0.3, rng.uniform(-1.8, 2, 40_000), rng.normal(-1.8, 0.02, 40_000))
    z[(np.abs(y - 6) < 2)] = -0.3  # a queue of vehicles hides the ground behind its roofs
    z[rng.random(40_000) < 0.002] = -6.0  # puddles mirror what is above
    points = np.stack([x, y, z, 0 * x], 1).astype(np.float32)
    assert kernel.ground_height(kernel.cells_of(points)[1]) == pytest.approx(-1.8, abs=0.1)


@pytest.mark.parametrize("points", [np.zeros((0, 4)), np.zeros((9, 4)), np.full((9, 4), np.nan), np.full((9, 4), 80.0)])
def test_nothing_to_see(points: np.ndarray) -> None:
    profile = kernel.sweep_profile(points.astype(np.float32))
    assert profile.shape == (PROFILE,) and not profile.any()


def test_features_multiply_to_a_gaussian() -> None:
    rng = np.random.default_rng(0)
    frequencies = rng.normal(size=(5, 4000))
    a, b = rng.normal(size=(2, 5)) / 2
    found = [kernel.fourier_features(row, frequencies) for row in (a, b)]
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    assert found[0] @ found[1] == pytest.approx(math.exp(-np.square(a - b).sum() / 2), abs=0.04)
