"""Ctrl-C as a terminal sends it, to the whole process group: once and twice, and the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.faults.commands import Ingest
from tests.recordings import write_drives
from tests.tables import Damage, count, damage

pytestmark = pytest.mark.fault
EXECUTORS = ["local", pytest.param("ray", marks=pytest.mark.slow)]
ONCE = "interrupted: the group at work is finished and kept; Ctrl-C again stops at once\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drives(tmp_path_factory.mktemp("source"), scenes=4, frames=20)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    Ingest(source, lake).finish()
    return lake


class Terminal:
    """A command in a process group of its own, and what it wrote to stderr."""

    def __init__(self, process: subprocess.Popen[bytes], errors: int) -> None:
        self.process, self._errors = process, errors

    def said(self) -> str:
        return os.pread(self._errors, 1 << 20, 0).decode()

    def until(self, met: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not met():
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def press(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)


@contextmanager
def terminal(ingest: Ingest, block_s: float) -> Iterator[Terminal]:
    """The command, working on its first blocks, each of which takes `block_s` longer."""
    environment = {**os.environ, "MINER_FAILPOINT": f"worker:block=wait:{block_s}"}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ingest.command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
        )
        try:
            running = Terminal(process, errors.fileno())
            running.until(lambda: count(ingest.lake, "leases") > 0)
            yield running
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
def test_once_finishes_what_has_begun(source: Path, undisturbed: Path, tmp_path: Path, executor: str) -> None:
    ingest = Ingest(source, tmp_path / "lake", executor)
    with terminal(ingest, 0.3) as running:
        running.press()
        assert running.process.wait(120) == 130
        assert running.said().endswith("interrupted; what was finished is kept. Run the same command again to go on.\n")
        assert ONCE in running.said() and "Traceback" not in running.said()
    Ingest(source, ingest.lake).finish()
    assert damage(ingest.lake, undisturbed) == Damage()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_twice_stops_at_once(source: Path, undisturbed: Path, tmp_path: Path, executor: str) -> None:
    ingest = Ingest(source, tmp_path / "lake", executor)
    with terminal(ingest, 600) as running:
        offspring = psutil.Process(running.process.pid).children(recursive=True)
        running.press()
        running.until(lambda: ONCE in running.said())
        running.press()
        # a shell shows 130 for -2, too: Python, on its way out already, leaves the signal to the system
        assert running.process.wait(30) in (130, -signal.SIGINT)
        assert "same command again" in running.said() and "Traceback" not in running.said()
        assert not psutil.wait_procs(offspring, 30)[1], "Ray is still there"
    Ingest(source, ingest.lake).finish()
    assert damage(ingest.lake, undisturbed) == Damage()
