"""The long tail: events in a taxonomy of scenarios that keeps its ids as the lake grows.

1. Events are clustered by density (`kernels.density_clusters`) in the joint space of all encoders, where the cosine is
   the mean of theirs; at least three events make a scenario. Events that are like no others stay alone.
2. The scenarios are joined into families by average linkage of their means, about as many as the root of their number.
3. On the next run events keep the scenario they had. A new event joins that of the nearest event that has one, if it is
   as near as its own events are to one another (the 95 % quantile of their nearest distances); what is left is
   clustered as in 1. So an id means the same scenario for as long as the lake has one of its events; to start afresh,
   remove the table `members`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.cluster.hierarchy import fcluster, linkage

from kernels.density_clusters import density_clusters
from kernels.knn_graph import knn_graph
from kernels.spans import Ints
from miner.corpus import Vector
from miner.footage import Footage
from miner.ids import make_id
from miner.rare import read_events, read_scores
from miner.rarity import RARITY, whole_footage
from miner.schema import CLUSTERS, MEMBERS
from miner.sound import Sound
from miner.stage import Output, Reduction
from miner.store import Store
from miner.why import Events, categories_of

MIN_EVENTS = 3
_NEIGHBOURS = 15
_REACH = 0.95
_NAMED_BY, _OFTENER, _NAMES = 0.5, 1.5, 3
_EXAMPLES = 8


@dataclass(frozen=True)
class MembersReduction(Reduction):
    """`members`: the scenario of each event, by its leader; null for an event like no others."""

    tables: tuple[str, ...]
    name = "members"
    output = Output("members", MEMBERS, None)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.tables, "clips", "events")

    def compute(self, store: Store) -> pa.Table:
        sound = Sound(store)
        footage = whole_footage(store, self.tables)
        events = footage.take(np.unique(read_events(sound, footage)))
        before = {row["clip_id"]: row["cluster_id"] for row in store.scan("members").to_pylist()}
        found = scenarios(joint(events), events.clip_ids.to_pylist(), before)
        columns = {
            "clip_id": events.clip_ids,
            "scene_id": events.scene_ids.take(pa.array(events.scene)),
            "cluster_id": pa.array(found, pa.string()),
        }
        return pa.table(columns, schema=MEMBERS)


@dataclass(frozen=True)
class ClustersReduction(Reduction):
    """`clusters`: scenarios and their families, with names, sizes, driving and examples."""

    tables: tuple[str, ...]
    name = "clusters"
    output = Output("clusters", CLUSTERS, None)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.tables, "clips", "events", "members", "scores", "sample_data", "clip_facts", "scenes")

    def compute(self, store: Store) -> pa.Table:
        sound = Sound(store)
        footage = whole_footage(store, self.tables)
        leader = read_events(sound, footage)
        heads = np.unique(leader)
        of = {row["clip_id"]: row["cluster_id"] for row in store.scan("members").to_pylist()}
        place = np.searchsorted(heads, leader)
        events = Events(
            footage.take(heads),
            read_scores(store, sound, footage, RARITY).value[heads],
            np.bincount(place).astype(np.int64),
            np.asarray(np.bincount(place, footage.seconds), np.float64),
            categories_of(sound, footage.clip_ids, leader),
            float(footage.seconds.sum()),
            float("nan"),
        )
        metres = np.array([footage.metres[place == row].sum() for row in range(len(heads))])
        scenes = {row["scene_id"]: row["name"] for row in sound.scan("scenes", ["scene_id", "name"]).to_pylist()}
        own = [of.get(name) for name in events.footage.clip_ids.to_pylist()]
        return cluster_rows(events, metres, own, scenes)


def joint(events: Footage) -> Vector:
    """Unit vectors (n, sum of dims): the cosine of two events is the mean of those of the encoders that saw both."""
    together = np.concatenate([each.astype(np.float64) for each in events.vectors.values()], axis=1)
    lengths = np.linalg.norm(together, axis=1, keepdims=True)
    unit: Vector = (together / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


def scenarios(vectors: Vector, names: Sequence[str], before: Mapping[str, str | None]) -> list[str | None]:
    """The id of each event's scenario, None for one like no others. `before` are those of earlier runs, by name."""
    found: list[str | None] = [before.get(name) for name in names]
    known = np.array([each is not None for each in found])
    if known.any() and not known.all():
        _join(vectors, found, known)
    left = np.flatnonzero([each is None for each in found])
    if len(left) >= 2 * MIN_EVENTS:
        near, scores = knn_graph(vectors[left], min(_NEIGHBOURS, len(left) - 1))
        labels = density_clusters(near, 1 - scores.astype(np.float64), MIN_EVENTS)
        for label in range(int(labels.max(initial=-1)) + 1):
            rows = left[labels == label]
            name = make_id("cluster", min(names[row] for row in rows))
            for row in rows:
                found[row] = name
    return found


