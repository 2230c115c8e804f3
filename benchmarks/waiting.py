"""The engine at work on units that wait instead of computing, on nodes that all live on this machine.

Eight nodes on two cores are honest only so: what is left to measure is planning, handing out, receipts and commits.
Processes that start all at once on two cores are not counted, either: a worker's time is from its first block to its
last.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.engine import RayExecutor
from jobs.scale.engine import CommitCost, Costs
from jobs.tune.clock import Clocked, pace
from miner.lineage import Run
from miner.schema import CLIPS
from miner.store import Store
from tests.jobs.stages import OneClipStage, write_scenes

_STORE_BYTES = 100 << 20  # Ray's object store of a node: receipts are small


@dataclass(frozen=True)
class Waiting(OneClipStage):
    """One row a unit, after waiting `pause_s` for each; `block_size` units a block, however many workers there are.

    In actors, as embedding is: they wait for the next block, which is handed out to them before they ask.
    """

    block_size: int = 1
    loads: bool = True

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        return self.block_size


@dataclass(frozen=True)
class Measured:
    """One run: from the call to its end, and to the first and last receipt; how long all of it takes at the pace of
    workers that have started; a worker's seconds at each block; the driver's CPU seconds."""

    seconds: float
    paced_s: float
    first_s: float
    last_s: float
    block_s: Sequence[float]
    driver_cpu_s: float

    def costs(self, dispatch_s: float, commit: CommitCost) -> Costs:
        """What this run, of one worker, says of the engine; `dispatch_s` is the driver's time for a block and its
        receipt, halves of which go to each."""
        between_s = (self.last_s - self.first_s - sum(self.block_s[1:])) / (len(self.block_s) - 1)
        mean_s = statistics.fmean(self.block_s)
        return Costs(
            start_s=self.first_s - self.block_s[0],
            end_s=max(self.seconds - self.last_s - commit.seconds(len(self.block_s), 0, 0), 0.0),
            dispatch_s=dispatch_s / 2,
            receive_s=dispatch_s / 2,
            gap_s=max(between_s - dispatch_s / 2, 0.0),
            block_s=mean_s,
            commit=commit,
            spread=statistics.pstdev(self.block_s) / mean_s,
        )


@contextmanager
def growing_cluster() -> Iterator[Any]:
    """A Ray cluster of raylets on this machine: a head without CPUs; a call makes it so many nodes of one CPU each."""
    import ray
    from ray.cluster_utils import Cluster

    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes: list[Any] = []

    def grow(count: int) -> str:
        while len(nodes) < count:
            nodes.append(cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES))
        cluster.wait_for_nodes()
        return str(cluster.address)

    try:
        yield grow
    finally:
        ray.shutdown()
        cluster.shutdown()


def run(address: str, folder: str, blocks: int, units: int, pause_s: float) -> Measured:
    """Work off `blocks` blocks of `units` units in a new lake in `folder`."""
    store = Store.create(folder)
    write_scenes(store, blocks * units)
    executor = Clocked.of(RayExecutor(address=address))
    executor.workers  # noqa: B018  it connects
    began_s, cpu_s = time.perf_counter(), time.process_time()
    report = executor.map(Waiting(pause_s=pause_s, block_size=units), store, Run("scale"))
    ended_s, cpu_s = time.perf_counter(), time.process_time() - cpu_s
    assert (report.written, len(executor.came)) == (blocks * units, blocks)
    return Measured(
        seconds=ended_s - began_s,
        paced_s=report.written / pace(executor.came, report.commit_s).rate,
        first_s=executor.came[0][0] - began_s,
        last_s=executor.came[-1][0] - began_s,
        block_s=[receipt.usage.busy_s for _, receipt in executor.came],
        driver_cpu_s=cpu_s,
    )


def commit_cost(folder: str, most: int) -> tuple[CommitCost, float]:
    """What a commit costs as a table grows to `most` fragments, by least squares over measured ones; and the bytes that
    a fragment adds to the list of them all, which every version has. One file stands for all fragments."""
    store = Store.create(folder)
    store.ensure("clips", CLIPS)
    row = {"clip_id": "a" * 32, "scene_id": "b" * 32, "start_ns": 0, "end_ns": 1, "recipe": "one"}
    [fragment] = store.write("clips", pa.Table.from_pylist([row] * 100, schema=CLIPS))
    version = store.version("clips")
    rows, seconds, fragments, commits = [], [], 0, 0
    for new in (
        *[1, 16, 32] * 20,
        most // 4,
        *[1, 16, 32] * 5,
        most // 4,
        *[1, 16, 32] * 5,
        most // 2,
        *[1, 16, 32] * 5,
    ):
        began_s = time.perf_counter()
        version = store.commit("clips", [fragment] * new, {"miner.run": "x"}, version)
        if new <= 32:
            rows.append([1.0, new, fragments, commits])
            seconds.append(time.perf_counter() - began_s)
        fragments, commits = fragments + new, commits + 1
    found = _non_negative(np.array(rows), np.array(seconds))
    listed = max(path.stat().st_size for path in Path(folder, "clips.lance", "_versions").glob("*.manifest"))
    return CommitCost(*found), listed / fragments


def _non_negative(rows: np.ndarray, seconds: np.ndarray) -> list[float]:
    """Relative least squares with no negative cost."""
    from scipy.optimize import nnls

    found, _ = nnls(rows / seconds[:, None], np.ones(len(seconds)))
    return [float(each) for each in found]
