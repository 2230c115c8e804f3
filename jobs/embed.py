"""`miner embed`: frames to vectors, by an encoder or from a file of vectors the user already has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from jobs.config import JobConfig
from jobs.run import Listener, Result, count_clips, open_lake, plan_document
from miner.embed import EmbedStage, Sizes, default_encoders
from miner.imported import ImportStage
from miner.lake import Lake
from miner.plan import share
from miner.reporting import Report
from miner.store import Store


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _alone(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


class EmbedConfig(JobConfig):
    """Which encoders see which part of each frame."""

    encoder: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="encoders; for cameras lite and for LiDAR descriptor if none is given"
    )
    views: str | None = Field(None, description="whole, tiles or whole+tiles; the lake's own, or whole+tiles")
    num_gpus: float = Field(0.0, ge=0, le=8, description="GPUs per worker; a fraction lets workers share one")
    batch_size: int | None = Field(None, ge=1, description="readings at a time in a worker; by their size by default")
    block_size: int | None = Field(
        None, ge=1, description="readings in a task and a data file; by the number of workers and their size by default"
    )

    compiled: bool = Field(False, description="torch.compile for encoders that can: a minute to begin with")

    def embed_stage(self, store: Store) -> EmbedStage:
        """The stage this config asks for. Raises UsageError or MinerError before anything is written."""
        sizes = Sizes(self.num_gpus, self.batch_size, self.block_size, self.compiled)
        return EmbedStage.of(store, self.encoder, self.views, sizes, in_process=self.executor == "local")


def embedded(lake: Lake, config: EmbedConfig, encoders: Sequence[str]) -> Report:
    """Embed as a config says."""
    return lake.embed(encoders, config.views, config.num_gpus, config.batch_size, config.block_size, config.compiled)


class ImportConfig(JobConfig):
    """Vectors from a file."""

    file: Path = Field(description="parquet (sample_data_id or uri, vector) or npy (one row per camera reading)")
    encoder: Annotated[str, BeforeValidator(_alone)] = Field(description="name of the encoder that made the vectors")


def run(config: EmbedConfig, listener: Listener) -> Result:
    """Embed the frames that lack vectors."""
    lake = open_lake(config, listener)
    encoders = config.encoder or default_encoders(lake.store)
    reports = [embedded(lake, config, encoders), *lake.index(mend=False)]
    shares = [share(lake.store, "embed", lambda: config.embed_stage(lake.store))]
    facts = {"encoders": list(encoders)}
    return Result("embed", lake.uri, reports, facts, config.max_bad, shares, count_clips(lake.store))


def run_import(config: ImportConfig, listener: Listener) -> Result:
    """Write the vectors of a file."""
    lake = open_lake(config, listener)
    reports = [lake.embed_from(config.file, config.encoder), *lake.index(mend=False)]
    facts = {"file": str(config.file), "encoder": config.encoder}
    stage = ImportStage(config.file, config.encoder)
    shares = [share(lake.store, stage.name, lambda: stage)]
    return Result("embed", lake.uri, reports, facts, config.max_bad, shares)


def plan(config: EmbedConfig, calibrate: int | None = None) -> dict[str, Any]:
    """What `run` would do and take, without writing anything."""
    store = Store.open(config.lake)
    return plan_document("embed", config, store, [config.embed_stage(store)], calibrate)


def plan_import(config: ImportConfig, calibrate: int | None = None) -> dict[str, Any]:
    """What `run_import` would do and take, without writing anything."""
    store = Store.open(config.lake)
    return plan_document("embed", config, store, [ImportStage(config.file, config.encoder)], calibrate)


if __name__ == "__main__":  # for `ray job submit -- python -m jobs.embed --config x.yaml`
    import sys

    from jobs.cli import main

    main(["embed", *sys.argv[1:]])
