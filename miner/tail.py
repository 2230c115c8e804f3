"""The long tail as a list: scenarios, or labels, the rarest first, with how much there is of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miner.errors import UnknownName
from miner.why import FEW_S, Events, gamma_interval

TAIL_BY = ("cluster", "label")


@dataclass(frozen=True)
class Tail:
    """Of `lake`, `by` cluster or label: one entry each, the fewest events first, and what is in none.

    An entry has name, events, clips, scenes, seconds, per_hour with low and high (95 %; None of too little driving),
    examples (clip ids); of a cluster also cluster_id, parent (its family's name), metres, rarity, and the concept that
    stands out in it with its z (None: none does). `notes` are what could not be told.
    """

    lake: str
    by: str
    entries: Sequence[Mapping[str, Any]]
    events: int
    alone: int
    hours: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The list as one JSON document."""
        counts = {"events": self.events, "alone": self.alone, "hours": self.hours}
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
                **_rate(len(own), events.driven_s),
                "examples": [events.footage.clip_ids[row].as_py() for row in rarest[:8]],
            }
        )
    entries.sort(key=lambda each: (each["events"], each["clips"], each["name"]))
    unlabelled = sum(not names for names in events.categories)
    return Tail(lake, "label", entries, len(events.rarity), unlabelled, events.driven_s / 3600)


@dataclass(frozen=True)
class Clusters:
    """The rows of `clusters` and of `cluster_names`, how many events there are, and how many are in no cluster."""

    rows: Sequence[Mapping[str, Any]]
    named: Sequence[Mapping[str, Any]]
    events: int
    alone: int


def cluster_tail(lake: str, clusters: Clusters, driven_s: float, notes: tuple[str, ...] = ()) -> Tail:
    """The scenarios of a lake, the fewest events first."""
    called = {each["cluster_id"]: each for each in clusters.named}
    names = {each["cluster_id"]: shown_name({**each, **called.get(each["cluster_id"], {})}) for each in clusters.rows}
    families = {each["parent_id"] for each in clusters.rows}
    entries = []
    for each in clusters.rows:
        if each["cluster_id"] in families:
            continue
        kept = {name: each[name] for name in ("cluster_id", "name", "events", "clips", "scenes", "seconds", "metres")}
        kept |= {name: called.get(each["cluster_id"], {}).get(name) for name in ("concept", "z")}
        kept |= {"rarity": each["rarity"], "parent": names.get(each["parent_id"]), "examples": list(each["examples"])}
        entries.append(kept | _rate(each["events"], driven_s))
    entries.sort(key=lambda each: (each["events"], -each["rarity"], each["cluster_id"]))
    return Tail(lake, "cluster", entries, clusters.events, clusters.alone, driven_s / 3600, notes)


def shown_name(entry: Mapping[str, Any]) -> str:
    """What an entry is called: the concept that stands out in it, and by how much, before its labels."""
    if entry.get("concept") is None:
        return str(entry["name"])
    return f"{entry['concept']} (z {entry['z']:.1f}), {entry['name']}"


def check_by(by: str) -> None:
    """Raise UnknownName for a list there is none of."""
    if by not in TAIL_BY:
        raise UnknownName.of("by", by, TAIL_BY)


def _rate(count: int, driven_s: float) -> dict[str, float | None]:
    """Events an hour of driving, and between what the rate lies; None where too little was driven to tell."""
    if driven_s < FEW_S:
        return dict.fromkeys(("per_hour", "low", "high"))
    hours = driven_s / 3600
    low, high = gamma_interval(count)
    return {"per_hour": count / hours, "low": low / hours, "high": high / hours}
