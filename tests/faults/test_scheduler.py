"""Random faults, one run after the other: each ends with one message or dead, and at last the tables are those of an
undisturbed run."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.commands import Ingest
from tests.faults.scheduler import Fault, draw, endure, write_source
from tests.tables import Damage

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Ingest:
    """The command of an undisturbed run that has ended."""
    folder = tmp_path_factory.mktemp("calm")
    ingest = Ingest(write_source(folder / "source"), folder / "lake")
    ingest.finish()
    return ingest


def rounds(count: int, calm: Ingest, folder: Path) -> None:
    """Rounds of random faults, two at a time, after one that shows what a user gets from each kind."""
    seeds = [random.randrange(10**6) for _ in range(count)]
    faults = [[Fault(text) for text in ("commit:before=full", "commit:after=kill@2", "reduce:before=error")]]
    faults += [draw(seed) for seed in seeds]
    for texts in faults:
        print("python -m tests.faults.scheduler", *(fault.text for fault in texts))

    def endured(number: int) -> tuple[list[int], Damage]:
        return endure(replace(calm, lake=folder / str(number)), faults[number], calm.lake)

    with ThreadPoolExecutor(2) as pool:
        codes, damages = zip(*pool.map(endured, range(len(faults))), strict=True)
    assert codes[0] == [1, -9, 1]
    assert damages == (Damage(),) * len(faults)


def test_a_round_of_random_faults(calm: Ingest, tmp_path: Path) -> None:
    rounds(1, calm, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_rounds_of_random_faults(calm: Ingest, tmp_path: Path) -> None:
    rounds(20, calm, tmp_path)


def test_a_seed_draws_the_same_faults() -> None:
    assert [draw(seed) for seed in range(50)] == [draw(seed) for seed in range(50)]
    assert len({fault for seed in range(50) for fault in draw(seed)}) > 50
