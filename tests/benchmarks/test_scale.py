"""Predictions for fleets follow from costs, and README's table says them."""

from __future__ import annotations

import pytest

from benchmarks.readme import scale_table
from benchmarks.report import Row
from benchmarks.scale import BLOCK, NODE_CPUS, NODE_HOUR, NODES, START_S, Frame, assumed, predictions
from benchmarks.waiting import Measured
from jobs.scale.engine import CommitCost, Costs, Fleet, foresee

COSTS = Costs(1.0, 1.0, 0.005, 0.005, 0.01, 1.0, CommitCost(0.01, fragment_s=1e-5))
FRAME = Frame(0.02, 0.07, 0.01, 0.1, 300_000.0, 5000.0)


def test_fleets_are_as_fast_as_their_workers_until_something_else_limits() -> None:
    rows = predictions(COSTS, FRAME, 100.0, [40_000_000])
    hours = {row.case.split(", ")[1]: row for row in rows if row.metric == "time"}
    few, many = hours[f"{NODES[0]} nodes"], hours[f"{NODES[-1]:,} nodes"]
    assert few.rival == pytest.approx(40_000_000 * FRAME.cpu_s / (NODES[0] * NODE_CPUS) / 3600, rel=0.001)
    assert few.rival < few.ours < 1.15 * few.rival and many.ours > START_S / 3600
    assert {row.metric for row in rows if row.case.endswith("1,000 nodes")} & {"limit: reading requests"}
    bill = {row.metric: row.ours for row in rows if row.case == "40M frames"}
    assert bill["CPU, if none waits"] == pytest.approx(40_000_000 * 0.1 / 3600 * NODE_HOUR / NODE_CPUS)
    assert bill["written to the lake"] == pytest.approx(0.2) and bill["recordings read"] == pytest.approx(12)


def test_the_table_says_all_of_it() -> None:
    rows = [Row("8 nodes", "time, workers started", "s", 10.0, 10.5, "the engine", None, "within 10 %", True)]
    rows += [*assumed(), *predictions(COSTS, FRAME, 100.0, [1_000_000])]
    lines = scale_table({"rows": [row.as_dict() for row in rows]})
    assert "| 8 nodes | time, workers started, s | 10 | 10.5 (the engine) | 0.95 | within 10 % | yes |" in lines
    assert "| | 1M frames |" in lines and "| recordings read, TB | 0.3 |" in lines
    assert f"| assumed | a node on demand for an hour, USD | {NODE_HOUR} |" in lines
    assert sum("nodes (what limits)" in line for line in lines) == len(NODES)


def test_one_node_says_how_long_it_takes_itself() -> None:
    """Costs made of a run foretell that very run."""
    block_s, blocks = [1.0, 1.2, 0.9, 1.1] * 10, 40
    run = Measured(45.0, 42.8, 1.5, 1.5 + sum(block_s[1:]) + 39 * 0.02, block_s, 0.4)
    costs = run.costs(0.01, CommitCost(0.02))
    told = foresee(costs, blocks, 1, Fleet(1))
    assert told.seconds == pytest.approx(run.seconds, rel=0.05)
    assert BLOCK * FRAME.seconds > 0 and costs.spread == pytest.approx(0.107, rel=0.05)
