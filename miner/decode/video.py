"""Frames of a video file by the byte range of their packet.

A frame is decoded from the key frame before it, so that it depends on the file alone and never on what was read before;
reading on in order of time continues where the decoder stands. Strict: what a decoder complains of is an error.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from miner.decode.demux import Packet, Video
from miner.decode.files import shown
from miner.decode.image import Picture, check_sides
from miner.errors import BadInput

if TYPE_CHECKING:
    import av
    from av.sidedata.sidedata import SideData
    from av.video.stream import VideoStream

_KEPT = 4  # frames that came out before the one asked for, in case they are asked next (order of bytes, not of time)


class VideoFile:
    """A video kept open. Frames come in any order; in order of time only key frames are decoded twice."""

    def __init__(self, file_uri: str) -> None:
        """Raises BadInput as `frame_index`."""
        self._stack = ExitStack()
        self._video = self._stack.enter_context(Video.opened(file_uri))
        with self._video.without_payload():
            self._packets = list(self._video.demuxed())
        numbers = [(packet.offset, n) for n, packet in enumerate(self._packets) if not packet.is_discard]
        self._numbers = dict(reversed(numbers))  # of a sample that an edit list repeats: the first
        self._starts = _starts(self._packets)
        self._ends = {start: n for n, start in enumerate(self._starts)}
        self._broken: dict[int, tuple[int, BadInput]] = {}  # by key frame: the first packet that fails after it
        self._run: _Run | None = None

    def read(self, offset: int, length: int, uri: str) -> Picture:
        """The frame whose packet has this byte range; width and height of the upright picture.

        Raises BadInput: `no-such-frame`, `truncated-video`, `corrupt-video`, `unreadable`, and as `check_sides`.
        """
        number = self._number(offset, length)
        with self._video.errors(f"frame {number}"):
            data = self._video.file.range(offset, length)
        if len(data) < length:
            asked = f"{length} bytes asked at {offset}, the file has {self._video.file.size}"
            raise BadInput("truncated-video", f"{shown(uri)}: {asked}")
        frame = self._frame(number)
        if frame is None or frame.is_corrupt:
            where = f"frame {number} of {len(self._packets)} ({length} bytes at {offset})"
            raise BadInput("corrupt-video", f"{shown(uri)}: {where}: the decoder gives no whole picture")
        check_sides(frame.width, frame.height, shown(uri))
        width, height = (frame.height, frame.width) if _orientation(frame)[0] else (frame.width, frame.height)
        return Picture(data, width, height, partial(_pixels, frame, shown(uri)))

    def close(self) -> None:
        self._run = None
        self._stack.close()

    def _number(self, offset: int, length: int) -> int:
        number = self._numbers.get(offset)
        if number is None or self._packets[number].length != length:
            found = "there is none" if number is None else f"it has {self._packets[number].length} bytes"
            detail = f"frame of {length} bytes at {offset}: {found}, among {len(self._packets)} frames"
            raise BadInput("no-such-frame", f"{self._video.name}: {detail}")
        return number

    def _frame(self, number: int) -> av.VideoFrame | None:
        """From packets that follow from the number alone, so that even a damaged file gives the same in any order."""
        start = self._starts[number]
        if start in self._broken and number >= self._broken[start][0]:
            raise self._broken[start][1]
        if start != number:
            if self._run is None or self._run.start != start or self._run.is_past(number):
                self._run = self._started(start, self._ends[start])
            try:
                return self._run.until(number)
            except BadInput as bad:
                self._note_broken(self._run, bad)
        # A key frame is quick alone; and what is damaged behind a frame must not matter to it.
        run = self._started(start, number)
        try:
            return run.until(number)
        except BadInput as bad:
            self._note_broken(run, bad)
            raise

    def _started(self, start: int, last: int) -> _Run:
        self._run = None  # it shares the decoder
        if self._broken:
            self._video.reopen()  # a decoder remembers what damaged packets told it
        return _Run(self._video, self._packets, start, last)

    def _note_broken(self, run: _Run, bad: BadInput) -> None:
        """Frames after a damaged packet, up to the next key frame, depend on it."""
        self._run = None
        if run.fed < self._broken.get(run.start, (run.fed + 1, bad))[0]:
            self._broken[run.start] = run.fed, bad


class _Run:
    """A decoder started at key frame `start` and given all packets up to `last`; `fed` is the one it was given now.

    Only one run of a file can be alive.
    """

    def __init__(self, video: Video, packets: list[Packet], start: int, last: int) -> None:
        self.start, self.fed = start, start
        self._video, self._packets, self._last = video, packets, last
        self._frames = self._decode()
        self._out: set[int] = set()
        self._kept: deque[tuple[int, av.VideoFrame]] = deque(maxlen=_KEPT)

    def is_past(self, number: int) -> bool:
        """Whether frame `number` came out and is no longer kept."""
        return number in self._out and all(number != kept for kept, _ in self._kept)

    def until(self, number: int) -> av.VideoFrame | None:
        """The frame of packet `number`; None where none comes out. Raises BadInput for a packet that fails."""
        for kept, frame in self._kept:
            if kept == number:
                return frame
        for out, frame in self._frames:
            self._out.add(out)
            self._kept.append((out, frame))
            if out == number:
                return frame
        return None

    def _decode(self) -> Iterator[tuple[int, av.VideoFrame]]:
        first_pts = self._packets[self.start].pts
        for number, packet in self._video.packets_from(self._packets, self.start):
            self.fed = number
            pts = self._packets[number].pts
            if pts is None or first_pts is None or pts >= first_pts:
                yield from self._feed(packet)  # else it is shown before the key frame and needs frames before that
            if number == self._last:
                break
        yield from self._feed(None)

    def _feed(self, packet: av.Packet[VideoStream] | None) -> Iterator[tuple[int, av.VideoFrame]]:
        what = f"frame {self.fed} of {len(self._packets)}"
        if packet is not None:
            # It comes back with the frame, however the decoder reorders. A list, for PyAV finds it by its id.
            packet.opaque = [self.fed]
            promised = self._packets[self.fed].length
            if packet.is_corrupt or packet.size != promised:
                detail = f"{self._video.name}: {what}: {packet.size} of {promised} bytes"
                raise BadInput("truncated-video", detail)
        with self._video.errors(what):
            frames = self._video.decoder.decode(packet)
        yield from ((cast(list[int], frame.opaque)[0], frame) for frame in frames)


def _starts(packets: list[Packet]) -> list[int]:
    """For each packet the key frame to start at: the last one, or the one before for what is shown before that one."""
    starts, before, key = [], 0, 0
    for number, packet in enumerate(packets):
        if packet.is_key:
            before, key = key, number
        key_pts = packets[key].pts
        leads = packet.pts is not None and key_pts is not None and packet.pts < key_pts
        starts.append(before if leads else key)
    return starts


def _pixels(frame: av.VideoFrame, name: str, min_side: int) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3), upright; at 1/2 or 1/4 where the short side keeps at least `min_side` pixels."""
    import av

    short = min(frame.width, frame.height)
    factor = next(f for f in (4, 2, 1) if f == 1 or (min_side and short // f >= min_side))
    try:
        scaled = frame.reformat(
            -(-frame.width // factor),
            -(-frame.height // factor),
            "rgb24",
            interpolation="BILINEAR" if factor == 1 else "AREA",
            threads=1,
        )
        rgb = cast(NDArray[np.uint8], scaled.to_ndarray())
    except (av.FFmpegError, ValueError) as error:
        size = f"{frame.width} x {frame.height} {frame.format.name}"
        raise BadInput("unsupported-video", f"{name}: {size} to RGB: {error}") from error
    transposed, mirrored, upside_down = _orientation(frame)
    if transposed:
        rgb = rgb.transpose(1, 0, 2)
    if mirrored:
        rgb = rgb[:, ::-1]
    if upside_down:
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How the display matrix (ISO 14496-12, 6.2.2) turns the frame: transposed, then left-right, then up-down.

    Rotations by other than quarter turns are not applied.
    """
    side = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    if side is None or side.buffer_size < 20:
        return False, False, False
    a, b, _, c, d = struct.unpack_from("=5i", bytes(side))
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0