def _join(vectors: Vector, found: list[str | None], known: Ints) -> None:
    """Give events without a scenario that of the nearest event with one, in place, where it is near enough."""
    old, new = np.flatnonzero(known), np.flatnonzero(~known)
    wide = vectors[old].astype(np.float64)
    owner = np.array([found[row] for row in old])
    reach = {}
    for name in np.unique(owner):
        own = wide[owner == name]
        likeness = own @ own.T
        np.fill_diagonal(likeness, -np.inf)
        reach[name] = float(np.quantile(1 - likeness.max(axis=1), _REACH)) if len(own) > 1 else 0.0
    for row in new:
        away = 1 - wide @ vectors[row].astype(np.float64)
        nearest = int(away.argmin())
        if away[nearest] <= reach[owner[nearest]]:
            found[row] = str(owner[nearest])


def cluster_rows(
    events: Events, metres: np.ndarray[Any, Any], own: Sequence[str | None], scenes: Mapping[str, str]
) -> pa.Table:
    """Rows of the table `clusters`: of each scenario, and of each family with more than one."""
    rows_of: dict[str, list[int]] = {}
    for row, cluster in enumerate(own):
        if cluster is not None:
            rows_of.setdefault(cluster, []).append(row)
    leaves = sorted(rows_of)
    vectors = joint(events.footage)
    family = _families(np.array([_mean(vectors[rows_of[leaf]]) for leaf in leaves]))
    parents: dict[int, list[str]] = {}
    for leaf, number in zip(leaves, family, strict=True):
        parents.setdefault(number, []).append(leaf)
    of = {leaf: make_id("family", min(each)) for each in parents.values() if len(each) > 1 for leaf in each}
    entries: list[tuple[str, str | None, list[int]]] = [(leaf, of.get(leaf), rows_of[leaf]) for leaf in leaves]
    for each in parents.values():
        if len(each) > 1:
            together = sorted(row for leaf in each for row in rows_of[leaf])
            entries.append((of[each[0]], None, together))
    made = [_entry(events, vectors, metres, scenes, entry) for entry in entries]
    return pa.Table.from_pylist(made, schema=CLUSTERS)


def _entry(
    events: Events,
    vectors: Vector,
    metres: np.ndarray[Any, Any],
    scenes: Mapping[str, str],
    entry: tuple[str, str | None, list[int]],
) -> dict[str, Any]:
    cluster_id, parent, rows = entry
    typical = np.argsort(-(vectors[rows] @ _mean(vectors[rows])), kind="stable")
    best = [rows[place] for place in typical[:_EXAMPLES]]
    ids = events.footage.clip_ids
    scene = [events.footage.scene_ids[int(events.footage.scene[row])].as_py() for row in rows]
    driven = float(np.nansum(metres[rows]))
    return {
        "cluster_id": cluster_id,
        "parent_id": parent,
        "name": _name(events, rows) or f"like {scenes.get(scene[int(typical[0])], scene[int(typical[0])])}",
        "events": len(rows),
        "clips": int(events.clips[rows].sum()),
        "scenes": len(set(scene)),
        "seconds": float(events.seconds[rows].sum()),
        "metres": driven if np.isfinite(metres[rows]).any() else None,
        "rarity": round(float(np.nanmean(events.rarity[rows])), 9),
        "examples": [ids[row].as_py() for row in best],
    }


def _name(events: Events, rows: Sequence[int]) -> str:
    """What most events of a cluster have, and others have less often: `weather: fog, truck`; empty for nothing."""
    count = Counter(name for row in rows for name in set(events.categories[row]))
    everywhere = len(events.categories)
    lift = {
        name: (times / len(rows)) / (events.seen[name] / everywhere)
        for name, times in count.items()
        if times >= _NAMED_BY * len(rows)
    }
    telling = sorted((name for name in lift if lift[name] >= _OFTENER), key=lambda name: (-lift[name], name))
    return ", ".join(telling[:_NAMES])


def _families(means: np.ndarray[Any, Any]) -> list[int]:
    """A number of the family of each mean (c, d): about sqrt(c) families by average linkage of cosine distances."""
    if len(means) < 4:
        return list(range(len(means)))
    found = fcluster(linkage(means, "average", metric="cosine"), round(len(means) ** 0.5), "maxclust")
    return [int(number) for number in found]


def _mean(vectors: Vector) -> Vector:
    mean = vectors.mean(axis=0, dtype=np.float64)
    unit: Vector = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return unit
