"""Decoding against pictures made here: every mode, every kind of damage."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from miner.decode.image import MAX_PIXELS, ImageHeader, Picture, decode_image, image_header, sniff
from miner.errors import BadInput
from tests.pictures import encoded, jpg, noise, patched_size, picture, png


def reason_of(data: bytes, fileformat: str = "jpg") -> tuple[str, str]:
    with pytest.raises(BadInput) as caught:
        decode_image(data, fileformat, "a/frame.jpg")
    assert "a/frame.jpg" in caught.value.detail
    return caught.value.reason, caught.value.detail


# --- good pictures ---


def test_png_is_exact() -> None:
    np.testing.assert_array_equal(decode_image(png(noise()), "png", "x"), noise())


def test_jpeg_equals_the_codec() -> None:
    data = jpg(noise())
    np.testing.assert_array_equal(decode_image(data, "jpg", "x"), simplejpeg.decode_jpeg(data))


@pytest.mark.parametrize("fileformat", ["BMP", "TIFF", "WEBP", "GIF"])
def test_other_formats(fileformat: str) -> None:
    options = {"lossless": True} if fileformat == "WEBP" else {}
    data = encoded(Image.fromarray(picture()), fileformat, **options)
    found = decode_image(data, fileformat.lower(), "x")
    assert image_header(data, "x") == ImageHeader(80, 48, sniff(data) or "")
    np.testing.assert_allclose(found.astype(int), picture(), atol=60 if fileformat == "GIF" else 0)


@pytest.mark.parametrize("named", ["png", "jpg", "", "tiff"])
def test_the_bytes_decide_the_format(named: str) -> None:
    np.testing.assert_array_equal(decode_image(png(noise()), named, "x.jpg"), noise())
    assert decode_image(jpg(noise()), named, "x.png").shape == (48, 80, 3)


GREY = picture()[..., 0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), np.repeat(GREY[..., None], 3, 2)),
        (Image.fromarray(GREY.astype(np.uint16) * 257), np.repeat(GREY[..., None], 3, 2)),
        (
            Image.fromarray((GREY > 99).astype(np.uint8) * 255).convert("1"),
            np.repeat((GREY > 99)[..., None] * 255, 3, 2),
        ),
        (Image.fromarray(np.dstack([picture(), np.full((48, 80), 255, np.uint8)])), picture()),
        (Image.fromarray(np.dstack([picture(), np.zeros((48, 80), np.uint8)])), np.zeros((48, 80, 3))),
        (Image.fromarray(np.dstack([GREY, np.full((48, 80), 255, np.uint8)])), np.repeat(GREY[..., None], 3, 2)),
        (Image.fromarray(GREY // 16 * 16).convert("P"), np.repeat((GREY // 16 * 16)[..., None], 3, 2)),
    ],
    ids=["grey", "grey 16 bit", "1 bit", "opaque alpha", "clear alpha", "grey alpha", "palette"],
)
def test_png_modes(image: Image.Image, expected: NDArray[np.generic]) -> None:
    found = decode_image(encoded(image, "PNG"), "png", "x")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_transparent_palette_is_laid_on_black() -> None:
    image = Image.fromarray(np.repeat([[0, 1]], 4, 0).astype(np.uint8)).convert("P")
    image.putpalette([200, 10, 10, 10, 200, 10])
    found = decode_image(encoded(image, "PNG", transparency=0), "png", "x")
    np.testing.assert_array_equal(found[0], [[0, 0, 0], [10, 200, 10]])


def test_grey_and_cmyk_jpeg() -> None:
    grey = decode_image(encoded(Image.fromarray(GREY), "JPEG", quality=98), "jpg", "x")
    np.testing.assert_allclose(grey.astype(int), np.repeat(GREY[..., None], 3, 2), atol=6)
    cmyk = decode_image(encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=98), "jpg", "x")
    np.testing.assert_allclose(cmyk.astype(int), picture(), atol=12)


def test_float_pixels_are_refused() -> None:
    data = encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF")
    reason, detail = reason_of(data, "tiff")
    assert reason == "unsupported-image" and "mode F" in detail


@pytest.mark.parametrize("fileformat", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, fileformat: str) -> None:
    """Against Pillow's own exif_transpose."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(picture()), fileformat, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))))
    found = decode_image(data, "", "x")
    header = image_header(data, "x")
    assert found.shape == expected.shape == (header.height, header.width, 3)
    np.testing.assert_allclose(found.astype(int), expected, atol=4)


@pytest.mark.parametrize("before", [b"", b"\xff\xe0\0\x06Exif", b"\xff\xff\xe2\0\x0aExif\0\0zz", b"\xff\xfe\0\x02\xff"])
def test_exif_behind_other_segments(before: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(picture()), "JPEG", exif=exif)
    assert image_header(data[:2] + before + data[2:], "x") == ImageHeader(48, 80, "jpg", 6)


