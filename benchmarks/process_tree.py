"""What a process and all that it started use: CPU seconds over time, and memory at its peak."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import psutil

_EVERY_S = 1.0


class ProcessTree(threading.Thread):
    """Looks at the tree of this process once a second, which costs about 1 % of a core, until `stop`.

    A process that ends counts with what it had used when it was last looked at. `own_bytes`, `all_bytes`: resident
    memory of this process and of all, each at its peak; what processes share is in the sum once for each.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own_bytes = self.all_bytes = 0
        self._used: dict[tuple[int, float], float] = {}
        self._seen: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._own = psutil.Process()
        self._look()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._look()

    def stop(self) -> None:
        """Look a last time."""
        self._ended.set()
        self.join()
        self._look()

    def cpu_s(self, began: float, end: float) -> float:
        """CPU seconds between two times of `time.perf_counter`."""
        times, used = np.array(self._seen).T
        return float(np.interp(end, times, used) - np.interp(began, times, used))

    def _look(self) -> None:
        total_bytes = 0
        for process in [self._own, *self._own.children(recursive=True)]:
            try:
                with process.oneshot():
                    times, size = process.cpu_times(), process.memory_info().rss
                    self._used[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:  # it has just ended
                continue
            total_bytes += size
            if process == self._own:
                self.own_bytes = max(self.own_bytes, size)
        self.all_bytes = max(self.all_bytes, total_bytes)
        self._seen.append((time.perf_counter(), sum(self._used.values())))


def peak_gb() -> float:
    """Peak resident memory of this process; the kernel's own figure is inherited from the parent."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1e6
