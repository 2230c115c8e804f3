"""The range image against a plain loop in float64, bit by bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.range_image import range_image
from tests.kernels.sweeps import Cloud, clouds


def _row(point: list[float], rows: int, low: float, high: float) -> int:
    x, y, z = point
    below = (high - math.atan2(z, math.sqrt(x * x + y * y))) * (rows / (high - low))
    return int(below) if 0 <= below < rows else -1


def oracle(
    points: Cloud, rows: int, columns: int, elevation_rad: tuple[float, float], ring: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    depth, intensity = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.float32)
    index = np.full((rows, columns), -1, np.int32)
    for i, point in enumerate(points):
        distance = np.sqrt(point[0] * point[0] + point[1] * point[1] + point[2] * point[2])
        if not np.float32(1e-3) <= distance < np.float32(1e18):
            continue
        x, y, z = (float(number) for number in point[:3])
        row = _row([x, y, z], rows, *elevation_rad) if ring is None else int(ring[i])
        column = int((math.pi - math.atan2(y, x)) * (columns / (2 * math.pi))) % columns
        if 0 <= row < rows and (index[row, column] < 0 or distance < depth[row, column]):
            depth[row, column], index[row, column] = distance, i
            intensity[row, column] = point[3] if len(point) > 3 and np.isfinite(point[3]) else 0
    return depth, intensity, index


@pytest.mark.parametrize("examples", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_bit_equal_to_a_plain_loop(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(
        clouds(),
        st.sampled_from([(64, 2048), (16, 360), (1, 1), (7, 4)]),
        st.sampled_from([(-0.43, 0.05), (-math.pi / 4, math.pi / 4), (-math.pi / 2, math.pi / 2)]),
        st.booleans(),
    )
    def check(points: Cloud, size: tuple[int, int], elevation_rad: tuple[float, float], by_ring: bool) -> None:
        ring = np.random.default_rng(len(points)).integers(-1, size[0] + 1, len(points)) if by_ring else None
        with np.errstate(over="ignore", invalid="ignore"):
            expected = oracle(points, *size, elevation_rad, ring)
        image = range_image(points, *size, elevation_rad, ring)
        for got, wanted in zip(image, expected, strict=True):
            assert got.dtype == wanted.dtype and np.array_equal(got, wanted)

    check()


def test_where_directions_go() -> None:
    points = np.array([[5, 1e-3, 0], [1e-3, 5, 0], [-1e-3, -5, 0], [-5, 1e-3, 0], [-5, -1e-3, 0], [-9, -0.0, 0]])
    image = range_image(points.astype(np.float32), 2, 8, (-0.1, 0.1))
    assert image.point[1].tolist() == [3, -1, 1, 0, -1, -1, 2, 4]  # behind by the left, left, ahead, right, behind
    assert image.point[0].tolist() == [-1] * 8  # level is the lower half's first
    up = range_image(np.array([[5, 0, 0.2], [5, 0, 5], [5, 0, -5]], np.float32), 2, 1, (-0.1, 0.1))
    assert up.point.ravel().tolist() == [0, -1]


def test_nearest_wins_and_the_first_of_equals() -> None:
    points = np.array(
        [[9, 0, 0, 1], [4, 0, 0, 2], [4, 0, 0, 3], [5, 0, 0, 4], [0, 0, 0, 5], [1e-4, 0, 0, 6]], np.float32
    )
    image = range_image(points, 1, 1, (-1, 1))
    assert (image.depth_m.item(), image.intensity.item(), image.point.item()) == (4, 2, 1)


@pytest.mark.parametrize(
    ("rows", "columns", "elevation_rad", "ring"),
    [
        (0, 8, (-1, 1), None),
        (8, 0, (-1, 1), None),
        (2**16, 2**16, (-1, 1), None),
        (8, 8, (1, -1), None),
        (8, 8, (-2, 1), None),
        (8, 8, (-1, math.nan), None),
        (8, 8, (-1, 1), np.zeros(3, np.int32)),
        (8, 8, (-1, 1), np.zeros(4)),
    ],
)
def test_refuses(rows: int, columns: int, elevation_rad: tuple[float, float], ring: np.ndarray | None) -> None:
    with pytest.raises(ValueError):
        range_image(np.ones((4, 4), np.float32), rows, columns, elevation_rad, ring)
