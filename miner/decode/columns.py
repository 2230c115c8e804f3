"""Sweeps kept as tables: Arrow's Feather, and numbers in text."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from io import BytesIO

import numpy as np
import pyarrow as pa

from miner.decode.points import MAX_POINTS, Points, by_name, by_position, check_size
from miner.errors import BadInput

_MAX_BUFFER_BYTES = 8 * MAX_POINTS
_MAGIC = b"ARROW1"
_HEADER, _BUFFERS, _COMPRESSION = 2, 2, 3  # fields of Message and of RecordBatch in Arrow's Message.fbs


def decode_feather(data: bytes) -> Points:
    """A Feather (Arrow IPC) file; columns that are no numbers are left out. Raises BadInput.

    The messages are read in a row: the footer may name others than those whose sizes were checked.
    """
    if not data.startswith(_MAGIC) or not data.endswith(_MAGIC):
        raise BadInput("bad-feather", "does not start and end with ARROW1")
    try:
        messages = pa.py_buffer(data).slice(8)
        for size in _claimed_sizes(pa.ipc.MessageReader.open_stream(messages)):
            if size > _MAX_BUFFER_BYTES:
                raise BadInput("too-many-points", f"a column of {size} bytes, at most {_MAX_BUFFER_BYTES} are read")
        table = pa.ipc.open_stream(messages).read_all()
        table.validate(full=True)
        numbers = [f.name for f in table.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
        columns = {name: table[name].to_numpy() for name in numbers}
    except (pa.ArrowException, OSError, ValueError, LookupError, MemoryError, struct.error) as error:
        raise BadInput("bad-feather", f"{type(error).__name__}: {error}") from error
    check_size(len(table), len(columns))
    return by_name(columns)


def decode_csv(data: bytes) -> Points:
    """Lines of numbers between commas, semicolons or white space; a first line that is no numbers is a header.

    Raises BadInput.
    """
    first = data[:4096].split(b"\n", 1)[0].decode("utf-8-sig", "replace").strip()
    separator = next((mark for mark in ",;\t" if mark in first), None)
    words = [word.strip(' "') for word in first.split(separator)]
    bare = all(map(_is_number, words))
    check_size(data.count(b"\n"), len(words))
    numbers = data if bare else data.partition(b"\n")[2]
    if not numbers.strip():
        raise BadInput("no-points", f"nothing under the header {first[:200]!r}")
    try:
        values = np.loadtxt(BytesIO(numbers), np.float32, None, separator, ndmin=2, encoding="utf-8-sig")
    except (ValueError, OverflowError) as error:
        raise BadInput("bad-csv", str(error)) from error
    if values.shape[1] != len(words) or (len(set(words)) < len(words) and not bare):
        raise BadInput("bad-csv", f"{values.shape[1]} columns under the header {first[:200]!r}")
    return by_position(values) if bare else by_name(dict(zip(words, values.T, strict=True)))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _claimed_sizes(messages: Iterable[pa.ipc.Message]) -> Iterator[int]:
    """What the compressed buffers of all record batches claim to be when unpacked: Arrow allocates that unasked.

    Such a buffer starts with its size as int64, or -1 where it is not compressed after all (Arrow columnar format).
    """
    for message in messages:
        if message.type == "record batch":
            for offset, length in _compressed_buffers(message.metadata.to_pybytes()):
                if length >= 8:
                    yield struct.unpack("<q", message.body.slice(offset, 8).to_pybytes())[0]


def _compressed_buffers(metadata: bytes) -> list[tuple[int, int]]:
    """Offset and length of each buffer of a record batch, from its flatbuffer (Arrow's Message.fbs)."""
    batch = _follow(metadata, _field(metadata, _follow(metadata, 0), _HEADER))
    if not _field(metadata, batch, _COMPRESSION):
        return []
    buffers = _follow(metadata, _field(metadata, batch, _BUFFERS))
    (count,) = struct.unpack_from("<I", metadata, buffers)
    return list(struct.iter_unpack("<qq", metadata[buffers + 4 : buffers + 4 + 16 * count]))


def _follow(metadata: bytes, at: int) -> int:
    """The place that the offset at `at` leads to."""
    return at + int(struct.unpack_from("<I", metadata, at)[0])


def _field(metadata: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffer table lies; 0 where it is absent."""
    fields = table - struct.unpack_from("<i", metadata, table)[0]
    size, *_ = struct.unpack_from("<H", metadata, fields)
    offset = struct.unpack_from("<H", metadata, fields + 4 + 2 * number)[0] if 4 + 2 * number < size else 0
    return table + offset if offset else 0
