"""Processes that run jobs on a lake one after the other, for tests that want several at once, or kill one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 240.0
_SERVE = "from tests.faults.workers import serve; serve()"


class Worker:
    """A process that has its libraries loaded. Each call is one command, ended when `answer` gives its exit code."""

    def __init__(self) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", _SERVE], cwd=ROOT, text=True, **pipes)
        self.said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ask(self, verb: str, lake: Path, failpoint: str = "", **options: Any) -> Worker:
        """Begin a command: `ingest` with its source, or `compact`."""
        assert self.process.stdin is not None
        asked = {"verb": verb, "lake": str(lake), "failpoint": failpoint, **options}
        self.process.stdin.write(json.dumps(asked, default=str) + "\n")
        self.process.stdin.flush()
        return self

    def answer(self) -> int:
        """The exit code of the command that was asked for; -9 where the process was killed."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return int(line) if line else self.process.wait(LIMIT_S)

    def stop(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def end(self) -> None:
        """The process is gone afterwards."""
        self.process.kill()
        self.process.wait(LIMIT_S)
        self._listener.join(LIMIT_S)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.said += self.process.stderr


def serve() -> None:
    """What a worker does: a JSON command a line, an exit code a line."""
    import os

    from miner.errors import MinerError
    from miner.failpoints import VARIABLE

    for line in sys.stdin:
        asked = json.loads(line)
        os.environ[VARIABLE] = asked.pop("failpoint")
        try:
            run(**asked)
            code = 0
        except MinerError as error:
            sys.stderr.write(f"{error}\n")
            code = error.exit_code
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


def run(verb: str, lake: str | Path, wait: bool = True, **given: Any) -> None:
    """One command in this process, as the command line runs it. Raises MinerError."""
    options = {name: str(value) for name, value in given.items()}
    from jobs.ingest import IngestConfig
    from jobs.ingest import run as ingest
    from jobs.run import Listener
    from miner.executor import LocalExecutor
    from miner.lake import open

    if verb == "ingest":
        settings = {"lake": str(lake), "encoder": ["hashing"], "clip_seconds": 2.0, "executor": "local", "wait": wait}
        ingest(IngestConfig(**settings, **options), Listener())
    elif verb == "compact":
        open(lake, LocalExecutor(wait=wait)).compact(**options)
    else:
        raise AssertionError(verb)
