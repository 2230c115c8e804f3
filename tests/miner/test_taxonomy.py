"""The taxonomy: planted groups found, ids that stay as data comes, names, and what the tables say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from miner.errors import UnknownName
from miner.lake import Lake
from miner.tail import Clusters, cluster_tail
from miner.taxonomy import ClustersReduction, MembersReduction, cluster_rows, joint, scenarios
from miner.why import Events
from tests.footages import around, footage, unit
from tests.miner.test_rare import ROWS, lake_of

GROUPS = np.repeat(np.arange(12), [200, 200, 150, 150, 100, 100, 60, 40, 10, 6, 5, 4])


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Directions of twelve groups in random order, the group of each, and names."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(GROUPS)
    vectors = around(unit(np.random.default_rng(9).normal(size=(12, 48)))[group], 0.6, rng)
    return vectors, group, [f"{number:05d}" for number in rng.permutation(len(group))]


def codes(ids: list[str | None]) -> np.ndarray:
    return np.unique([name or f"alone {place}" for place, name in enumerate(ids)], return_inverse=True)[1]


def test_planted_tail_groups_are_found() -> None:
    vectors, group, names = planted()
    found = np.array(scenarios(vectors, names, {}), object)
    for number in range(12):
        own = [name for name in found[group == number] if name]
        most = max(set(own), key=own.count)
        assert (group[found == most] == number).mean() >= 0.9 and own.count(most) >= 0.9 * (group == number).sum()


def test_ids_stay_when_a_tenth_more_comes() -> None:
    vectors, group, names = planted()
    old = int(len(names) / 1.1)
    before = scenarios(vectors[:old], names[:old], {})
    after = scenarios(vectors, names, dict(zip(names[:old], before, strict=True)))
    assert all(now == then for now, then in zip(after, before, strict=False) if then is not None)
    assert adjusted_rand_score(codes(before), codes(after[:old])) >= 0.95
    afresh = scenarios(vectors, names, {})
    assert adjusted_rand_score(codes(before), codes(afresh[:old])) >= 0.95, "and without a memory, too"
    assert adjusted_rand_score(group[old:], codes(after[old:])) >= 0.9, "what came is put where it belongs"


def test_a_run_again_changes_nothing() -> None:
    vectors, _, names = planted()
    first = scenarios(vectors, names, {})
    assert scenarios(vectors, names, dict(zip(names, first, strict=True))) == first
    order = np.random.default_rng(1).permutation(len(names))
    again = scenarios(vectors[order], [names[row] for row in order], {})
    assert again == [first[row] for row in order]


def test_rows_of_clusters() -> None:
    vectors, group, _ = planted()
    made = footage(vectors)
    at = np.argsort(np.argsort(np.arange(len(group))))
    categories = [["fog", "road"] if number == 8 else ["road"] for number in group]
    count = len(group)
    events = Events(made, np.linspace(0, 1, count), np.ones(count, np.int64), made.seconds, categories, 3600.0, np.nan)
    own = scenarios(joint(made), made.clip_ids.to_pylist(), {})
    rows = cluster_rows(events, made.metres, own, {}).to_pylist()
    families = {row["parent_id"] for row in rows} - {None}
    leaves = [row for row in rows if row["cluster_id"] not in families]
    assert {row["name"] for row in leaves if row["events"] == 10} == {"fog"} and len(at) == count
    assert sum(row["events"] for row in leaves) == sum(name is not None for name in own)
    for family in families:
        [row] = [each for each in rows if each["cluster_id"] == family]
        assert row["events"] == sum(each["events"] for each in leaves if each["parent_id"] == family)
    assert all(1 <= len(row["examples"]) <= 8 and row["name"] and row["metres"] is None for row in rows)


def test_tables_of_a_lake(tmp_path: Path) -> None:
    store = lake_of(tmp_path / "lake", ROWS)
    lake = Lake(store)
    tail = lake.tail()
    versions = store.version("members"), store.version("clusters")
    assert store.count("members") == tail.events == len(set(store.scan("events")["event_id"].to_pylist()))
    for reduction in (MembersReduction(("embeddings/x",)), ClustersReduction(("embeddings/x",))):
        key = reduction.output.schema.names[0]
        kept = store.scan(reduction.output.table).sort_by(key)
        assert reduction.compute(store).sort_by(key).equals(kept)
    assert lake.tail() == tail and (store.version("members"), store.version("clusters")) == versions
    assert all(entry["per_hour"] is None for entry in tail.entries), "240 ns of driving make no rate"


def test_a_rate_needs_driving() -> None:
    cluster = {"cluster_id": "c", "parent_id": None, "name": "n", "events": 3, "clips": 3, "scenes": 3}
    cluster |= {"seconds": 30.0, "metres": None, "rarity": 0.5, "examples": ["x"]}
    made = footage(unit(np.random.default_rng(0).normal(size=(3, 4))))
    members = [{"clip_id": name, "cluster_id": "c"} for name in made.clip_ids.to_pylist()]

    def entry(driven_s: float, driven_m: float) -> dict[str, Any]:
        events = Events(made, np.ones(3), np.ones(3, np.int64), made.seconds, [[]] * 3, driven_s, driven_m)
        [found] = cluster_tail("lake", Clusters([cluster], [], members), events).entries
        return dict(found)

    hours, minutes = entry(7200.0, np.nan), entry(500.0, 30_000.0)
    assert hours["low"] < hours["per_hour"] == 1.5 < hours["high"] and hours["per_km"] is None
    assert minutes["high"] is None and minutes["per_km_low"] < minutes["per_km"] == 0.1 < minutes["per_km_high"]


def test_the_rarest_label_leads(tmp_path: Path) -> None:
    tail = Lake(lake_of(tmp_path / "lake", ROWS)).tail("label")
    assert [entry["name"] for entry in tail.entries] == ["animal", "car"]
    assert tail.entries[0]["events"] < tail.entries[1]["events"] and tail.to_dict()["by"] == "label"
    with pytest.raises(UnknownName):
        Lake(lake_of(tmp_path / "other", ROWS)).tail("colour")
