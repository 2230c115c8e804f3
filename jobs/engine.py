"""`RayExecutor`: blocks of units run as a Ray Data pipeline, on this machine or on a cluster.

Workers write data files and give back receipts of a few hundred bytes; the driver consumes them while the pipeline runs
and commits. Decoded pixels and vectors never travel. What is exact about the result is in `miner.executor`, not here.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from miner.errors import MinerError
from miner.executor import Executor, replace_rows
from miner.stage import Reduction, Stage
from miner.store import Store
from miner.worker import BlockWorker, Receipt

_CPUS_PER_ACTOR = 0.9  # a whole CPU each would leave none for Ray Data's own tasks, which then wait for ever
_RESTARTS = 1
_THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class _RayWorker:
    """A `BlockWorker` behind Ray Data: a row with a block in, its pickled receipt out. Made once per actor."""

    def __init__(self, stage: Stage, store: Store) -> None:
        # An exception here would make Ray start the actor again and again: it becomes the receipt of the first block.
        self._broken: Exception | None = None
        try:
            self._worker = BlockWorker(stage, store)
        except Exception as error:
            self._broken = error

    def __call__(self, row: pa.Table) -> pa.Table:
        block = pa.Table.from_struct_array(row["block"].combine_chunks().flatten())
        if self._broken is not None:
            fatal = self._broken if isinstance(self._broken, MinerError) else MinerError(repr(self._broken))
            receipt = Receipt(tuple(block["key"].to_pylist()), fatal=fatal)
        else:
            receipt = self._worker(block)
        return pa.table({"receipt": pa.array([pickle.dumps(receipt)], pa.large_binary())})


def _work(row: pa.Table, stage: Stage, store: Store) -> pa.Table:
    """The same for stages that are cheap to make: in a task, whose process Ray reuses for the next stage."""
    return _RayWorker(stage, store)(row)


def _packed(block: pa.Table) -> pa.Table:
    """A block as one row: with GPUs Ray Data wants a number of rows per call, and two blocks must never share one."""
    units = block.to_struct_array().combine_chunks()
    return pa.table({"block": pa.ListArray.from_arrays(pa.array([0, len(units)], pa.int32()), units)})


@dataclass
class RayExecutor(Executor):
    """Ray Data over a cluster of its own on this machine (`address="local"`), or over the one at `address`.

    `num_cpus` and `num_gpus` are those of its own cluster; Ray looks for itself where they are None.
    """

    address: str = "local"
    num_cpus: int | None = None
    num_gpus: int | None = None

    @property
    def workers(self) -> int:
        ray = self._connect()
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def run_blocks(self, stage: Stage, store: Store, blocks: Sequence[pa.Table]) -> Generator[Receipt, None, None]:
        ray = self._connect()
        from ray.exceptions import RayError
        from ray.util.annotations import RayDeprecationWarning

        _check_resources(stage, ray.cluster_resources())
        source = ray.data.from_arrow_refs([ray.put(_packed(block)) for block in blocks])
        with warnings.catch_warnings():
            # Without a limit on retries a unit that kills its worker hangs Ray Data; 2.60 has no other way to give it.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            receipts = source.map_batches(
                **self._placement(stage, store, len(blocks)),
                batch_size=1,
                batch_format="pyarrow",
                zero_copy_batch=True,
                num_gpus=stage.num_gpus,
            )
        try:
            for batch in receipts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from (pickle.loads(receipt) for receipt in batch["receipt"].to_pylist())
        except RayError as error:
            if "creation task" in str(error):  # no actor can start: no unit is to blame
                raise MinerError(f"Ray workers cannot start: {_cause(error)}") from error
            self.notify(f"a Ray worker died, its units are tried again ({_cause(error)})")

    def run_reduction(self, reduction: Reduction, store: Store, stamp: Mapping[str, str]) -> None:
        ray = self._connect()
        replace = ray.remote(num_cpus=1, max_retries=_RESTARTS)(replace_rows)
        ray.get(replace.remote(reduction, store, stamp))

    def _placement(self, stage: Stage, store: Store, blocks: int) -> dict[str, Any]:
        """Actors for a stage that loads something; tasks, which reuse processes, for one that does not."""
        if not stage.loads:
            return {"fn": _work, "fn_args": (stage, store), "num_cpus": 1, "max_retries": _RESTARTS}
        import ray.data

        return {
            "fn": _RayWorker,
            "fn_constructor_args": (stage, store),
            "compute": ray.data.ActorPoolStrategy(size=min(self.workers, blocks)),
            "num_cpus": _CPUS_PER_ACTOR,
            "max_restarts": -1,  # an actor that is not started again would leave its blocks waiting for ever
            "max_task_retries": _RESTARTS,
        }

    def _connect(self) -> Any:
        """Ray itself, up and running: imported and started when there is something to run."""
        import ray
        import ray.data

        if not ray.is_initialized():
            started = time.perf_counter()
            own: dict[str, Any] = {}
            if self.address == "local":
                own = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "include_dashboard": False}
            environment = {"env_vars": _THREADS}
            quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its own advice, for Ray's developers
            with warnings.catch_warnings(), _silent_stderr():
                warnings.filterwarnings("ignore", "lance is not fork-safe")  # Ray forks only to start other programs
                ray.init(address=self.address, runtime_env=environment, **quiet, **own)
            self.notify(f"Ray is up after {time.perf_counter() - started:.1f} s: {_shown(ray.cluster_resources())}")
        context = ray.data.DataContext.get_current()
        context.max_errored_blocks = -1
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        return ray


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Without what C++ code writes to stderr: Ray's start says there that it was told to say nothing."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _cause(error: Exception) -> str:
    """The line that tells the cause, which Ray prints last."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]


def _check_resources(stage: Stage, resources: Mapping[str, float]) -> None:
    found = resources.get("GPU", 0)
    if stage.num_gpus > found:
        asked = f"stage {stage.name} asks for {stage.num_gpus:g} GPU a worker"
        raise MinerError(
            f"{asked}, the cluster has {found:g}: {_shown(resources)}",
            "Run it without GPUs, or on a cluster that has them.",
        )


def _shown(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU"
