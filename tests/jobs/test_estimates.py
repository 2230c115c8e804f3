"""What a dry run foresees: where its figures come from, amounts that do not depend on time; and it writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import miner
from jobs import embed, ingest
from jobs.embed import EmbedConfig
from jobs.estimate_text import estimate_lines
from jobs.estimates import Expected, document, from_sample, workers_of
from jobs.ingest import IngestConfig
from jobs.text import plan_text
from miner.errors import MinerError, UsageError
from miner.estimate import Measured, calibrate
from miner.executor import LocalExecutor
from miner.lake import Lake
from miner.prices import Prices
from miner.sampled import measure, sample, spread
from miner.usage import Usage
from tests.jobs.stages import OneClipStage
from tests.recordings import write_drives

PRICES = Prices(cpu_hour=1.0, gb_read=1.0)


def config(lake: str, **more: object) -> EmbedConfig:
    given = {"lake": lake, "encoder": "hashing", "executor": "local", "num_cpus": 2, "prices": PRICES}
    return EmbedConfig(**given | more)  # type: ignore[arg-type]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two drives embedded with `hashing`, and two more of which nothing is embedded."""
    lake = miner.create(tmp_path / "lake", LocalExecutor(threads=2))
    lake.ingest(write_drives(tmp_path / "seen", scenes=2, frames=4))
    lake.embed(["hashing"])
    lake.ingest(write_drives(tmp_path / "more", scenes=3, frames=8), dataset="more")
    return lake


