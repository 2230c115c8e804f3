"""What is shown while a job runs: lines where there is no terminal, bars where there is one."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from jobs import progress as shown
from jobs.progress import listening
from miner.reporting import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that progress is shown at: the tests set it."""
    now_s = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now_s[0])
    return now_s


def test_lines_tell_rate_and_time_left(clock: list[float], capfd: pytest.CaptureFixture[str]) -> None:
    with listening("embed") as listener:
        for step in range(11):
            clock[0] = 100.0 + 11.0 * step
            listener.on_progress(Progress("embed", 40 + 110 * step, 1140, quarantined=step // 5))
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "embed: embed: 40 of 1,140"
    assert lines[3] == "embed: embed: 370 of 1,140, 10.0/s, 1 min 17 s left"
    assert lines[6] == "embed: embed: 700 of 1,140, 1 in quarantine, 10.0/s, 44 s left"
    assert lines[-1] == "embed: embed: 1,140 of 1,140, 2 in quarantine, 10.0/s"


def test_a_stage_that_begins_anew_is_estimated_anew(clock: list[float], capfd: pytest.CaptureFixture[str]) -> None:
    with listening("index") as listener:
        for total in (100, 1000):
            for done in (0, total // 2):
                clock[0] += 20.0
                listener.on_progress(Progress("index", done, total, 0))
    assert "index: index: 500 of 1,000, 25.0/s, 20 s left" in capfd.readouterr().err


def test_bars_show_rate_and_time_left(clock: list[float]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    bars = Bars(*shown.COLUMNS, console=console, auto_refresh=False)
    show = shown.BarsListener(bars).listener().on_progress
    for step in range(4):
        clock[0] += 10.0
        show(Progress("embed", 100 * step, 1000, quarantined=0))
    console.print(bars.make_tasks_table(bars.tasks))
    text = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert "embed" in text and "300/1000" in text and "10.0/s" in text and "1 min 10 s left" in text
