"""Which clips of a plan are taken: the most varied of each type, and what a person accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embeddings.plugins import plugin_names
from kernels.candidates import Candidates
from miner.errors import NotFound, UnknownName, UsageError
from miner.lake import Lake
from miner.selection.pick import diverse, load, lots
from miner.selection.pool import Pool
from miner.selection.program import Cell, Problem, solve
from miner.selection.spec import Spec
from miner.snapshot import Snapshot
from tests.fleets import fleet

SPEC: dict[str, Any] = {"budget": 24, "targets": [{"over": ["location"], "shares": "uniform"}]}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return fleet(tmp_path_factory.mktemp("fleet"), scenes=9, clips=10)


def nearest(lake: Lake, ids: list[str]) -> float:
    """The largest cosine of two of some clips."""
    pool = Pool(Snapshot.now(lake.store), Spec.load({"budget": 1}))
    vectors = pool.vectors[pool.named(ids)]
    return float((vectors @ vectors.T - 2 * np.eye(len(vectors))).max())


@pytest.mark.parametrize("strategy", plugin_names("miner.strategies"))
def test_any_strategy_keeps_to_the_plan(lake: Lake, strategy: str) -> None:
    found = lake.select({**SPEC, "diversity": {"strategy": strategy}}).selection
    assert (
        found.rows["strategy"].unique().to_pylist() == [strategy] and len(set(found.rows["clip_id"].to_pylist())) == 24
    )
    assert [cell["chosen"] for cell in found.report["cells"]] == [8, 8, 8, 24]
    assert lake.select({**SPEC, "diversity": {"strategy": strategy}}).selection.rows.equals(found.rows)


def test_k_center_says_how_near_the_chosen_are_to_all(lake: Lake) -> None:
    found = lake.select({"budget": 9, "diversity": {"strategy": "k_center"}}).selection
    pool = Pool(Snapshot.now(lake.store), Spec.load({"budget": 1}))
    chosen = pool.vectors[pool.named(found.rows["clip_id"].to_pylist())]
    radius = np.arccos((pool.vectors @ chosen.T).max(axis=1).clip(-1, 1)).max()
    cover = found.report["cover"]
    assert cover["radius"] == pytest.approx(radius, abs=1e-3)
    assert cover["lower_bound"] == pytest.approx(radius / 2, abs=1e-3) and cover["kinds"] == 1
    assert lake.select({"budget": 9, "diversity": {"strategy": "random"}}).selection.report["cover"] is None


def test_it_is_more_varied_than_by_lot(lake: Lake) -> None:
    varied = lake.select({**SPEC, "diversity": {}}).selection.rows["clip_id"].to_pylist()
    by_lot = [
        nearest(lake, lake.select({**SPEC, "seed": seed}).selection.rows["clip_id"].to_pylist()) for seed in range(3)
    ]
    assert nearest(lake, varied) < min(by_lot)


def test_each_type_is_far_from_what_was_taken_before() -> None:
    """With one type it is the strategy itself; what training has already is not taken again."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    plan = solve(Problem(np.ones((60, 1), np.bool_), [Cell("all")], np.zeros(60), 6, tiers=False))
    start = vectors[:3] + np.float32(0)
    found = diverse(load("k_center"), plan, vectors, start, None, 0)
    asked = Candidates(np.arange(63) < 60, preselected=np.arange(60, 63))
    same = load("k_center").select(asked, np.concatenate([vectors, start]), 6, 0)
    assert found.rows.tolist() == same.rows.tolist() and not set(found.rows.tolist()) & {0, 1, 2}


def test_lots_depend_on_clip_and_seed_alone(lake: Lake) -> None:
    ids = lake.store.scan("clips", ["clip_id"])["clip_id"]
    assert lots(ids, 1)[::-1].tolist() == lots(ids.take(np.arange(len(ids))[::-1].copy()), 1).tolist()
    assert lots(ids, 1).tolist() != lots(ids, 2).tolist()


def test_from_hits_to_a_version(tmp_path: Path) -> None:
    lake = fleet(tmp_path, scenes=4, clips=6)
    hits = lake.rare(12)
    varied = hits.accept(range(10)).diversify(5)
    assert len(varied) == 5 and set(varied.clip_ids) <= {hit.clip_id for hit in hits}
    version = varied.freeze("odd", note="why")
    assert version.version_id == "odd@1" and version.row["note"] == "why"
    rows = version.to_arrow().to_pylist()
    assert [row["clip_id"] for row in rows] == list(varied.clip_ids)
    assert {row["strategy"] for row in rows} == {"accepted"} and "rare" in rows[0]["reason"]
    assert varied.freeze("odd").version_id == "odd@1", "the same again"
    assert hits.accept([0]).freeze("odd").version_id == "odd@2"
    with pytest.raises(UnknownName, match="strategy 'k_centre'"):
        varied.diversify(2, "k_centre")
    with pytest.raises(UsageError, match="n = 0"):
        varied.diversify(0)
    lake.store.remove("clips", f"clip_id = '{varied.clip_ids[0]}'", {})
    with pytest.raises(NotFound, match="not in the lake any more"):
        varied.freeze("odd")
