"""`miner embed`: frames to vectors, by an encoder or from a file of vectors the user already has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from jobs.config import JobConfig
from jobs.run import Listener, Result, make_executor, plan_document
from miner.embed import DEFAULT_ENCODER, DEFAULT_VIEWS, EmbedStage
from miner.imported import ImportStage
from miner.lake import open
from miner.store import Store


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class EmbedConfig(JobConfig):
    """Which encoders see which part of each frame."""

    encoder: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field((DEFAULT_ENCODER,), description="encoders")
    views: str = Field(DEFAULT_VIEWS, description="whole, tiles or whole+tiles")

    def embed_stage(self) -> EmbedStage:
        """The stage this config asks for. Raises UsageError or WeightsMissing before anything is written."""
        stage = EmbedStage(self.encoder, self.views)
        stage.check()
        return stage


class ImportConfig(JobConfig):
    """Vectors from a file."""

    file: Path = Field(description="parquet (sample_data_id or uri, vector) or npy (one row per camera reading)")
    encoder: str = Field(description="name of the encoder that made the vectors")


def run(config: EmbedConfig, listener: Listener) -> Result:
    """Embed the frames that lack vectors."""
    stage = config.embed_stage()
    lake = open(config.lake, make_executor(config, listener))
    reports = [lake.embed(stage.encoders, stage.views), *lake.index()]
    return Result("embed", lake.uri, reports, {"encoders": list(config.encoder), "views": config.views}, config.max_bad)


def run_import(config: ImportConfig, listener: Listener) -> Result:
    """Write the vectors of a file."""
    lake = open(config.lake, make_executor(config, listener))
    reports = [lake.embed_from(config.file, config.encoder), *lake.index()]
    return Result("embed", lake.uri, reports, {"file": str(config.file), "encoder": config.encoder}, config.max_bad)


def plan(config: EmbedConfig) -> dict[str, Any]:
    """What `run` would do, without writing anything."""
    return plan_document("embed", Store.open(config.lake), [config.embed_stage()])


def plan_import(config: ImportConfig) -> dict[str, Any]:
    """What `run_import` would do, without writing anything."""
    return plan_document("embed", Store.open(config.lake), [ImportStage(config.file, config.encoder)])
