"""What readers share: which files of a source are taken, small text files, rows to tables."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa

from miner.errors import BadInput, SchemaError
from miner.readers.places import AnyPath, is_inside, open_place, walk
from miner.schema import check

Row = dict[str, Any]

_LOG = logging.getLogger(__name__)
_MAX_TEXT_BYTES = 64 << 20
EARLIEST_NS, LATEST_NS = -(1 << 60), 3 << 61  # to 2189: their differences stay within int64
_MAX_JUMP_NS = 3600 * 10**9


def files_by_folder(source: AnyPath, names: re.Pattern[str]) -> Iterator[list[AnyPath]]:
    """The files at and below `source` with names that match, folder by folder, in order of their names; or the file
    `source` itself.

    Left out are hidden files and folders, folders that are links and, with a warning, links out of the source, what
    cannot be listed and names that no table can hold.
    """
    if source.is_file():
        if names.fullmatch(source.name):
            yield [source]
        return
    for folder, subfolders, found in walk(source, onerror=_warn):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        paths = [folder / name for name in sorted(found) if names.fullmatch(name) and not name.startswith(".")]
        if files := [path for path in paths if is_own(path, source) and is_text(str(path))]:
            yield files


def read_text(path: AnyPath, root: AnyPath) -> str:
    """A small text file. Raises BadInput `outside-source`, `missing-file`, `unreadable` or `too-large`."""
    check_inside(path, root)
    with open_place(path) as file:
        content = file.read(_MAX_TEXT_BYTES + 1)
        if len(content) > _MAX_TEXT_BYTES:
            raise BadInput("too-large", f"{path}: more than {_MAX_TEXT_BYTES} bytes of text")
        return content.decode("utf-8-sig")


def check_inside(path: AnyPath, root: AnyPath) -> None:
    """Raises BadInput `outside-source` where `path` is or lies behind a link that leaves `root`, which may itself be a
    link; `unreadable` for a name too long and for links in a circle."""
    try:
        inside = is_inside(path, root)
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput("unreadable", f"{path}: {error}") from error
    if not inside:
        cure = "give the folder that holds both as the source"
        raise BadInput("outside-source", f"{path}: leads out of {root} to {path.resolve()}; {cure}")


def check_all_inside(paths: Iterable[AnyPath], root: AnyPath) -> None:
    """As `check_inside` for many files; a folder is resolved once, and a file only where it is a link."""
    folders: set[AnyPath] = set()
    for path in paths:
        if path.parent not in folders:
            check_inside(path.parent, root)
            folders.add(path.parent)
        try:
            is_link = path.is_symlink()
        except (OSError, ValueError) as error:  # a name that no file can have
            raise BadInput("unreadable", f"{path}: {error}") from error
        if is_link:
            check_inside(path, root)


def table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a checked table. Raises BadInput for a value that its column cannot hold."""
    try:
        check_times(rows)
        return check(pa.Table.from_pylist(rows, schema=schema), schema)
    except (pa.ArrowException, SchemaError, TypeError, ValueError, OverflowError) as error:
        raise BadInput("bad-row", f"{schema.names[0]} table: {error}") from error


def check_times(rows: list[Row]) -> None:
    """Raises BadInput `bad-row` for a time that no clock shows."""
    for row in rows:
        for name in ("timestamp_ns", "start_ns", "end_ns"):
            time_ns = row.get(name)
            if isinstance(time_ns, int) and not EARLIEST_NS <= time_ns <= LATEST_NS:
                raise BadInput("bad-row", f"{row.get('uri') or row.get('name')}: {name} is {time_ns}")


def check_jumps(times_ns: Iterable[int], name: str) -> None:
    """Raises BadInput `time-jump` where a recording, which is continuous, stands still for over an hour: a clock was
    set, or is broken."""
    for before, after in pairwise(sorted(times_ns)):
        if after - before > _MAX_JUMP_NS:
            hours = (after - before) / 3.6e12
            raise BadInput("time-jump", f"{name}: {hours:,.1f} h without a reading, from {before} to {after} ns")


def is_own(path: AnyPath, root: AnyPath) -> bool:
    """Whether it is a file, and no link out of `root`."""
    try:
        if not path.is_file():
            return False
        if path.is_symlink():
            check_inside(path, root)
        return True
    except OSError as error:  # in a folder that may be listed only
        _warn(error)
    except BadInput as bad:
        _LOG.warning("left out: %s", bad.detail)
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
