"""Where the frames of a video file lie, through FFmpeg's demuxers (PyAV): MP4 family, Matroska (mkv, webm) and AVI.

Of several video streams the first is taken. Bad data raises BadInput.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias, cast

from miner.decode.files import opened, shown
from miner.decode.image import MAX_PIXELS
from miner.errors import BadInput
from miner.object_store import is_of_store

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Chosen by the first bytes: FFmpeg's own guess may be a playlist, which opens other files.
_MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"}
_OPTIONS = {
    # The sample tables say all; parsers would only look at payloads. Without an analysis opening takes 1 ms, not 80;
    # the first frame of H.264, which it would decode nevertheless, is skipped. This does not stay with the decoder.
    "mov": {"fflags": "+nofillin+noparse", "analyzeduration": "1", "skip_frame": "all"},
    "matroska": {"analyzeduration": "1", "skip_frame": "all"},
    "avi": {},
}
_DECODER = {  # errors are concealed too where they do not raise: else damaged parts show memory of other frames
    "err_detect": "crccheck+bitstream+buffer+explode",
    "strict": "1",  # H.264 without a reorder depth: wait for the deepest, else early frames get lost
    "max_pixels": str(MAX_PIXELS),
}
Counts: TypeAlias = "dict[str, Counts | int]"
_COUNTS: Counts = {  # where in which box of an MP4 the number of samples stands (ISO 14496-12)
    "moov": {"trak": {"mdia": {"minf": {"stbl": {"stsz": 8, "stz2": 8}}}}},
    "moof": {"traf": {"trun": 4}},
}
_BLOCK_HEADER = 4  # bytes of a Matroska block before its frame: track number, time code, flags
_MAX_PROMISED = 16  # times the size of a file: what its tables may promise of frames that were cut off
_BEFORE_ALL = -(1 << 40)  # earlier than any time of a stream, in its own units


class FrameRange(NamedTuple):
    """Where the packet of one frame lies, and when it is shown, in ns from the start of the file (None: unknown)."""

    offset: int
    length: int
    time_ns: int | None
    is_key: bool


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video in order of time, and its `creation_time` as the file has it."""

    frames: list[FrameRange]
    creation_time: str | None


class Packet(NamedTuple):
    offset: int
    length: int
    seek: int | None  # the time, in units of the stream, by which the demuxer finds it
    pts: int | None
    is_key: bool
    is_discard: bool


def frame_index(uri: str) -> FrameIndex:
    """All frames that a player would show. No frame is read from an MP4 with sample tables; other files are demuxed.

    Raises BadInput: `missing-file`, `unreadable`, `not-a-video`, `corrupt-video`, `no-video-stream`,
    `unsupported-video`, `too-large`, `truncated-video` (cut to a small part).
    """
    with Video.opened(uri) as video:
        with video.without_payload():
            packets = [packet for packet in video.demuxed() if not packet.is_discard]
        # AVI counts frames and has no start; with B-frames the count begins late.
        first = min((p.pts for p in packets if p.pts is not None), default=0) if video.kind == "avi" else 0
        frames = [
            FrameRange(p.offset, p.length, None if p.pts is None else video.time_ns(p.pts - first), p.is_key)
            for p in packets
        ]
        if all(frame.time_ns is not None for frame in frames):
            frames.sort(key=lambda frame: frame.time_ns or 0)
        return FrameIndex(frames, video.container.metadata.get("creation_time"))


class File:
    """A file as FFmpeg reads it. Bytes in the span `zeros` are not read but given as zeros, also beyond the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._at = 0
        self.zeros = range(0)

    def read(self, length: int) -> bytes:
        if self._at in self.zeros:
            data = bytes(max(0, min(length, self.zeros.stop - self._at)))
        else:
            data = self.range(self._at, length)
        self._at += len(data)
        return data

    def range(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`, fewer at the end of the file."""
        self._file.seek(min(max(offset, 0), self.size))
        return self._file.read(max(0, min(length, self.size - offset)))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


