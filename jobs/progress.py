"""Progress on stderr: bars on a terminal, one line per ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from jobs.run import Listener
from miner.reporting import Progress

_EVERY_S = 10.0


@contextmanager
def listening(title: str) -> Iterator[Listener]:
    """A listener that shows what a job does while the block runs."""
    if not sys.stderr.isatty():
        yield _Lines(title).listener()
        return
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[yellow]{task.fields[bad]}"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars).listener()


class _Bars:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, tuple[TaskID, float, int]] = {}

    def listener(self) -> Listener:
        return Listener(self._show, lambda message: self._bars.console.print(message, style="dim"))

    def _show(self, progress: Progress) -> None:
        if progress.stage not in self._tasks:
            task = self._bars.add_task(progress.stage, total=progress.total, rate="", bad="")
            self._tasks[progress.stage] = (task, time.monotonic(), progress.done)
        task, since, before = self._tasks[progress.stage]
        rate = (progress.done - before) / max(time.monotonic() - since, 1e-3)
        bad = f"{progress.quarantined} in quarantine" if progress.quarantined else ""
        self._bars.update(
            task, completed=progress.done, total=progress.total, rate=f"{rate:,.1f}/s" if rate else "", bad=bad
        )


class _Lines:
    def __init__(self, title: str) -> None:
        self._title, self._last, self._said = title, 0.0, ""

    def listener(self) -> Listener:
        return Listener(self._show, self._say)

    def _show(self, progress: Progress) -> None:
        if time.monotonic() - self._last >= _EVERY_S or progress.done == progress.total:
            self._last = time.monotonic()
            bad = f", {progress.quarantined:,} in quarantine" if progress.quarantined else ""
            self._say(f"{progress.stage}: {progress.done:,} of {progress.total:,}{bad}")

    def _say(self, message: str) -> None:
        if message == self._said:
            return
        self._said = message
        sys.stderr.write(f"{self._title}: {message}\n")
        sys.stderr.flush()
