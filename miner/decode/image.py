"""Encoded pictures to pixels, strictly: bad data raises BadInput with the file, its size and the cause."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from miner.decode.files import shown
from miner.errors import BadInput

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 64_000_000
MAX_ASPECT = 16  # what is longer than that times its width is no camera frame
MAX_SIDE = 65_535  # pixels, as in JPEG: what a resize needs grows with the width

_MAGIC = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
}
_PILLOW = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")  # it knows formats that run other programs, too


@dataclass(frozen=True)
class ImageHeader:
    """What a header says: displayed size in pixels (orientation applied), real format, EXIF orientation 1..8."""

    width: int
    height: int
    fileformat: str
    orientation: int = 1


@dataclass(frozen=True)
class Picture:
    """One camera frame as it was read: `data` are its own bytes, width and height its pixels as displayed.

    `decode(min_side)` gives uint8 RGB (H, W, 3), upright; where the format can do it cheaply reduced, with a short side
    of at least `min_side` pixels (0: in full size). It raises BadInput.
    """

    data: bytes
    width: int
    height: int
    decode: Callable[[int], NDArray[np.uint8]]

    @classmethod
    def encoded(cls, data: bytes, fileformat: str, uri: str) -> Picture:
        """A picture in a file of its own; looks at the header only. Raises BadInput as `image_header`."""
        header = image_header(data, uri)
        return cls(data, header.width, header.height, lambda side: decode_image(data, fileformat, uri, side))


def sniff(data: bytes) -> str | None:
    """The picture format that the first bytes say (jpg, png, gif, bmp, tiff, webp); None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def image_header(data: bytes, uri: str) -> ImageHeader:
    """Size, format and orientation of an encoded picture; decodes no pixel.

    Raises BadInput: `empty-file`, `not-an-image`, `corrupt-image`, and as `check_sides`.
    """
    if not data:
        raise BadInput("empty-file", f"{shown(uri)}: 0 bytes")
    fileformat = sniff(data)
    if fileformat is None:
        raise BadInput("not-an-image", f"{shown(uri)}: {len(data)} bytes, starting with {data[:16]!r}")
    if fileformat == "jpg":
        width, height, orientation = _jpeg_header(data, uri)
    elif fileformat == "png":
        width, height, orientation = _png_header(data, uri)
    else:
        width, height, orientation = _pillow_header(data, uri)
    check_sides(width, height, shown(uri))
    if orientation >= 5:
        width, height = height, width
    return ImageHeader(width, height, fileformat, orientation)


def check_sides(width: int, height: int, name: str) -> None:
    """Raises BadInput for what no camera takes: `corrupt-image` (no pixels), `too-large` (over 64 megapixels),
    `not-a-frame` (a side over 65,535 pixels, or more than 16 times as long as wide)."""
    size = f"{name}: {width} x {height} pixels"
    if min(width, height) < 1:
        raise BadInput("corrupt-image", f"{size}: nothing to see")
    if width * height > MAX_PIXELS:
        raise BadInput("too-large", f"{size}, at most {MAX_PIXELS} are decoded")
    if max(width, height) > min(MAX_SIDE, MAX_ASPECT * min(width, height)):
        raise BadInput("not-a-frame", f"{size}: over {MAX_SIDE} on a side, or {MAX_ASPECT} times as long as wide")


def decode_image(data: bytes, fileformat: str, uri: str, min_side: int = 0) -> NDArray[np.uint8]:
    """An encoded picture as uint8 RGB (H, W, 3), upright (EXIF orientation applied).

    The bytes decide the format, `fileformat` (what the row says) only appears in messages. Grey, palette, CMYK and
    16 bit pictures become 8 bit RGB; transparent ones are laid on black. With `min_side` (pixels) a JPEG is decoded at
    1/2 or 1/4 where its short side keeps at least that. Strict: warnings of the codec are errors.

    Raises BadInput as `image_header` does, and `truncated-image`, `corrupt-image` or `unsupported-image`.
    """
    header = image_header(data, uri)
    try:
        if header.fileformat == "jpg":
            pixels = _decode_jpeg(data, min_side)
        else:
            if header.fileformat == "png":
                _check_png(data)
            pixels = _decode_pillow(data)
    except (OSError, ValueError, SyntaxError, NotImplementedError, struct.error) as error:
        size = f"{len(data)} bytes of a {header.width} x {header.height} {header.fileformat} (named {fileformat})"
        raise BadInput(_reason(error), f"{shown(uri)}: {size}: {error}") from error
    return _upright(pixels, header.orientation)


