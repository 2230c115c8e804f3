"""The long tail as a list: scenarios, or labels, the rarest first, with how much there is of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miner.errors import UnknownName
from miner.exposure import rate
from miner.why import Events

TAIL_BY = ("cluster", "label")


@dataclass(frozen=True)
class Tail:
    """Of `lake`, `by` cluster or label: one entry each, the fewest events first, and what is in none.

    An entry has name, events, clips, scenes, seconds; per_hour with low and high, per_km with per_km_low and
    per_km_high (95 %; None of too little driving); conditions: the cells it was in, with the rates there, the highest
    first; examples (clip ids); of a cluster also cluster_id, parent (its family's name), metres, rarity, and the
    concept that stands out in it with its z (None: none does).

    `hours` and `km` are of all driving (None: not known), `conditions` each cell's share of them and all events in it,
    `notes` what could not be told.
    """

    lake: str
    by: str
    entries: Sequence[Mapping[str, Any]]
    events: int
    alone: int
    hours: float
    notes: tuple[str, ...] = ()
    km: float | None = None
    conditions: Sequence[Mapping[str, Any]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The list as one JSON document."""
        counts: dict[str, Any] = {"events": self.events, "alone": self.alone, "hours": self.hours, "km": self.km}
        counts |= {"conditions": [dict(each) for each in self.conditions]}
        entries = [dict(each) for each in self.entries]
        return {"lake": self.lake, "by": self.by, **counts, "entries": entries, "notes": list(self.notes)}


def label_tail(lake: str, events: Events) -> Tail:
    """The labels of a lake (categories, and conditions with their values) by the number of events that have them."""
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(events.categories):
        for name in set(names):
            rows.setdefault(name, []).append(row)
    entries = []
    for name, own in rows.items():
        rarest = sorted(own, key=lambda row: (-events.rarity[row], events.footage.clip_ids[row].as_py()))
        entries.append(
            {
                "name": name,
                "events": len(own),
                "clips": int(events.clips[own].sum()),
                "scenes": len(np.unique(events.footage.scene[own])),
                "seconds": float(events.seconds[own].sum()),
                **_exposed(events, own),
                "examples": [events.footage.clip_ids[row].as_py() for row in rarest[:8]],
            }
        )
    entries.sort(key=lambda each: (each["events"], each["clips"], each["name"]))
    unlabelled = sum(not names for names in events.categories)
    return Tail(lake, "label", entries, len(events.rarity), unlabelled, **_driven(events))


@dataclass(frozen=True)
class Clusters:
    """The rows of `clusters`, of `cluster_names`, and of `members`."""

    rows: Sequence[Mapping[str, Any]]
    named: Sequence[Mapping[str, Any]]
    members: Sequence[Mapping[str, Any]]


def cluster_tail(lake: str, clusters: Clusters, events: Events, notes: tuple[str, ...] = ()) -> Tail:
    """The scenarios of a lake, the fewest events first."""
    called = {each["cluster_id"]: each for each in clusters.named}
    names = {each["cluster_id"]: shown_name({**each, **called.get(each["cluster_id"], {})}) for each in clusters.rows}
    families = {each["parent_id"] for each in clusters.rows}
    place = {name: row for row, name in enumerate(events.footage.clip_ids.to_pylist())}
    own: dict[str, list[int]] = {}
    for each in clusters.members:
        if each["clip_id"] in place:
            own.setdefault(each["cluster_id"], []).append(place[each["clip_id"]])
    entries = []
    for each in clusters.rows:
        if each["cluster_id"] in families:
            continue
        kept = {name: each[name] for name in ("cluster_id", "name", "events", "clips", "scenes", "seconds", "metres")}
        kept |= {name: called.get(each["cluster_id"], {}).get(name) for name in ("concept", "z")}
        kept |= {"rarity": each["rarity"], "parent": names.get(each["parent_id"]), "examples": list(each["examples"])}
        entries.append(kept | _exposed(events, own.get(each["cluster_id"], []), each["events"]))
    entries.sort(key=lambda each: (each["events"], -each["rarity"], each["cluster_id"]))
    alone = sum(each["cluster_id"] is None for each in clusters.members)
    return Tail(lake, "cluster", entries, len(clusters.members), alone, notes=notes, **_driven(events))


def shown_name(entry: Mapping[str, Any]) -> str:
    """What an entry is called: the concept that stands out in it, and by how much, before its labels."""
    if entry.get("concept") is None:
        return str(entry["name"])
    return f"{entry['concept']} (z {entry['z']:.1f}), {entry['name']}"


def check_by(by: str) -> None:
    """Raise UnknownName for a list there is none of."""
    if by not in TAIL_BY:
        raise UnknownName.of("by", by, TAIL_BY)


def _exposed(events: Events, rows: Sequence[int], count: int | None = None) -> dict[str, Any]:
    """The rates of some events, `count` of them or as many as the rows are, in all and by condition."""
    found: dict[str, Any] = dict(rate(len(rows) if count is None else count, events.driven_s, events.driven_m))
    cells = events.conditions.rates(rows) if events.conditions is not None else []
    there = [each for each in cells if each["events"]]
    return found | {"conditions": sorted(there, key=lambda each: -each["events"] / max(each["hours"], 1e-9))}


def _driven(events: Events) -> dict[str, Any]:
    """How much driving a tail is of."""
    cells = events.conditions.rates(range(len(events.rarity))) if events.conditions is not None else []
    km = None if np.isnan(events.driven_m) else events.driven_m / 1000
    return {"hours": events.driven_s / 3600, "km": km, "conditions": cells}
