"""Progress on stderr: bars on a terminal, one line per ten seconds elsewhere, with rate and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from jobs.amounts import shown_s
from jobs.run import Listener
from miner.eta import Eta
from miner.reporting import Progress

_EVERY_S = 10.0


@contextmanager
def listening(title: str) -> Iterator[Listener]:
    """A listener that shows what a job does while the block runs."""
    if not sys.stderr.isatty():
        yield _Lines(title).listener()
        return
    with Bars(*COLUMNS, console=Console(stderr=True)) as bars:
        yield BarsListener(bars).listener()


class _Etas:
    """An estimate for each stage at work."""

    def __init__(self) -> None:
        self._etas: dict[str, Eta] = {}

    def told(self, progress: Progress) -> Eta:
        """The estimate of the stage, after what is told; one that begins anew gets a new one."""
        now_s, eta = time.monotonic(), self._etas.get(progress.stage)
        if eta is None or not eta.continues(progress.done, progress.total):
            eta = self._etas[progress.stage] = Eta(progress.total, progress.done, now_s)
        eta.add(progress.done, now_s)
        return eta


class _Left(ProgressColumn):
    """What is left of a stage's time."""

    def render(self, task: Task) -> Text:
        left_s = task.fields["eta"].left_s(time.monotonic())
        return Text("" if left_s is None else f"{shown_s(left_s)} left", style="progress.remaining")


COLUMNS = (
    TextColumn("{task.description:>8}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[rate]}"),
    TimeElapsedColumn(),
    _Left(),
    TextColumn("[yellow]{task.fields[bad]}"),
)


class BarsListener:
    """Shows stages as bars with `COLUMNS`."""

    def __init__(self, bars: Bars) -> None:
        self._bars, self._etas = bars, _Etas()
        self._tasks: dict[str, TaskID] = {}

    def listener(self) -> Listener:
        return Listener(self._show, lambda message: self._bars.console.print(message, style="dim"))

    def _show(self, progress: Progress) -> None:
        eta = self._etas.told(progress)
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bars.add_task(progress.stage, rate="", bad="", eta=eta)
        rate = f"{eta.rate:,.1f}/s" if eta.rate else ""
        bad = f"{progress.quarantined} in quarantine" if progress.quarantined else ""
        task, done, total = self._tasks[progress.stage], progress.done, progress.total
        self._bars.update(task, completed=done, total=total, rate=rate, bad=bad, eta=eta)


class _Lines:
    def __init__(self, title: str) -> None:
        self._title, self._last, self._said = title, 0.0, ""
        self._etas = _Etas()

    def listener(self) -> Listener:
        return Listener(self._show, self._say)

    def _show(self, progress: Progress) -> None:
        eta = self._etas.told(progress)
        if time.monotonic() - self._last >= _EVERY_S or progress.done == progress.total:
            self._last = time.monotonic()
            bad = f", {progress.quarantined:,} in quarantine" if progress.quarantined else ""
            self._say(f"{progress.stage}: {progress.done:,} of {progress.total:,}{bad}{_pace(eta, self._last)}")

    def _say(self, message: str) -> None:
        if message == self._said:
            return
        self._said = message
        sys.stderr.write(f"{self._title}: {message}\n")
        sys.stderr.flush()


def _pace(eta: Eta, now_s: float) -> str:
    rate, left_s = eta.rate, eta.left_s(now_s)
    if rate is None or left_s is None:
        return ""
    return f", {rate:,.1f}/s" + (f", {shown_s(left_s)} left" if left_s else "")
