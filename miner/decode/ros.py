"""ROS 2 sensor messages (CDR bytes) to pictures and sweeps.

The big fields, pixels and points, stay views into the message until they are asked for; every size is checked before
anything is allocated. Bad data raises BadInput with the file and the cause.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miner.decode.files import shown
from miner.decode.image import Picture, check_sides
from miner.decode.points import by_name, check_size
from miner.decode.sweep import Sweep, sweep_of
from miner.errors import BadInput

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE = "sensor_msgs/msg/Image"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
MODALITY = {COMPRESSED_IMAGE: "camera", IMAGE: "camera", POINT_CLOUD: "lidar"}
_MAX_FIELDS = 256

Pixels = NDArray[np.uint8]
_ENCAPSULATIONS = {0: (">", 8), 1: ("<", 8), 6: (">", 4), 7: ("<", 4)}


class Cdr:
    """A cursor over one serialised message: XCDR1 or plain XCDR2, both byte orders (OMG DDS-XTypes 1.3, 7.4.3).

    A number is aligned to its own size, at most 8 bytes (4 in XCDR2), counted from behind the 4 bytes of the header.
    All methods raise BadInput (`bad-message`) where the message ends too early.
    """

    def __init__(self, data: memoryview | bytes, uri: str) -> None:
        """Raises BadInput (`unsupported-encoding`) for bytes that are not CDR."""
        self._data, self._uri, self._at = memoryview(data), uri, 4
        if len(data) < 4 or data[0] or data[1] not in _ENCAPSULATIONS:
            start = bytes(data[:4])
            raise BadInput("unsupported-encoding", f"{shown(uri)}: {len(data)} bytes that are not CDR: {start!r}")
        self._order, self._widest = _ENCAPSULATIONS[data[1]]

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        """`count` numbers of one type, a code of `struct` (B, i, I, d ...)."""
        at = self._advance(struct.calcsize(f"<{code}"), count)
        return struct.unpack_from(f"{self._order}{count}{code}", self._data, at)

    def sequence(self, code: str) -> tuple[Any, ...]:
        return self.numbers(code, self.numbers("I")[0])

    def blob(self) -> memoryview:
        """The bytes of a uint8[] or string field, not copied."""
        at = self._advance(1, self.numbers("I")[0])
        return self._data[at : self._at]

    def string(self) -> str:
        try:
            return bytes(self.blob()).rstrip(b"\0").decode()
        except UnicodeDecodeError as error:
            raise BadInput("bad-message", f"{shown(self._uri)}: a text is not UTF-8: {error}") from error

    def _advance(self, size: int, count: int) -> int:
        align = min(size, self._widest) if count else 1
        at = 4 + -(-(self._at - 4) // align) * align
        self._at = at + size * count
        if self._at > len(self._data):
            raise BadInput("bad-message", f"{shown(self._uri)}: {len(self._data)} bytes, {self._at} are needed")
        return at


class Header(NamedTuple):
    """std_msgs/Header: nanoseconds since the epoch, 0 for an unset or impossible stamp; frame without leading slash."""

    stamp_ns: int
    frame_id: str


class Peek(NamedTuple):
    """What a camera or LiDAR message says before its data. `encoding` is that of a picture, "" for a sweep."""

    header: Header
    encoding: str


def read_header(cdr: Cdr) -> Header:
    (seconds,), (nanoseconds,) = cdr.numbers("i"), cdr.numbers("I")
    stamp_ns = seconds * 10**9 + nanoseconds if seconds >= 0 and nanoseconds < 10**9 else 0
    return Header(stamp_ns, cdr.string().removeprefix("/"))


def peek(kind: str, data: memoryview, uri: str) -> Peek:
    """Header and encoding of a message of a type in MODALITY; reads nothing behind them."""
    cdr = Cdr(data, uri)
    header = read_header(cdr)
    if kind == IMAGE:
        cdr.numbers("I", 2)
    return Peek(header, "" if kind == POINT_CLOUD else cdr.string())


def is_picture(kind: str, encoding: str) -> bool:
    """False for what an image topic carries that is no colour or grey picture: depth, labels, video packets."""
    if kind == COMPRESSED_IMAGE:
        return not any(word in encoding.lower() for word in ("compresseddepth", "h264", "h265", "hevc", "av1"))
    return kind != IMAGE or encoding in _LAYOUTS


def decode_message(kind: str, data: memoryview, uri: str) -> Picture | Sweep:
    """The picture or sweep of a message of a type in MODALITY. Raises BadInput; `uri` is for messages only."""
    cdr = Cdr(data, uri)
    read_header(cdr)
    if kind == POINT_CLOUD:
        return _sweep(cdr, uri)
    if kind == IMAGE:
        return _raw_picture(cdr, uri)
    if kind == COMPRESSED_IMAGE:
        fileformat = cdr.string() or "CompressedImage"
        return Picture.encoded(bytes(cdr.blob()), fileformat, uri)
    raise BadInput("unsupported-message", f"{shown(uri)}: {kind!r}, expected one of {', '.join(MODALITY)}")


# ---- sensor_msgs/Image ----


class _Layout(NamedTuple):
    """How an encoding stores a pixel: `channels` numbers of `size` bytes; `to_rgb` takes uint8 (H, W, channels)."""

    size: int
    channels: int
    to_rgb: Callable[[Pixels], Pixels]


def _raw_picture(cdr: Cdr, uri: str) -> Picture:
    height, width = cdr.numbers("I", 2)
    encoding = cdr.string()
    (is_bigendian,), (step,) = cdr.numbers("B"), cdr.numbers("I")
    data = bytes(cdr.blob())
    what = f"{shown(uri)}: {len(data)} bytes of a {width} x {height} image in {encoding!r} with rows of {step} bytes"
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise BadInput("unsupported-image", f"{what}; known are {', '.join(_LAYOUTS)}")
    check_sides(width, height, what)
    row = width * layout.channels * layout.size
    if not row or not height or step < row or (layout.channels == 2 and width % 2):
        raise BadInput("corrupt-image", f"{what}: these do not fit together")
    if len(data) < step * (height - 1) + row:
        raise BadInput("truncated-image", what)
    kind = np.dtype(f"{'>' if is_bigendian else '<'}u{layout.size}")
    return Picture(data, width, height, lambda _: _decode_raw(data, layout, kind, (height, width, step)))


def _decode_raw(data: bytes, layout: _Layout, kind: np.dtype[Any], size: tuple[int, int, int]) -> Pixels:
    """uint8 RGB (H, W, 3) of a raw image with rows of `step` bytes; 16 bits become 8 over their full range."""
    height, width, step = size
    strides = (step, layout.channels * layout.size, layout.size)
    stored: NDArray[Any] = np.ndarray((height, width, layout.channels), kind, data, strides=strides)
    pixels = stored if layout.size == 1 else (stored.astype(np.uint16) // 257).astype(np.uint8)
    return np.array(layout.to_rgb(pixels), order="C")  # always a copy: `data` cannot be written to


def _colours(pixels: Pixels, rgb: slice) -> Pixels:
    return pixels[..., rgb]


def _grey(pixels: Pixels) -> Pixels:
    return np.repeat(pixels, 3, axis=2)


def _yuv_422(pixels: Pixels, luma: int) -> Pixels:
    """Two pixels in four bytes, luma at `luma` of each two, U then V between them; video range (ITU-R BT.601-7)."""
    y = 298 * (pixels[..., luma].astype(np.int32) - 16)
    u = np.repeat(pixels[:, 0::2, 1 - luma], 2, axis=1).astype(np.int32) - 128
    v = np.repeat(pixels[:, 1::2, 1 - luma], 2, axis=1).astype(np.int32) - 128
    rgb = np.stack([y + 409 * v, y - 100 * u - 208 * v, y + 516 * u], axis=-1)
    return ((rgb + 128) >> 8).clip(0, 255).astype(np.uint8)


def _demosaic(pixels: Pixels, red: tuple[int, int]) -> Pixels:
    """Bilinear: each colour is the mean of its nearest samples. `red` is row and column of the first red one."""
    raw = np.pad(pixels[..., 0], 1, mode="reflect").astype(np.uint16)  # reflected, a border keeps the pattern
    own, up, down, left, right = raw[1:-1, 1:-1], raw[:-2, 1:-1], raw[2:, 1:-1], raw[1:-1, :-2], raw[1:-1, 2:]
    row_mean, column_mean, cross = (left + right + 1) // 2, (up + down + 1) // 2, (up + down + left + right + 2) // 4
    corners = (raw[:-2, :-2] + raw[:-2, 2:] + raw[2:, :-2] + raw[2:, 2:] + 2) // 4
    means = {
        (True, True): (own, cross, corners),  # a red sample; then green of a red row, green of a blue row, blue
        (True, False): (row_mean, own, column_mean),
        (False, True): (column_mean, own, row_mean),
        (False, False): (corners, cross, own),
    }
    rgb = np.empty((*own.shape, 3), np.uint8)
    for (in_row, in_column), planes in means.items():
        place = (slice(red[0] if in_row else 1 - red[0], None, 2), slice(red[1] if in_column else 1 - red[1], None, 2))
        for colour, plane in enumerate(planes):
            rgb[(*place, colour)] = plane[place]
    return rgb


def _layouts() -> dict[str, _Layout]:
    """By the names of sensor_msgs/image_encodings.hpp; what OpenCV calls 8UC3 is taken as BGR, alpha is left out."""
    rgb, bgr = partial(_colours, rgb=slice(0, 3)), partial(_colours, rgb=slice(2, None, -1))
    found = {"8UC1": _Layout(1, 1, _grey), "8UC3": _Layout(1, 3, bgr), "8UC4": _Layout(1, 4, bgr)}
    for size in (1, 2):
        bits = 8 * size
        found[f"mono{bits}"] = _Layout(size, 1, _grey)
        for order, to_rgb in (("rgb", rgb), ("bgr", bgr)):
            found[f"{order}{bits}"] = _Layout(size, 3, to_rgb)
            found[f"{order}a{bits}"] = _Layout(size, 4, to_rgb)
        for pattern in ("rggb", "grbg", "gbrg", "bggr"):
            red = divmod(pattern.index("r"), 2)
            found[f"bayer_{pattern}{bits}"] = _Layout(size, 1, partial(_demosaic, red=red))
    for luma, names in ((1, ("yuv422", "uyvy")), (0, ("yuv422_yuy2", "yuyv"))):
        found |= {name: _Layout(1, 2, partial(_yuv_422, luma=luma)) for name in names}
    return found


_LAYOUTS = _layouts()

# ---- sensor_msgs/PointCloud2 ----

_DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_OPTIONAL = {"intensity": ("intensity", "i", "reflectivity"), "ring": ("ring", "channel", "line")}


def _sweep(cdr: Cdr, uri: str) -> Sweep:
    """x, y, z and, where they are there, intensity and ring; other fields are left out."""
    height, width = cdr.numbers("I", 2)
    fields = _fields(cdr, uri)
    (is_bigendian,) = cdr.numbers("B")
    point_step, row_step = cdr.numbers("I", 2)
    data = cdr.blob()
    what = f"{shown(uri)}: {len(data)} bytes of {height} x {width} points of {point_step} bytes, rows of {row_step}"
    if not height * width:
        raise BadInput("no-points", what)
    if max((offset + int(kind[1]) for offset, kind in fields.values()), default=0) > point_step:
        raise BadInput("corrupt-sweep", f"{what}: a field ends behind its point")
    if (height > 1 and row_step < width * point_step) or len(data) < (height - 1) * row_step + width * point_step:
        raise BadInput("truncated-sweep", what)
    columns = {}
    for name, (offset, kind) in fields.items():
        order = np.dtype(kind).newbyteorder(">" if is_bigendian else "<")
        stored: NDArray[Any] = np.ndarray((height, width), order, data, offset, (row_step, point_step))
        columns[name] = stored.ravel()
    try:
        check_size(height * width, len(columns))
        return sweep_of(bytes(data), by_name(columns), gaps_are_normal=True)
    except BadInput as bad:
        raise BadInput(bad.reason, f"{what}: {bad.detail}") from bad


def _fields(cdr: Cdr, uri: str) -> dict[str, tuple[int, str]]:
    """Offset and type of x, y, z and the optional columns, of the fields that are plain numbers."""
    (count,) = cdr.numbers("I")
    if count > _MAX_FIELDS:
        raise BadInput("corrupt-sweep", f"{shown(uri)}: {count} point fields, at most {_MAX_FIELDS} are read")
    known: dict[str, tuple[int, str]] = {}
    for _ in range(count):
        name, (offset,), (datatype,), (repeats,) = cdr.string(), cdr.numbers("I"), cdr.numbers("B"), cdr.numbers("I")
        if datatype in _DATATYPES and repeats <= 1:  # some drivers write 0 for a plain number
            known.setdefault(name, (offset, _DATATYPES[datatype]))
    columns: dict[str, tuple[int, str]] = {name: known[name] for name in ("x", "y", "z") if name in known}
    for name, aliases in _OPTIONAL.items():
        if found := [known[alias] for alias in aliases if alias in known]:
            columns[name] = found[0]
    return columns
