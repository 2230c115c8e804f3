"""What readers share: which files of a source are taken, small text files, rows to tables."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from miner.decode.files import opened
from miner.errors import BadInput, SchemaError
from miner.schema import check

Row = dict[str, Any]

_LOG = logging.getLogger(__name__)
_MAX_TEXT_BYTES = 64 << 20


def files_by_folder(source: Path, names: re.Pattern[str]) -> Iterator[list[Path]]:
    """The files at and below `source` with names that match, folder by folder, in order of their names; or the file
    `source` itself.

    Left out are hidden files and folders, folders that are links, links out of the source and, with a warning, what
    cannot be listed and names that no table can hold.
    """
    if source.is_file():
        if names.fullmatch(source.name):
            yield [source]
        return
    for folder, subfolders, found in os.walk(source, onerror=_warn):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        paths = [Path(folder, name) for name in sorted(found) if names.fullmatch(name) and not name.startswith(".")]
        if files := [path for path in paths if _is_own(path, source) and is_text(str(path))]:
            yield files


def read_text(path: Path, root: Path) -> str:
    """A small text file. Raises BadInput `outside-source`, `missing-file`, `unreadable` or `too-large`."""
    check_inside(path, root)
    with opened(str(path)) as file:
        content = file.read(_MAX_TEXT_BYTES + 1)
        if len(content) > _MAX_TEXT_BYTES:
            raise BadInput("too-large", f"{path}: more than {_MAX_TEXT_BYTES} bytes of text")
        return content.decode("utf-8-sig")


def check_inside(path: Path, root: Path) -> None:
    """Raises BadInput `outside-source` where `path` is or lies behind a link that leaves `root`."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise BadInput("outside-source", f"{path}: is a link that leaves {root}")


def table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a checked table. Raises BadInput for a value that its column cannot hold."""
    try:
        return check(pa.Table.from_pylist(rows, schema=schema), schema)
    except (pa.ArrowException, SchemaError, TypeError, ValueError, OverflowError) as error:
        raise BadInput("bad-row", f"{schema.names[0]} table: {error}") from error


def _is_own(path: Path, root: Path) -> bool:
    """Whether it is a file, and no link out of `root`."""
    try:
        return path.is_file() and (not path.is_symlink() or path.resolve().is_relative_to(root.resolve()))
    except OSError as error:  # in a folder that may be listed only
        _warn(error)
        return False


def is_text(name: str) -> bool:
    """False, with a warning, for a name that is not UTF-8: no table can hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        _LOG.warning("%r: left out: the name is not UTF-8", name)
        return False
    return True


def _warn(error: OSError) -> None:
    _LOG.warning("%s: left out: %s", error.filename, error.strerror)
