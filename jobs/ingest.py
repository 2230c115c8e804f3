"""`miner ingest`: a source of recordings becomes scenes, clips, vectors and indexes of a lake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pydantic import Field

from jobs.cut import CutConfig
from jobs.embed import EmbedConfig, embedded
from jobs.estimates import Expected, document, from_lineage, from_sample, measured, sample_size, scratch
from jobs.run import Listener, Result, count_clips, open_lake, planned
from miner.conflicts import OnConflict
from miner.embed import default_encoders, table_of
from miner.ingest import IngestStage
from miner.lake import open_source
from miner.plan import Plan, Share, make_plan, share
from miner.readers import Reader
from miner.replacement import IngestReport, foresee
from miner.stage import Stage
from miner.store import Store

_SCENES = 8  # of a source are read for a sample: some take long


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


def plan(config: IngestConfig, calibrate: int | None = None) -> dict[str, Any]:
    """What `run` would do and take, without writing anything."""
    reader = open_source(config.source, config.reader, config.dataset)
    store = Store.at(config.lake)
    store = Store.open(config.lake) if store.exists("lineage") else store
    stages: list[Stage] = [IngestStage(reader)]
    if store.exists("scenes"):
        stages += [config.cut_stage(store), config.embed_stage(store)]
    store.assert_current()
    plans = [make_plan(store, stage) for stage in stages]
    facts = {"source": config.source, "reader": reader.name, **foresee(store, reader, config.on_conflict)}
    expected = _known(store, plans) if calibrate is None else _sampled(config, store, plans, sample_size(calibrate))
    return {**planned("ingest", store, plans), **facts, "estimate": document(config, expected)}


def _known(store: Store, plans: Sequence[Plan]) -> list[Expected]:
    """From earlier runs: new scenes are to be cut and embedded too, and have as many readings as those of the lake."""
    ingesting, *later = plans
    scenes = store.count("scenes")
    if not scenes:  # a unit of each scene at least, and nothing that tells more
        unknown = [Expected(name, ingesting.pending, None, "") for name in ("cut", "embed")]
        return [from_lineage(store, ingesting), *unknown]
    more = {plan.stage.name: round(ingesting.pending * plan.total / scenes) for plan in later}
    found = [from_lineage(store, plan) for plan in plans]
    return [replace(each, units=each.units + more.get(each.stage, 0)) for each in found]


def _sampled(config: IngestConfig, store: Store, plans: Sequence[Plan], units: int) -> list[Expected]:
    """From a few new scenes taken into a lake that is thrown away, and `units` of what they give cut and embedded."""
    ingesting, *later = plans
    behind = {plan.stage.name: plan.pending for plan in later}
    with scratch() as aside:
        size = min(units, _SCENES)
        found = [measured(config, ingesting.stage, store, size, ingesting.pending, aside)]
        scenes, source = aside.count("scenes"), aside if aside.count("scenes") else store
        for stage in (config.cut_stage(source), config.embed_stage(source)) if source.exists("scenes") else ():
            of_scene = make_plan(source, stage).total / max(source.count("scenes"), 1)
            pending = behind.get(stage.name, 0) + round(ingesting.pending * of_scene if scenes else 0)
            found.append(from_sample(config, stage, source, units, pending))
    return found


if __name__ == "__main__":  # for `ray job submit -- python -m jobs.ingest --config x.yaml`
    import sys

    from jobs.cli import main

    main(["ingest", *sys.argv[1:]])
