"""`RayExecutor`: blocks of units run as a Ray Data pipeline, on this machine or on a cluster.

Workers write data files and give back receipts of a few hundred bytes; the driver consumes them while the pipeline runs
and commits. Vectors never travel, decoded pixels only to a GPU. What is exact about the result is in `miner.executor`.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import pickle
import socket
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from jobs.blocks import Applying, Whole, packed, prepare, whole
from jobs.metrics import RunMetrics
from jobs.resources import places, shown, too_small
from miner.disk import AGAIN, DiskError, room
from miner.errors import MinerError
from miner.executor import Executor, replace_rows
from miner.lease import assert_holder
from miner.reporting import Observation
from miner.stage import Part, Reduction, Stage
from miner.store import Store
from miner.transactions import RUN
from miner.worker import Receipt

_CPUS_PER_ACTOR = 0.9  # a whole CPU each would leave none for Ray Data's own tasks, which then wait for ever
_RESTARTS = 1
_KNOCK_S = 2.0
_ANSWER_S = 60.0
_NODES_S = 2.0
_END_S = 10.0
_ROW_BY_ROW = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
_THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass
class RayExecutor(Executor):
    """Ray Data over a cluster of its own on this machine (`address="local"`), or over the one at `address`.

    `num_cpus`, `num_gpus` and `object_store_gb` are those of its own cluster; Ray looks for itself where they are None.
    `memory_gb` (10^9 bytes) is what Ray sets aside for each worker. `num_workers` work at once at most, beside
    `decode_workers` that prepare for them where they have GPUs; for these no memory is set aside, as workers may hold
    all there is, and neither would ever go on. `wait_nodes_s` is how long to wait for a first node
    that a worker fits on: with more than 0 the cluster starts nodes on demand, and the pool of workers grows with it.
    """

    address: str = "local"
    num_cpus: int | None = None
    num_gpus: int | None = None
    memory_gb: float | None = None
    wait_nodes_s: float = 0.0
    num_workers: int | None = None
    decode_workers: int | None = None
    object_store_gb: float | None = None
    _metrics: RunMetrics | None = field(default=None, init=False, repr=False)

    @property
    def workers(self) -> int:
        return self.num_workers or self._cpus

    @property
    def decoders(self) -> int:
        return self.decode_workers or self._cpus

    @property
    def _cpus(self) -> int:
        return max(1, int(self._connect().cluster_resources().get("CPU", 1)))

    def run_blocks(self, stage: Stage, store: Store, blocks: Sequence[pa.Table]) -> Generator[Receipt, None, None]:
        ray = self._connect()
        from ray.exceptions import RayError
        from ray.util.annotations import RayDeprecationWarning

        need = self._need(stage)
        fitting = self._fitting(ray, stage, need)
        nodes, missing = _alive(ray), len(blocks)
        try:
            source = ray.data.from_arrow_refs([ray.put(packed(block)) for block in blocks])
            if not stage.num_gpus and not self.wait_nodes_s:
                # Ray Data keeps CPUs back for other operators: here there are none, and it only starts the second
                # worker a second late and each block a tenth. Between halves it bounds memory, and a growing pool asks
                # it for how many.
                source.context.op_resource_reservation_enabled = False
            with warnings.catch_warnings():
                # Without a limit on retries a unit that kills its worker hangs Ray Data; 2.60 has no other way to give
                # it.
                warnings.simplefilter("ignore", RayDeprecationWarning)
                if stage.num_gpus:
                    source = source.map_batches(**self._preparing(stage, store), **_ROW_BY_ROW)
                placement = self._placement(stage, store, fitting, len(blocks))
                receipts = source.map_batches(**placement, **_ROW_BY_ROW, memory=need.get("memory"))
            for batch in receipts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                missing -= len(batch)
                yield from (pickle.loads(receipt) for receipt in batch["receipt"].to_pylist())
        except RayError as error:
            _raise_if_fatal(ray, error)
            self.notify(f"a Ray worker died, its units are tried again ({_cause(error)})")
        if missing:  # Ray Data drops the blocks it lost without a word
            _assert_working(ray)
            # What Ray Data noted of the dead holds actors that live in cycles, and so their CPUs and GPUs: who comes
            # next would wait for them for ever.
            gc.collect()
        for node in nodes.keys() - _alive(ray).keys():
            self.notify(f"node {nodes[node]['NodeManagerAddress']} of the Ray cluster was lost; its work is done anew")

    def observe(self, seen: Observation) -> None:
        if self._metrics is None:
            self._connect()
            self._metrics = RunMetrics(self.prices)
        self._metrics.observe(seen)

    def run_reduction(self, reduction: Reduction, store: Store, stamp: Mapping[str, str], since: int) -> None:
        ray = self._connect()
        from ray.exceptions import RayError, RayTaskError

        try:
            parts: Sequence[Any] = [None]
            while parts and reduction.divided:
                [(reduction, parts)] = _done_by_tasks(ray, _begin, [(reduction, store)])
                _done_by_tasks(ray, _done, [(part,) for part in parts])
            self._replace(ray, reduction, store, stamp, since)
        except RayTaskError as error:
            raise error.cause from error  # Ray's own hides it under its trace
        except RayError as error:
            _raise_if_fatal(ray, error)
            raise MinerError(f"stage {reduction.name}: {_cause(error)}", AGAIN) from error

    def _replace(self, ray: Any, reduction: Reduction, store: Store, stamp: Mapping[str, str], since: int) -> None:
        """Once more where its worker died, if that had not committed: whoever is cut off and alive is fenced off."""
        from ray.exceptions import RayError, RayTaskError

        try:
            _done_by_tasks(ray, replace_rows, [(reduction, store, stamp, since)], restarts=0)
        except RayTaskError:
            raise
        except RayError as error:
            _raise_if_fatal(ray, error)
            table = reduction.output.table
            assert_holder(store, table, stamp[RUN])
            store.fence(table)
            now = store.version(table)
            assert_holder(store, table, stamp[RUN])  # who takes over from here on fences off what is begun from `now`
            if not store.has_commit(table, stamp, since):
                self.notify(f"stage {reduction.name}: a Ray worker died, it begins anew ({_cause(error)})")
                _done_by_tasks(ray, replace_rows, [(reduction, store, stamp, now)], restarts=0)

    def _need(self, stage: Stage) -> dict[str, float]:
        """What a worker of a stage asks of its node, in Ray's words."""
        need = {"CPU": _CPUS_PER_ACTOR if stage.loads else 1.0}
        if stage.num_gpus:  # whose CPUs are for those that prepare
            need = {"GPU": stage.num_gpus}
        if self.memory_gb:
            need["memory"] = self.memory_gb * 1e9
        return need

    def _fitting(self, ray: Any, stage: Stage, need: Mapping[str, float]) -> int:
        """How many workers fit on the nodes, as soon as one does. Raises MinerError if none ever will."""
        deadline = time.monotonic() + self.wait_nodes_s
        while not (fitting := places(need, totals := [node["Resources"] for node in _alive(ray).values()])):
            if time.monotonic() >= deadline:
                raise too_small(f"stage {stage.name}", need, totals)
            from ray.autoscaler.sdk import request_resources

            self.notify(f"no node has {shown(need)} yet; waiting for one")
            request_resources(bundles=[{kind: math.ceil(much) for kind, much in need.items()}])
            time.sleep(_NODES_S)
        return fitting

    def _placement(self, stage: Stage, store: Store, fitting: int, blocks: int) -> dict[str, Any]:
        """Actors for a stage that loads something or has GPUs; tasks, which reuse processes, for another."""
        import ray.data

        at_once = min(fitting, self.num_workers or (fitting if stage.num_gpus else self.workers))
        if not stage.loads and not stage.num_gpus:
            # As many as fit run, however many are sent: one waits behind each, as to send the next when one ends takes
            # Ray Data a tenth of a second.
            sent = at_once if at_once < fitting else 2 * fitting
            return self._tasks(whole, stage, store, self.num_workers if self.wait_nodes_s else sent)
        return {
            "fn": Applying if stage.num_gpus else Whole,
            "fn_constructor_args": (stage, store, self.unit_timeout_s),
            "compute": ray.data.ActorPoolStrategy(
                min_size=min(at_once, blocks),
                max_size=min(self.num_workers or blocks, blocks) if self.wait_nodes_s else min(at_once, blocks),
            ),
            "num_cpus": 0 if stage.num_gpus else _CPUS_PER_ACTOR,
            "num_gpus": stage.num_gpus,
            "max_restarts": -1,  # an actor that is not started again would leave its blocks waiting for ever
            "max_task_retries": _RESTARTS,
        }

    def _preparing(self, stage: Stage, store: Store) -> dict[str, Any]:
        """Tasks for the first half of the work of a stage with GPUs; what they prepare waits in the object store, and
        Ray Data starts no more of them than it has room for."""
        return self._tasks(prepare, stage, store, self.decode_workers)

    def _tasks(self, fn: Callable[..., pa.Table], stage: Stage, store: Store, at_once: int | None) -> dict[str, Any]:
        import ray.data

        pool = {"compute": ray.data.TaskPoolStrategy(at_once)} if at_once else {}
        made_with = (stage, store, self.unit_timeout_s)
        return {"fn": fn, "fn_args": made_with, "num_cpus": 1, "max_retries": _RESTARTS, **pool}

    def _connect(self) -> Any:
        """Ray itself, up and running: imported and started when there is something to run."""
        import ray
        import ray.data

        if not ray.is_initialized():
            started = time.perf_counter()
            own: dict[str, Any] = {}
            if self.address == "local":
                own = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "include_dashboard": False}
                own |= {"object_store_memory": int(self.object_store_gb * 1e9)} if self.object_store_gb else {}
            environment = {"env_vars": _THREADS}
            quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its own advice, for Ray's developers
            with warnings.catch_warnings(), _silent_stderr():
                warnings.filterwarnings("ignore", "lance is not fork-safe")  # Ray forks only to start other programs
                ray.init(address=self.address, runtime_env=environment, **quiet, **own)
            self.notify(f"Ray is up after {time.perf_counter() - started:.1f} s: {shown(ray.cluster_resources())}")
            # What becomes of its workers we tell ourselves: Ray would print it to stdout, where the result is to be.
            ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: None
            threading.Thread(target=_watch_head, args=(ray, self.notify), daemon=True).start()
        context = ray.data.DataContext.get_current()
        context.max_errored_blocks = -1
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        return ray


