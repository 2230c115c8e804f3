"""The leakage guard against a plain comparison of every clip with every evaluation clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miner.errors import NotFound
from miner.lake import Lake
from miner.selection.guard import near
from miner.selection.pool import Pool
from miner.selection.spec import Guard, Spec
from miner.snapshot import Snapshot
from tests.fleets import CLIP_NS, fleet


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return fleet(tmp_path_factory.mktemp("fleet"), scenes=8, clips=10)


def pool_of(lake: Lake) -> Pool:
    return Pool(Snapshot.now(lake.store), Spec.load({"budget": 5}))


@pytest.mark.parametrize("metres", [5.0, 10.0, 35.0])
@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_against_all_pairs(lake: Lake, metres: float, seconds: float) -> None:
    pool = pool_of(lake)
    rows = pool.facts.to_pylist()
    evaluation = np.zeros(len(rows), np.bool_)
    evaluation[[3, 40, 77]] = True
    guard = Guard(against="x@1", scenes=True, metres=metres, seconds=seconds, radius=0.4)
    found = near(guard, pool.snapshot, pool.facts, evaluation, lambda: pool.vectors).by
    places = {}
    for row in lake.store.scan("sample_data", ["scene_id", "timestamp_ns", "global_SE3_ego"]).to_pylist():
        places[row["scene_id"], row["timestamp_ns"] // CLIP_NS] = np.array(row["global_SE3_ego"]["translation"])
    for place, row in enumerate(rows):
        others = [rows[other] for other in np.flatnonzero(evaluation)]
        own = evaluation[place]
        assert found["scene"][place] == (not own and any(row["scene_id"] == other["scene_id"] for other in others))
        here = places[row["scene_id"], row["start_ns"] // CLIP_NS]
        away = [
            np.linalg.norm(here - places[other["scene_id"], other["start_ns"] // CLIP_NS])
            for other in others
            if other["location"] == row["location"]
        ]
        assert found["metres"][place] == (not own and min(away, default=np.inf) <= metres)
        gaps = [
            max(other["start_ns"] - row["end_ns"], row["start_ns"] - other["end_ns"], 0)
            for other in others
            if row["log_id"] == other["log_id"] or row["vehicle"] == other["vehicle"]
        ]
        assert found["seconds"][place] == (not own and min(gaps, default=np.inf) <= seconds * 1e9)
        alike = max(float(pool.vectors[place] @ pool.vectors[other]) for other in np.flatnonzero(evaluation))
        assert found["radius"][place] == (not own and alike >= 0.6)


def test_without_an_evaluation_clip_nothing_is_left_out(lake: Lake) -> None:
    pool = pool_of(lake)
    guard = Guard(against="x@1", metres=5)
    assert not near(
        guard, pool.snapshot, pool.facts, np.zeros(len(pool.facts), np.bool_), lambda: pool.vectors
    ).any.any()


def test_metres_need_poses(tmp_path: Path) -> None:
    lake = fleet(tmp_path, scenes=2, clips=2)
    lake.store.delete("sample_data", "true")
    pool = pool_of(lake)
    with pytest.raises(NotFound, match="no poses"):
        near(Guard(against="x@1", metres=5), pool.snapshot, pool.facts, np.ones(4, np.bool_), lambda: pool.vectors)
