"""Settings of a job: who wins over whom, and errors that name the place, the key and the nearest known one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.config import JobConfig, resolve
from jobs.demo import DemoConfig
from jobs.embed import EmbedConfig, ImportConfig
from jobs.engine import RayExecutor
from jobs.ingest import IngestConfig
from jobs.run import Listener, make_executor
from miner.errors import NotFound, UsageError

GIVEN = {"source": "s", "lake": "l"}


def settled(given: dict[str, Any] | None = None, **where: Any) -> IngestConfig:
    """An ingest config; nothing of this process's environment counts."""
    where = {"file": None, "settings": (), "environment": {}, **where}
    return resolve(IngestConfig, where["file"], where["settings"], {**GIVEN, **(given or {})}, where["environment"])


def yaml_file(folder: Path, text: str) -> Path:
    (folder / "job.yaml").write_text(text)
    return folder / "job.yaml"


def test_each_place_wins_over_the_one_before(tmp_path: Path) -> None:
    places: list[tuple[str, Any]] = [
        ("file", yaml_file(tmp_path, "views: tiles\nmax_bad: 0.1\n")),
        ("environment", {"MINER_VIEWS": "whole"}),
        ("settings", ["views=whole+tiles"]),
        ("given", {"views": "tiles"}),
    ]
    found, where = [settled().views], {}
    for place, value in places:
        where[place] = value
        found.append(settled(**where).views)
    assert found == [None, "tiles", "whole", "whole+tiles", "tiles"]
    assert settled(**where).max_bad == 0.1, "what no later place names is kept"


def test_what_the_command_line_leaves_out_does_not_count() -> None:
    assert settled({"views": None}, environment={"MINER_VIEWS": "whole"}).views == "whole"


def test_values_are_yaml() -> None:
    found = settled(settings=["clip_seconds=2.5", "encoder=[hashing, lite]", "wait=false", " num_cpus = 3"])
    assert (found.clip_seconds, found.encoder, found.wait, found.num_cpus) == (2.5, ("hashing", "lite"), False, 3)
    assert settled(settings=["encoder=hashing"]).encoder == ("hashing",)
    assert settled(environment={"MINER_ENCODER": "hashing:32", "MINER_NUM_CPUS": "1"}).encoder == ("hashing:32",)


def test_prices_are_set_like_all_else(tmp_path: Path) -> None:
    text = "prices: {cpu_hour: 0.04, gpu_hour: 2, currency: EUR}\n"
    of_file = settled(file=yaml_file(tmp_path, text))
    assert of_file == settled(environment={"MINER_PRICES": "{cpu_hour: 0.04, gpu_hour: 2, currency: EUR}"})
    assert of_file == settled(settings=["prices={cpu_hour: 0.04, gpu_hour: 2, currency: EUR}"])
    assert make_executor(of_file, Listener()).prices.gpu_hour == 2
    assert not settled().prices.known
    with pytest.raises(UsageError, match=r"--set: prices.cpu_hours = 1"):
        settled(settings=["prices={cpu_hours: 1}"])
    with pytest.raises(UsageError, match="a price of -1"):
        settled(settings=["prices={cpu_hour: -1}"])


def test_what_speed_depends_on_is_set_like_all_else(tmp_path: Path) -> None:
    text = "{batch_size: 8, block_size: 500, decode_workers: 3, num_workers: 2, num_gpus: 0.5, object_store_gb: 1}"
    config = settled(file=yaml_file(tmp_path, text))
    executor = make_executor(config, Listener())
    assert isinstance(executor, RayExecutor)
    assert (executor.num_workers, executor.decode_workers, executor.object_store_gb) == (2, 3, 1)
    assert make_executor(settled(settings=["executor=local", "num_workers=3"]), Listener()).workers == 3
    assert all(value is None for key, value in settled() if key in yaml.safe_load(text) and key != "num_gpus")


def test_only_known_variables_are_read() -> None:
    reserved = {"MINER_TEST_DATA": "/data", "MINER_FAILPOINT": "x", "MINER_OTHER": "y", "HOME": "/", "VIEWS": "tiles"}
    assert settled(environment=reserved) == settled()


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINER_VIEWS", "whole")
    assert resolve(IngestConfig, None, (), GIVEN).views == "whole"


@pytest.mark.parametrize(
    ("where", "match"),
    [
        ({"settings": ["encodr=lite"]}, r"--set: unknown key 'encodr'\nDid you mean 'encoder'\? Known: .*views"),
        ({"given": {"lak": "x"}}, r"command line: unknown key 'lak'\nDid you mean 'lake'"),
        ({"settings": ["views"]}, r"--set views: expected KEY=VALUE"),
        ({"settings": ["views=["]}, r"--set views: not YAML"),
        ({"environment": {"MINER_VIEWS": "{"}}, r"MINER_VIEWS: not YAML"),
        ({"settings": ["max_bad=2"]}, r"--set: max_bad = 2: .*less than or equal to 1\nSee: miner ingest --help"),
        ({"environment": {"MINER_MAX_BAD": "most"}}, r"environment: max_bad = 'most': .*number"),
        ({"settings": ["clip_seconds=0"]}, r"clip_seconds = 0: .*greater than or equal to 0\.1"),
        ({"settings": ["executor=dask"]}, r"executor = 'dask': .*'ray' or 'local'"),
        ({"settings": ["num_cpus=0"]}, r"num_cpus = 0"),
    ],
)
def test_what_is_refused(where: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        settled(**where)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("view: tiles", r"unknown key 'view'\nDid you mean 'views'"),
        ("max_bad: lots", "max_bad = 'lots'"),
        ("views: [", "not YAML"),
        ("- views", "expected keys and values, got list"),
        ("", "expected keys and values, got NoneType"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, match: str) -> None:
    file = yaml_file(tmp_path, text)
    with pytest.raises(UsageError, match=match) as error:
        settled(file=file)
    assert str(error.value).startswith(f"{file}: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no config file"):
        settled(file=tmp_path / "none.yaml")


def test_what_must_be_given() -> None:
    with pytest.raises(UsageError, match=r"lake is not given"):
        resolve(EmbedConfig, None, (), {}, {})


@pytest.mark.parametrize("model", [JobConfig, EmbedConfig, ImportConfig, IngestConfig, DemoConfig])
def test_configs_are_strict_and_frozen(model: type[Any]) -> None:
    assert model.model_config["extra"] == "forbid" and model.model_config["frozen"]
