"""Bytes to arrays: read a reading, decode it strictly, cut the views an encoder sees.

A view depends on the bytes, its region and its size alone, never on what else is asked of the same frame.
Bad data raises BadInput with the file, its size and the cause.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from miner.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from PIL import Image

Views = Literal["whole", "tiles", "whole+tiles"]

MAX_PIXELS = 64_000_000
MAX_TILES = 16
NEARLY_SQUARE = 1.1  # a frame no longer than this times its short side is one view

# Shrinking a reduced decode by 1.5 or more looks like shrinking the full one (53 dB on a 1600 x 900 road frame); by
# less it does not (37 dB). Reductions by 2 and 4 are good and fast in the codec, those in between are neither.
_DECODE_MARGIN = 1.5
_REDUCING_GAP = 2.0

_MAGIC = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
}


class Region(NamedTuple):
    """A part of a frame as shares of its width and height, from the top left corner, 0 <= x0 < x1 <= 1."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class ImageHeader:
    """What a header says: displayed size in pixels (orientation applied), real format, EXIF orientation 1..8."""

    width: int
    height: int
    fileformat: str
    orientation: int = 1


def read_bytes(uri: str, offset: int | None = None, length: int | None = None) -> bytes:
    """The bytes of a local path, a `file://` URI or any URI that pyarrow.fs opens; optionally only a range of them.

    Raises BadInput: `missing-file`, `unreadable` (permission, a folder, a store's error), `truncated-file` (the range
    goes past the end).
    """
    try:
        data = _read_local(_local_path(uri), offset, length) if _is_local(uri) else _read_remote(uri, offset, length)
    except FileNotFoundError as error:
        raise BadInput("missing-file", f"{shown(uri)}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: pyarrow on a malformed URI, Python on a NUL in a path
        raise BadInput("unreadable", f"{shown(uri)}: {error}") from error
    if length is not None and len(data) < length:
        raise BadInput("truncated-file", f"{shown(uri)}: {length} bytes asked at {offset or 0}, got {len(data)}")
    return data


def shown(uri: str) -> str:
    """`uri` fit for a message: without credentials and query string."""
    if _is_local(uri):
        return uri
    return re.sub(r"//[^/@]*@", "//", uri).partition("?")[0]


def sniff(data: bytes) -> str | None:
    """The picture format that the first bytes say (jpg, png, gif, bmp, tiff, webp); None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def image_header(data: bytes, uri: str) -> ImageHeader:
    """Size, format and orientation of an encoded picture; decodes no pixel.

    Raises BadInput: `empty-file`, `not-an-image`, `corrupt-image`, `too-large` (over 64 megapixels).
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
    if width * height > MAX_PIXELS:
        raise BadInput("too-large", f"{shown(uri)}: {width} x {height} pixels, at most {MAX_PIXELS} are decoded")
    if orientation >= 5:
        width, height = height, width
    return ImageHeader(width, height, fileformat, orientation)


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


def regions(width: int, height: int, views: str) -> list[Region | None]:
    """The parts of a `width` x `height` frame that become rows; None is the whole frame.

    `whole` squashes the full frame to the encoder's square. `tiles` are ceil(long / short) squares over the long side,
    evenly spaced, together covering every pixel. `whole+tiles` is both. A nearly square frame is one view in each.

    Raises BadInput `not-a-frame` where that would be more than 16 tiles, UnknownName for other `views`.
    """
    if views not in get_args(Views):
        raise UnknownName.of("views", views, get_args(Views))
    tiles = _tiles(width, height) if views != "whole" else []
    if not tiles:
        return [None]
    return [None, *tiles] if views == "whole+tiles" else list(tiles)


def crop_views(image: NDArray[np.uint8], parts: list[Region | None], size: int) -> NDArray[np.uint8]:
    """Parts of a frame, each squashed to a square: uint8 (H, W, 3) to uint8 (len(parts), size, size, 3).

    Antialiased bicubic, as CLIP models were trained with.
    """
    from PIL import Image

    height, width = image.shape[:2]
    source = Image.fromarray(image)
    views = np.empty((len(parts), size, size, 3), np.uint8)
    for view, part in zip(views, parts, strict=True):
        x0, y0, x1, y1 = part or (0.0, 0.0, 1.0, 1.0)
        box = (x0 * width, y0 * height, min(x1 * width, width), min(y1 * height, height))
        view[:] = np.asarray(source.resize((size, size), Image.Resampling.BICUBIC, box, _REDUCING_GAP))
    return views


def min_side_for(size: int) -> int:
    """The `min_side` to decode with for views of `size` pixels: every view's short side is then large enough."""
    return math.ceil(_DECODE_MARGIN * size)


def encode_jpeg(pixels: NDArray[np.uint8], quality: int = 75) -> bytes:
    """uint8 RGB (H, W, 3) as a JPEG file, for thumbnails."""
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality)
    return data


def asset_of(data: bytes, header: ImageHeader | None = None) -> dict[str, str | int | None]:
    """What an `assets` row says of a reading's bytes: sha256, num_bytes, and width and height of a picture."""
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "num_bytes": len(data),
        "width": header.width if header else None,
        "height": header.height if header else None,
    }


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def _local_path(uri: str) -> str:
    return unquote(urlsplit(uri).path) if uri.startswith("file://") else uri


def _read_local(path: str, offset: int | None, length: int | None) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset or 0)
        return file.read(-1 if length is None else length)


def _read_remote(uri: str, offset: int | None, length: int | None) -> bytes:
    from pyarrow import fs

    filesystem, path = fs.FileSystem.from_uri(uri)
    with filesystem.open_input_file(path) as file:
        file.seek(min(offset or 0, file.size()))
        data: bytes = file.read() if length is None else file.read(length)
        return data


def _tiles(width: int, height: int) -> list[Region]:
    long, short = max(width, height), min(width, height)
    if long <= NEARLY_SQUARE * short:
        return []
    count = math.ceil(long / short)
    if count > MAX_TILES:
        raise BadInput("not-a-frame", f"{width} x {height} pixels: more than {MAX_TILES} times as long as wide")
    starts = [round(i * (long - short) / (count - 1)) for i in range(count)]
    spans = [(start / long, (start + short) / long) for start in starts]
    return [Region(a, 0.0, b, 1.0) if width >= height else Region(0.0, a, 1.0, b) for a, b in spans]


def _jpeg_header(data: bytes, uri: str) -> tuple[int, int, int]:
    import simplejpeg

    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    except ValueError as error:
        raise BadInput("corrupt-image", f"{shown(uri)}: {len(data)} bytes of a jpg: {error}") from error
    if width * height > MAX_PIXELS or b"Exif\0\0" not in data[:65536]:
        return width, height, 1
    return width, height, _pillow_header(data, uri)[2]


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
        with Image.open(BytesIO(data)) as image:
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

    with Image.open(BytesIO(data)) as image:
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
