"""The resize against a plain NumPy oracle and against Pillow, and its laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kernels.resize import Workspace, resize, resize_normalised, taps
from tests.pictures import noise, picture

CASES = [
    ((64, 97, 3), None, (17, 33)),
    ((64, 97, 3), (10.3, 5.25, 80.9, 60.0), (31, 16)),
    ((40, 30, 3), None, (64, 130)),
    ((50, 200, 1), (0.5, 0, 199.5, 50), (20, 70)),
    ((30, 300, 3), (120.2, 3, 121.9, 4.5), (5, 6)),
    ((1, 1, 3), None, (3, 2)),
    ((2, 5, 1), (1, 0, 4, 2), (1, 1)),
    ((7, 3, 3), None, (16, 48)),
]


def bicubic(x):
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def matrix(length, start, stop, size):
    """(size, length): the shares of every source pixel in every output pixel, with the filter's window of Pillow."""
    step = (stop - start) / size
    stretch = max(step, 1)
    centre = start + (np.arange(size)[:, None] + 0.5) * step
    pixel = np.arange(length)
    inside = (pixel >= np.floor(centre - 2 * stretch + 0.5)) & (pixel < np.floor(centre + 2 * stretch + 0.5))
    shares = np.where(inside, bicubic((pixel + 0.5 - centre) / stretch), 0)
    return shares / shares.sum(axis=1, keepdims=True)


def slow(image, box, size):
    """float64 (h, w, C), clipped, not rounded."""
    rows = matrix(image.shape[0], box[1], box[3], size[0])
    columns = matrix(image.shape[1], box[0], box[2], size[1])
    return np.clip(np.einsum("yr,rcd,xc->yxd", rows, image.astype(float), columns), 0, 255)


def case(shape, box):
    image = np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)
    return image, box or (0, 0, shape[1], shape[0])


@pytest.mark.parametrize(("shape", "box", "size"), CASES)
def test_agrees_with_the_oracle(shape, box, size):
    image, box = case(shape, box)
    expected = slow(image, box, size)
    found = resize(image, box, np.empty((*size, shape[2]), np.uint8))
    assert np.abs(found - expected).max() <= 0.501
    mean, std = [0.4, 0.5, 0.6][: shape[2]], [0.2, 0.25, 0.3][: shape[2]]
    scaled = resize_normalised(image, box, (mean, std), np.empty((shape[2], *size), np.float32))
    np.testing.assert_allclose(scaled.transpose(1, 2, 0), (expected / 255 - mean) / std, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_box_and_size(height, width, out_height, out_width, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    (x0, x1), (y0, y1) = (np.sort(rng.uniform(0, length, 2)) for length in (width, height))
    box = (float(x0), float(y0), float(x1), float(y1))
    if x0 == x1 or y0 == y1:
        return
    found = resize(image, box, np.empty((out_height, out_width, 3), np.uint8))
    assert np.abs(found - slow(image, box, (out_height, out_width))).max() <= 0.501


@pytest.mark.parametrize("size", [(224, 224), (90, 160), (375, 500)])
@pytest.mark.parametrize("box", [None, (100.25, 20.5, 700.75, 400.0)])
def test_agrees_with_pillow(size, box):
    """Pillow rounds to 8 bits between its two passes; beyond that nothing differs."""
    image = np.asarray(Image.fromarray(noise(45, 80)).resize((800, 450), Image.Resampling.BICUBIC))
    box = box or (0, 0, 800, 450)
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC, box)).astype(float)
    found = resize(image, box, np.empty((*size, 3), np.uint8))
    assert np.abs(found - expected).max() <= 2
    assert 10 * math.log10(255**2 / np.mean((found - expected) ** 2)) > 54


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 255))
def test_a_flat_image_stays_flat(size, length, value):
    image = np.full((length, length, 3), value, np.uint8)
    assert (resize(image, (0, 0, length, length), np.empty((size, size, 3), np.uint8)) == value).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_its_own_size_is_the_image(height, width):
    image = noise(height, width)
    np.testing.assert_array_equal(resize(image, (0, 0, width, height), np.empty_like(image)), image)


def test_mirrored_image_gives_the_mirrored_result():
    image = noise(120, 200)
    one, other = (resize(i, (0, 0, 200, 120), np.empty((50, 70, 3), np.uint8)) for i in (image, image[:, ::-1, :]))
    assert np.abs(one[:, ::-1].astype(int) - other).max() <= 1


def test_weights_sum_to_one_and_windows_stay_inside():
    for side, start, stop, size in ((100, 0, 100, 7), (100, 99.5, 100, 9), (3, 0, 3, 20), (1000, 250.5, 333.3, 40)):
        first, length, weight = taps(side, start, stop, size)
        np.testing.assert_allclose(weight.sum(axis=1), 1, atol=1e-6)
        assert (first >= 0).all() and (first + length <= side).all() and (length > 0).all()


def test_a_used_workspace_changes_nothing():
    image, space = noise(90, 160), Workspace.of(160, 64)
    expected = resize(image, (0, 0, 160, 90), np.empty((64, 64, 3), np.uint8))
    resize(255 - image, (20, 0, 110, 90), np.empty((40, 50, 3), np.uint8), space)
    np.testing.assert_array_equal(resize(image, (0, 0, 160, 90), np.empty((64, 64, 3), np.uint8), space), expected)


def test_read_only_and_strided_images():
    image = picture(60, 90)
    box, expected = (0, 0, 60, 90), np.empty((20, 20, 3), np.uint8)
    resize(np.ascontiguousarray(image.transpose(1, 0, 2)), box, expected)
    turned = image.transpose(1, 0, 2)
    turned.flags.writeable = False
    np.testing.assert_array_equal(resize(turned, box, np.empty((20, 20, 3), np.uint8)), expected)


@pytest.mark.parametrize("box", [(0, 0, 81, 48), (-1, 0, 80, 48), (5, 0, 5, 48), (0, 9, 80, 8), (0, 0, math.nan, 48)])
def test_boxes_outside_are_refused(box):
    with pytest.raises(ValueError, match="80 x 48"):
        resize(noise(), box, np.empty((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "out"),
    [
        (noise().astype(np.float32), np.empty((8, 8, 3), np.uint8)),
        (noise()[..., 0], np.empty((8, 8, 3), np.uint8)),
        (noise()[..., :2], np.empty((8, 8, 2), np.uint8)),
        (np.empty((0, 5, 3), np.uint8), np.empty((8, 8, 3), np.uint8)),
        (noise(), np.empty((8, 8, 1), np.uint8)),
        (noise(), np.empty((8, 8, 3), np.float32)),
        (noise(), np.empty((0, 8, 3), np.uint8)),
        (noise(), np.empty((8, 16, 3), np.uint8)[:, ::2]),
    ],
)
def test_wrong_arrays_are_refused(image, out):
    with pytest.raises(ValueError, match="expected"):
        resize(image, (0, 0, 5, 5), out)


@pytest.mark.parametrize("space", [Workspace.of(60, 8), Workspace.of(80, 4), Workspace.of(240, 40, 1)])
def test_small_workspaces_are_refused(space):
    with pytest.raises(ValueError, match="too small"):
        resize(noise(), (0, 0, 80, 48), np.empty((8, 8, 3), np.uint8), space)
