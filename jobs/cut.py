"""`miner cut`: scenes to clips."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from jobs.config import JobConfig
from jobs.run import Listener, Result, count_clips, open_lake, plan_document
from miner.clips import CutStage, choose_recipe
from miner.plan import share
from miner.store import Store


class CutConfig(JobConfig):
    """How scenes are cut."""

    clip_seconds: float | None = Field(None, ge=0.1, le=3600, description="length of a clip; 10 in a new lake")

    def cut_stage(self, store: Store) -> CutStage:
        """The stage this config asks for."""
        return CutStage(choose_recipe(store, self.clip_seconds))


def run(config: CutConfig, listener: Listener) -> Result:
    """Cut the scenes that have no clips yet."""
    lake = open_lake(config, listener)
    reports = [lake.cut(config.clip_seconds)]
    shares = [share(lake.store, "cut", lambda: config.cut_stage(lake.store))]
    return Result("cut", lake.uri, reports, {}, config.max_bad, shares, count_clips(lake.store))


def plan(config: CutConfig, calibrate: int | None = None) -> dict[str, Any]:
    """What `run` would do and take, without writing anything."""
    store = Store.open(config.lake)
    return plan_document("cut", config, store, [config.cut_stage(store)], calibrate)


if __name__ == "__main__":  # for `ray job submit -- python -m jobs.cut --config x.yaml`
    import sys

    from jobs.cli import main

    main(["cut", *sys.argv[1:]])
