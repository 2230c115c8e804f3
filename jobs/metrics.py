"""A run on Ray as metrics, which Ray exports to Prometheus on every node: the driver tells them as blocks come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from miner.prices import Prices
from miner.reporting import Observation

_TAGS = ("lake", "run", "stage")
_BLOCK_S = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]


@dataclass(frozen=True)
class Metric:
    """One metric: `tags` beside lake, run and stage."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    tags: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """How Prometheus knows it."""
        ending = {"counter": "_total", "gauge": "", "histogram": "_bucket"}[self.kind]
        return f"ray_{self.name}{ending}"


METRICS = (
    Metric("miner_units", "counter", "Units that workers were done with"),
    Metric("miner_rows", "counter", "Rows committed", ("table",)),
    Metric("miner_quarantined_units", "counter", "Units put into quarantine"),
    Metric("miner_read_bytes", "counter", "Bytes read of recordings"),
    Metric("miner_written_bytes", "counter", "Bytes of the data files written"),
    Metric("miner_worker_seconds", "counter", "Seconds workers worked on blocks", ("phase",)),
    Metric("miner_cpu_seconds", "counter", "CPU-seconds of workers"),
    Metric("miner_gpu_seconds", "counter", "Seconds in which workers had their GPUs in use, times GPUs"),
    Metric("miner_gpu_wait_seconds", "counter", "Seconds in which workers had GPUs and did not use them, times GPUs"),
    Metric("miner_commit_seconds", "counter", "Seconds of the driver at commits"),
    Metric("miner_money", "counter", "What workers cost by the prices of the config", ("currency",)),
    Metric("miner_queue_units", "gauge", "Units that are not done yet"),
    Metric("miner_workers", "gauge", "Workers as of the last block, those who only prepare among them"),
    Metric("miner_block_seconds", "histogram", "Seconds a block took"),
)


class RunMetrics:
    """Tells Ray what is observed of runs. To be made where Ray is up."""

    def __init__(self, prices: Prices) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        self._prices = prices
        self._seen: dict[tuple[str, ...], float] = {}
        makers: dict[str, Any] = {"counter": Counter, "gauge": Gauge}
        makers["histogram"] = lambda name, meaning, tags: Histogram(name, meaning, _BLOCK_S, tags)
        self._metrics = {each.name: makers[each.kind](each.name, each.meaning, _TAGS + each.tags) for each in METRICS}

    def observe(self, seen: Observation) -> None:
        """Count what is new."""
        self._add_block(seen)
        for table, rows in seen.rows.items():
            self._add_up("miner_rows", seen, rows, table=table)
        self._add_up("miner_quarantined_units", seen, seen.quarantined)
        self._add_up("miner_commit_seconds", seen, seen.commit_s)
        self._metrics["miner_queue_units"].set(seen.queue, self._tags(seen))
        self._metrics["miner_workers"].set(seen.workers, self._tags(seen))

    def _add_block(self, seen: Observation) -> None:
        usage, bill = seen.usage, self._prices.bill(seen.usage.cost)
        self._add("miner_units", seen, usage.units)
        self._add("miner_read_bytes", seen, usage.bytes_read)
        self._add("miner_written_bytes", seen, usage.bytes_written)
        for phase in ("prepare", "apply", "write"):
            self._add("miner_worker_seconds", seen, getattr(usage, f"{phase}_s"), phase=phase)
        self._add("miner_cpu_seconds", seen, usage.cpu_s + usage.start_cpu_s)
        self._add("miner_gpu_seconds", seen, usage.gpu_s)
        self._add("miner_gpu_wait_seconds", seen, usage.gpu_wait_s)
        if bill is not None:
            self._add("miner_money", seen, bill.total, currency=bill.currency)
        if usage.blocks:
            self._metrics["miner_block_seconds"].observe(usage.busy_s, self._tags(seen))

    def _add(self, name: str, seen: Observation, amount: float, **more: str) -> None:
        if amount > 0:
            self._metrics[name].inc(amount, self._tags(seen) | more)

    def _add_up(self, name: str, seen: Observation, total: float, **more: str) -> None:
        """For what is told as a total so far."""
        key = (name, *(self._tags(seen) | more).values())
        self._add(name, seen, total - self._seen.get(key, 0.0), **more)
        self._seen[key] = total

    def _tags(self, seen: Observation) -> dict[str, str]:
        return {"lake": seen.lake, "run": seen.run_id, "stage": seen.stage}