@pytest.mark.parametrize(
    ("min_side", "shape"),
    [(0, (480, 640)), (241, (480, 640)), (240, (240, 320)), (121, (240, 320)), (120, (120, 160)), (3, (120, 160))],
)
def test_scaled_decode(min_side: int, shape: tuple[int, int]) -> None:
    """Only halves and quarters, never under `min_side`, and like the full picture shrunk by averaging."""
    data = jpg(picture(480, 640))
    found = decode_image(data, "jpg", "x", min_side)
    assert found.shape == (*shape, 3)
    factor = 480 // shape[0]
    full = simplejpeg.decode_jpeg(data).astype(float)
    means = full.reshape(shape[0], factor, shape[1], factor, 3).mean(axis=(1, 3))
    assert np.abs(found - means).mean() < 2


def test_odd_sizes_scaled() -> None:
    assert decode_image(jpg(picture(375, 1243)), "jpg", "x", 150).shape == (188, 622, 3)
    assert decode_image(png(picture(375, 1243)), "png", "x", 150).shape == (375, 1243, 3)


# --- damage ---


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty-file"), (b"<!DOCTYPE html><html>404</html>", "not-an-image"), (b"\0" * 50, "not-an-image")],
)
def test_no_picture(data: bytes, reason: str) -> None:
    found, detail = reason_of(data)
    assert found == reason and f"{len(data)} bytes" in detail


@pytest.mark.parametrize("make", [jpg, png])
@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.3])
def test_truncated(make: object, share: float) -> None:
    data = make(noise())  # type: ignore[operator]
    part = data[: int(len(data) * share)]
    reason, detail = reason_of(part)
    assert reason == "truncated-image" and f"{len(part)} bytes" in detail and "80 x 48" in detail


@pytest.mark.parametrize("make", [jpg, png])
def test_cut_within_the_header(make: object) -> None:
    for end in (4, 10, 20, 30):
        assert reason_of(make(noise())[:end])[0] in ("corrupt-image", "truncated-image", "not-an-image")  # type: ignore[operator]


def test_every_flipped_bit_of_png_pixels_is_seen() -> None:
    data = png(noise(8, 8))
    for at in range(data.index(b"IDAT"), len(data) - 12, 7):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        assert reason_of(bytes(flipped), "png")[0] in ("corrupt-image", "truncated-image")


def test_flipped_jpeg_that_pillow_takes() -> None:
    """Some flips break the entropy code: those that the codec warns of are refused, where Pillow says nothing."""
    data = jpg(noise(200, 200))
    rng, refused, pillow_silent = np.random.default_rng(1), 0, 0
    for at in rng.integers(700, len(data) - 2, 60):
        flipped = bytearray(data)
        flipped[at] ^= 0x55
        try:
            decode_image(bytes(flipped), "jpg", "x")
        except BadInput as error:
            assert error.reason in ("corrupt-image", "truncated-image")
            refused += 1
            try:
                Image.open(BytesIO(flipped)).load()
                pillow_silent += 1
            except OSError:
                continue
    assert refused > 20 and pillow_silent > 5


@pytest.mark.parametrize("make", [jpg, png])
@pytest.mark.parametrize(("width", "height"), [(65_000, 65_000), (8_001, 8_000)])
def test_bombs_are_refused_by_their_header(make: object, width: int, height: int) -> None:
    reason, detail = reason_of(patched_size(make(picture()), width, height))  # type: ignore[operator]
    assert reason == "too-large" and f"{width} x {height}" in detail and str(MAX_PIXELS) in detail


def test_bomb_in_another_format() -> None:
    data = bytearray(encoded(Image.fromarray(picture()), "BMP"))
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    assert reason_of(bytes(data), "bmp")[0] == "too-large"


def test_header_that_claims_more_than_there_is() -> None:
    assert reason_of(patched_size(jpg(picture()), 4000, 3000))[0] == "truncated-image"


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0"]))
@settings(max_examples=100, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_random_bytes_raise_bad_input(tail: bytes, magic: bytes) -> None:
    with pytest.raises(BadInput):
        decode_image(magic + tail, "jpg", "x")


def test_a_picture_is_decoded_when_asked() -> None:
    data = jpg(picture(96, 160))
    read = Picture.encoded(data, "jpg", "x")
    assert (read.data, read.width, read.height) == (data, 160, 96)
    np.testing.assert_array_equal(read.decode(0), decode_image(data, "jpg", "x"))
    assert read.decode(40).shape == (48, 80, 3)
