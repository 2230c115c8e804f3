"""`miner select` and `miner dataset` from the shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from miner.lake import Lake
from tests.fleets import fleet
from tests.jobs.command import Miner

SPEC = """
budget: 20
targets:
- over: [weather]
  shares: {rain: 0.5, clear: 0.5}
"""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    (tmp_path / "spec.yaml").write_text(SPEC)
    return fleet(tmp_path, scenes=8, clips=5)


def test_from_a_spec_to_a_version(lake: Lake, miner: Miner, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    assert miner("select", lake.uri, spec).code == 2
    shown = miner("select", lake.uri, spec, "--dry-run")
    assert shown.code == 0 and "nothing is written: 20 of 20" in shown.out and lake.datasets() == []
    done = miner("select", lake.uri, spec, "--name", "wet", "--note", "why", "--json").document
    assert done["dataset"] == "wet@1" and done["changed"] and len(done["clips"]) == 20
    assert "Nothing to do: wet@1" in miner("select", lake.uri, spec, "--name", "wet").out
    spec.write_text(SPEC.replace("20", "18"))
    assert "wet@2: 18 of 18" in miner("select", lake.uri, spec, "--name", "wet").out
    assert miner("dataset", "ls", lake.uri).out.count("wet@") == 2
    shown = miner("dataset", "show", lake.uri, "wet@1")
    assert "note: why" in shown.out and "weather: rain" in shown.out
    found = miner("dataset", "diff", lake.uri, "wet@1", "wet@2", "--json").document
    assert len(found["removed"]) - len(found["added"]) == 2 and found["spec"] == {"budget": [20, 18]}
    assert miner("dataset", "rm", lake.uri, "wet@1").code == 2
    assert miner("dataset", "rm", lake.uri, "wet@1", "--yes").code == 0
    assert [each["version_id"] for each in miner("dataset", "ls", lake.uri, "--json").document["datasets"]] == ["wet@2"]
    assert miner("dataset", "show", lake.uri, "wet@1").code == 4


def test_shortage(lake: Lake, miner: Miner, tmp_path: Path) -> None:
    spec = tmp_path / "short.yaml"
    spec.write_text(SPEC + "quotas:\n- {where: \"count('weather: snow') > 0\", at_least: 7, name: snow}\n")
    told = miner("select", lake.uri, spec, "--shortage")
    assert told.code == 0 and "snow: 0 of 7, 7 short; 0 candidates" in told.out
    refused = miner("select", lake.uri, spec, "--name", "wet")
    assert refused.code == 1 and "snow: 0 of 7, 7 short" in refused.err and lake.datasets() == []
    found = miner("select", lake.uri, spec, "--shortage", "--json").document
    assert [(each["cell"], each["deficit"]) for each in found["shortage"]] == [("snow", 7)]
    spec.write_text(SPEC)
    assert "Nothing is short" in miner("select", lake.uri, spec, "--shortage").out


def test_export_and_report(lake: Lake, miner: Miner, tmp_path: Path) -> None:
    miner("select", lake.uri, tmp_path / "spec.yaml", "--name", "wet")
    out = tmp_path / "out"
    planned = miner("export", lake.uri, "wet", "--to", "jsonl", out, "--dry-run")
    assert planned.code == 0 and "1 files of wet@1 would be written" in planned.out and not out.exists()
    done = miner("export", lake.uri, "wet", "--to", "jsonl", out)
    assert done.code == 0 and "20 clips of wet@1" in done.out
    assert "Nothing to do" in miner("export", lake.uri, "wet", "--to", "jsonl", out).out
    assert miner("export", lake.uri, "wet", "--to", "parquet", out).code == 2
    bad = miner("export", lake.uri, "wet", "--to", "webdataset", tmp_path / "tar", "--json")
    assert bad.code == 3 and len(bad.document["manifest"]["left_out"]) == 20, "a fleet without recordings"
    told = miner("report", lake.uri, "wet", "--html", tmp_path / "report.html", "--against", "split = 'test'")
    assert told.code == 0 and "representativeness: " in told.out and (tmp_path / "report.json").exists()
    assert miner("report", lake.uri, "--json").document["clips"] == 40
    assert miner("report", lake.uri, "dry").code == 4
