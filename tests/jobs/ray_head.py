"""A Ray cluster of one machine with a job server behind a token, as `ray start` makes it, for tests of jobs."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Head:
    """Where its job server is, and the variables that open it."""

    url: str
    environment: Mapping[str, str]


@contextmanager
def ray_head(cpus: int = 2) -> Iterator[Head]:
    """The cluster, while the block runs; only its own processes are ended."""
    with tempfile.TemporaryDirectory(prefix="mh-", dir="/tmp") as folder:  # sockets want short paths
        token = Path(folder) / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        port = _free_port()
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # jobs say `python`
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0"]
        command += [f"--num-cpus={cpus}", f"--temp-dir={folder}/ray", f"--dashboard-port={port}"]
        command += [f"--dashboard-agent-listen-port={_free_port()}"]  # who runs jobs: other clusters have theirs
        command += ["--disable-usage-stats", "--object-store-memory=200000000"]
        with open(f"{folder}/log", "w") as log:
            head = subprocess.Popen(
                command, env={**os.environ, **own, "PATH": path}, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _wait_for(port, head, Path(folder) / "log")
            yield Head(f"http://127.0.0.1:{port}", own)
        finally:
            head.send_signal(signal.SIGTERM)
            try:
                head.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and head.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"no Ray head: {log.read_text()[-2000:]}")
