"""PCD 0.7 in ascii, binary and binary_compressed (pointclouds.org, "The PCD file format").

Padding (fields named `_`) and fields of several values a point (COUNT above 1, e.g. histograms) are left out.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from miner.decode.points import Points, by_name, check_size
from miner.errors import BadInput

_MAX_HEADER_BYTES = 65536
_TYPES = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}
_ENCODINGS = ("ascii", "binary", "binary_compressed")


class _Field(NamedTuple):
    """`repeats` values of `dtype` a point."""

    name: str
    dtype: np.dtype[np.generic]
    repeats: int

    @property
    def size(self) -> int:
        return self.dtype.itemsize * self.repeats

    @property
    def is_kept(self) -> bool:
        return self.repeats == 1 and self.name != "_"


def decode_pcd(data: bytes) -> Points:
    """Raises BadInput; a header that claims more than the file holds is refused before anything is allocated."""
    header, encoding, body = _split(data)
    try:
        fields, points = _fields(header), _num_points(header)
    except (KeyError, ValueError) as error:
        raise BadInput("bad-pcd", f"its header: {error}") from error
    check_size(points, len(fields))
    if encoding == "ascii":
        return _columns(fields, _ascii(body, fields, points))
    size = points * sum(field.size for field in fields)
    if encoding == "binary":
        return _columns(fields, _interleaved(_exactly(body, size), fields, points))
    return _columns(fields, _one_by_one(_decompressed(body, size), fields, points))


def _split(data: bytes) -> tuple[dict[str, list[str]], str, bytes]:
    """The header's entries, the encoding, and what comes after the header."""
    header: dict[str, list[str]] = {}
    at = 0
    while at < min(len(data), _MAX_HEADER_BYTES):
        end = data.find(b"\n", at, _MAX_HEADER_BYTES)
        line = data[at : end if end >= 0 else _MAX_HEADER_BYTES].decode("latin-1")
        at = end + 1 if end >= 0 else len(data)
        key, *values = line.split() or ["#"]
        if key == "DATA":
            if values not in ([name] for name in _ENCODINGS):
                raise BadInput("bad-pcd", f"DATA {' '.join(values)[:80]!r}, expected one of {', '.join(_ENCODINGS)}")
            return header, values[0], data[at:]
        if not key.startswith("#"):
            header[key] = values
    raise BadInput("bad-pcd", f"no line DATA in its first {at} bytes")


def _fields(header: dict[str, list[str]]) -> list[_Field]:
    names, sizes, kinds = header["FIELDS"], header["SIZE"], header["TYPE"]
    counts = header.get("COUNT", ["1"] * len(names))
    fields = []
    for name, size, kind, count in zip(names, sizes, kinds, counts, strict=True):
        if int(size) not in _TYPES.get(kind, ()) or not 0 <= int(count) <= 65536:
            raise ValueError(f"field {name[:80]!r}: TYPE {kind[:80]} SIZE {size[:80]} COUNT {count[:80]}")
        fields.append(_Field(name.lower(), np.dtype(f"<{kind.lower()}{size}"), int(count)))
    kept = [field.name for field in fields if field.is_kept]
    if len(set(kept)) < len(kept):
        raise ValueError(f"a field twice in FIELDS {' '.join(names)[:200]}")
    return fields


def _num_points(header: dict[str, list[str]]) -> int:
    (width,), (height,) = header["WIDTH"], header.get("HEIGHT", ["1"])
    (points,) = header.get("POINTS", [str(int(width) * int(height))])
    if int(width) < 0 or int(height) < 0 or int(points) != int(width) * int(height):
        raise ValueError(f"POINTS {points[:80]}, but WIDTH {width[:80]} and HEIGHT {height[:80]}")
    return int(points)


def _columns(fields: list[_Field], columns: list[NDArray[np.generic]]) -> Points:
    kept = zip(fields, columns, strict=True)
    return by_name({field.name: column for field, column in kept if field.is_kept})


def _ascii(body: bytes, fields: list[_Field], points: int) -> list[NDArray[np.generic]]:
    columns = sum(field.repeats for field in fields)
    if len(body) < 2 * points * columns - 1:  # each value takes a digit and what separates it from the next
        raise BadInput("bad-pcd", f"POINTS {points} with {columns} values each in {len(body)} bytes")
    try:
        values = np.loadtxt(BytesIO(body), np.float64, None, ndmin=2) if points else np.empty((0, columns))
    except ValueError as error:
        raise BadInput("bad-pcd", str(error)) from error
    if values.shape != (points, columns):
        raise BadInput(
            "bad-pcd", f"{values.shape[0]} lines of {values.shape[1]} values, expected {points} of {columns}"
        )
    starts = np.cumsum([0, *(field.repeats for field in fields)])
    return [values[:, start] for start in starts[:-1]]


def _exactly(body: bytes, size: int) -> bytes:
    """The first `size` bytes. Raises BadInput where there are fewer, or more than a line feed too many."""
    if len(body) < size or body[size:].strip(b"\0\r\n"):
        raise BadInput("bad-pcd", f"{len(body)} bytes after the header, its points need {size}")
    return body[:size]


def _interleaved(content: bytes, fields: list[_Field], points: int) -> list[NDArray[np.generic]]:
    step = sum(field.size for field in fields)
    starts = np.cumsum([0, *(field.size for field in fields)]).tolist()
    return [
        np.ndarray((points,), field.dtype, content, offset=start if points else 0, strides=(step,))
        for field, start in zip(fields, starts, strict=False)
    ]


def _one_by_one(content: bytes, fields: list[_Field], points: int) -> list[NDArray[np.generic]]:
    """Compressed files hold all of a field before the next one."""
    starts = np.cumsum([0, *(points * field.size for field in fields)]).tolist()
    return [
        np.frombuffer(content, field.dtype, points * field.repeats, start)[:: max(field.repeats, 1)]
        for field, start in zip(fields, starts, strict=False)
    ]


def _decompressed(body: bytes, size: int) -> bytes:
    packed, unpacked = np.frombuffer(body[:8].ljust(8, b"\0"), "<u4").tolist()
    if unpacked != size:
        raise BadInput("bad-pcd", f"{unpacked} bytes when unpacked, its points need {size}")
    try:
        return unpack_lzf(_exactly(body[8:], packed), size)
    except (ValueError, IndexError) as error:
        raise BadInput("bad-pcd", f"its compressed points: {error}") from error


def unpack_lzf(packed: bytes, size: int) -> bytes:
    """Marc Lehmann's LZF: runs of 1 to 32 bytes as they are, and copies of 3 to 264 bytes from up to 8 KiB before.

    Raises ValueError or IndexError where the result is not `size` bytes.
    """
    content = bytearray()
    at = 0
    while at < len(packed) and len(content) <= size:
        control = packed[at]
        at += 1
        if control < 32:
            content += packed[at : at + control + 1]
            at += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[at]
            at += 1
        start = len(content) - ((control & 31) << 8) - packed[at] - 1
        at += 1
        if start < 0:
            raise ValueError(f"byte {at}: a copy from before the start")
        piece = content[start : start + length + 2]
        content += (piece * -(-(length + 2) // len(piece)))[: length + 2]  # a copy may run into what it writes
    if len(content) != size:
        raise ValueError(f"{len(content)} bytes, expected {size}")
    return bytes(content)
