"""The pace of workers, from receipts whose times one can work out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.tune.clock import pace
from miner.usage import Usage
from miner.worker import Receipt

PHASES = st.tuples(st.floats(0.01, 5.0), st.floats(0.01, 5.0), st.floats(0.01, 5.0))


def receipt(worker: str, phases: tuple[float, float, float], units: int = 10) -> Receipt:
    prepare_s, apply_s, write_s = phases
    usage = Usage(units=units, blocks=1, prepare_s=prepare_s, apply_s=apply_s, write_s=write_s)
    return Receipt(("unit",), usage=usage, worker=worker)


@given(PHASES, st.integers(1, 8), st.integers(1, 6), st.floats(0.0, 100.0))
def test_workers_that_never_wait_are_as_fast_as_their_blocks(
    phases: tuple[float, float, float], workers: int, blocks: int, start_s: float
) -> None:
    """However late each of them started."""
    took_s = sum(phases)
    came = [
        (start_s * worker + (block + 1) * took_s, receipt(f"w{worker}", phases))
        for worker in range(workers)
        for block in range(blocks)
    ]
    found = pace(came, commit_s=0.0)
    assert found.rate == pytest.approx(workers * 10 / took_s, rel=1e-6)
    assert sum(found.busy.values()) == pytest.approx(1, rel=1e-6)
    assert found.busy["apply"] == pytest.approx(phases[1] / took_s, rel=1e-6)


def test_waiting_between_blocks_counts() -> None:
    came = [(at, receipt("w", (0.5, 1.0, 0.5))) for at in (2.0, 6.0)]  # for two of six seconds it had nothing
    found = pace(came, commit_s=0.6)
    assert found.rate == pytest.approx(20 / 6)
    assert found.busy == pytest.approx({"prepare": 1 / 6, "apply": 2 / 6, "write": 1 / 6, "commit": 0.1})


def test_others_that_prepare_have_time_of_their_own() -> None:
    came = [(at, receipt("gpu", (6.0, 1.0, 0.0))) for at in (1.0, 2.0, 3.0)]
    found = pace(came, commit_s=0.0, decoders=8)
    assert found.rate == pytest.approx(10)
    assert found.busy == pytest.approx({"prepare": 18 / 24, "apply": 1.0, "write": 0.0, "commit": 0.0})


def test_no_receipts_no_pace() -> None:
    with pytest.raises(ValueError, match="no receipts"):
        pace([], 0.0)
