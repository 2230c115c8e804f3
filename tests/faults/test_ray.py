"""Ray itself breaks: workers, a node, the head, its disk. Each in processes of its own, on clusters of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from miner.store import Store
from tests.faults.commands import Ingest
from tests.jobs.stages import write_scenes
from tests.recordings import write_drives
from tests.tables import Damage, count, damage, read

pytestmark = [pytest.mark.fault, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drives(tmp_path_factory.mktemp("source"), scenes=6, frames=40)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    Ingest(source, lake).finish()
    return lake


def script(text: str, *args: str | Path) -> str:
    """Run Python in a process of its own; gives its stdout."""
    command = [sys.executable, "-c", text, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_workers_killed_at_work_cost_nothing(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Every worker process dies of its third block; stdout is the document all the same."""
    ingest = Ingest(source, tmp_path / "lake", "ray")
    with ingest.started(MINER_FAILPOINT="worker:written=kill@3") as running:
        assert running.wait() == 0, running.said()
        stages = {stage["stage"]: stage for stage in running.answer()["stages"]}
        assert "Traceback" not in running.said()
    assert stages["embed"]["written"] == 240 and stages["embed"]["quarantined"] == 0
    assert damage(ingest.lake, undisturbed) == Damage()


@pytest.mark.parametrize("window", ["reduce:committed", "reduce:before"])
def test_whoever_reduces_is_killed_around_its_commit(
    window: str, source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """After the commit every worker dies, and nothing is committed twice; before it, twice in a row is too often."""
    ingest = Ingest(source, tmp_path / "lake", "ray")
    with ingest.started(MINER_FAILPOINT=f"{window}=kill") as running:
        code = running.wait()
        assert code == (0 if window == "reduce:committed" else 1), running.said()
        assert "Traceback" not in running.said()
    ingest.finish()
    assert damage(ingest.lake, undisturbed) == Damage()


NODE_LOST = """
import json, sys, threading
import ray
from ray.cluster_utils import Cluster
from jobs.engine import RayExecutor
from miner.lineage import Run
from miner.store import Store
from tests.jobs.stages import OneClipStage

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
said = []

def look(progress):
    if 8 <= progress.done < 64 and "removed" not in said:
        said.append("removed")
        threading.Thread(target=cluster.remove_node, args=(node, False)).start()

executor = RayExecutor(address=cluster.address, on_progress=look, notify=said.append)
assert executor.workers == 1  # now it is at the head
node = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
stage = OneClipStage(pause_s=0.7, block_size=8)  # eight blocks: whoever is first does not end with the last
report = executor.map(stage, Store.open(sys.argv[1]), Run("test"))
print(json.dumps([report.written, report.quarantined, said]), flush=True)
ray.shutdown()
cluster.shutdown()
"""


def test_a_lost_node_costs_time_only(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    ids = write_scenes(store, 64)
    written, quarantined, said = json.loads(script(NODE_LOST, store.uri).splitlines()[-1])
    assert (written, quarantined) == (64, 0)
    assert "removed" in said and any("of the Ray cluster was lost" in line for line in said), said
    assert sorted(read(store.uri, "clips")["scene_id"].to_pylist()) == ids


HEAD = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
processes = cluster.head_node.all_processes
print(cluster.address, *(processes[name][0].process.pid for name in ("gcs_server", "raylet")), flush=True)
sys.stdin.read()
"""


@contextmanager
def head() -> Iterator[tuple[str, list[int]]]:
    """A cluster of its own: the address, and the processes that are its head."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    address, *pids = process.stdout.readline().split()
    try:
        yield address, [int(pid) for pid in pids]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("lost", [["gcs"], ["gcs", "raylet"], ["raylet"]], ids="-".join)
def test_a_lost_head_ends_the_job_and_the_next_run_goes_on(
    source: Path, undisturbed: Path, tmp_path: Path, lost: list[str]
) -> None:
    ingest = Ingest(source, tmp_path / "lake", "ray")
    with head() as (address, (gcs, raylet)):
        variables = {"RAY_ADDRESS": address, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
        with ingest.started(MINER_FAILPOINT="worker:block=wait:5", **variables) as running:
            assert running.until(lambda: count(ingest.lake, "clips") > 0), running.said()
            for name in lost:
                os.kill({"gcs": gcs, "raylet": raylet}[name], signal.SIGKILL)
            assert running.wait() == 1, running.said()
            assert "he same command again goes on" in running.said() and "Traceback" not in running.said()
    assert count(ingest.lake, "quarantine") == 0
    Ingest(source, ingest.lake).finish()
    assert damage(ingest.lake, undisturbed) == Damage()


SPILL = """
import sys
import numpy as np, pyarrow as pa, ray
from jobs.engine import RayExecutor
from miner.errors import MinerError
from miner.lineage import Run
from miner.store import Store
from tests.jobs.stages import OneClipStage

class Heavy(OneClipStage):
    def units(self, store, scene_filter, scene_ids):
        units = super().units(store, scene_filter, scene_ids)
        return units.append_column("load", pa.array([bytes(4 << 20)] * len(units), pa.large_binary()))

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20,
         _temp_dir=sys.argv[2])
try:
    RayExecutor().map(Heavy(), Store.open(sys.argv[1]), Run("test"))
except MinerError as error:
    print(error)
"""


def test_a_full_spill_disk_is_named_with_how_to_move_it(tmp_path: Path) -> None:
    disk = Path("/tmp") / f"miner-spill-{os.getpid()}"  # Ray's sockets are below it: no long path
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        disk.rmdir()
        pytest.skip("cannot mount a disk here")
    try:
        store = Store.create(str(tmp_path / "lake"))
        write_scenes(store, 64)
        said = script(SPILL, store.uri, disk)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        disk.rmdir()
    assert f"no space left to spill objects to {disk}/session" in said and "RAY_TMPDIR=FOLDER" in said
    assert count(store.uri, "quarantine") == 0
