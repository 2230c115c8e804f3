"""`miner index`: key indexes, clip facts and index manifests."""

from __future__ import annotations

from typing import Any

from jobs.config import JobConfig
from jobs.run import Listener, Result, open_lake
from miner.executor import is_stale
from miner.index import reductions
from miner.store import Store


class IndexConfig(JobConfig):
    """Nothing to choose yet: the exact index."""


def plan(config: IndexConfig) -> dict[str, Any]:
    """Which parts `run` would make anew."""
    store = Store.open(config.lake)
    stale = {each.name: is_stale(each, store) for each in reductions(store)}
    stages = [{"stage": name, "units": 1, "pending": int(pending)} for name, pending in stale.items()]
    return {"job": "index", "lake": store.uri, "stages": stages}


def run(config: IndexConfig, listener: Listener) -> Result:
    """Bring the lake's indexes up to its tables."""
    lake = open_lake(config, listener)
    return Result("index", lake.uri, lake.index(), {}, config.max_bad)


if __name__ == "__main__":  # for `ray job submit -- python -m jobs.index --config x.yaml`
    import sys

    from jobs.cli import main

    main(["index", *sys.argv[1:]])
