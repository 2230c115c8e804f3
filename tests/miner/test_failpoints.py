"""Failpoints act where they are asked to, and only there."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from miner.errors import UsageError
from miner.failpoints import NAMES, VARIABLE, failpoint

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_happens_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    failpoint("commit:before")
    monkeypatch.setenv(VARIABLE, "commit:after=kill")
    failpoint("commit:before")


@pytest.mark.parametrize(("action", "number"), [("error", errno.EIO), ("full", errno.ENOSPC)])
def test_errors(monkeypatch: pytest.MonkeyPatch, action: str, number: int) -> None:
    monkeypatch.setenv(VARIABLE, f"commit:after=kill, commit:before={action}")
    with pytest.raises(OSError, match="commit:before") as raised:
        failpoint("commit:before")
    assert raised.value.errno == number


def test_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "commit:before=wait:0.05")
    started = time.perf_counter()
    failpoint("commit:before")
    assert time.perf_counter() - started >= 0.05


@pytest.mark.fault
def test_kills_at_the_third_time() -> None:
    script = (
        "from miner.failpoints import failpoint\n"
        "for n in range(5):\n    print(n, flush=True)\n    failpoint('commit:after')"
    )
    environment = {VARIABLE: "commit:after=kill@3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]


@pytest.mark.parametrize("asked", ["comit:before=kill", "commit:before=explode"])
def test_slips_are_told(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv(VARIABLE, asked)
    with pytest.raises(UsageError, match="MINER_FAILPOINT: no"):
        failpoint("commit:before")


def test_every_name_is_hit_somewhere() -> None:
    code = "".join(path.read_text() for layer in ("miner", "jobs") for path in (ROOT / layer).rglob("*.py"))
    assert not [name for name in NAMES if f'failpoint("{name}")' not in code]
