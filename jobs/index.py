"""`miner index`: key indexes, clip facts and index manifests."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from jobs.config import JobConfig
from jobs.run import Listener, Result, open_lake
from miner.executor import is_stale
from miner.index import reductions
from miner.indexes import RECALL
from miner.indexes.choose import AUTO, Wanted
from miner.indexes.load import built_row
from miner.indexes.making import effective
from miner.store import Store


class IndexConfig(JobConfig):
    """Which index the vectors get."""

    kind: str = Field(AUTO, description="auto, flat, faiss:IVF-RaBitQ, lance:IVF_RQ, ...: of the indexes of vectors")
    target_recall: float = Field(RECALL, gt=0, le=1, description="share of the true nearest that an index has to find")
    memory_gb: float | None = Field(None, gt=0, description="memory for the codes of one index; 1 GB is 10^9 bytes")

    @property
    def wanted(self) -> Wanted:
        """The same for the lake. Raises UsageError."""
        return Wanted(self.kind, self.target_recall, self.memory_gb)


def plan(config: IndexConfig) -> dict[str, Any]:
    """Which parts `run` would make anew, and which kind of index each table of vectors would get."""
    store = Store.open(config.lake)
    found = reductions(store, config.wanted)
    stages = [{"stage": each.name, "units": 1, "pending": int(is_stale(each, store))} for each in found]
    kinds = {each: effective(store, each, config.wanted, built_row(store, each)) for each in store.vector_tables()}
    return {"job": "index", "lake": store.uri, "indexes": kinds, "stages": stages}


def run(config: IndexConfig, listener: Listener) -> Result:
    """Bring the lake's indexes up to its tables."""
    lake = open_lake(config, listener)
    reports = lake.index(config.kind, config.target_recall, config.memory_gb)
    return Result("index", lake.uri, reports, {}, config.max_bad)


if __name__ == "__main__":  # for `ray job submit -- python -m jobs.index --config x.yaml`
    import sys

    from jobs.cli import main

    main(["index", *sys.argv[1:]])
