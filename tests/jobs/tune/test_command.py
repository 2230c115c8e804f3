"""`miner tune` from recordings to a config that ingest takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from jobs.engine import RayExecutor
from jobs.ingest import IngestConfig
from jobs.run import Listener
from jobs.tune.knobs import RELIEF, Machine, knobs, start
from jobs.tune.run import Wish, run
from jobs.tune.space import Setting
from jobs.tune.trial import Trials, sample
from miner.errors import MinerError, UsageError
from miner.lake import open_source
from tests.jobs.command import Miner
from tests.recordings import write_drives

OPTIONS = ("--encoder", "hashing", "--executor", "local", "--readings", "32", "--set", "num_cpus=2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_drives(tmp_path / "source", scenes=3, frames=12)


def test_what_it_writes_is_a_config_that_ingest_takes(miner: Miner, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.yaml"
    done = miner("tune", source, *OPTIONS, "--out", out, "--json")
    assert done.code == 0, done.err
    document, tuned = done.document, yaml.safe_load(out.read_text())
    assert document["best"]["setting"].items() <= tuned.items() and tuned["encoder"] == ["hashing"]
    assert {"batch_size", "num_workers"} == {*document["best"]["setting"]}
    longest = max(trial["units"] for trial in document["trials"])
    assert document["best"]["rate"] == max(t["rate"] for t in document["trials"] if t["units"] == longest)
    assert document["gain"] >= 1.0 and document["limit"] in RELIEF
    assert done.err.count("tune: trial ") == len(document["trials"]) <= document["most_trials"]
    assert not [path for path in tmp_path.iterdir() if path.name not in ("source", "tuned.yaml")]
    lake = tmp_path / "lake"
    ingested = miner("ingest", source, "--lake", lake, "--config", out, "--json")
    assert ingested.code == 0, ingested.err
    assert {stage["stage"]: stage["written"] for stage in ingested.document["stages"]}["embed"] == 36


def test_a_dry_run_tells_how_long_and_writes_nothing(miner: Miner, source: Path, tmp_path: Path) -> None:
    done = miner("tune", source, *OPTIONS, "--out", tmp_path / "tuned.yaml", "--dry-run", "--json")
    assert done.code == 0, done.err
    assert done.document["seconds"] >= 0 and len(done.document["first"]) > 1
    assert not (tmp_path / "tuned.yaml").exists()
    told = miner("tune", source, *OPTIONS, "--dry-run").out
    assert "trials of " in told and ("the best again" in told) == bool(done.document["finalists"])


def test_an_interrupted_run_keeps_the_best_so_far(source: Path) -> None:
    said: list[str] = []

    def notify(line: str) -> None:
        said.append(line)
        if len(said) == 3:
            raise KeyboardInterrupt

    config = IngestConfig(source=str(source), lake="trial", encoder=("hashing",), executor="local", num_cpus=2)
    document = run(Wish(config, units=32), Listener(notify=notify))
    assert document["interrupted"] and len(document["trials"]) == 3
    assert document["best"] in document["trials"]


def test_a_source_that_cannot_be_read_ends_it_at_once(source: Path) -> None:
    config = IngestConfig(source=str(source), lake="trial", encoder=("hashing",), executor="local")
    for frame in source.rglob("*.jpg"):
        frame.write_bytes(b"no picture")
    with pytest.raises(MinerError, match="32 of 32 readings cannot be read: not-an-image"):
        run(Wish(config, units=32), Listener())


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("nowhere", "--encoder", "hashing"), "no such source"),
        (("source", "--encoder", "hashin"), "hashing"),
        (("source", "--encoder", "descriptor"), "no readings of lidar"),
        (("source", "--set", "batch_sise=3"), "batch_size"),
        (("source", "--set", "batch_size=0"), "See: miner tune --help"),
        (("source", "--encoder", "hashing", "--out", "source/none/x.yaml"), "there is no folder"),
        (("source", "--encoder", "hashing", "--out", "there.yaml"), "is there already"),
        (("source", "--encoder", "hashing", "--set", "address=ray.example:6379"), "--scratch"),
    ],
)
def test_mistakes_are_told(
    miner: Miner, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").touch()
    done = miner("tune", *args)
    assert done.code not in (0, 130) and told in done.err and "Traceback" not in done.err
    assert done.out == ""


def test_a_sample_is_spread_over_the_source(tmp_path: Path) -> None:
    source = write_drives(tmp_path / "source", scenes=8, frames=4)
    taken = sample(open_source(str(source)), ["hashing"], 8)
    assert len(taken.readings) == 8
    assert sorted(taken.scenes["name"].to_pylist()) == ["drive_00", "drive_04"]
    with pytest.raises(UsageError, match="no readings of lidar"):
        sample(open_source(str(source)), ["descriptor"], 8)


def test_knobs_are_those_the_machine_has() -> None:
    def names(machine: Machine) -> list[str]:
        return [knob.name for knob in knobs(machine, 512).knobs]

    assert names(Machine(16)) == ["batch_size", "block_size", "num_workers"]
    assert names(Machine(16, gpu=True)) == ["batch_size", "block_size", "num_gpus", "decode_workers"]
    assert [knob.name for knob in knobs(Machine(16), 100).knobs] == ["batch_size", "num_workers"]
    assert names(Machine(16, True, 64.0))[-1] == "object_store_gb"
    for machine in (Machine(1), Machine(6), Machine(16, True, 64.0)):
        space = knobs(machine, 512)
        began: Setting = start(space, machine, 32)
        assert began in list(space.settings())
        config = IngestConfig(source="s", lake="l", **json.loads(json.dumps(began)))
        assert config.batch_size == 32
        assert all(knob.values[-1] <= 6 for knob in space.knobs if knob.name == "num_workers" and machine.cpus == 6)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_executor")
def test_simulated_drives_are_tuned_on_ray(miner: Miner, tmp_path: Path) -> None:
    from miner.simulation import Spec, record

    drives, out = tmp_path / "drives", tmp_path / "tuned.yaml"
    record(Spec(scenes=2, seconds=8.0, width=320, height=180, beams=8, azimuths=180), drives, threads=2)
    done = miner("tune", drives, "--readings", 64, "--set", "num_cpus=2", "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.document["limit"] in RELIEF and done.document["gain"] >= 1.0
    assert not [trial for trial in done.document["trials"] if trial["failed"]]
    assert miner("ingest", drives, "--lake", tmp_path / "lake", "--config", out, "--dry-run").code == 0


@pytest.mark.slow
def test_a_trial_with_gpus_knows_who_prepares(source: Path, tmp_path: Path, ray_executor: RayExecutor) -> None:
    """The GPU is one of Ray's books alone: what is measured is which time is whose."""
    config = IngestConfig(source=str(source), lake="trial", encoder=("hashing",), num_gpus=1.0, num_cpus=2)
    taken = sample(open_source(str(source)), ["hashing"], 32)
    trials = Trials(config, taken, tmp_path / "trials", cpus=2)
    outcome = trials({"batch_size": 8, "num_gpus": 0.5, "decode_workers": 2}, 32)
    assert not outcome.failed and outcome.rate > 0
    assert "apply" in outcome.pools and "prepare" not in outcome.pools and 0 < outcome.busy["prepare"] <= 1
    assert outcome.busy["apply"] + outcome.busy["write"] <= 1.1  # of one worker's time; clocks of a second's work
