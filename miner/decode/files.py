"""The bytes of a file or of a range of it, from a local path or any store that pyarrow.fs opens."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from miner.errors import BadInput


def read_bytes(uri: str, offset: int | None = None, length: int | None = None) -> bytes:
    """The bytes of a local path, a `file://` URI or any URI that pyarrow.fs opens; optionally only a range of them.

    Raises BadInput: `missing-file`, `unreadable` (permission, a folder, a store's error), `truncated-file` (the range
    goes past the end).
    """
    try:
        data = _read_local(_local_path(uri), offset, length) if _is_local(uri) else _read_remote(uri, offset, length)
    except FileNotFoundError as error:
        raise BadInput("missing-file", f"{shown(uri)}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: pyarrow on a malformed URI, Python on a NUL in a path
        raise BadInput("unreadable", f"{shown(uri)}: {error}") from error
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


def _local_path(uri: str) -> str:
    return unquote(urlsplit(uri).path) if uri.startswith("file://") else uri


def _read_local(path: str, offset: int | None, length: int | None) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset or 0)
        return file.read(-1 if length is None else length)


def _read_remote(uri: str, offset: int | None, length: int | None) -> bytes:
    from pyarrow import fs

    filesystem, path = fs.FileSystem.from_uri(uri)
    with filesystem.open_input_file(path) as file:
        file.seek(min(offset or 0, file.size()))
        data: bytes = file.read() if length is None else file.read(length)
        return data
