"""MCAP files (mcap.dev, specification 1.0): every message of a file in one pass, and single messages by byte range.

Our own framing instead of a library's, because rows need the byte range of each message, damage must be told from
truncation, and no header may decide how much memory is taken: a chunk is inflated to at most MAX_CHUNK bytes and to
exactly the size it declares. CRCs of chunks, of the data section and of the summary are checked wherever a writer
left them (0 means none).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from miner.decode.files import opened, read_bytes, shown
from miner.decode.image import Picture
from miner.decode.ros import decode_message
from miner.decode.sweep import Sweep
from miner.errors import BadInput

MAGIC = b"\x89MCAP0\r\n"
MAX_CHUNK = 1 << 30  # bytes of a chunk or of a message outside of one, as stored and inflated
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _STATISTICS, _DATA_END = 2, 3, 4, 5, 6, 11, 15
_LAST_OPCODE, _FIRST_PRIVATE = 15, 128
_PREFIX = 9  # opcode u8, length u64
_BLOCK = 1 << 20
_LATEST_NS = 1 << 62  # in 2116: sums of times stay within int64


class Channel(NamedTuple):
    """A topic and how its messages are written: type (`package/msg/Name`) and encoding (`cdr`, `ros1`, `json` ...)."""

    topic: str
    kind: str
    encoding: str


class Message(NamedTuple):
    """One message as it lies in the file. `data` is valid until the next one is asked for.

    `offset` and `length` are the byte range of its chunk in the file, `at` the place of its record in the inflated
    chunk; outside of chunks the range is that of the record itself and `at` is -1.
    """

    channel: Channel
    log_time_ns: int
    data: memoryview
    offset: int
    length: int
    at: int


class Place(NamedTuple):
    """What the fragment of a reading's URI says: message type, and `at` as in Message."""

    kind: str
    at: int


def message_uri(file: str, place: Place) -> str:
    """`file#type=sensor_msgs/msg/Image&message=4711`; outside of chunks without `message`."""
    return f"{file}#type={place.kind}" + (f"&message={place.at}" if place.at >= 0 else "")


def parse_place(uri: str) -> Place:
    """The inverse of `message_uri`. Raises BadInput (`bad-uri`)."""
    words = dict(word.partition("=")[::2] for word in uri.rpartition("#")[2].split("&"))
    at = words.get("message", "-1")
    if not words.get("type") or not at.removeprefix("-").isdecimal():
        raise BadInput("bad-uri", f"{shown(uri)}: expected ...#type=TYPE&message=BYTE")
    return Place(words["type"], int(at))


class McapFile:
    """Readings of one MCAP file by byte range; the last chunk stays inflated, so its readings cost one read.

    A reading needs nothing but its range: the URI's fragment names the message's type and its place in the chunk.
    """

    def __init__(self, file_uri: str) -> None:
        self._uri = file_uri
        self._range, self._records = (-1, -1), memoryview(b"")

    def read(self, offset: int, length: int, uri: str) -> Picture | Sweep:
        """The picture or sweep of a row of `sample_data`. Raises BadInput, also for a CRC that does not match."""
        place = parse_place(uri)
        if self._range != (offset, length):
            self._records = self._load(offset, length)
            self._range = (offset, length)
        body = _record_at(self._records, max(place.at, 0), shown(uri))
        return decode_message(place.kind, body[_MESSAGE_HEAD.size :], uri)

    def close(self) -> None:
        self._range, self._records = (-1, -1), memoryview(b"")

    def _load(self, offset: int, length: int) -> memoryview:
        """The records of a chunk, or the one record of a message outside of chunks."""
        where = f"{shown(self._uri)}: record at byte {offset}"
        if not _PREFIX <= length <= MAX_CHUNK:
            raise BadInput("bad-record", f"{where}: a length of {length} bytes")
        data = read_bytes(self._uri, offset, length)
        opcode, size = _PREFIX_OF.unpack_from(data)
        if size + _PREFIX != length or opcode not in (_CHUNK, _MESSAGE):
            raise BadInput("bad-record", f"{where}: no chunk or message of {length} bytes; did the file change?")
        view = memoryview(data)
        return inflate(view[_PREFIX:], where) if opcode == _CHUNK else view


