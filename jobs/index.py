"""`miner index`: key indexes, clip facts and index manifests."""

from __future__ import annotations

from typing import Any

from jobs.config import JobConfig
from jobs.run import Listener, Result, open_lake
from miner.executor import is_stale
from miner.lake import Lake
from miner.store import Store


class IndexConfig(JobConfig):
    """Nothing to choose yet: the exact index."""


def plan(config: IndexConfig) -> dict[str, Any]:
    """Which parts `run` would make anew."""
    lake = Lake(Store.open(config.lake))
    stages = [
        {"stage": each.name, "units": 1, "pending": int(is_stale(each, lake.store))} for each in lake.reductions()
    ]
    return {"job": "index", "lake": lake.uri, "stages": stages}


def run(config: IndexConfig, listener: Listener) -> Result:
    """Bring the lake's indexes up to its tables."""
    lake = open_lake(config, listener)
    return Result("index", lake.uri, lake.index(), {}, config.max_bad)
