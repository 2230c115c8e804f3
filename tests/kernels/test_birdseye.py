"""The bird's-eye view against a plain loop, bit by bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.birdseye import DENSITY, HEIGHT, INTENSITY, OCCUPANCY, BirdsEyeRaster, birds_eye_view
from tests.kernels.sweeps import Cloud, clouds

Range = tuple[float, float]


def oracle(points: Cloud, x_range_m: Range, y_range_m: Range, cell_m: float, z_range_m: Range) -> np.ndarray:
    rows, columns = (round((high - low) / cell_m) for low, high in (x_range_m, y_range_m))
    image, counts, size = np.zeros((4, rows, columns), np.float32), {}, np.float32(cell_m)
    x_low, y_low, z_low = (np.float32(low) for low, _ in (x_range_m, y_range_m, z_range_m))
    for point in points:
        x, y, height = (point[0] - x_low) / size, (point[1] - y_low) / size, point[2] - z_low
        if 0 <= x < rows and 0 <= y < columns and 0 <= height < np.float32(z_range_m[1] - z_range_m[0]):
            row, column = rows - 1 - math.floor(x), columns - 1 - math.floor(y)
            counts[row, column] = counts.get((row, column), 0) + 1
            if counts[row, column] == 1 or height > image[HEIGHT, row, column]:
                image[HEIGHT, row, column] = height
                intensity = point[3] if len(point) > 3 else 0.0
                image[INTENSITY, row, column] = intensity if np.isfinite(intensity) else 0.0
    for (row, column), count in counts.items():
        image[OCCUPANCY, row, column] = 1
        image[DENSITY, row, column] = min(1.0, np.log(count + 1.0) / np.log(64.0))
    return image


@pytest.mark.parametrize("examples", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_bit_equal_to_a_plain_loop(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(clouds(), st.sampled_from([0.25, 0.5, 2.0]), st.sampled_from([(-3.0, 5.0), (0.0, 1.5)]))
    def check(points: Cloud, cell_m: float, z_range_m: Range) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            expected = oracle(points, (-8.0, 20.0), (-12.0, 12.0), cell_m, z_range_m)
        image = birds_eye_view(points, (-8.0, 20.0), (-12.0, 12.0), cell_m, z_range_m)
        assert image.dtype == np.float32 and image.shape == expected.shape
        assert np.array_equal(image, expected)

    check()


def test_forward_is_up_and_left_is_left() -> None:
    points = np.array([[9.5, 4.5, 1, 0.7], [0.5, -4.5, 2, 0.2]], np.float32)
    image = birds_eye_view(points, (0, 10), (-5, 5), 1.0)
    assert image[:, 0, 0].tolist() == pytest.approx([4, 0.7, math.log(2) / math.log(64), 1])
    assert image[:, 9, 9].tolist() == pytest.approx([5, 0.2, math.log(2) / math.log(64), 1])
    assert image[OCCUPANCY].sum() == 2


def test_density_ends_at_one() -> None:
    for count, density in ((63, 1.0), (64, 1.0), (5000, 1.0), (7, 0.5)):
        image = birds_eye_view(np.zeros((count, 4), np.float32), (0, 1), (0, 1), 1.0)
        assert image[DENSITY, 0, 0] == np.float32(density)


def test_the_order_of_points_matters_only_among_equally_high_ones() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3000, 4)).astype(np.float32) * 5
    image = birds_eye_view(points, (-10, 10), (-10, 10), 0.5)
    assert np.array_equal(image, birds_eye_view(rng.permutation(points), (-10, 10), (-10, 10), 0.5))
    assert np.array_equal(image, birds_eye_view(np.asfortranarray(points), (-10, 10), (-10, 10), 0.5))


@pytest.mark.parametrize(
    ("shape", "dtype", "x_range_m", "cell_m", "z_range_m"),
    [
        ((4,), np.float32, (0, 10), 1.0, (0, 1)),
        ((4, 2), np.float32, (0, 10), 1.0, (0, 1)),
        ((4, 4), np.float64, (0, 10), 1.0, (0, 1)),
        ((4, 4), np.float32, (0, 10), 3.0, (0, 1)),
        ((4, 4), np.float32, (10, 0), 1.0, (0, 1)),
        ((4, 4), np.float32, (0, 10), 0.0, (0, 1)),
        ((4, 4), np.float32, (0, math.nan), 1.0, (0, 1)),
        ((4, 4), np.float32, (0, math.inf), 1.0, (0, 1)),
        ((4, 4), np.float32, (0, 1e30), 1.0, (0, 1)),
        ((4, 4), np.float32, (0, 10), 1.0, (1, 1)),
    ],
)
def test_refuses(shape: tuple[int, ...], dtype: type, x_range_m: Range, cell_m: float, z_range_m: Range) -> None:
    with pytest.raises(ValueError):
        birds_eye_view(np.zeros(shape, dtype), x_range_m, (-5, 5), cell_m, z_range_m)


@settings(max_examples=20, deadline=None)
@given(st.lists(clouds(), max_size=4))
def test_a_raster_used_again_equals_a_fresh_one(sweeps: list[Cloud]) -> None:
    raster = BirdsEyeRaster((-8.0, 20.0), (-12.0, 12.0), 0.5)
    for points in sweeps:
        assert np.array_equal(raster.draw(points), birds_eye_view(points, (-8.0, 20.0), (-12.0, 12.0), 0.5))