@dataclass
class Video:
    """An open container and its video stream; `kind` is the demuxer."""

    name: str
    kind: str
    file: File
    container: InputContainer = field(init=False)
    stream: VideoStream = field(init=False)

    @classmethod
    @contextmanager
    def opened(cls, uri: str) -> Iterator[Video]:
        """Raises BadInput as `frame_index`."""
        with opened(uri) as binary:
            file = File(binary)
            head = file.range(0, 16)
            kind = _demuxer(head)
            if kind is None:
                raise BadInput("not-a-video", f"{shown(uri)}: {file.size} bytes, starting with {head!r}")
            video = cls(shown(uri), kind, file)
            try:
                video.open()
                yield video
            finally:
                if hasattr(video, "container"):
                    video.container.close()

    def open(self) -> None:
        import av

        samples = _num_samples(self.file, _COUNTS, 0, self.file.size) if self.kind == "mov" else 0
        if samples > self.file.size:  # FFmpeg would take memory for each
            raise BadInput("truncated-video", f"{self.name}: {self.file.size} bytes, {samples} frames promised")
        with self.errors(f"{self.file.size} bytes of {self.kind}{self._outline()}"):
            opened = av.open(
                cast(BinaryIO, self.file), "r", format=self.kind, options=_OPTIONS[self.kind], metadata_errors="replace"
            )
            self.container = opened
        streams = [s for s in self.container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            kinds = ", ".join(stream.type for stream in self.container.streams) or "none"
            raise BadInput("no-video-stream", f"{self.name}: {self.file.size} bytes{self._outline()}; streams: {kinds}")
        self.stream = streams[0]
        decoder: av.VideoCodecContext | None = self.stream.codec_context
        if decoder is None:
            raise BadInput("unsupported-video", f"{self.name}: no decoder for this codec")
        if decoder.width * decoder.height > MAX_PIXELS:
            size = f"{decoder.width} x {decoder.height} pixels, at most {MAX_PIXELS} are decoded"
            raise BadInput("too-large", f"{self.name}: {size}")
        decoder.options = dict(_DECODER)
        decoder.thread_type, decoder.thread_count = "NONE", 1
        decoder.copy_opaque = True

    def reopen(self) -> None:
        """Container and decoder as new."""
        self.container.close()
        self.file.seek(0)
        self.open()

    @property
    def decoder(self) -> av.VideoCodecContext:
        return self.stream.codec_context

    @contextmanager
    def without_payload(self) -> Iterator[None]:
        """Inside it frames read as zeros: positions and times come from the sample tables, where there are some."""
        entries = self.stream.index_entries if self.kind == "mov" and self.stream.frames else ()
        promised = sum(e.size for e in entries)
        if promised > _MAX_PROMISED * self.file.size:
            detail = f"{self.file.size} bytes, {promised} promised for {len(entries)} frames"
            raise BadInput("truncated-video", f"{self.name}: {detail}")
        if entries:
            self.file.zeros = range(min(e.pos for e in entries), max(e.pos + e.size for e in entries))
        try:
            yield
        finally:
            self.file.zeros = range(0)

    def time_ns(self, pts: int) -> int:
        """A time in units of the stream as nanoseconds, to the nearest."""
        unit = self.stream.time_base or Fraction(1)
        return (2 * pts * unit.numerator * 10**9 + unit.denominator) // (2 * unit.denominator)

    def demuxed(self) -> Iterator[Packet]:
        """All packets of the stream in decoding order, from the beginning."""
        self._seek(None)
        for packet in self._demux():
            if packet.is_corrupt:  # the last one of a file that was cut
                continue
            dts = packet.pts if packet.dts is None else packet.dts
            pts = packet.dts if packet.pts is None else packet.pts
            seek = pts if self.kind == "matroska" else dts
            yield Packet(self._offset(packet), packet.size, seek, pts, packet.is_keyframe, packet.is_discard)

    def packets_from(self, packets: list[Packet], start: int) -> Iterator[tuple[int, av.Packet[Any]]]:
        """The packets from number `start` on, with their numbers."""
        for time in (packets[start].seek, None):  # the second where the demuxer lands behind the first
            self._seek(time)
            number = None
            for packet in self._demux():
                if number is None and self._offset(packet) == packets[start].offset:
                    number = start
                if number is not None and number < len(packets):
                    yield number, packet
                    number += 1
            if number is not None:
                return
        raise BadInput("corrupt-video", f"{self.name}: frame {start} at {packets[start].offset} is not found again")

    def _seek(self, time: int | None) -> None:
        """To the key frame at or before `time`; None is the beginning."""
        if time is None:
            time = 0 if self.kind == "avi" else _BEFORE_ALL  # AVI counts frames
        with self.errors("seeking"):
            self.container.seek(time, stream=self.stream)

    def _demux(self) -> Iterator[av.Packet[Any]]:
        packets = self.container.demux(self.stream)
        while True:
            with self.errors("demuxing"):
                packet = next(packets, None)
            if packet is None:
                return
            if packet.size and packet.pos is not None:
                yield packet

    def _offset(self, packet: av.Packet[Any]) -> int:
        return (packet.pos or 0) + (_BLOCK_HEADER if self.kind == "matroska" else 0)

    def _outline(self) -> str:
        """Of an MP4 the top boxes, for a message: one without `moov` was never finished."""
        if self.kind != "mov":
            return ""
        boxes = islice(_boxes(self.file, 0, self.file.size), 8)
        found = [f"{name} cut short" if end > self.file.size else name for name, _, end in boxes]
        return f" (boxes: {', '.join(found)})"

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Errors of FFmpeg and of the file as BadInput."""
        import av

        try:
            yield
        except av.FFmpegError as error:
            raise BadInput("corrupt-video", f"{self.name}: {what}: {error}") from error
        except (OSError, ValueError) as error:  # of the file; pyarrow raises both
            if is_of_store(error):
                raise
            raise BadInput("unreadable", f"{self.name}: {what}: {error}") from error


def _boxes(file: File, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
    """Name, start of the content and end of the boxes in a part of an MP4; the last may end behind it, cut short."""
    while start + 8 <= stop:
        head = file.range(start, 16)
        size, at = int.from_bytes(head[:4]), start + 8
        if size == 1:
            size, at = int.from_bytes(head[8:]), start + 16
        end = start + (size or stop - start)
        yield head[4:8].decode("ascii", "replace"), at, end
        start = max(end, at)


def _num_samples(file: File, counts: Counts, start: int, stop: int) -> int:
    """How many samples the tables and fragments of an MP4 claim to have."""
    samples = 0
    for name, at, end in _boxes(file, start, stop):
        inside = counts.get(name, 0)
        if isinstance(inside, dict):
            samples += _num_samples(file, inside, at, min(end, stop))
        elif inside:
            samples += int.from_bytes(file.range(at + inside, 4))
    return samples


def _demuxer(head: bytes) -> str | None:
    if head[4:8] in _MP4_BOXES:
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None
