"""Decoding against pictures made here: every mode, every kind of damage."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from miner.decode import (
    MAX_PIXELS,
    MAX_TILES,
    ImageHeader,
    Region,
    asset_of,
    crop_views,
    decode_image,
    image_header,
    min_side_for,
    read_bytes,
    regions,
    shown,
    sniff,
)
from miner.errors import BadInput, UnknownName

Pixels = NDArray[np.uint8]


def picture(height: int = 48, width: int = 80) -> Pixels:
    """Smooth colour ramps, different in every corner, so that orientation shows and JPEG keeps them."""
    y, x = np.mgrid[:height, :width]
    planes = [255 * x / width, 255 * y / height, 255 * (x + 2 * y) / (width + 2 * height)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def noise(height: int = 48, width: int = 80) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, fileformat: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, fileformat, **options)
    return buffer.getvalue()


def png(pixels: Pixels) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def jpg(pixels: Pixels, quality: int = 95) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality)


def patched_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG or PNG whose header claims another size."""
    if data[:2] == b"\xff\xd8":
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]
    head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def reason_of(data: bytes, fileformat: str = "jpg") -> tuple[str, str]:
    with pytest.raises(BadInput) as caught:
        decode_image(data, fileformat, "a/frame.jpg")
    assert "a/frame.jpg" in caught.value.detail
    return caught.value.reason, caught.value.detail


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_reads_whole_and_part(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "a file.bin"
    path.write_bytes(bytes(range(100)))
    uri = scheme + (str(path).replace(" ", "%20") if scheme else str(path))
    assert read_bytes(uri) == bytes(range(100))
    assert read_bytes(uri, 10, 5) == bytes(range(10, 15))
    assert read_bytes(uri, 90) == bytes(range(90, 100))
    assert read_bytes(uri, 5, 0) == b""


def test_other_filesystems_through_arrow(tmp_path: Path) -> None:
    from miner.decode import _read_remote

    path = tmp_path / "x.bin"
    path.write_bytes(bytes(range(100)))
    assert _read_remote(path.as_uri(), None, None) == bytes(range(100))
    assert _read_remote(path.as_uri(), 98, 5) == bytes([98, 99])
    assert _read_remote(path.as_uri(), 500, None) == b""


@pytest.mark.parametrize(("offset", "length"), [(0, 101), (99, 2), (500, 1)])
def test_a_range_past_the_end(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(100))
    with pytest.raises(BadInput, match="truncated-file") as caught:
        read_bytes(str(path), offset, length)
    assert str(length) in caught.value.detail


@pytest.mark.parametrize(
    ("name", "reason"), [("none.jpg", "missing-file"), ("", "unreadable"), ("nul\0.jpg", "unreadable")]
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_bytes(f"{tmp_path}/{name}")
    assert caught.value.reason == reason and str(tmp_path) in caught.value.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(BadInput, match="unreadable"):
        read_bytes(str(path))


def test_unknown_scheme_and_no_secrets_in_messages() -> None:
    with pytest.raises(BadInput, match="unreadable") as caught:
        read_bytes("nosuch://key:canary@bucket/a.jpg?token=canary")
    assert "nosuch://bucket/a.jpg" in caught.value.detail
    assert shown("s3://bucket/a.jpg?X-Amz-Signature=canary") == "s3://bucket/a.jpg"
    assert shown("/data/what?/a@b.jpg") == "/data/what?/a@b.jpg"


# --- good pictures --------------------------------------------------------------------------------------------------


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


# --- damage ---------------------------------------------------------------------------------------------------------


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


# --- views ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [(1600, 900, 2), (1242, 375, 4), (640, 480, 2), (2000, 1000, 2), (2001, 1000, 3), (900, 1600, 2), (1600, 100, 16)],
)
def test_number_of_tiles(width: int, height: int, tiles: int) -> None:
    assert len(regions(width, height, "tiles")) == tiles
    assert regions(width, height, "whole") == [None]
    assert regions(width, height, "whole+tiles") == [None, *regions(width, height, "tiles")]


@pytest.mark.parametrize(("width", "height"), [(500, 500), (550, 500), (500, 550), (1, 1)])
@pytest.mark.parametrize("views", ["whole", "tiles", "whole+tiles"])
def test_nearly_square_frames_are_one_view(width: int, height: int, views: str) -> None:
    assert regions(width, height, views) == [None]


@given(st.integers(1, 4000), st.integers(1, 4000))
@settings(deadline=None)
def test_tiles_cover_the_frame_with_squares(width: int, height: int) -> None:
    if max(width, height) > MAX_TILES * min(width, height):
        with pytest.raises(BadInput, match="not-a-frame"):
            regions(width, height, "tiles")
        assert regions(width, height, "whole") == [None]
        return
    tiles = regions(width, height, "tiles")
    if tiles == [None]:
        assert max(width, height) <= 1.1 * min(width, height)
        return
    boxes = [np.array(tile) * [width, height, width, height] for tile in tiles if tile is not None]
    starts = np.array([box[0 if width >= height else 1] for box in boxes])
    short, long = min(width, height), max(width, height)
    for box in boxes:
        np.testing.assert_allclose([box[2] - box[0], box[3] - box[1]], short, atol=1e-6)
    assert starts[0] == 0 and abs(starts[-1] + short - long) < 1e-6
    assert (np.diff(starts) <= short + 1e-6).all() and (np.diff(starts) > 0).all()
    assert np.ptp(np.diff(starts)) <= 1 + 1e-6 and len(tiles) == -(-long // short)


def test_unknown_views() -> None:
    with pytest.raises(UnknownName, match="whole"):
        regions(10, 10, "center")


def test_whole_at_its_own_size_is_the_frame() -> None:
    frame = noise(64, 64)
    np.testing.assert_array_equal(crop_views(frame, [None], 64)[0], frame)


def test_a_tile_at_its_own_size_is_the_crop() -> None:
    frame = noise(64, 128)
    views = crop_views(frame, regions(128, 64, "tiles"), 64)
    np.testing.assert_array_equal(views, [frame[:, :64], frame[:, 64:]])


def test_close_to_plain_antialiased_bicubic() -> None:
    frame = np.asarray(Image.fromarray(noise(90, 160)).resize((1600, 900), Image.Resampling.BICUBIC))
    found = crop_views(frame, [None], 224)[0].astype(float)
    plain = np.asarray(Image.fromarray(frame).resize((224, 224), Image.Resampling.BICUBIC)).astype(float)
    assert 10 * np.log10(255**2 / np.mean((found - plain) ** 2)) > 45


def test_a_view_does_not_depend_on_the_others() -> None:
    data = jpg(np.asarray(Image.fromarray(noise(90, 160)).resize((1600, 900))))
    frame = decode_image(data, "jpg", "x", min_side_for(224))
    parts = regions(1600, 900, "whole+tiles")
    together = crop_views(frame, parts, 224)
    assert together.shape == (3, 224, 224, 3) and together.dtype == np.uint8
    for part, view in zip(parts, together, strict=True):
        np.testing.assert_array_equal(crop_views(frame, [part], 224)[0], view)


def test_scaled_decode_gives_nearly_the_same_views() -> None:
    data = jpg(np.asarray(Image.fromarray(noise(45, 80)).resize((1600, 900), Image.Resampling.BICUBIC)))
    parts = regions(1600, 900, "whole+tiles")
    small = crop_views(decode_image(data, "jpg", "x", min_side_for(260)), parts, 260).astype(float)
    full = crop_views(decode_image(data, "jpg", "x"), parts, 260).astype(float)
    assert 10 * np.log10(255**2 / np.mean((small - full) ** 2)) > 40


def test_no_views() -> None:
    assert crop_views(noise(), [], 32).shape == (0, 32, 32, 3)
    assert crop_views(noise(), [Region(0.5, 0.5, 1.0, 1.0)], 8).shape == (1, 8, 8, 3)


# --- facts ----------------------------------------------------------------------------------------------------------


def test_asset_facts() -> None:
    data = jpg(picture())
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)}
    assert asset_of(data, image_header(data, "x")) == facts | {"width": 80, "height": 48}
    assert asset_of(data) == facts | {"width": None, "height": None}
