"""Where a source lies: a local `pathlib.Path`, or a place in an object store with the methods of it that readers use.

A folder of a store is listed once, when first asked for, and a whole tree in one go where it is walked: questions about
single objects would cost a round trip each.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile, _TemporaryFileWrapper
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

from miner.decode.files import opened
from miner.object_store import KNOCKING, filesystem, is_remote, local_path, told

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

_COPIED = 8 << 20  # bytes at a time


class Entry(NamedTuple):
    """One name in a folder of a store, as `os.DirEntry` tells it. There are no links."""

    name: str
    path: str
    size: int | None  # None for a folder

    def is_file(self) -> bool:
        return self.size is not None

    def is_dir(self) -> bool:
        return self.size is None

    def is_symlink(self) -> bool:
        return False


class Stat(NamedTuple):
    """Of `os.stat_result` what a store knows."""

    st_size: int


@dataclass
class Tree:
    """The folders of a store seen so far, each as it was when it was first asked for. Paths are `bucket/key`."""

    root: str
    scheme: str
    client: FileSystem = field(repr=False)
    _folders: dict[str, dict[str, Entry]] = field(default_factory=dict, repr=False)
    _whole: set[str] = field(default_factory=set, repr=False)

    def folder(self, path: str) -> dict[str, Entry]:
        """By name what a folder holds; nothing where there is none."""
        if path not in self._folders:
            self._folders |= {path: {}} | _by_folder(self._listed(path, recursive=False))
        return self._folders[path]

    def load(self, path: str) -> None:
        """List a folder with all that is below it, if that was not done yet."""
        if not any(path == above or path.startswith(f"{above}/") for above in self._whole):
            listed = self._listed(path, recursive=True)
            folders: dict[str, dict[str, Entry]] = {info.path: {} for info in listed if info.type.name == "Directory"}
            self._folders |= {path: {}} | folders | _by_folder(listed)
            self._whole.add(path)

    def entry(self, path: str) -> Entry | None:
        """The object or folder of a path; of the root itself it is asked alone, its parent may be closed to us."""
        if path == self.root:
            return self._own
        above, _, name = path.rpartition("/")
        return self.folder(above).get(name) if above else Entry(name, path, None)  # a bucket

    @cached_property
    def _own(self) -> Entry | None:
        with told(f"{self.scheme}://{self.root}"):
            [info] = self.client.get_file_info([self.root])
        return _entry(info) if info.type.name != "NotFound" else None

    def _listed(self, path: str, recursive: bool) -> list[FileInfo]:
        from pyarrow.fs import FileSelector

        with told(f"{self.scheme}://{path}"):
            selector = FileSelector(path, allow_not_found=True, recursive=recursive)
            found: list[FileInfo] = self.client.get_file_info(selector)
            return found


def _by_folder(listed: Iterable[FileInfo]) -> dict[str, dict[str, Entry]]:
    """Names that no local folder could have are left out."""
    folders: dict[str, dict[str, Entry]] = {}
    for info in listed:
        above, _, name = info.path.rpartition("/")
        if name not in ("", ".", ".."):
            folders.setdefault(above, {})[name] = _entry(info)
    return folders


def _entry(info: FileInfo) -> Entry:
    return Entry(info.base_name, info.path, int(info.size) if info.type.name == "File" else None)


@dataclass(frozen=True, order=True)
class ObjectPath:
    """A key or a prefix in an object store; `str` gives its URI."""

    path: PurePosixPath
    tree: Tree = field(compare=False, repr=False)

    @classmethod
    def of(cls, uri: str) -> ObjectPath:
        """Raises UsageError for a URI that is not taken, and as `knock` where the store cannot be reached."""
        scheme, _, place = uri.partition("://")
        place = place.rstrip("/")
        with told(uri):
            client, _ = filesystem(uri, limits=KNOCKING)
            knocking = Tree(place, scheme, client)
            knocking.entry(place)
            client, _ = filesystem(uri)
        return cls(PurePosixPath(place), Tree(place, scheme, client))

    def __str__(self) -> str:
        return f"{self.tree.scheme}://{self.path}"

    def __hash__(self) -> int:
        return hash(self.path)

    def __truediv__(self, other: str | PurePosixPath) -> ObjectPath:
        """As pathlib does it: what is a whole URI itself stays one."""
        text = str(other)
        own = f"{self.tree.scheme}://"
        return self._at(PurePosixPath(text.removeprefix(own)) if text.startswith(own) else self.path / text)

    def joinpath(self, *others: str) -> ObjectPath:
        return self._at(self.path.joinpath(*others))

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def suffix(self) -> str:
        return self.path.suffix

    @property
    def parent(self) -> ObjectPath:
        return self._at(self.path.parent)

    @property
    def parts(self) -> tuple[str, ...]:
        return self.path.parts

    @property
    def parents(self) -> list[ObjectPath]:
        return [self._at(above) for above in self.path.parents]

    def with_name(self, name: str) -> ObjectPath:
        return self._at(self.path.with_name(name))

    def with_suffix(self, suffix: str) -> ObjectPath:
        return self._at(self.path.with_suffix(suffix))

    def match(self, pattern: str) -> bool:
        return self.path.match(pattern)

    def resolve(self) -> ObjectPath:
        return self

    def is_symlink(self) -> bool:
        return False

    def exists(self) -> bool:
        return self.tree.entry(str(self.path)) is not None

    def is_file(self) -> bool:
        entry = self.tree.entry(str(self.path))
        return entry is not None and entry.is_file()

    def is_dir(self) -> bool:
        entry = self.tree.entry(str(self.path))
        return entry is not None and entry.is_dir()

    def stat(self) -> Stat:
        """Raises FileNotFoundError where there is no object."""
        entry = self.tree.entry(str(self.path))
        if entry is None or entry.size is None:
            raise FileNotFoundError(2, "no such object", str(self))
        return Stat(entry.size)

    def entries(self) -> list[Entry]:
        """What the folder holds, by name. Raises FileNotFoundError where there is none."""
        found = self.tree.folder(str(self.path))
        if not found:
            raise FileNotFoundError(2, "no such folder", str(self))
        return [found[name] for name in sorted(found)]

    def iterdir(self) -> Iterator[ObjectPath]:
        return (self._at(self.path / name) for name in sorted(self.tree.folder(str(self.path))))

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """Patterns of names with * and ?, one a level; not **."""
        head, deeper, rest = pattern.partition("/")
        if deeper:
            self.tree.load(str(self.path))
        for name, entry in sorted(self.tree.folder(str(self.path)).items()):
            if fnmatch.fnmatchcase(name, head):
                found = self._at(self.path / name)
                if not deeper:
                    yield found
                elif entry.is_dir():
                    yield from found.glob(rest) if rest else [found]

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """The object, to be read in any order. Raises BadInput as `miner.decode.files.opened`."""
        return opened(str(self), self.tree.client)

    def _at(self, path: PurePosixPath) -> ObjectPath:
        return ObjectPath(path, self.tree)


AnyPath: TypeAlias = Path | ObjectPath


def place_of(source: str | AnyPath) -> AnyPath:
    """A local path as it is from the root, a `file://` URI, or a URI of an object store. Raises as `ObjectPath.of`."""
    if isinstance(source, ObjectPath):
        return source
    if is_remote(str(source)):
        return ObjectPath.of(str(source))
    return Path(local_path(str(source))).absolute()


def walk(
    root: AnyPath, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[AnyPath, list[str], list[str]]]:
    """As `os.walk`: folder, names of its folders (those taken out are not entered), names of its files."""
    if isinstance(root, Path):
        for folder, subfolders, names in os.walk(root, onerror=onerror):
            yield Path(folder), subfolders, names
        return
    root.tree.load(str(root.path))
    entries = root.tree.folder(str(root.path)).values()
    subfolders = sorted(entry.name for entry in entries if entry.is_dir())
    yield root, subfolders, sorted(entry.name for entry in entries if entry.is_file())
    for name in subfolders:
        yield from walk(root / name)


def scan(folder: AnyPath) -> AbstractContextManager[Iterable[os.DirEntry[str] | Entry]]:
    """As `os.scandir`."""
    return os.scandir(folder) if isinstance(folder, Path) else nullcontext(folder.entries())


def relative(path: AnyPath, root: AnyPath) -> str:
    """The way from `root` down to `path`, with slashes; "." for itself. Raises ValueError where it is not below."""
    if isinstance(path, Path) and isinstance(root, Path):
        return path.relative_to(root).as_posix()
    return PurePosixPath(str(path)).relative_to(PurePosixPath(str(root))).as_posix()


def is_inside(path: AnyPath, root: AnyPath) -> bool:
    """Whether a path, links followed, is `root` or below it."""
    if isinstance(path, Path) and isinstance(root, Path):
        return path.resolve().is_relative_to(root.resolve())
    return PurePosixPath(str(path)).is_relative_to(PurePosixPath(str(root)))


def open_place(path: AnyPath) -> AbstractContextManager[BinaryIO]:
    """An open file, in any place. Raises BadInput as `miner.decode.files.opened`."""
    return opened(str(path)) if isinstance(path, Path) else path.opened()


def read_whole(path: AnyPath) -> bytes:
    """The bytes of a file, in any place. Raises BadInput as `miner.decode.files.opened`."""
    with open_place(path) as file:
        return file.read()


def downloaded(path: ObjectPath) -> _TemporaryFileWrapper[bytes]:
    """A copy of an object, for what is read here and there; gone with what this gives."""
    copy = NamedTemporaryFile(prefix="miner-")  # it outlives this function
    with path.opened() as file:
        shutil.copyfileobj(file, copy, _COPIED)
    copy.flush()
    return copy