def files(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


@pytest.mark.parametrize(
    ("calibrate", "origin"), [(None, "1 earlier run of 8 units in this lake"), (8, "a sample of 8")]
)
def test_what_is_foreseen_is_what_is_measured(lake: Lake, calibrate: int | None, origin: str) -> None:
    before = files(Path(lake.uri))
    plan = embed.plan(config(lake.uri), calibrate)
    assert files(Path(lake.uri)) == before
    [told] = plan["estimate"]["stages"]
    report = lake.embed(["hashing"])
    assert (told["stage"], told["units"], told["from"]) == ("embed", report.written, origin)
    # Pictures of the drives are of about one size; files in the lake have a head each, whatever their rows.
    assert told["bytes_read"] == pytest.approx(report.usage.bytes_read, rel=0.02)
    assert told["cpu_s"] > 0 and told["seconds"] > 0 and told["bytes_written"] > 0
    assert told["money"]["read"] == pytest.approx(told["bytes_read"] / 1e9)
    assert plan["estimate"]["total"]["cpu_s"] == told["cpu_s"]
    assert f"from {origin}" in plan_text(plan)


def test_what_nobody_did_before_is_not_known(lake: Lake) -> None:
    plan = embed.plan(config(lake.uri, encoder="hashing:32"))
    assert plan["estimate"] == {"stages": [], "total": None, "unknown": ["embed"]}
    assert "--calibrate 256 measures a sample" in plan_text(plan)


def test_of_a_new_lake_no_step_is_known(tmp_path: Path) -> None:
    source = write_drives(tmp_path / "drives", scenes=2, frames=2)
    given = config(str(tmp_path / "lake")).model_dump() | {"source": str(source)}
    plan = ingest.plan(IngestConfig(**given))
    assert plan["estimate"] == {"stages": [], "total": None, "unknown": ["ingest", "cut", "embed"]}
    assert "What ingest, cut, embed will take is not known" in plan_text(plan)


def test_with_gpus_it_is_another_job(lake: Lake) -> None:
    asked = {"num_gpus": 0.5, "executor": "ray", "num_cpus": 6}
    assert embed.plan(config(lake.uri, **asked))["estimate"]["unknown"] == ["embed"]
    stage = config(lake.uri, **asked).embed_stage(lake.store)
    found = from_sample(config(lake.uri, **asked), stage, lake.store, 8, 24).known
    assert found is not None
    assert (found.gpus, found.workers, found.decoders) == (pytest.approx(0.5), 1, 6)


def test_a_sample_foresees_all_steps_of_a_new_source(tmp_path: Path) -> None:
    source = write_drives(tmp_path / "drives", scenes=3, frames=5)
    given = config(str(tmp_path / "lake")).model_dump() | {"source": str(source)}
    plan = ingest.plan(IngestConfig(**given), 6)
    assert not (tmp_path / "lake").exists()
    stages = {each["stage"]: each for each in plan["estimate"]["stages"]}
    assert {name: each["units"] for name, each in stages.items()} == {"ingest": 3, "cut": 3, "embed": 15}
    assert stages["embed"]["from"] == "a sample of 6"
    assert plan["estimate"]["total"]["cpu_s"] == pytest.approx(sum(each["cpu_s"] for each in stages.values()))


def test_workers_of_their_own_load_what_they_need(lake: Lake) -> None:
    stage = config(lake.uri).embed_stage(lake.store)
    scratch = miner.create(Path(lake.uri).parent / "scratch")
    chosen = sample(stage, lake.store, 8)
    assert chosen is not None
    ran = measure(stage, lake.store, chosen, scratch.store, threads=1, alone=True)
    assert ran.usage.start_s > 0 and ran.usage.start_cpu_s > 0  # of the process that loaded it


def test_workers_that_cannot_load_say_why(lake: Lake, tmp_path: Path) -> None:
    stage, aside = OneClipStage(loads=True, fault="not-to-be-unpickled"), miner.create(tmp_path / "aside")
    chosen = sample(stage, lake.store, 2)
    assert chosen is not None
    with pytest.raises(MinerError, match="cannot load stage one-clip: RuntimeError: of this process alone"):
        measure(stage, lake.store, chosen, aside.store, threads=1, alone=True)


def test_with_gpus_there_are_as_many_workers_as_before() -> None:
    usage = Usage(units=10, blocks=2, prepare_s=40.0, apply_s=5.0, gpu_s=5.0)
    known = calibrate([Measured(usage, workers=2, commit_s=0.0, driver_cpu_s=0.0, decoders=14)])
    assert workers_of(config("lake", executor="ray", num_cpus=16), known) == 2
    assert workers_of(config("lake", executor="ray", num_cpus=16, num_workers=3), known) == 3
    assert workers_of(config("lake", num_cpus=16), None) == 16


def test_decoders_that_are_told_set_the_pace() -> None:
    usage = Usage(units=10, blocks=2, prepare_s=40.0, apply_s=5.0, gpu_s=5.0)
    known = calibrate([Measured(usage, workers=2, commit_s=0.0, driver_cpu_s=0.0, decoders=2)])

    def seconds(**told: int) -> float:
        expected = [Expected("embed", 100, known, "")]
        return float(document(config("lake", executor="ray", **told), expected)["total"]["seconds"])

    assert seconds() == seconds(decode_workers=2) == pytest.approx(200)
    assert seconds(decode_workers=8) == pytest.approx(50)


def test_new_scenes_are_embedded_too(lake: Lake, tmp_path: Path) -> None:
    source = write_drives(tmp_path / "newest", scenes=2, frames=3)
    given = config(lake.uri).model_dump() | {"source": str(source), "dataset": "newest"}
    stages = {each["stage"]: each for each in ingest.plan(IngestConfig(**given))["estimate"]["stages"]}
    # 24 readings wait, and two scenes come to five that have 32 readings.
    assert stages["embed"]["units"] == 24 + round(2 * 32 / 5)
    assert stages["ingest"]["from"] == "2 earlier runs of 5 units in this lake"


def test_nothing_to_do_takes_nothing(lake: Lake) -> None:
    lake.embed(["hashing"])
    plan = embed.plan(config(lake.uri), 4)
    assert plan["estimate"] == {"stages": [], "total": None, "unknown": []}
    assert estimate_lines(plan["estimate"]) == []


def test_samples_are_measured_here_only(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="not on the cluster at head:6379"):
        embed.plan(config(lake.uri, executor="ray", address="head:6379"), 4)
    with pytest.raises(UsageError, match="expected a number of units from 1"):
        embed.plan(config(lake.uri), 0)


@given(st.integers(1, 5000), st.integers(1, 400))
def test_a_sample_is_of_different_units_from_all_over(count: int, wanted: int) -> None:
    places = spread(count, wanted)
    assert len(places) == min(count, wanted) and (np.diff(places) > 0).all()
    assert places[0] == 0 and places[-1] < count
    assert places[-1] >= count // 2 or wanted < 2
