"""Asks a lake through the command `miner`, again and again, each time in a process of its own that may die.

`python -m tests.faults.asking` reads lines of JSON, a list of command lines each, and answers with a line of JSON: of
each command the exit code, stdout and stderr. It imports what the commands need and forks before any of them runs, so
asking costs milliseconds.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

Command = list[str]
_LIMIT_S = 60.0
_NEEDED = ("jobs.cli", "jobs.progress", "miner.lake", "miner.query.filters", "embeddings.hashing", "duckdb")


class Said(NamedTuple):
    """What a command said. A code below 0 is the signal that ended its process; -1000 stands for no end in time."""

    code: int
    out: str
    err: str


class Asker:
    """A server of answers, for as long as the block runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, commands: list[Command]) -> list[Said]:
        """What the commands say, run one after the other in one new process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(commands) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the asking process ended"
        return [Said(*each) for each in json.loads(line)]


@contextlib.contextmanager
def asker() -> Iterator[Asker]:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.faults.asking"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        yield Asker(process)
    finally:
        process.kill()
        process.wait()


def _run(command: Command) -> Said:
    """One command in this process, with all that it and native code below it write."""
    from jobs import cli

    out = io.StringIO()
    with tempfile.TemporaryFile("w+") as err:
        os.dup2(err.fileno(), 2)
        sys.argv = ["miner", *command]
        code = 0
        with contextlib.redirect_stdout(out):
            try:
                cli.main()
            except SystemExit as end:
                code = int(end.code or 0)
        sys.stderr.flush()
        err.seek(0)
        return Said(code, out.getvalue(), err.read())


def _child(commands: list[Command], into: Path) -> None:
    for command in commands:
        said = _run(command)
        with into.open("a") as file:
            file.write(json.dumps(said) + "\n")


def _answer(commands: list[Command], into: Path) -> list[Said]:
    into.write_text("")
    child = os.fork()
    if child == 0:
        try:
            _child(commands, into)
        finally:
            os._exit(99)
    ended, deadline = 0, time.monotonic() + _LIMIT_S
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    code = -1000
    if ended:
        code = os.waitstatus_to_exitcode(status)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
    said = [Said(*json.loads(line)) for line in into.read_text().splitlines()]
    return said + [Said(code, "", "")] * (len(commands) - len(said))


def main() -> None:
    warnings.simplefilter("ignore")  # lance warns of forks; none of it has run when this process forks
    for module in _NEEDED:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            print(json.dumps(_answer(json.loads(line), Path(folder) / "said")), flush=True)


if __name__ == "__main__":
    main()
