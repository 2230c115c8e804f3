"""The leakage guard against a plain comparison of every clip with every evaluation clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miner.errors import NotFound
from miner.lake import Lake
from miner.report.measure import Asked
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


def test_a_guard_without_an_evaluation_clip_says_so(lake: Lake) -> None:
    chosen = lake.select({"budget": 5, "guard": {"against": "split = 'val'", "metres": 5}})
    assert chosen.selection.report["notes"] == [
        "the guard keeps nothing away: no clip of the lake is of its evaluation set"
    ]
    assert chosen.selection.report["candidates"]["guard"] == 80
    assert lake.select({"budget": 5, "guard": {"against": "split = 'test'"}}).selection.report["notes"] == []


def test_metres_need_poses(tmp_path: Path) -> None:
    lake = fleet(tmp_path, scenes=6, clips=2)
    spec = {"budget": 2, "guard": {"against": "split = 'test'", "metres": 5, "radius": 0.001}}
    scenes = {row["name"]: row["scene_id"] for row in lake.store.scan("scenes").to_pylist()}
    lake.store.delete("sample_data", f"scene_id = '{scenes['scene-0']}'")
    [note] = lake.select(spec).selection.report["notes"]
    assert note.startswith("the guard's metres cannot tell of 2 candidates and 0 clips of the evaluation set")
    [said] = [lake.report(Asked(against="split = 'test'"))["leakage"]["notes"]]
    assert said == [note]
    lake.store.delete("sample_data", f"scene_id = '{scenes['scene-4']}'")
    with pytest.raises(NotFound, match="metres can tell nothing: no clip of the evaluation set has poses"):
        lake.select(spec)
    assert (
        "no clip of the evaluation set has poses" in lake.report(Asked(against="split = 'test'"))["leakage"]["notes"][0]
    )
    lake.store.delete("sample_data", "true")
    with pytest.raises(NotFound, match="no clip beside the evaluation set has poses"):
        lake.select(spec)
