"""Small pictures and their encodings, for tests."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

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
