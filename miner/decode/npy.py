"""Sweeps in NumPy's own files. Nothing is unpickled, and no size is believed before it is checked."""

from __future__ import annotations

import math
import zlib
from io import BytesIO
from tokenize import TokenError
from typing import IO, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy_format

from miner.decode.points import MAX_POINTS, Points, by_position, check_size
from miner.errors import BadInput

_MAX_BYTES = 64 * MAX_POINTS
_BAD_HEADER = (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError, TokenError, OverflowError)
_BAD_ZIP = (BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError, KeyError)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]

    @property
    def is_sweep(self) -> bool:
        """Whether it is a table of floats with x, y, z and perhaps more."""
        return self.dtype.kind == "f" and len(self.shape) == 2 and self.shape[1] >= 3


def decode_npy(data: bytes) -> Points:
    """An array of floats (n, 3 or more). Raises BadInput."""
    file = BytesIO(data)
    header = _header(file)
    if not header.is_sweep:
        raise BadInput("bad-npy", f"an array {header.dtype} {header.shape}, expected floats (n, 3 or more)")
    return _read(file, header)


def decode_npz(data: bytes) -> Points:
    """The first array of floats (n, 3 or more) of an archive; the others are not unpacked. Raises BadInput."""
    seen = []
    try:
        with ZipFile(BytesIO(data)) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    header = _header(file)
                    if header.is_sweep:
                        return _read(file, header)
                    seen.append(f"{entry.filename} {header.dtype} {header.shape}")
    except _BAD_ZIP as error:
        raise BadInput("bad-npz", f"{type(error).__name__}: {error}") from error
    raise BadInput("bad-npz", f"no array of floats (n, 3 or more) among {', '.join(seen)[:300] or 'nothing'}")


def _header(file: IO[bytes]) -> _Header:
    try:
        version = npy_format.read_magic(file)
        if version == (1, 0):  # later ones are for headers of up to 4 GB
            return _Header(*npy_format.read_array_header_1_0(file))
    except _BAD_HEADER as error:
        raise BadInput("bad-npy", f"its header: {error}") from error
    raise BadInput("bad-npy", f"version {version[0]}.{version[1]}, expected 1.0")


def _read(file: IO[bytes], header: _Header) -> Points:
    check_size(*header.shape)
    size = math.prod(header.shape) * header.dtype.itemsize
    if size > _MAX_BYTES:
        raise BadInput("too-many-points", f"an array of {size} bytes, at most {_MAX_BYTES} are read")
    content = file.read(size + 1)
    if len(content) != size:
        raise BadInput("bad-npy", f"{header.dtype} {header.shape} needs {size} bytes, there are {len(content)} or more")
    values = np.frombuffer(content, header.dtype)
    return by_position(values.reshape(header.shape, order="F" if header.fortran_order else "C"))
