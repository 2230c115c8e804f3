"""What a disk or store refuses, said so that somebody can act on it. Lance's own errors name neither path nor user."""

from __future__ import annotations

import errno
import getpass
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from miner.errors import MinerError
from miner.object_store import failure, is_of_store

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
AGAIN = "What was committed is kept; the same command again goes on."


class DiskError(MinerError):
    """A disk or store refuses: it is `full`, or this user has no right to a file."""

    def __init__(self, message: str, hint: str, full: bool) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, full)
        self.full = full


@contextmanager
def disk_errors(place: str) -> Iterator[None]:
    """A full disk or a missing permission comes out as a DiskError. `place` is the lake, in whose stead a file may be
    named."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        told = explained(error, place)
        if told is None:
            raise
        raise told from error


def explained(error: BaseException, place: str) -> MinerError | None:
    """The error of a full disk, a missing permission or an object store, said; None for any other."""
    if is_of_store(error):
        return failure(place, error)
    found = _errno(error)
    if found in _FULL:
        left = f" ({room(place)})" if _nearest(place) else ""
        return DiskError(f"no space left{place and ' for '}{place}{left}", f"Make room there. {AGAIN}", True)
    if found in _DENIED:
        why = os.strerror(found).lower()
        message = f"{_path(error) or place}: {why} (this is user {_user()})"
        return DiskError(message, f"Give that user the right to it. {AGAIN}", False)
    return None


def _errno(error: BaseException) -> int:
    """Lance gives the number in its text, as OSError or ValueError."""
    told = re.search(r"\(os error (\d+)\)", str(error)) if not getattr(error, "errno", None) else None
    return int(told[1]) if told else int(getattr(error, "errno", None) or 0)


def _path(error: BaseException) -> str:
    named = re.search(r'at path "([^"]+)"|operation on (.+?): |open file (.+?): ', str(error))
    return next(filter(None, named.groups()), "") if named else str(getattr(error, "filename", None) or "")


def room(place: str) -> str:
    """How much space the disk of a local path has, in words."""
    there = _nearest(place)
    disk = shutil.disk_usage(there or "/")
    return f"{disk.free / 1e6:,.1f} MB free of {disk.total / 1e6:,.1f} MB on the disk of {there}"


def _nearest(place: str) -> Path | None:
    """The folder of a local path, or of what of it is there."""
    if not place or "://" in place:
        return None
    path = Path(place).absolute()
    return next((each for each in (path, *path.parents) if each.exists()), None)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in containers
        return str(os.getuid())
