"""`miner ingest`: a source of recordings becomes scenes, clips, vectors and indexes of a lake."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from jobs.cut import CutConfig
from jobs.embed import EmbedConfig
from jobs.run import Listener, Result, open_lake, plan_document
from miner.embed import default_encoders
from miner.ingest import IngestStage
from miner.lake import open_source
from miner.stage import Stage
from miner.store import Store


class IngestConfig(CutConfig, EmbedConfig):
    """Ingest, cut, embed and index in one go."""

    source: str = Field(description="folder of recordings")
    reader: str | None = Field(None, description="dataset format; detected if not given")
    dataset: str | None = Field(None, description="name of the dataset in the lake; the reader's by default")


def run(config: IngestConfig, listener: Listener) -> Result:
    """Bring the lake up to the source; the same call again changes nothing."""
    reader = open_source(config.source, config.reader, config.dataset)
    config.cut_stage(Store.at(config.lake))  # what is wrong with recipe, views or weights is told before anything is
    config.embed_stage(Store.at(config.lake))  # written
    lake = open_lake(config, listener, new=True)
    reports = [
        lake.ingest(reader),
        lake.cut(config.clip_seconds),
        lake.embed(config.encoder, config.views, config.num_gpus),
        *lake.index(),
    ]
    encoders = list(config.encoder or default_encoders(lake.store))
    facts = {"source": config.source, "reader": reader.name, "encoders": encoders}
    return Result("ingest", lake.uri, reports, facts, config.max_bad)


def plan(config: IngestConfig) -> dict[str, Any]:
    """What `run` would do, without writing anything."""
    reader = open_source(config.source, config.reader, config.dataset)
    store = Store.at(config.lake)
    stages: list[Stage] = [IngestStage(reader)]
    if store.exists("scenes"):
        stages += [config.cut_stage(store), config.embed_stage(store)]
    return plan_document("ingest", store, stages, {"source": config.source, "reader": reader.name})
