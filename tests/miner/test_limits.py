"""The time limit of a unit: what is over it ends, whatever it does, and nothing of that reaches the next unit."""

from __future__ import annotations

import ctypes
import random
import subprocess
import sys
import time

import pytest

from miner.errors import BadInput
from miner.limits import Stuck, limited, watched
from tests.jobs.stages import loop_in_python


def lasting(seconds: float) -> float:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def test_without_a_hand_there_is_no_limit() -> None:
    assert limited("k", "file", lambda: lasting(0.01)) == 0.01


def test_a_unit_over_its_limit_ends_and_the_next_one_runs() -> None:
    def work() -> list[str]:
        with pytest.raises(BadInput) as raised:
            limited("a", "a.bin", loop_in_python)
        return [raised.value.reason, raised.value.detail, limited("b", "b.bin", lambda: "fine")]

    assert watched(work, 0.1) == ["timed-out", "a.bin: not done after 0.1 s", "fine"]


def test_the_limit_is_of_each_unit_not_of_the_block() -> None:
    assert watched(lambda: [limited(str(n), "file", lambda: lasting(0.1)) for n in range(8)], 0.6) == [0.1] * 8


def test_a_unit_that_ends_just_then_is_done_or_timed_out_and_nothing_else() -> None:
    chance, ends = random.Random(0), {"done": 0, "timed-out": 0}

    def work() -> None:
        for n in range(120):
            try:
                limited(str(n), "file", lambda: lasting(chance.uniform(0.004, 0.007)))
                ends["done"] += 1
            except BadInput as bad:
                ends[bad.reason] += 1

    watched(work, 0.005)
    assert sum(ends.values()) == 120 and min(ends.values()) > 5


def test_a_reader_that_catches_all_errors_is_ended_all_the_same() -> None:
    def catches() -> None:
        while True:
            try:
                lasting(10)
            except Exception:
                continue

    with pytest.raises(BadInput, match="timed-out"):
        watched(lambda: limited("a", "file", catches), 0.1)


def test_what_is_stuck_in_native_code_is_left_to_itself() -> None:
    with pytest.raises(Stuck, match=r"a\.bin: not done after 0\.1 s, nor to be interrupted") as raised:
        watched(lambda: limited("a", "a.bin", lambda: ctypes.CDLL(None).sleep(3)), 0.1)
    assert raised.value.key == "a"


def test_a_process_whose_interpreter_is_held_ends_itself() -> None:
    script = (
        "import ctypes\nfrom miner.limits import limited, watched\n"
        "watched(lambda: limited('a', 'file', lambda: ctypes.PyDLL(None).sleep(60)), 0.2, may_end_process=True)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "Timeout" in done.stderr and "sleep" not in done.stdout


def test_errors_come_out_with_what_they_are_about() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        watched(lambda: limited("a", "a.bin", lambda: 1 // 0), 1)
    assert raised.value.__notes__ == ["a.bin"]
    with pytest.raises(BadInput, match="no-points: empty"):
        watched(lambda: limited("a", "a.bin", _bad), 1)


def _bad() -> None:
    raise BadInput("no-points", "empty")


def test_watching_costs_next_to_nothing() -> None:
    def work() -> float:
        started = time.perf_counter()
        for _ in range(2000):
            limited("key", "file", int)
        return (time.perf_counter() - started) / 2000

    assert min(watched(work, 300) for _ in range(3)) < 50e-6  # 1 % of a unit of 5 ms
