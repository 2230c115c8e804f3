"""Metrics of runs: the dashboard asks for those there are, and Ray's own endpoint gives them."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.cluster_files import dashboard
from jobs.engine import RayExecutor
from jobs.metrics import METRICS
from miner.lineage import Run
from miner.prices import Prices
from miner.store import Store
from tests.jobs.command import Miner
from tests.jobs.stages import OneClipStage, write_scenes

_WAIT_S = 60.0  # Ray exports every few seconds


def test_the_dashboard_asks_for_the_metrics_there_are() -> None:
    asked = set(re.findall(r"\bray_\w+", " ".join(_expressions())))
    assert asked == {metric.exported for metric in METRICS}


def test_the_dashboard_groups_by_tags_there_are() -> None:
    known = {"lake", "run", "stage", "le", *(tag for metric in METRICS for tag in metric.tags)}
    for expression in _expressions():
        grouped = {name for names in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for name in names.split(", ")}
        assert grouped <= known and expression.count("(") == expression.count(")"), expression
    assert {each["name"] for each in json.loads(dashboard())["templating"]["list"]} == {"datasource", "lake", "run"}


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = json.loads(dashboard())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert all(panel["description"] and panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_the_dashboard_is_written_once(miner: Miner, tmp_path: Path) -> None:
    assert miner("cluster", "dashboard").document == json.loads(dashboard())
    out = tmp_path / "miner.json"
    assert miner("cluster", "dashboard", "--out", out).code == 0
    assert out.read_text() == dashboard()
    again = miner("cluster", "dashboard", "--out", out)
    assert (again.code, "is there already" in again.err) == (2, True)


def test_ray_exports_what_a_run_did(ray_executor: RayExecutor, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    ids = write_scenes(store, 24)
    executor = RayExecutor(prices=Prices(cpu_hour=3600.0))
    run = Run("test")
    report = executor.map(OneClipStage((ids[7],), "fail"), store, run)
    found = _exported(run.run_id, "ray_miner_rows_total")
    assert found["ray_miner_units_total"] == report.usage.units == 24
    assert found["ray_miner_rows_total"] == 23 and found["ray_miner_quarantined_units_total"] == 1
    assert found["ray_miner_queue_units"] == 0 and found["ray_miner_workers"] >= 1
    assert found["ray_miner_written_bytes_total"] == report.usage.bytes_written
    assert found["ray_miner_cpu_seconds_total"] == pytest.approx(report.usage.cpu_s + report.usage.start_cpu_s)
    assert found["ray_miner_money_total"] == pytest.approx(found["ray_miner_cpu_seconds_total"])  # 1 for a CPU-second
    assert found["ray_miner_worker_seconds_total"] == pytest.approx(report.usage.busy_s)
    assert found["ray_miner_block_seconds_count"] == report.usage.blocks


def _expressions() -> list[str]:
    return [target["expr"] for panel in json.loads(dashboard())["panels"] for target in panel["targets"]]


def _exported(run_id: str, awaited: str) -> dict[str, float]:
    """The sums of the metrics of a run on Ray's own endpoint, once the awaited one is there."""
    import ray

    [node, *_] = [each for each in ray.nodes() if each["Alive"]]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        found: dict[str, Any] = {}
        for name, value in _lines(url, run_id):
            found[name] = found.get(name, 0.0) + value
        if awaited in found:
            return found
        time.sleep(1.0)
    raise AssertionError(f"{awaited} of run {run_id} is not at {url}")


def _lines(url: str, run_id: str) -> Iterator[tuple[str, float]]:
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    for line in text.splitlines():
        if f'run="{run_id}"' in line:
            yield line.partition("{")[0], float(line.rpartition(" ")[2])
