"""A warm server of a lake on this machine, asked by the command line: over a socket in a folder of the user's own.

Only the user can open that folder, so nobody else can listen there or ask. Nothing heavy is imported, not even what
parses the command line: the server does that. A server that is gone, of another release or out of order is as good as
none.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
from collections.abc import Sequence
from hashlib import blake2b
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from miner import __version__

_PATIENCE_S = 60.0


def runtime_folder() -> Path:
    """Where this user's servers can be found: below XDG_RUNTIME_DIR, else in the user's cache."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given:
        return Path(given) / "scene-miner"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scene-miner" / "run"


def socket_of(lake: str) -> Path:
    """The socket of a lake's server, whether there is one or not. `lake` as the user writes it."""
    if re.match(r"[a-z0-9+]+://", lake) and not lake.startswith("file://"):
        name = lake.rstrip("/")
    else:
        name = str(Path(lake.removeprefix("file://")).expanduser().resolve())
    return runtime_folder() / f"{blake2b(name.encode(errors='surrogateescape'), digest_size=12).hexdigest()}.sock"


def is_private(folder: Path) -> bool:
    """Whether a folder is there, is the user's and is closed to everybody else."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def answered(words: Sequence[str]) -> int | None:
    """Let a warm server answer a command line (`search lake "a truck"`): what it says is printed, its exit code given.

    None, and nothing is printed, where no server runs for a lake that is named, or where it leaves this to us.
    """
    if not is_private(runtime_folder()):
        return None
    for place in filter(Path.exists, map(socket_of, filter(_may_be_a_lake, words))):
        told = _told(place, words)
        if told is not None:
            out, err, code = told
            sys.stderr.write(err)
            sys.stdout.write(out)
            return code
    return None


def _may_be_a_lake(word: str) -> bool:
    return bool(word) and not word.startswith("-") and "\0" not in word and len(word) < 4096


def _told(place: Path, words: Sequence[str]) -> tuple[str, str, int] | None:
    """What a server prints to stdout and stderr, and its exit code."""
    connection = _SocketConnection(place)
    try:
        body = json.dumps({"words": list(words), "folder": os.getcwd()}).encode()
        connection.request("POST", "/command", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200 or answer.headers.get("miner-version") != __version__:
            return None
        told = json.loads(answer.read())
        return told["stdout"], told["stderr"], told["exit_code"]
    except (OSError, HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()


class _SocketConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, place: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._place = place

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._place))
