"""`miner ingest` as a process of its own that is watched from outside, for tests that kill it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from jobs.ingest import IngestConfig, run
from jobs.run import Listener
from tests.tables import count

LIMIT_S = 900.0  # for a machine that others share: a test has its own, shorter limit
STAGES = {"ingest": None, "cut": "scenes", "embed": "clips", "index": "assets"}  # and the table that is full before it


@dataclass(frozen=True)
class Ingest:
    """One command: a source into a lake. The same command again resumes."""

    source: Path
    lake: Path
    executor: str = "local"
    encoders: tuple[str, ...] = ("hashing",)
    options: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """The command line."""
        options = [f"--encoder={name}" for name in self.encoders]
        # A resumed run may have little but the bad units left, and would end with 3.
        options += [f"--executor={self.executor}", "--clip-seconds=2", "--max-bad=1", "--json"]
        where = [str(self.source), "--lake", str(self.lake)]
        return [sys.executable, "-m", "jobs.cli", "ingest", *where, *options, *self.options]

    @contextlib.contextmanager
    def started(self, **variables: str) -> Iterator[Running]:
        """The command, running in a session of its own, with environment variables; ended for good afterwards."""
        with contextlib.ExitStack() as stack:
            errors, answer = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            environment = {**os.environ, **variables}
            if self.executor == "ray":  # the logs of a hundred sessions; a short path, for it holds sockets
                folder = tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True)
                environment["RAY_TMPDIR"] = stack.enter_context(folder)
            process = subprocess.Popen(
                self.command, start_new_session=True, stdout=answer, stderr=errors, env=environment
            )
            running = Running(process, answer, errors)
            try:
                yield running
            finally:
                running.kill()

    def finish(self) -> dict[str, Any]:
        """Run the command to its good end; gives its JSON document."""
        with self.started() as running:
            code = running.wait()
            assert code == 0, f"exit code {code}: {running.said()}"
            return running.answer()

    def changes_once_more(self) -> bool:
        """Whether the same job, run in this process, still finds something to do."""
        config = {"source": str(self.source), "lake": str(self.lake), "encoder": self.encoders, "clip_seconds": 2}
        return run(IngestConfig(**config, executor="local"), Listener()).changed


@dataclass(frozen=True)
class Running:
    """A started command. `left_behind` are the processes that were below its driver when that was killed."""

    process: subprocess.Popen[bytes]
    _answer: Any
    _errors: Any
    left_behind: list[psutil.Process] = field(default_factory=list)

    def wait(self) -> int:
        """The exit code. Raises AssertionError if it takes too long."""
        try:
            return self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"hangs: {self.said()}") from None

    def kill(self) -> bool:
        """SIGKILL to the driver and what shares its process group; whether the driver was alive."""
        alive = self.process.poll() is None
        if alive:
            self.left_behind.extend(self.offspring())
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return alive

    def offspring(self) -> list[psutil.Process]:
        """The processes below the driver: Ray's, on this machine."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self.process.pid).children(recursive=True))
        return []

    def at_work(self) -> bool:
        """Whether the driver is up: Lance runs threads of its own from its first call on."""
        for thread in Path(f"/proc/{self.process.pid}/task").glob("*/comm"):
            with contextlib.suppress(OSError):
                if thread.read_text().startswith("lance"):
                    return True
        return False

    def until(self, met: Callable[[], bool]) -> bool:
        """Wait for something to be so; False if the command ends first."""
        deadline = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            if met():
                return True
            assert time.monotonic() < deadline, f"hangs: {self.said()}"
            time.sleep(0.02)
        return False

    def said(self) -> str:
        """What the command wrote to stderr so far."""
        return _text(self._errors)

    def answer(self) -> dict[str, Any]:
        """The JSON document of a command that has ended."""
        document: dict[str, Any] = json.loads(_text(self._answer))
        return document


def may_begin(stage: str, lake: Path, undisturbed: Path) -> bool:
    """Whether all rows are there that a stage waits for."""
    table = STAGES[stage]
    return table is None or 0 < count(undisturbed, table) == count(lake, table)


def durations_s(document: dict[str, Any]) -> dict[str, float]:
    """Seconds each stage took, from a command's document; `index` is all that comes after the vectors."""
    seconds = {each["stage"]: each["seconds"] for each in document["stages"]}
    named = {stage: seconds.pop(stage) for stage in ("ingest", "cut", "embed")}
    return named | {"index": sum(seconds.values()) + 0.5}  # key indexes and the end of the process are in no report


def _text(file: Any) -> str:
    """All of a file that a process may be writing; its position, which both share, stays where it is."""
    return os.pread(file.fileno(), 1 << 24, 0).decode(errors="replace")
