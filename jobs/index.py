"""`miner index`: key indexes, clip facts and index manifests."""

from __future__ import annotations

from jobs.config import JobConfig
from jobs.run import Listener, Result, make_executor
from miner.lake import open


class IndexConfig(JobConfig):
    """Nothing to choose yet: the exact index."""


def run(config: IndexConfig, listener: Listener) -> Result:
    """Bring the lake's indexes up to its tables."""
    lake = open(config.lake, make_executor(config, listener))
    return Result("index", lake.uri, lake.index(), {}, config.max_bad)
