"""`miner ingest`: a source of recordings becomes scenes, clips, vectors and indexes of a lake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pydantic import Field

from jobs.cut import CutConfig
from jobs.embed import EmbedConfig, embedded
from jobs.run import Listener, Result, count_clips, open_lake, plan_document
from miner.conflicts import OnConflict
from miner.embed import default_encoders, table_of
from miner.ingest import IngestStage
from miner.lake import open_source
from miner.plan import Share, share
from miner.readers import Reader
from miner.replacement import IngestReport, foresee
from miner.stage import Stage
from miner.store import Store


class IngestConfig(CutConfig, EmbedConfig):
    """Ingest, cut, embed and index in one go."""

    source: str = Field(description="folder of recordings")
    reader: str | None = Field(None, description="dataset format; detected if not given")
    dataset: str | None = Field(None, description="name of the dataset in the lake; the reader's by default")
    on_conflict: OnConflict = Field("keep", description="scenes that are in the lake: keep (unread), check or replace")


def run(config: IngestConfig, listener: Listener) -> Result:
    """Bring the lake up to the source; the same call again changes nothing."""
    reader = open_source(config.source, config.reader, config.dataset)
    config.cut_stage(Store.at(config.lake))  # what is wrong with recipe, views or weights is told before anything is
    config.embed_stage(Store.at(config.lake))  # written
    lake = open_lake(config, listener, new=True)
    ingested = lake.ingest(reader, on_conflict=config.on_conflict)
    reports = [
        ingested,
        lake.cut(config.clip_seconds),
        embedded(lake, config, config.encoder),
        *lake.index(mend=False),
    ]
    encoders = list(config.encoder or default_encoders(lake.store))
    reports[0] = replace(ingested, notes=[*ingested.notes, *_lost_vectors(ingested, encoders)])
    facts = {"source": config.source, "reader": reader.name, "encoders": encoders}
    shares, clips = _shares(config, lake.store, reader), count_clips(lake.store)
    return Result("ingest", lake.uri, reports, facts, config.max_bad, shares, clips)


def _shares(config: IngestConfig, store: Store, reader: Reader) -> list[Share]:
    """How much of the source is in quarantine, stage by stage."""
    scene_ids = pa.array([scene.scene_id for scene in reader.scenes()], pa.string())
    stages: dict[str, Callable[[], Stage]] = {
        "ingest": lambda: IngestStage(reader),
        "cut": lambda: config.cut_stage(store),
        "embed": lambda: config.embed_stage(store),
    }
    return [share(store, name, make, scene_ids) for name, make in stages.items()]


def _lost_vectors(report: IngestReport, encoders: Sequence[str]) -> list[str]:
    """What went with replaced scenes and is not made anew by this run."""
    made = {table_of(encoder) for encoder in encoders}
    lost = [table for table in report.removed if table.startswith("embeddings/") and table not in made]
    again = "this run does not make them: miner embed LAKE --encoder NAME, with --from FILE where they were given"
    return [f"{report.removed[table]:,} vectors of {table} went with the replaced scenes; {again}." for table in lost]


def plan(config: IngestConfig) -> dict[str, Any]:
    """What `run` would do, without writing anything."""
    reader = open_source(config.source, config.reader, config.dataset)
    store = Store.at(config.lake)
    store = Store.open(config.lake) if store.exists("lineage") else store
    stages: list[Stage] = [IngestStage(reader)]
    if store.exists("scenes"):
        stages += [config.cut_stage(store), config.embed_stage(store)]
    facts = {"source": config.source, "reader": reader.name, **foresee(store, reader, config.on_conflict)}
    return plan_document("ingest", store, stages, facts)


if __name__ == "__main__":  # for `ray job submit -- python -m jobs.ingest --config x.yaml`
    import sys

    from jobs.cli import main

    main(["ingest", *sys.argv[1:]])
