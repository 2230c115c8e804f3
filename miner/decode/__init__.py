"""A reading of any file format as a picture or a sweep; each format is one file of this folder.

Bad data raises BadInput with the file, its size and the cause.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from miner.decode.files import opened, read_bytes, shown, store_failures
from miner.decode.image import Picture
from miner.decode.sweep import SWEEP_FORMATS, Sweep, decode_sweep
from miner.errors import BadInput

MAX_BYTES = 1 << 30  # of one reading; far more than 64 megapixels or 20 million points need
VIDEO_FORMATS = frozenset({"mp4", "m4v", "mov", "mkv", "avi", "webm"})


class Container(Protocol):
    """A file that holds many readings, kept open: a video, an MCAP file."""

    def read(self, offset: int, length: int, uri: str) -> Picture | Sweep:
        """The reading whose byte range and URI (with its fragment) a row of `sample_data` gives. Raises BadInput."""
        ...

    def close(self) -> None: ...


class Recordings:
    """Opens readings one after the other. The last container stays open, so neighbours in it cost one opening.

    Use as a context manager, in one thread.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._file = ""
        self._container: Container | None = None

    def __enter__(self) -> Recordings:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self, reading: Mapping[str, Any]) -> Picture | Sweep:
        """The picture or sweep of a row of `sample_data` (uri, offset, length, fileformat). Raises BadInput."""
        uri, fileformat = reading["uri"], reading["fileformat"]
        if fileformat in VIDEO_FORMATS or fileformat == "mcap":
            with store_failures(uri):
                return self._opened(uri, fileformat).read(reading["offset"], reading["length"], uri)
        data = _bytes(uri, reading["offset"] or 0, reading["length"])
        if fileformat in SWEEP_FORMATS:
            return decode_sweep(data, fileformat, uri)
        return Picture.encoded(data, fileformat, uri)

    def _opened(self, uri: str, fileformat: str) -> Container:
        file = uri.rpartition("#")[0] if fileformat == "mcap" else uri
        if self._container is None or self._file != file:
            self._stack.close()
            self._container = None  # should opening the next fail
            self._container, self._file = _open(file, fileformat), file
            self._stack.callback(self._container.close)
        return self._container


def _bytes(uri: str, offset: int, length: int | None) -> bytes:
    """As `read_bytes`; raises BadInput `too-large` before anything is read of what is longer than MAX_BYTES."""
    if length is None:
        with opened(uri) as file:
            size = file.seek(0, os.SEEK_END) - offset
            if size <= MAX_BYTES:
                file.seek(offset)
                return file.read()
    else:
        size = length
        if size <= MAX_BYTES:
            return read_bytes(uri, offset, length)
    raise BadInput("too-large", f"{shown(uri)}: {size} bytes, at most {MAX_BYTES} of a reading are read")


def _open(file: str, fileformat: str) -> Container:
    if fileformat == "mcap":
        from miner.decode.mcap import McapFile

        return McapFile(file)
    from miner.decode.video import VideoFile

    return VideoFile(file)
