"""Thousands of damaged files and hostile filters: refused with a reason or read, never a crash, a hang or a heap.

Each run has a seed of its own, which is printed: `python -m tests.faults.fuzzing SEED KIND:FIRST:LAST` runs it again.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.fuzzing import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]
FULL = {"jpg": 2000, "picture": 2000, "sweep": 2000, "mcap": 500, "video": 200, "tables": 2000, "filter": 10_000}
QUICK = {"jpg": 200, "picture": 50, "sweep": 200, "mcap": 50, "video": 20, "tables": 100, "filter": 60}
# Of the whole process, with about 220 MB of libraries. A picture may say that it has 64 megapixels.
MAX_MB = 1200


def fuzzed(counts: dict[str, int], timeout_s: float) -> list[dict[str, Any]]:
    """What became of so many cases of each kind, in one process."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    cases = [f"{kind}:0:{count}" for kind, count in counts.items()]
    command = [sys.executable, "-m", "tests.faults.fuzzing", str(seed), *cases]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=timeout_s)
    lines = done.stderr.splitlines()
    last = max((place for place, line in enumerate(lines) if line.startswith("begin ")), default=0)
    assert done.returncode == 0, "\n".join(lines[last:])  # the case it crashed or hung in, and where
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found: list[dict[str, Any]], counts: dict[str, int]) -> None:
    print("\n".join(json.dumps(each) for each in found))
    for each in found:
        assert not each["errors"], each["errors"][0]
        assert sum(each["counts"].values()) == counts[each["kind"]]
        assert each["slowest_s"][0] < LIMIT_S and each["peak_mb"] < MAX_MB
        assert len(each["counts"]) > 1, "damage of one kind only shows little"
    assert {each["kind"] for each in found} == set(counts)


@pytest.mark.timeout(200)
def test_damaged_files_and_hostile_filters() -> None:
    check(fuzzed(QUICK, 180), QUICK)


@pytest.mark.slow
@pytest.mark.timeout(3700)
@pytest.mark.parametrize("kind", FULL)
def test_thousands_of_damaged_files_and_hostile_filters(kind: str) -> None:
    counts = {kind: FULL[kind]}
    check(fuzzed(counts, 3600), counts)


def test_a_case_that_must_not_be_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: an exception that is no BadInput, and rows beyond the allowed set, do not pass."""
    from tests.faults import filters, fuzzing

    def broken(chance: random.Random) -> str:
        if chance.random() < 0.5:
            raise ZeroDivisionError("broken")
        return "read"

    found = fuzzing.run("jpg", 0, 0, 20, broken)
    with pytest.raises(AssertionError, match="ZeroDivisionError: broken"):
        check([found], {"jpg": 20})
    monkeypatch.setattr(filters, "parse_filter", lambda text: filters.Filter("true", (), (), ()))
    with pytest.raises(AssertionError, match="partition"):
        filters.outcome("num_frames = 1")
