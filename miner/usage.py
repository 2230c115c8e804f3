"""What blocks of units use: seconds by phase, CPU, GPU, bytes. Measured by workers, added up by the driver.

CPU time is the process's, not the thread's: Lance, torch and BLAS work in pools of their own, which a thread's clock
does not see. On Ray a process works on one block at a time and all of it is the block's, its GPUs, too; threads of one
process share them evenly among the blocks at work at the time, so that what they are told adds up to what was used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from miner.prices import Cost

Phase = Literal["prepare", "apply", "write"]
_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


@dataclass(frozen=True)
class Usage:
    """What some blocks used, in all: seconds are summed over workers.

    `start_s` and `start_cpu_s` are for making workers (weights are loaded then), once each, and in no other figure.
    `gpu_s` is the seconds in which a worker had its GPUs in use (`apply`), times GPUs; `gpu_wait_s` those in which it
    had them and did something else or nothing. `bytes_read` is what was read of recordings, `bytes_written` the size of
    the data files. `first_units` and `first_cpu_s` are of the first block of each worker: what is not warm costs more.
    The last three are sums over blocks of a block's units², units x CPU-s and CPU-s²: how much a unit's
    cost varies is told from them.
    """

    units: int = 0
    blocks: int = 0
    prepare_s: float = 0.0
    apply_s: float = 0.0
    write_s: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    gpu_wait_s: float = 0.0
    start_s: float = 0.0
    start_cpu_s: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    first_units: int = 0
    first_cpu_s: float = 0.0
    units_squared: int = 0
    units_cpu_s: float = 0.0
    cpu_s_squared: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Usage)))

    def as_first(self, start_s: float, start_cpu_s: float, gpus: float = 0.0) -> Usage:
        """Of a block that was its worker's first, with what it took to make the worker, who had its GPUs by then."""
        waited_s = self.gpu_wait_s + gpus * start_s
        starting = replace(self, start_s=start_s, start_cpu_s=start_cpu_s, gpu_wait_s=waited_s)
        return replace(starting, first_units=self.units, first_cpu_s=self.cpu_s)

    def joined(self, other: Usage) -> Usage:
        """Of two workers at the same block, which is one block with the CPU time of both; where it is the first of the
        `other`, it is a first block."""
        both = self + other
        units, cpu_s = both.units, both.cpu_s
        if other.first_units:
            both = replace(both, first_units=units, first_cpu_s=cpu_s)
        return replace(both, units_squared=units**2, units_cpu_s=units * cpu_s, cpu_s_squared=cpu_s**2)

    @property
    def cost(self) -> Cost:
        """What of it is paid for; GPUs while they wait, too."""
        cpu_s, gpu_s = self.cpu_s + self.start_cpu_s, self.gpu_s + self.gpu_wait_s
        return Cost(cpu_s, gpu_s, self.bytes_read, self.bytes_written)

    @property
    def busy_s(self) -> float:
        """Seconds workers were at work on blocks."""
        return self.prepare_s + self.apply_s + self.write_s

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON, to the millisecond."""
        return {each.name: round(getattr(self, each.name), 3) for each in fields(Usage)}


class Meter:
    """Measures one block; `counting` is to be entered by the thread that works on it."""

    def __init__(self) -> None:
        self._seconds: dict[Phase, float] = {"prepare": 0.0, "apply": 0.0, "write": 0.0}
        self.bytes_read = 0
        self.bytes_written = 0

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """What runs meanwhile is that phase of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - began

    @contextmanager
    def counting(self) -> Iterator[None]:
        """What this thread opens meanwhile is read for the block."""
        token = _METER.set(self)
        try:
            yield
        finally:
            _METER.reset(token)

    def usage(self, units: int, cpu_s: float = 0.0, gpus: float = 0.0, idle_s: float = 0.0, part: float = 1.0) -> Usage:
        """What the block used. `gpus` are those of its process, which was without work for `idle_s` before; `part` of
        them were the block's."""
        prepare_s, apply_s, write_s = self._seconds.values()
        return Usage(
            units=units,
            blocks=1,
            prepare_s=prepare_s,
            apply_s=apply_s,
            write_s=write_s,
            cpu_s=cpu_s,
            gpu_s=gpus * part * apply_s,
            gpu_wait_s=gpus * (idle_s + part * (prepare_s + write_s)),
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
            units_squared=units**2,
            units_cpu_s=units * cpu_s,
            cpu_s_squared=cpu_s**2,
        )


def current_meter() -> Meter | None:
    """Of the block that this thread works on, if any."""
    return _METER.get()


@dataclass
class Share:
    """A block's part of its process."""

    cpu_s: float = 0.0
    idle_s: float = 0.0  # in which the process had no block, before this one
    part: float = 1.0  # of the process while the block was at work: less where others were, too


class Clock:
    """Tells the time of this process, on the clocks of its CPU and on the wall, to the blocks at work in it, in even
    parts."""

    def __init__(
        self, process_time: Callable[[], float] = time.process_time, wall_time: Callable[[], float] = time.perf_counter
    ) -> None:
        self._process_time, self._wall_time, self._lock = process_time, wall_time, threading.Lock()
        self._at_work = 0
        self._cpu_s, self._wall_s = process_time(), wall_time()
        self._told_cpu_s = self._told_wall_s = 0.0  # to each block that was at work all the time
        self._idle_since = self._wall_s

    @contextmanager
    def running(self) -> Iterator[Share]:
        """A block is at work meanwhile. What it is given is complete afterwards."""
        share = Share()
        with self._lock:
            cpu_s, wall_s = self._advance()
            began_s = self._wall_s
            if not self._at_work:
                share.idle_s = began_s - self._idle_since
            self._at_work += 1
        try:
            yield share
        finally:
            with self._lock:
                told_cpu_s, told_wall_s = self._advance()
                self._at_work -= 1
                self._idle_since = self._wall_s
                share.cpu_s, took_s = told_cpu_s - cpu_s, self._wall_s - began_s
                share.part = (told_wall_s - wall_s) / took_s if took_s > 0 else 1.0

    def _advance(self) -> tuple[float, float]:
        cpu_s, wall_s = self._process_time(), self._wall_time()
        if self._at_work:
            self._told_cpu_s += (cpu_s - self._cpu_s) / self._at_work
            self._told_wall_s += (wall_s - self._wall_s) / self._at_work
        self._cpu_s, self._wall_s = cpu_s, wall_s
        return self._told_cpu_s, self._told_wall_s