def encode_jpeg(pixels: NDArray[np.uint8], quality: int = 75) -> bytes:
    """uint8 RGB (H, W, 3) as a JPEG file, for thumbnails."""
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality)
    return data


def _jpeg_header(data: bytes, uri: str) -> tuple[int, int, int]:
    import simplejpeg

    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    except ValueError as error:
        raise BadInput("corrupt-image", f"{shown(uri)}: {len(data)} bytes of a jpg: {error}") from error
    if width * height > MAX_PIXELS or not _has_exif(data):
        return width, height, 1
    return width, height, _pillow_header(data, uri)[2]


def _has_exif(data: bytes) -> bool:
    """Whether an Exif segment (APP1) stands before the scan. Walks segments: a search would touch all the bytes."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return True
        fill = data[at + 1] == 0xFF  # a byte that may stand before any marker
        at += 1 if fill else 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _png_header(data: bytes, uri: str) -> tuple[int, int, int]:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise BadInput("corrupt-image", f"{shown(uri)}: {len(data)} bytes of a png without a header")
    width, height = struct.unpack(">II", data[16:24])
    if width * height > MAX_PIXELS or b"eXIf" not in data:
        return width, height, 1
    return width, height, _pillow_header(data, uri)[2]


def _pillow_header(data: bytes, uri: str) -> tuple[int, int, int]:
    from PIL import ExifTags, Image

    try:
        with Image.open(BytesIO(data), formats=_PILLOW) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            return image.width, image.height, orientation if orientation in range(1, 9) else 1
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput("too-large", f"{shown(uri)}: {len(data)} bytes: {error}") from error
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise BadInput("corrupt-image", f"{shown(uri)}: {len(data)} bytes of a {sniff(data)}: {error}") from error


def _decode_jpeg(data: bytes, min_side: int) -> NDArray[np.uint8]:
    import simplejpeg

    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    if colorspace in ("CMYK", "YCCK"):
        return _decode_pillow(data)
    factor = next(f for f in (4, 2, 1) if f == 1 or (min_side and min(width, height) // f >= min_side))
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data, min_height=-(-height // factor), min_width=-(-width // factor), strict=True
    )
    return pixels


def _reason(error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return "unsupported-image"
    return "truncated-image" if re.search("premature|truncated", str(error), re.IGNORECASE) else "corrupt-image"


def _check_png(data: bytes) -> None:
    """Raise ValueError for a chunk cut short or with a wrong CRC: Pillow does not check those that hold pixels."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ValueError(f"wrong CRC in chunk {kind!r} at byte {at}")
        if kind == b"IEND":
            return
        at = end
    raise ValueError(f"truncated at byte {at}: no end chunk")


def _decode_pillow(data: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(BytesIO(data), formats=_PILLOW) as image:
        image.load()
        if image.mode == "F" or image.mode.startswith("I"):
            return _grey_16_bit(image)
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        rgba = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB"))


def _grey_16_bit(image: Image.Image) -> NDArray[np.uint8]:
    """The full 16 bit range to 8 bits: a frame's pixels must not depend on its own brightest one."""
    grey = np.asarray(image)
    if image.mode == "F" or grey.min() < 0 or grey.max() > 65535:
        raise NotImplementedError(
            f"pixels of mode {image.mode} between {grey.min()} and {grey.max()} are not 16 bit grey"
        )
    return np.repeat((grey.astype(np.uint32) // 257).astype(np.uint8)[..., None], 3, axis=2)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (EXIF 2.3, tag 0x0112): transpose for 5..8, then mirror."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
