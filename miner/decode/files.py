"""The bytes of a file or of a range of it, from a local path or any store that pyarrow.fs opens."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from miner.errors import BadInput

_REMOTE_BUFFER = 1 << 20


@contextmanager
def opened(uri: str) -> Iterator[BinaryIO]:
    """A local path, a `file://` URI or any URI that pyarrow.fs opens, to be read in any order.

    Raises BadInput, also where reading fails later: `missing-file`, `unreadable` (permission, a folder, a pipe, a
    store's error).
    """
    try:
        with _open_local(uri) if _is_local(uri) else _open_remote(uri) as file:
            yield file
    except FileNotFoundError as error:
        raise BadInput("missing-file", f"{shown(uri)}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: pyarrow on a malformed URI, Python on a NUL in a path
        raise BadInput("unreadable", f"{shown(uri)}: {str(error).replace(uri, shown(uri))}") from error


def read_bytes(uri: str, offset: int | None = None, length: int | None = None) -> bytes:
    """The bytes of what `opened` opens; optionally only a range of them.

    Raises BadInput as `opened`, and `truncated-file` where the range goes past the end.
    """
    with opened(uri) as file:
        data = _read(file, offset or 0, length)
    if length is not None and len(data) < length:
        raise BadInput("truncated-file", f"{shown(uri)}: {length} bytes asked at {offset or 0}, got {len(data)}")
    return data


def shown(uri: str) -> str:
    """`uri` fit for a message: without credentials and query string."""
    if _is_local(uri):
        return uri
    return re.sub(r"//[^/@]*@", "//", uri).partition("?")[0]


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def _open_local(uri: str) -> BinaryIO:
    path = unquote(urlsplit(uri).path) if uri.startswith("file://") else uri
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("is no regular file")  # a pipe might keep us waiting for ever
    return open(path, "rb")


def _open_remote(uri: str) -> BinaryIO:
    from pyarrow import fs

    filesystem, path = fs.FileSystem.from_uri(uri)
    return io.BufferedReader(filesystem.open_input_file(path), _REMOTE_BUFFER)


def _read(file: BinaryIO, offset: int, length: int | None) -> bytes:
    if offset:
        file.seek(min(offset, file.seek(0, os.SEEK_END)))  # Arrow refuses to seek behind the end
    return file.read(-1 if length is None else length)
