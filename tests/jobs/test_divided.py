"""Reductions over shards, on threads and on Ray: the same rows as in one piece, nothing left behind."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.engine import RayExecutor
from miner.dedup import DedupReduction, Rule
from miner.errors import MinerError
from miner.executor import Executor, LocalExecutor
from miner.lake import Lake
from miner.lineage import Run
from miner.rarity import EventsReduction, RarityReduction, Relative, scorer_name
from miner.scratch import FOLDER
from miner.stage import Reduction
from miner.store import Store
from tests.fleets import fleet
from tests.jobs.stages import OnePartFails
from tests.miner.test_rare import lake_of, made

TABLES = ("embeddings/hashing",)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """180 clips of 30 drives."""
    return fleet(tmp_path_factory.mktemp("divided"), scenes=30, clips=6)


def run_of(reduction: Reduction) -> Run:
    return Run("rare", {"kind": reduction.name}, "1")


def assert_same_rows(lake: Lake, reduction: Reduction, divided: Reduction, executor: Executor) -> None:
    """`divided`, run by the executor, writes what `reduction` computes in one piece."""
    key = reduction.output.schema.names[0]
    expected = reduction.compute(lake.store).sort_by(key)
    executor.reduce(divided, lake.store, run_of(divided))
    kept = lake.store.scan(reduction.output.table, filter=reduction.owned).sort_by(key)
    assert len(kept) and kept.select(expected.column_names).equals(expected)
    version = lake.store.version(reduction.output.table)
    executor.reduce(divided, lake.store, run_of(divided))
    assert lake.store.version(reduction.output.table) == version, "a run again changes nothing"
    assert not [path for path in Path(lake.uri, FOLDER).rglob("*") if path.is_file()]


def parts_of(lake: Lake, reduction: Reduction) -> int:
    """How many parts a reduction falls into."""
    parts = len(reduction.begin(lake.store)[1])
    reduction.end(lake.store)
    return parts


def relatives(lake: Lake) -> list[Relative]:
    some = lake.store.scan("clips", ["clip_id"])["clip_id"].to_pylist()[:40]
    return [Relative(), Relative(versus="v", without=tuple(some))]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("shard", [41, 1000])
def test_scores_on_threads(lake: Lake, number: int, shard: int) -> None:
    relative = relatives(lake)[number]
    assert (parts_of(lake, RarityReduction(TABLES, shard=shard)) > 1) == (shard < 100)
    plain = RarityReduction(TABLES, f"{scorer_name((), relative)}-{shard}", relative)
    assert_same_rows(lake, plain, replace(plain, shard=shard), LocalExecutor(threads=2))


def test_scores_on_ray(lake: Lake, ray_executor: RayExecutor) -> None:
    plain = RarityReduction(TABLES, "on ray")
    assert_same_rows(lake, plain, replace(plain, shard=50), ray_executor)


@pytest.mark.fault
def test_a_part_that_fails_on_ray_ends_the_others(tmp_path: Path, ray_executor: RayExecutor) -> None:
    flag = tmp_path / "at work"
    with pytest.raises(MinerError, match="broken"):
        ray_executor.reduce(OnePartFails(str(flag)), Store.create(str(tmp_path / "lake")), Run("test"))
    with suppress(ProcessLookupError):
        for _ in range(100):  # Ray may be still burying it
            os.kill(int(flag.read_text()), 0)
            time.sleep(0.1)
        pytest.fail("the other part is still at work")


def test_events_on_threads(lake: Lake) -> None:
    plain = EventsReduction(TABLES)
    assert parts_of(lake, replace(plain, shard=41)) > 1
    assert_same_rows(lake, plain, replace(plain, shard=41), LocalExecutor(threads=2))


@pytest.mark.parametrize("eps", [0.3, 0.99])
@pytest.mark.parametrize("shard", [41, 90])
def test_duplicates_on_threads(lake: Lake, eps: float, shard: int) -> None:
    plain = DedupReduction(TABLES, Rule(eps, "labels" if shard == 90 else "quality"))
    assert parts_of(lake, replace(plain, shard=shard)) > 0
    lake.store.ensure("duplicates")
    lake.store.replace("duplicates", lake.store.scan("duplicates").slice(0, 0), "true", {})  # made by nobody we know
    assert_same_rows(lake, plain, replace(plain, shard=shard), LocalExecutor(threads=2))


def test_duplicates_on_ray(lake: Lake, ray_executor: RayExecutor) -> None:
    plain = DedupReduction(TABLES, Rule(0.6))
    assert_same_rows(lake, plain, replace(plain, shard=50), ray_executor)


def test_scores_of_two_encoders_are_fused_alike(tmp_path: Path) -> None:
    store = lake_of(tmp_path / "lake", made())
    vectors = store.scan("embeddings/x")
    turned = lake_of(tmp_path / "other", made(seed=3), "y").scan("embeddings/y")
    store.ensure("embeddings/y", turned.schema)
    store.append("embeddings/y", turned.slice(0, len(turned) * 3 // 4))
    assert len(vectors) == len(turned)
    for plain in (RarityReduction(("embeddings/x", "embeddings/y")), EventsReduction(("embeddings/x", "embeddings/y"))):
        assert_same_rows(Lake(store), plain, replace(plain, shard=5), LocalExecutor(threads=2))
