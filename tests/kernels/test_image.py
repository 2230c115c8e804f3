"""Sharpness, exposure and hash against plain NumPy, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy.fft import dctn
from scipy.ndimage import laplace

from kernels.image import exposure, luma, perceptual_hash, sharpness
from tests.pictures import noise, picture


def grey(height=60, width=80, seed=0):
    """Smooth random luma with some contrast."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def bits(one, other):
    return ((one ^ other) & (2**64 - 1)).bit_count()


def test_luma_is_that_of_pillow():
    image = noise(33, 47)
    assert np.abs(luma(image).astype(int) - np.asarray(Image.fromarray(image).convert("L"))).max() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_sharpness_is_the_variance_of_the_laplacian(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    inner = laplace(image.astype(float))[1:-1, 1:-1]
    assert sharpness(image) == pytest.approx(inner.var() if inner.size else 0.0)


def test_blur_and_fog_lower_sharpness():
    sharp = Image.fromarray(grey())
    values = [sharpness(np.asarray(sharp.filter(ImageFilter.GaussianBlur(r)))) for r in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[0] > 5 * values[-1]
    assert sharpness(grey() // 2 + 90) < sharpness(grey()) / 3
    assert sharpness(np.full((9, 9), 77, np.uint8)) == 0


def test_exposure_is_mean_luma():
    assert exposure(np.zeros((4, 4), np.uint8)) == 0 and exposure(np.full((4, 4), 255, np.uint8)) == 1
    assert exposure(grey()) == pytest.approx(grey().mean() / 255)


@pytest.mark.parametrize("seed", range(5))
def test_hash_is_the_sign_of_the_dct(seed):
    image = grey(32, 32, seed)
    low = dctn(image.astype(float))[1:9, 1:9].ravel()
    expected = int("".join("01"[int(value > np.median(low))] for value in low), 2)
    assert perceptual_hash(image) & (2**64 - 1) == expected
    assert -(2**63) <= perceptual_hash(image) < 2**63


def test_hash_survives_light_blur_and_contrast_but_not_another_picture():
    image = grey(32, 32)
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.7)))
    for same in (image // 2 + 40, blurred, np.clip(image.astype(int) + 5, 0, 255).astype(np.uint8)):
        assert bits(perceptual_hash(image), perceptual_hash(same)) <= 10
    others = [perceptual_hash(grey(32, 32, seed)) for seed in range(1, 20)]
    assert min(bits(perceptual_hash(image), other) for other in others) > 10


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_flat_pictures_hash_to_zero(value):
    assert perceptual_hash(np.full((32, 32), value, np.uint8)) == 0


def test_hash_takes_one_size():
    with pytest.raises(ValueError, match="32 x 32"):
        perceptual_hash(luma(picture()))
