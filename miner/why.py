"""Why an event is rare, in words and numbers: how far from what is common, to which sensor, how often, with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from kernels.spans import Ints
from miner.exposure import Conditions, rate
from miner.footage import Bools, Floats, Footage
from miner.sound import Sound

_ALIKE_SHARE = 0.005  # what the median event has around it is called alike
_COMMON = 0.5  # events of a rarity below are common
_SAMPLE = 300
_SELDOM = 0.05  # a category in at most this share of the events is worth a word
_SAID = 3


@dataclass(frozen=True)
class Reason:
    """Of one event. `distance` by encoder: how many times as far from the nearest common event as is usual.

    `neighbours` are rows of the nearest common events, `alike` the number of events around it, `categories` what is
    seldom in it, each with the number of events that have it. `cell` is the condition it happened in that is driven
    least, and how many of those alike did so too; None where no condition is known.
    """

    distance: dict[str, float]
    neighbours: Ints
    alike: int
    categories: dict[str, int]
    cell: tuple[int, int] | None = None


@dataclass(frozen=True)
class Events:
    """The events of a lake: their leaders' `footage` (n,), `rarity` (n,), `clips` and `seconds` of each (n,); the
    driving in all, and by the conditions that are known."""

    footage: Footage
    rarity: Floats
    clips: Ints
    seconds: Floats
    categories: Sequence[Sequence[str]]
    driven_s: float
    driven_m: float
    conditions: Conditions | None = None

    @cached_property
    def seen(self) -> Counter[str]:
        """How many events have each category."""
        return Counter(name for names in self.categories for name in set(names))

    @cached_property
    def usual(self) -> dict[str, tuple[float, float]]:
        """By encoder: usual distance of a common event to its nearest common one; within what others are alike."""
        found = {}
        for name in self.footage.encoders:
            rows = np.flatnonzero(self.footage.has(name))
            rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(np.int64)]
            away = self.away(name, rows)
            common = self.rarity < _COMMON
            nearest = np.min(away[common[rows]][:, common], axis=1, initial=np.inf)
            share = max(_ALIKE_SHARE, 1 / max(len(self.rarity), 1))
            others = [np.quantile(each[np.isfinite(each)], share) for each in away if np.isfinite(each).any()]
            typical = nearest[np.isfinite(nearest)]
            found[name] = (float(np.median(typical)) if len(typical) else np.nan, float(np.median(others or [0.0])))
        return found

    @cached_property
    def _wide(self) -> dict[str, Floats]:
        """By encoder the vectors as float64, so that distances do not depend on how many are asked for at once."""
        return {name: vectors.astype(np.float64) for name, vectors in self.footage.vectors.items()}

    def away(self, encoder: str, rows: Ints) -> Floats:
        """Cosine distances (len(rows), n) of events to all of other drives; inf to those of their own, or unseen."""
        away = 1 - self._wide[encoder][rows] @ self._wide[encoder].T
        same = self.footage.scene[rows, None] == self.footage.scene[None, :]
        found: Floats = np.where(same | ~self.footage.has(encoder)[None, :], np.inf, away)
        return found

    def reason(self, row: int) -> Reason:
        """Why the event of this row is rare."""
        common = self.rarity < _COMMON
        distance, alike, nearest = {}, np.ones(len(self.rarity), np.bool_), np.empty(0, np.int64)
        for name in self.footage.encoders:
            if not self.footage.has(name)[row]:
                continue
            [away] = self.away(name, np.array([row]))
            usual, around = self.usual[name]
            alike &= (away <= around) | ~self.footage.has(name)
            order = np.argsort(np.where(common, away, np.inf), kind="stable")[:_SAID]
            order = order[np.isfinite(away[order]) & common[order]]
            if len(order) and usual > 0:
                distance[name] = float(away[order[0]]) / usual
                nearest = order if max(distance, key=lambda each: distance[each]) == name else nearest
        own = [name for name in set(self.categories[row]) if self.seen[name] <= max(1, _SELDOM * len(self.rarity))]
        own.sort(key=lambda name: (self.seen[name], name))
        alike &= self.footage.scene != self.footage.scene[row]
        cell = self._cell(row, alike)
        return Reason(distance, nearest, int(alike.sum()), {name: self.seen[name] for name in own[:_SAID]}, cell)

    def _cell(self, row: int, alike: Bools) -> tuple[int, int] | None:
        if self.conditions is None or not self.conditions.events[row].any():
            return None
        cells = np.flatnonzero(self.conditions.events[row])
        cell = int(cells[np.argmin(self.conditions.seconds[cells])])
        return cell, int((alike & self.conditions.events[:, cell]).sum())

    def rates(self, reason: Reason) -> dict[str, float]:
        """How often events alike happen, an hour and a km, with limits: in all, and (`in_cell_`) in the condition."""
        found = rate(reason.alike, self.driven_s, self.driven_m)
        if reason.cell is not None and self.conditions is not None:
            cell, count = reason.cell
            own = rate(count, float(self.conditions.seconds[cell]), float(self.conditions.metres[cell]))
            found |= {f"in_cell_{name}": value for name, value in own.items()}
        return {
            {"low": "per_hour_low", "high": "per_hour_high"}.get(name, name): value
            for name, value in found.items()
            if value is not None
        }

    def told(self, row: int, reason: Reason, scenes: dict[str, str]) -> str:
        """The reason in words."""
        said = []
        if reason.distance:
            most = max(reason.distance, key=lambda each: reason.distance[each])
            by = f" to {most}" if len(self.footage.encoders) > 1 else ""
            said.append(f"{reason.distance[most]:.1f} times the usual distance to what is common{by}")
        if len(reason.neighbours):
            near = self.footage.scene_ids[int(self.footage.scene[reason.neighbours[0]])].as_py()
            said.append(f"nearest: {scenes.get(near, near)}")
        said.append(f"{reason.alike} alike in {_rate(reason.alike, self.driven_s, self.driven_m)}")
        if reason.cell is not None and self.conditions is not None:
            cell, count = reason.cell
            driven = float(self.conditions.seconds[cell]), float(self.conditions.metres[cell])
            said.append(f"{count} of them in {self.conditions.named(cell)}, {_rate(count, *driven)}")
        said += [f"{name} in {count} of {len(self.rarity)} events" for name, count in reason.categories.items()]
        said += [f"{self.clips[row]} clips of one event"] if self.clips[row] > 1 else []
        return "; ".join(said)


def _rate(count: int, driven_s: float, driven_m: float) -> str:
    """How much driving there is, and between what the rate of events as many as `count` lies."""
    km = f", {driven_m / 1000:.3g} km" if driven_m >= 1000 else ""
    found = rate(count, driven_s, driven_m)
    if found["low"] is None:
        return f"{round(driven_s, 1):.3g} s{km}"
    return f"{driven_s / 3600:.3g} h{km} ({found['low']:.2g} to {found['high']:.2g} an hour)"


def categories_of(sound: Sound, clip_ids: pa.Array, leader: Ints) -> list[list[str]]:
    """The categories of each event (of all its clips), by leader in ascending order; empty without clip facts."""
    heads = np.unique(leader)
    found: dict[int, dict[str, None]] = {int(head): {} for head in heads}
    if sound.has("clip_facts"):
        facts = sound.scan("clip_facts", ["clip_id", "categories"])
        place = {name: i for i, name in enumerate(clip_ids.to_pylist())}
        for row in facts.to_pylist():
            if row["clip_id"] in place:
                own = found[int(leader[place[row["clip_id"]]])]
                own.update(dict.fromkeys(entry["name"] for entry in row["categories"]))
    return [sorted(found[int(head)]) for head in heads]
