"""A tunnel to a cluster: nothing of it stays."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import tunnel as tunnels
from jobs.cluster_text import submitted_text
from miner.errors import MinerError


def until(holds: Callable[[], bool], patience_s: float = 20) -> bool:
    end = time.monotonic() + patience_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def is_running(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
def test_what_the_launcher_started_ends_with_it(tmp_path: Path) -> None:
    """Ray's launcher leaves its ssh behind when it is ended, and the port open."""
    place = tmp_path / "pid"
    command = ["sh", "-c", f"sleep 600 & echo $! > {place}; wait"]
    launcher = subprocess.Popen(command, start_new_session=True)
    assert until(lambda: place.exists() and place.read_text().endswith("\n"))
    child = int(place.read_text())
    assert is_running(child)
    tunnels._end(launcher)
    assert launcher.returncode is not None and until(lambda: not is_running(child))


def test_a_launcher_that_fails_says_why(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("cluster_name: [\n")
    with pytest.raises(MinerError, match=r"no tunnel to the cluster(.|\n)*ray up"), tunnels.tunnel(file):
        pass


def test_a_cluster_is_named_as_the_user_did() -> None:
    """The address of a tunnel is gone when the command is."""
    said = {"submission_id": "miner-ls-1", "address": "http://127.0.0.1:5", "attached": False, "status": "PENDING"}
    text = submitted_text(said | {"option": "--cluster mine.yaml"})
    assert "miner logs miner-ls-1 --follow --cluster mine.yaml" in text and "--address" not in text
