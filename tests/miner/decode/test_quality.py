"""Quality of frames, however they were decoded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from miner.decode.image import decode_image
from miner.decode.quality import QUALITY_MIN_SIDE, is_of_another_size, quality_of
from tests.pictures import jpg, noise

FRAMES = sorted(Path(os.environ.get("MINER_TEST_DATA", "nowhere")).glob("nuscenes/samples/CAM_*/*.jpg"))


def road(blur: float = 0.0) -> Image.Image:
    """1600 x 900 with detail of all sizes, softened as a lens does."""
    layers = [Image.fromarray(noise(9 * n, 16 * n)).resize((1600, 900), Image.Resampling.BICUBIC) for n in (1, 5, 20)]
    mixed = np.mean([np.asarray(layer, np.float32) for layer in layers], axis=0).astype(np.uint8)
    return Image.fromarray(mixed).filter(ImageFilter.GaussianBlur(1 + blur))


def bits(one: float, other: float) -> int:
    return ((int(one) ^ int(other)) & (2**64 - 1)).bit_count()


def assert_like(data: bytes) -> None:
    """The reduced decode gives nearly what the full one does."""
    full, reduced = decode_image(data, "jpg", "x"), decode_image(data, "jpg", "x", QUALITY_MIN_SIDE)
    assert len(reduced) == len(full) // 2
    one, other = quality_of(full), quality_of(reduced)
    assert other["sharpness"] == pytest.approx(one["sharpness"], rel=0.05)
    assert other["exposure"] == pytest.approx(one["exposure"], abs=0.001)
    assert bits(one["phash"], other["phash"]) <= 3


def test_decode_scale_hardly_shows() -> None:
    assert_like(jpg(np.asarray(road()), 90))


@pytest.mark.skipif(not FRAMES, reason="MINER_TEST_DATA holds no nuScenes frames")
def test_decode_scale_hardly_shows_on_real_frames() -> None:
    for path in FRAMES[:3]:
        assert_like(path.read_bytes())


def test_size_and_compression_hardly_show() -> None:
    one = quality_of(np.asarray(road()))
    other = quality_of(decode_image(jpg(np.asarray(road().resize((800, 450))), 60), "jpg", "x"))
    assert bits(one["phash"], other["phash"]) <= 6
    assert other["exposure"] == pytest.approx(one["exposure"], abs=0.01)
    assert other["sharpness"] == pytest.approx(one["sharpness"], rel=0.15)


def test_blur_and_night_show() -> None:
    frame = np.asarray(road())
    assert quality_of(np.asarray(road(blur=8)))["sharpness"] < quality_of(frame)["sharpness"] / 3
    assert quality_of(frame // 8)["exposure"] < 0.1 < quality_of(frame)["exposure"]


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (128, 128), (1, 60_000)])
def test_any_size(shape: tuple[int, int]) -> None:
    found = quality_of(noise(*shape))
    assert set(found) == {"sharpness", "exposure", "phash"} and 0 <= found["exposure"] <= 1 and found["sharpness"] >= 0
    assert quality_of(np.zeros((*shape, 3), np.uint8)) == {"sharpness": 0.0, "exposure": 0.0, "phash": 0}


@pytest.mark.parametrize(
    ("factor", "wrong"), [(1, False), (0.5, True), (2.1, True), (0.25, True), (3, True), (1.2, False)]
)
@pytest.mark.parametrize("centre", [(816.3, 491.5), (609.6, 172.9)])
def test_a_frame_of_another_size_than_its_calibration(factor: float, wrong: bool, centre: tuple[float, float]) -> None:
    """Principal points of nuScenes and KITTI."""
    width, height = (1600, 900) if centre[0] > 800 else (1242, 375)
    intrinsic = [1200.0, 0, centre[0], 0, 1200, centre[1], 0, 0, 1]
    assert is_of_another_size(round(factor * width), round(factor * height), intrinsic) == wrong


def test_a_calibration_that_is_not_finite_fits_nothing() -> None:
    assert is_of_another_size(100, 100, [1, 0, float("nan"), 0, 1, 50, 0, 0, 1])
