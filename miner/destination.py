"""Where files are put, a folder or a place in an object store: each is there whole, with its sha256, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from miner.failpoints import failpoint
from miner.object_store import check_uri, filesystem, is_missing, is_remote, knock, local_path, told

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PARTIAL = ".partial"
_CHUNK = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class Placed:
    """A file that is there: its path below the destination, its size and its sha256."""

    path: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Destination:
    """A local folder or a URI. `options` are those of the object store, beside the environment's."""

    uri: str
    options: Mapping[str, str] | None = field(default=None, repr=False)

    @classmethod
    def at(cls, uri: str | Path, options: Mapping[str, str] | None = None) -> Destination:
        """Raises UsageError and NotFound for a URI that is not taken or a store that does not answer."""
        place = str(uri)
        check_uri(place, options)
        if is_remote(place):
            knock(place, options)
            return cls(place.rstrip("/"), options)
        return cls(os.path.abspath(os.path.expanduser(local_path(place))))

    def files(self) -> dict[str, int]:
        """Path and size of every file there, what a run that died left under a temporary name aside."""
        if is_remote(self.uri):
            from pyarrow.fs import FileSelector, FileType

            with told(self.uri, self.options):
                client, root = self._client()
                found = client.get_file_info(FileSelector(root, recursive=True, allow_not_found=True))
                return {each.path[len(root) + 1 :]: each.size for each in found if each.type == FileType.File}
        root_path = Path(self.uri)
        paths = sorted(root_path.rglob("*")) if root_path.is_dir() else [root_path] if root_path.exists() else []
        return {
            path.relative_to(root_path).as_posix(): path.stat().st_size
            for path in paths
            if path.is_file() and not path.name.endswith(PARTIAL)
        }

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None where there is none."""
        if not is_remote(self.uri):
            local = Path(self.uri, path)
            return local.read_bytes() if local.is_file() else None
        with told(self.uri, self.options):
            client, root = self._client()
            try:
                with client.open_input_file(f"{root}/{path}") as file:
                    data: bytes = file.read()
            except OSError as error:
                if not is_missing(error):
                    raise
                return None
        return data

    def put(self, path: str, write: Callable[[BinaryIO], T]) -> tuple[Placed, T]:
        """Make a file of what `write` writes; nobody sees it before all of it is there. It replaces one that is."""
        return self._upload(path, write) if is_remote(self.uri) else self._rename(path, write)

    def sweep(self) -> None:
        """Remove what a run that died left under a temporary name."""
        if not is_remote(self.uri):
            for path in Path(self.uri).rglob(f"*{PARTIAL}"):
                path.unlink()

    def _rename(self, path: str, write: Callable[[BinaryIO], T]) -> tuple[Placed, T]:
        target = Path(self.uri, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}{PARTIAL}")
        try:
            with partial.open("w+b") as file:
                made = write(file)
                file.flush()
                os.fsync(file.fileno())
                placed = _digest(path, file)
            failpoint("export:before-rename")
            os.replace(partial, target)
        except Exception:
            partial.unlink(missing_ok=True)
            raise
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too, outlasts a loss of power
        finally:
            os.close(folder)
        return placed, made

    def _upload(self, path: str, write: Callable[[BinaryIO], T]) -> tuple[Placed, T]:
        """From a local file that is whole: an upload that ends early would leave what there is of it as the object."""
        with tempfile.TemporaryFile() as file:
            made = write(file)
            placed = _digest(path, file)
            file.seek(0)
            failpoint("export:before-rename")
            with told(self.uri, self.options):
                client, root = self._client()
                with client.open_output_stream(f"{root}/{path}") as stream:
                    shutil.copyfileobj(file, stream, _CHUNK)
        return placed, made

    def _client(self) -> tuple[FileSystem, str]:
        client, root = filesystem(self.uri, self.options)
        return client, root.rstrip("/")


def _digest(path: str, file: BinaryIO) -> Placed:
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return Placed(path, size, digest.hexdigest())
