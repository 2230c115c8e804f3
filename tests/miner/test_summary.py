"""What a summary says of reports with given usages."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.costs import costs
from jobs.summary_text import summary_text
from miner.prices import Prices
from miner.reporting import Report
from miner.summary import summaries, summary
from miner.usage import Usage

NO_COST = {"cost": costs([], 0)}


def report(stage: str = "embed", usage: dict[str, float] | None = None, **changes: Any) -> Report:
    """100 of 200 units in ten seconds of two workers, `usage` of them."""
    used = Usage(units=100, blocks=4, **(usage or {}))  # type: ignore[arg-type]
    own: dict[str, Any] = {"stage": stage, "units": 200, "done_before": 90, "written": 98, "quarantined": 2}
    own |= {"rows": {}, "versions": {}, "seconds": 10.0, "workers": 2, "usage": used}
    return Report(**own | changes)


@pytest.mark.parametrize(
    ("usage", "changes", "limits", "resource"),
    [
        ({"prepare_s": 12.0, "apply_s": 5.0, "write_s": 1.0}, {}, "prepare", "CPU"),
        ({"prepare_s": 5.0, "apply_s": 12.0, "write_s": 1.0}, {}, "apply", "CPU"),
        ({"prepare_s": 5.0, "apply_s": 12.0, "gpu_s": 12.0, "gpu_wait_s": 8.0}, {}, "apply", "GPU"),
        ({"prepare_s": 1.0, "apply_s": 2.0, "write_s": 15.0}, {}, "write", "lake"),
        ({"apply_s": 4.0}, {"commit_s": 8.0}, "commit", "lake"),
        ({"apply_s": 4.0}, {"driver_cpu_s": 9.0}, "driver", "driver"),
        ({"apply_s": 4.0, "start_s": 14.0}, {}, "start", "CPU"),
        ({"apply_s": 4.0}, {"commit_s": 1.0}, "waiting", "driver"),
    ],
)
def test_what_was_busiest_limits(
    usage: dict[str, float], changes: dict[str, float], limits: str, resource: str
) -> None:
    found = summary(report(usage=usage, **changes))
    assert (found.limits, found.resource) == (limits, resource)
    assert found.relief


def test_only_the_stage_that_encodes_is_told_of_encoders() -> None:
    for stage, phase, relief in (("embed", "encoding", "encoder"), ("ingest", "its own work", "more CPUs")):
        one = summary(report(stage, {"prepare_s": 2.0, "apply_s": 12.0}))
        text = summary_text({"summary": [vars(one)], "stages": [{"seconds": 10.0}], **NO_COST})
        assert f"by {phase} on CPU" in text and relief in one.relief
        assert ("encod" in text) == (stage == "embed")


def test_figures_of_a_stage() -> None:
    used = {
        "prepare_s": 12.0,
        "apply_s": 4.0,
        "write_s": 2.0,
        "gpu_s": 4.0,
        "gpu_wait_s": 16.0,
        "bytes_read": 50_000_000,
    }
    found = summary(report(usage=used, rows={"assets": 98, "embeddings/lite": 294}))
    assert found.rows_per_s == pytest.approx(39.2)
    assert (found.units_per_s, found.mb_read_per_s, found.quarantined) == (10.0, 5.0, 2)
    assert found.busy_share == pytest.approx(0.9)
    assert found.gpu_wait_share == pytest.approx(0.8)
    assert found.rate_if_doubled == pytest.approx(4 / 0.18)


def test_who_prepares_for_others_is_counted_apart() -> None:
    used = {"prepare_s": 38.0, "apply_s": 6.0, "write_s": 2.0, "gpu_s": 6.0, "gpu_wait_s": 14.0}
    found = summary(report(usage=used, decoders=4))
    assert (found.limits, found.resource) == ("prepare", "CPU")
    assert found.shares["prepare"] == pytest.approx(0.95) and found.busy_share == pytest.approx(0.4)
    assert found.rate_if_doubled == pytest.approx(8 / 0.38)
    text = summary_text({"summary": [vars(found)], "stages": [{"seconds": 10.0}], **NO_COST})
    assert "4 decoders 95% busy" in text and "95% of all decoders' time" in text


def test_the_longest_stage_is_the_bottleneck_and_idle_ones_are_left_out() -> None:
    reports = [report("cut", {"apply_s": 1.0}, seconds=1.0), report(usage={"apply_s": 18.0}), report("ingest", units=0)]
    reports[2] = Report("ingest", 5, 5, 0, 0, {}, {}, 0.1)
    assert [each.stage for each in summaries(reports)] == ["embed", "cut"]


def test_a_clip_costs_its_share_of_all_units() -> None:
    prices = Prices(cpu_hour=36.0)
    one = report(usage={"cpu_s": 20.0, "bytes_read": 1000})
    one = Report(**{**vars(one), "money": prices.bill(one.cost)})
    told = costs([one], clips=10)
    # 100 units took 20 CPU-s, and a clip has 20 of the 200 units.
    assert told["stages"]["embed"]["per_clip"] == pytest.approx(
        {"cpu_s": 4.0, "gpu_s": 0.0, "bytes_read": 200.0, "bytes_written": 0.0, "money": 0.04}
    )
    assert told["total"]["money"]["total"] == pytest.approx(0.2)
    assert "per_clip" not in costs([one], clips=0)["stages"]["embed"]


def test_the_text_names_stage_phase_figure_and_relief() -> None:
    from jobs.run import Result

    one = report(usage={"prepare_s": 12.0, "apply_s": 4.0, "cpu_s": 16.0})
    one = Report(**{**vars(one), "money": Prices(cpu_hour=3.6, currency="EUR").bill(one.cost)})
    text = summary_text(Result("embed", "lake", [one], clips=10).to_dict())
    assert "10.0/s" in text and "2 workers 80% busy" in text and "2 quarantined" in text
    assert "Bottleneck: embed (100% of the time), by reading and decoding on CPU: 60% of all workers' time." in text
    assert "Relief: more CPUs to read and decode" in text and "with twice as many, up to 25.0/s" in text
    assert "16.0 CPU-s" in text and "0.016 EUR" in text and "0.0032 EUR a clip" in text
    assert summary_text(Result("embed", "lake", []).to_dict()) == ""