def _done_by_tasks(
    ray: Any, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]], restarts: int = _RESTARTS
) -> list[Any]:
    """What each call gives, in order. Where one fails, or somebody interrupts, the others are ended first: they would
    hold CPUs, and write files that nobody removes any more."""
    task = ray.remote(num_cpus=1, max_retries=restarts)(work)
    at_work = [task.remote(*call) for call in calls]
    try:
        return list(ray.get(at_work))
    except BaseException:
        for each in at_work:
            ray.cancel(each, force=True)  # a kernel hears of nothing gentler
        ray.wait(at_work, num_returns=len(at_work), timeout=_END_S)
        raise


def _begin(reduction: Reduction, store: Store) -> tuple[Reduction, Sequence[Part]]:
    return reduction.begin(store)


def _done(part: Part) -> None:
    part()


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


def _alive(ray: Any) -> dict[str, dict[str, Any]]:
    """The nodes of the cluster by id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _raise_if_fatal(ray: Any, error: Exception) -> None:
    """Raise what is no worker's death, so that trying again cannot help."""
    from ray.exceptions import ObjectStoreFullError, OutOfDiskError

    if isinstance(error, OutOfDiskError | ObjectStoreFullError):
        folder = ray._private.worker._global_node.get_session_dir_path()
        raise DiskError(
            f"Ray has no space left to spill objects to {folder} ({room(folder)})",
            f"Make room there, or have Ray use another disk: RAY_TMPDIR=FOLDER. {AGAIN}",
            True,
        ) from error
    if "creation task" in str(error):  # no actor can start: no unit is to blame
        raise MinerError(f"Ray workers cannot start: {_cause(error)}") from error


def _assert_working(ray: Any) -> None:
    """Raise MinerError if the cluster runs nothing any more: the blocks without receipts are then nobody's fault."""
    from ray.exceptions import RayError

    try:
        ray.get(ray.remote(num_cpus=0)(_answer).remote(), timeout=_ANSWER_S)
    except RayError as error:
        raise MinerError(f"the Ray cluster does not work any more: {_cause(error)}", AGAIN) from error


def _answer() -> bool:
    return True


def _watch_head(ray: Any, notify: Callable[[str], None]) -> None:
    """Tell when the head of the cluster is gone: within a minute Ray then ends this process, without a word to us."""
    head, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    misses = 0
    while ray.is_initialized() and misses < 2:
        try:
            socket.create_connection((head, int(port)), _KNOCK_S).close()
            misses = 0
        except OSError:
            misses += 1
        time.sleep(_KNOCK_S)
    if ray.is_initialized():
        notify(f"the head of the Ray cluster, {head}, does not answer; without it Ray ends this run. {AGAIN}")


def disconnect() -> None:
    """End a Ray of one's own, and the connection to another: the next run connects anew."""
    import ray

    ray.shutdown()
