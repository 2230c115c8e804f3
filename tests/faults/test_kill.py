"""SIGKILL at random points, and two runs at once: the tables end as those of one undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.recordings import write_drives
from tests.tables import contents

pytestmark = pytest.mark.fault


def command(source: Path, lake: Path, executor: str = "local") -> list[str]:
    options = ["--encoder", "hashing", "--executor", executor, "--clip-seconds", "2"]
    return [sys.executable, "-m", "jobs.cli", "ingest", str(source), "--lake", str(lake), *options]


def run(source: Path, lake: Path, executor: str = "local") -> str:
    done = subprocess.run(command(source, lake, executor), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = write_drives(tmp_path_factory.mktemp("source"), scenes=20, frames=60)
    (source / "drive_03" / "frame_000007.jpg").write_bytes(b"")
    return source


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    run(source, lake)
    return lake


def kill_loop(source: Path, lake: Path, executor: str, kills: int, longest_s: float) -> int:
    """Start, kill after a random time, again; gives how many runs were alive when killed. The seed is printed."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance, alive = random.Random(seed), 0
    for _ in range(kills):
        process = subprocess.Popen(
            command(source, lake, executor),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.2 * longest_s, longest_s))
        alive += process.poll() is None
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    return alive


def test_killed_ten_times_local(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    started = time.perf_counter()
    run(source, tmp_path / "timed")
    alive = kill_loop(source, tmp_path / "lake", "local", 10, longest_s=time.perf_counter() - started)
    assert alive > 0, "no run was killed while it worked: the test shows nothing"
    run(source, tmp_path / "lake")
    assert contents(tmp_path / "lake") == contents(undisturbed)
    assert "Nothing to do" in run(source, tmp_path / "lake")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_ten_times_ray(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    alive = kill_loop(source, tmp_path / "lake", "ray", 10, longest_s=25.0)
    assert alive > 0
    run(source, tmp_path / "lake", "ray")
    assert contents(tmp_path / "lake") == contents(undisturbed)


def test_two_runs_at_once(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    both = [
        subprocess.Popen(command(source, lake), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    assert contents(lake) == contents(undisturbed)


def test_no_wait_ends_with_five(source: Path, tmp_path: Path) -> None:
    from miner.lease import lease
    from miner.store import Store

    store = Store.create(str(tmp_path / "lake"))
    with lease(store, ["scenes"], "somebody"):
        done = subprocess.run([*command(source, tmp_path / "lake"), "--no-wait"], capture_output=True, text=True)
    assert done.returncode == 5
    assert "held by run somebody" in done.stderr