class Scan:
    """All messages of one local file, in one pass that holds one chunk at a time.

    When `messages` is through, `channels` are those the file declares and `cut_at` is None, or the byte at which a
    truncated file stops being whole.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.cut_at: int | None = None
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, Channel] = {}
        self._size, self._crc, self._count = 0, 0, 0
        self._truncated = self._complete = False

    @property
    def channels(self) -> list[Channel]:
        return list(self._channels.values())

    def messages(self) -> Iterator[Message]:
        """In the order of the file. Raises BadInput: `missing-file`, `unreadable`, `not-mcap`, `bad-record`,
        `crc-mismatch` or `count-mismatch` (damage, naming chunk and byte), `too-large`, `unsupported-compression`.
        """
        with opened(self.path) as file:
            self._open(file)
            yield from self._walk(file)

    def _open(self, file: BinaryIO) -> None:
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            raise BadInput("not-mcap", f"{self.path}: {self._size} bytes, starting with {magic!r}")
        file.seek(max(self._size - len(MAGIC), len(MAGIC)))
        self._truncated = file.read() != MAGIC
        file.seek(len(MAGIC))
        self._crc = zlib.crc32(magic)

    def _walk(self, file: BinaryIO) -> Iterator[Message]:
        chunks = 0
        for offset, opcode, body in self._records(file):
            where = f"{self.path}: record at byte {offset}"
            if opcode == _CHUNK:
                chunks += 1
                yield from self._of_chunk(body, offset, f"{self.path}: chunk {chunks} at byte {offset}")
            elif opcode == _MESSAGE:
                yield self._message(body, (offset, len(body) + _PREFIX, -1), where)
            elif opcode in (_SCHEMA, _CHANNEL):
                self._declare(opcode, body, where)
            elif opcode == _STATISTICS:
                self._compare_count(body, where)
            elif opcode == _DATA_END:
                self._complete = True

    def _of_chunk(self, body: memoryview, offset: int, where: str) -> Iterator[Message]:
        records = inflate(body, where)
        at = 0
        while at < len(records):
            opcode, content = _framed(records, at, where)
            if opcode == _MESSAGE:
                yield self._message(content, (offset, len(body) + _PREFIX, at), where)
            elif opcode in (_SCHEMA, _CHANNEL):
                self._declare(opcode, content, where)
            at += _PREFIX + len(content)

    def _records(self, file: BinaryIO) -> Iterator[tuple[int, int, memoryview]]:
        """Offset, opcode and content of each record up to the footer; the content of those we do not use is empty."""
        offset = len(MAGIC)
        while True:
            prefix = file.read(_PREFIX)
            opcode, length = _PREFIX_OF.unpack(prefix) if len(prefix) == _PREFIX else (0, 0)
            known = 0 < opcode <= _LAST_OPCODE or opcode >= _FIRST_PRIVATE
            if not known or offset + _PREFIX + length > self._size:
                self._stop(offset)
                return
            used = opcode in (_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _STATISTICS, _DATA_END)
            if used and length > MAX_CHUNK:
                raise BadInput("too-large", f"{self.path}: record of {length} bytes at byte {offset}")
            body = file.read(length) if used else b""
            if opcode in (_DATA_END, _FOOTER):
                self._check_section(opcode, prefix, body, f"{self.path}: record at byte {offset}")
            self._crc = zlib.crc32(body, zlib.crc32(prefix, self._crc))
            if not used:
                self._pass_over(file, length)
            if opcode == _DATA_END:
                self._crc = 0
            yield offset, opcode, memoryview(body)
            if opcode == _FOOTER:
                return
            offset += _PREFIX + length

    def _stop(self, offset: int) -> None:
        """The file is no MCAP from `offset` on: that is damage, or the end of a truncated file."""
        if not self._truncated:
            raise BadInput("bad-record", f"{self.path}: no record at byte {offset} of {self._size}")
        if not self._complete:
            self.cut_at = offset

    def _pass_over(self, file: BinaryIO, length: int) -> None:
        while length > 0 and (block := file.read(min(length, _BLOCK))):
            self._crc = zlib.crc32(block, self._crc)
            length -= len(block)

    def _check_section(self, opcode: int, prefix: bytes, body: bytes, where: str) -> None:
        """The CRC of the data section (in its end record) or of the summary (in the footer, over most of it too)."""
        content = _Content(memoryview(body), where)
        if opcode == _DATA_END:
            expected, actual = content.number("I"), self._crc
        else:
            if not self._complete:
                raise BadInput("bad-record", f"{where}: a footer, but the data section has no end")
            has_summary, _ = content.number("Q"), content.number("Q")
            expected = content.number("I") if has_summary else 0
            actual = zlib.crc32(body[:16], zlib.crc32(prefix, self._crc))
        if expected not in (0, actual):
            section = "data" if opcode == _DATA_END else "summary"
            raise BadInput("crc-mismatch", f"{where}: {section} section: expected {expected:08x}, got {actual:08x}")

    def _message(self, body: memoryview, place: tuple[int, int, int], where: str) -> Message:
        if len(body) < _MESSAGE_HEAD.size:
            raise BadInput("bad-record", f"{where}: a message of {len(body)} bytes")
        channel_id, _, log_time_ns, _ = _MESSAGE_HEAD.unpack_from(body)
        if channel_id not in self._channels:
            raise BadInput("bad-record", f"{where}: a message of channel {channel_id}, which is not declared")
        if log_time_ns >= _LATEST_NS:
            raise BadInput("bad-record", f"{where}: a message logged at {log_time_ns} ns")
        self._count += 1
        return Message(self._channels[channel_id], log_time_ns, body[_MESSAGE_HEAD.size :], *place)

    def _declare(self, opcode: int, body: memoryview, where: str) -> None:
        """Schemas and channels are repeated, in chunks and in the summary: a copy that differs is damage."""
        content = _Content(body, where)
        key = content.number("H")
        if opcode == _SCHEMA:
            same = self._schemas.setdefault(key, name := content.string()) == name
        else:
            schema, topic, encoding = content.number("H"), content.string(), content.string()
            channel = Channel(topic, _ros2_name(self._schemas.get(schema, "")), encoding)
            same = self._channels.setdefault(key, channel) == channel
        if not same:
            raise BadInput("bad-record", f"{where}: schema or channel {key} is declared twice, differently")

    def _compare_count(self, body: memoryview, where: str) -> None:
        expected = _Content(body, where).number("Q")
        if self._complete and expected != self._count:
            raise BadInput("count-mismatch", f"{where}: the file should hold {expected} messages, has {self._count}")


def inflate(body: memoryview, where: str) -> memoryview:
    """The records of a chunk from the content of its record, checked against its size and CRC. Raises BadInput."""
    content = _Content(body, where)
    _, _, size, crc = content.number("Q"), content.number("Q"), content.number("Q"), content.number("I")
    compression, stored = content.string(), content.take(content.number("Q"))
    if size > MAX_CHUNK:
        raise BadInput("too-large", f"{where}: {size} bytes inflated, at most {MAX_CHUNK} are taken")
    data = _decompress(compression, stored, size, where)
    if len(data) != size:
        raise BadInput("corrupt-chunk", f"{where}: {len(data)} bytes inflated, {size} declared")
    if crc and (actual := zlib.crc32(data)) != crc:
        raise BadInput("crc-mismatch", f"{where}: expected {crc:08x}, got {actual:08x}")
    return memoryview(data)


def _decompress(compression: str, stored: memoryview, size: int, where: str) -> bytes | memoryview:
    """At most `size` + 1 bytes, whatever the compressed frame says."""
    import lz4.frame
    import zstandard

    try:
        if compression == "":
            return stored
        if compression == "zstd":
            declared = zstandard.frame_content_size(stored)
            if declared not in (-1, size):
                raise BadInput("corrupt-chunk", f"{where}: {declared} bytes in its frame, {size} declared")
            inflated: bytes = zstandard.ZstdDecompressor().decompress(stored, max_output_size=max(size, 1))
            return inflated
        if compression == "lz4":
            decompressor = lz4.frame.LZ4FrameDecompressor()
            unpacked: bytes = decompressor.decompress(stored, max_length=size + 1)
            return unpacked
    except (zstandard.ZstdError, RuntimeError, EOFError, MemoryError) as error:
        raise BadInput("corrupt-chunk", f"{where}: {compression}: {error}") from error
    raise BadInput("unsupported-compression", f"{where}: {compression!r}, known are zstd, lz4 and none")


_PREFIX_OF = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel id, sequence, log time, publish time


@dataclass
class _Content:
    """A cursor over the content of one record. Raises BadInput (`bad-record`) where it ends too early."""

    body: memoryview
    where: str
    at: int = 0

    def take(self, size: int) -> memoryview:
        part = self.body[self.at : self.at + size]
        if len(part) < size:
            raise BadInput("bad-record", f"{self.where}: {len(self.body)} bytes, more are needed")
        self.at += size
        return part

    def number(self, code: str) -> int:
        value: int = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]
        return value

    def string(self) -> str:
        try:
            return bytes(self.take(self.number("I"))).decode()
        except UnicodeDecodeError as error:
            raise BadInput("bad-record", f"{self.where}: a text is not UTF-8: {error}") from error


def _framed(records: memoryview, at: int, where: str) -> tuple[int, memoryview]:
    """Opcode and content of the record that starts at byte `at` of `records`."""
    if at + _PREFIX > len(records):
        raise BadInput("bad-record", f"{where}: no record at byte {at} of {len(records)}")
    opcode, length = _PREFIX_OF.unpack_from(records, at)
    if at + _PREFIX + length > len(records):
        raise BadInput("bad-record", f"{where}: record of {length} bytes at byte {at} of {len(records)}")
    return opcode, records[at + _PREFIX : at + _PREFIX + length]


def _record_at(records: memoryview, at: int, where: str) -> memoryview:
    opcode, body = _framed(records, at, where)
    if opcode != _MESSAGE or len(body) < _MESSAGE_HEAD.size:
        raise BadInput("bad-record", f"{where}: no message at byte {at} of the chunk")
    return body


def _ros2_name(schema: str) -> str:
    """`package/Name`, as some writers put it, in the full form `package/msg/Name`."""
    package, _, name = schema.partition("/")
    return schema if "/" in name or not name else f"{package}/msg/{name}"
