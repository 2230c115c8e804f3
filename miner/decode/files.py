"""The bytes of a file or of a range of it, from a local path or an object store."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from miner.errors import BadInput, MinerError, UsageError
from miner.masking import masked
from miner.object_store import (
    check_uri,
    credentials,
    filesystem,
    is_denied,
    is_missing,
    is_of_store,
    is_remote,
    knock,
    local_path,
    told,
)
from miner.usage import Meter, current_meter

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_REMOTE_BUFFER = 1 << 20


@contextmanager
def opened(uri: str, client: FileSystem | None = None) -> Iterator[BinaryIO]:
    """A local path, a `file://` URI or one of an object store (see `object_store.SCHEMES`), to be read in any order;
    the store by `client` where there is one already.

    Raises BadInput, also where reading fails later: `missing-file`, `unreadable` (permission, a folder, a pipe, an
    object the store does not give). A store that does not answer at all is no file's fault: that is a MinerError.
    """
    try:
        with _open_remote(uri, client) if is_remote(uri) else _open_local(uri) as file:
            yield file
    except FileNotFoundError as error:
        raise BadInput("missing-file", f"{shown(uri)}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: Arrow on a malformed URI, Python on a NUL in a path
        if is_remote(uri):
            raise store_failure(uri, error) from None  # its own text may hold what `masked` takes out
        raise BadInput("unreadable", f"{shown(uri)}: {error}") from error


def read_bytes(uri: str, offset: int | None = None, length: int | None = None) -> bytes:
    """The bytes of what `opened` opens; optionally only a range of them.

    Raises BadInput as `opened`, and `truncated-file` where the range goes past the end.
    """
    with opened(uri) as file:
        data = _read(file, offset or 0, length)
    if length is not None and len(data) < length:
        raise BadInput("truncated-file", f"{shown(uri)}: {length} bytes asked at {offset or 0}, got {len(data)}")
    return data


def size_of(uri: str) -> int | None:
    """The bytes of a file, None where there is none (or, in a store, none that we may see). Raises MinerError for a
    store that cannot be reached."""
    if not is_remote(uri):
        try:
            return os.stat(local_path(uri)).st_size
        except (OSError, ValueError):
            return None
    with told(uri):
        client, path = filesystem(uri)
        info = client.get_file_info(path)
    return int(info.size) if info.is_file else None


def shown(uri: str) -> str:
    """`uri` fit for a message: without credentials and query string."""
    if not is_remote(uri):
        return uri
    return re.sub(r"//[^/@]*@", "//", uri).partition("?")[0]


def _open_local(uri: str) -> BinaryIO:
    path = local_path(uri)
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("is no regular file")  # a pipe might keep us waiting for ever
    return _buffered(io.FileIO(path), io.DEFAULT_BUFFER_SIZE)


def _open_remote(uri: str, client: FileSystem | None = None) -> BinaryIO:
    try:
        check_uri(uri)
    except UsageError as error:
        raise BadInput("unreadable", f"{shown(uri)}: {error.message.removeprefix(f'{masked(uri)}: ')}") from None
    store, path = (client, uri.partition("://")[2]) if client else filesystem(uri)
    return _buffered(store.open_input_file(path), _REMOTE_BUFFER)


class _Counted(io.RawIOBase):
    """A file that tells a block's meter what is read of it."""

    def __init__(self, raw: Any, meter: Meter) -> None:
        self._raw, self._meter = raw, meter

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        num_bytes: int = self._raw.readinto(buffer)
        self._meter.bytes_read += num_bytes
        return num_bytes

    def readall(self) -> bytes:
        data: bytes = self._raw.read()
        self._meter.bytes_read += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._raw.seek(offset, whence))

    def tell(self) -> int:
        return int(self._raw.tell())

    def close(self) -> None:
        self._raw.close()
        super().close()


def _buffered(raw: Any, size: int) -> BinaryIO:
    """Read through a buffer; within a block of units, counted."""
    meter = current_meter()
    return io.BufferedReader(raw if meter is None else _Counted(raw, meter), size)


@contextmanager
def store_failures(uri: str) -> Iterator[None]:
    """What a store fails to give of an object that is open already, told as `opened` tells it: of the object, which may
    lie in another store than the lake."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if not is_remote(uri) or not is_of_store(error):
            raise
        raise store_failure(uri, error) from None


def store_failure(uri: str, error: Exception) -> MinerError:
    """What became of reading an object. Raises MinerError itself where the store gives nothing at all any more."""
    if is_missing(error):
        return BadInput("missing-file", f"{shown(uri)}: no such object")
    if is_denied(error):
        return BadInput("unreadable", f"{shown(uri)}: access denied, asked with {credentials(uri)}")
    if is_of_store(error):
        knock(uri)
    return BadInput("unreadable", f"{shown(uri)}: {masked(str(error))}")


def _read(file: BinaryIO, offset: int, length: int | None) -> bytes:
    if offset:
        file.seek(min(offset, file.seek(0, os.SEEK_END)))  # Arrow refuses to seek behind the end
    return file.read(-1 if length is None else length)
