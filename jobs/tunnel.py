"""A tunnel to the dashboard of a cluster that Ray's launcher started: its ports are closed to the world."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from miner.errors import MinerError, NotFound

_OPENS_S = 60.0


@contextmanager
def tunnel(cluster_file: Path) -> Iterator[str]:
    """The URL, on this machine, of the dashboard of the cluster in `cluster_file`, while the block runs.

    Raises NotFound for no such file, MinerError with the launcher's words where no tunnel comes up.
    """
    if not cluster_file.is_file():
        raise NotFound(f"no cluster file {cluster_file}", "Write one with: miner cluster init aws --out cluster.yaml")
    port = _free_port()
    command = [sys.executable, "-m", "ray.scripts.scripts", "dashboard", str(cluster_file), "--port", str(port)]
    with tempfile.TemporaryFile() as said:
        # In a session of its own: Ctrl-C is ours, and what is asked after it still needs the tunnel.
        launcher = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            if not _opened(port, launcher):
                said.seek(0)
                words = said.read().decode(errors="replace").strip().splitlines()
                why = words[-1] if words else "the launcher said nothing"
                raise MinerError(
                    f"no tunnel to the cluster of {cluster_file}: {why}",
                    f"Is it up? Start it with: ray up {cluster_file}",
                )
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(launcher)


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """End the launcher and the ssh that it started, which would keep the tunnel open."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(launcher.pid, number)
        with suppress(subprocess.TimeoutExpired):
            launcher.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _opened(port: int, launcher: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _OPENS_S
    while time.monotonic() < deadline and launcher.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return True
        time.sleep(0.3)
    return False
