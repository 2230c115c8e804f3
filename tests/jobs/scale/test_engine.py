"""What limits the engine, in cases where one can work it out."""

from __future__ import annotations

import pytest

from jobs.scale.engine import CommitCost, Costs, Fleet, ObjectStore, foresee

COMMIT = CommitCost(fixed_s=0.02)
COSTS = Costs(start_s=2.0, end_s=1.0, dispatch_s=0.001, receive_s=0.001, gap_s=0.0, block_s=10.0, commit=COMMIT)


def test_workers_that_never_wait() -> None:
    found = foresee(COSTS, blocks=800, tables=2, fleet=Fleet(10, 4))
    assert found.limit == "workers"
    assert found.seconds == pytest.approx(2 + 1 + 800 / 40 * 10, rel=0.01)
    assert found.fragments == 800 and found.commits <= 50  # 32 files of 2 tables: 16 blocks a group at least


def test_twice_the_nodes_take_half_the_time_until_the_driver_limits() -> None:
    seconds = [foresee(COSTS, 4000, 1, Fleet(nodes)).seconds - 3 for nodes in (50, 100)]
    assert seconds[0] / seconds[1] == pytest.approx(2, rel=0.02)
    slow = Costs(**{**vars(COSTS), "dispatch_s": 0.5})
    limited = foresee(slow, 4000, 1, Fleet(100))
    assert limited.limit == "dispatch" and limited.seconds == pytest.approx(2000, rel=0.02)


def test_commits_take_their_share_of_the_time_however_long_lists_of_fragments_grow() -> None:
    growing = Costs(**{**vars(COSTS), "receive_s": 0.0, "commit": CommitCost(0.02, fragment_s=1e-4)})
    found = foresee(growing, 80_000, 1, Fleet(1000))
    assert found.limit == "workers" and found.commits < 80_000 / 32 / 2
    assert found.busy["commits"] <= 0.11
    assert found.seconds == pytest.approx(foresee(COSTS, 80_000, 1, Fleet(1000)).seconds, rel=0.03)


def test_receipts_that_cannot_be_taken_in_are_the_limit() -> None:
    slow = Costs(**{**vars(COSTS), "receive_s": 0.05})
    found = foresee(slow, 20_000, 1, Fleet(1000))
    assert found.limit == "commits" and found.seconds == pytest.approx(20_000 * 0.05, rel=0.05)


def test_a_store_that_answers_slowly_is_the_limit() -> None:
    store = ObjectStore(gets_per_block=500, puts_per_block=3, gets_per_s=5500, puts_per_s=3500)
    found = foresee(COSTS, 20_000, 3, Fleet(1000, 4), store)
    assert found.limit == "reading requests"
    assert found.seconds == pytest.approx(20_000 * 500 / 5500, rel=0.05)


def test_times_vary_about_their_mean() -> None:
    varied = foresee(Costs(**{**vars(COSTS), "spread": 0.3}), 4000, 1, Fleet(40))
    even = foresee(COSTS, 4000, 1, Fleet(40))
    assert varied.seconds == pytest.approx(even.seconds, rel=0.05) and varied.seconds != even.seconds


def test_a_group_grows_old() -> None:
    slow = Costs(**{**vars(COSTS), "block_s": 31.0})
    assert foresee(slow, 10, 1, Fleet(1)).commits == 10  # each comes after the group before is older than 30 s
