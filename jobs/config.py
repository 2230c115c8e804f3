"""Configuration of jobs: strict models, from defaults, a YAML file, `MINER_*` variables and `--set`, in this order."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from miner.errors import NotFound, UnknownName, UsageError
from miner.masking import masked, refuse_secrets
from miner.prices import Prices

RESERVED = {
    *("MINER_FAILPOINT", "MINER_TEST_BROWSER", "MINER_TEST_DATA", "MINER_TEST_WEIGHTS"),
    *("MINER_ALLOW_DOWNLOADS", "MINER_SERVE_TOKEN"),
}
_LIKELY = 0.8  # a variable this like one of ours is a slip; any other MINER_* is somebody else's
Config = TypeVar("Config", bound=BaseModel)


class JobConfig(BaseModel):
    """What every job that writes to a lake has in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lake: str = Field(description="folder or URI of the lake")
    executor: Literal["ray", "local"] = Field("ray", description="Ray, or threads of this process")
    address: str = Field("", description="Ray cluster to join; empty: $RAY_ADDRESS, else one of its own here")
    num_cpus: int | None = Field(None, ge=1, description="CPUs to use; all by default")
    retry_quarantined: bool = Field(False, description="try again what is in quarantine")
    unit_timeout_s: float = Field(300.0, gt=0, description="seconds a file or scene may take to read; then quarantine")
    memory_gb: float | None = Field(
        None,
        gt=0,
        description="memory each Ray worker is given (with GPUs: not who decodes for it); 1 GB is 10^9 bytes",
    )
    num_workers: int | None = Field(None, ge=1, description="workers at once; as many as fit by default")
    decode_workers: int | None = Field(
        None, ge=1, description="CPUs that read and decode for workers with GPUs; all by default"
    )
    object_store_gb: float | None = Field(
        None, ge=0.08, description="object store of a Ray of one's own; a share of the memory by default"
    )
    wait_nodes_s: float = Field(
        0.0, ge=0, description="seconds to wait for a cluster's first node that starts on demand"
    )
    prices: Prices = Field(
        default_factory=Prices,
        description="what cpu_hour, gpu_hour, gb_read and gb_written cost stages, in which currency",
    )
    wait: bool = Field(True, description="wait for another run that holds the lake's tables")
    max_bad: float = Field(0.01, ge=0, le=1, description="share of quarantined units above which the job ends with 3")


def resolve(
    model: type[Config],
    file: Path | None,
    settings: Sequence[str],
    given: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
    verb: str = "",
) -> Config:
    """The config of a job. `settings` are `key=value` texts, `given` what the command line names (None is left out).
    `verb` is the command whose help an error names; that of the model's module by default.

    Raises UsageError naming file, key and the nearest known key.
    """
    from jobs.ingest import IngestConfig  # the keys of all verbs: one file and one environment serve them all

    elsewhere = {*IngestConfig.model_fields} - {*model.model_fields}
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, part in (
        (str(file), {key: value for key, value in _from_file(file).items() if key not in elsewhere} if file else {}),
        ("environment", _from_environment(model, environment, elsewhere)),
        ("--set", dict(_setting(text) for text in settings)),
        ("command line", {key: value for key, value in given.items() if value is not None}),
    ):
        for key in part:
            if key not in model.model_fields:
                error = UnknownName.of("key", key, model.model_fields)
                raise UsageError(f"{source}: {error.message}", error.hint)
        values |= part
        origin |= dict.fromkeys(part, f"{source}: ")
    refuse_secrets(text for text in values.values() if isinstance(text, str))
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        verb = verb or model.__module__.rpartition(".")[2]
        if first["type"] == "missing":
            described = model.model_fields[key].description
            raise UsageError(f"{key} is not given: {described}", f"See: miner {verb} --help") from error
        where = origin.get(str(first["loc"][0]), "") if first["loc"] else ""
        message = f"{where}{key} = {masked(repr(first.get('input')))}: {first['msg']}"
        raise UsageError(message, f"See: miner {verb} --help") from error


def stated(file: Path | None, settings: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """What file, `key=value` texts and command line say, unchecked: for whoever does not run the job itself."""
    values = _from_file(file) if file else {}
    return values | dict(_setting(text) for text in settings) | {k: v for k, v in given.items() if v is not None}


def as_yaml(values: Mapping[str, Any]) -> str:
    """Keys and values as a config file has them."""
    return yaml.safe_dump(dict(values), sort_keys=False)


def _from_file(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise NotFound(f"no config file {file}")
    values = _yaml(file.read_text(), str(file))
    if not isinstance(values, dict):
        raise UsageError(f"{file}: expected keys and values, got {type(values).__name__}")
    return values


def _from_environment(model: type[BaseModel], environment: Mapping[str, str], elsewhere: set[str]) -> dict[str, Any]:
    names = {f"MINER_{key.upper()}": key for key in model.model_fields}
    known = [*names, *RESERVED, *(f"MINER_{key.upper()}" for key in elsewhere)]
    for name in environment:
        if name.startswith("MINER_") and name not in known and difflib.get_close_matches(name, known, 1, _LIKELY):
            error = UnknownName.of("variable", name, known)
            raise UsageError(f"environment: {error.message}", error.hint)
    return {names[name]: _yaml(text, name) for name, text in environment.items() if name in names}


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: expected KEY=VALUE")
    return key.strip(), _yaml(value, f"--set {key}")


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: not YAML: {error}") from error
