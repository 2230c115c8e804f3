"""How much driving there is, in all and under which conditions, and how often in it something happens.

Conditions are cells of the operational design domain: weather and light, or what else of it is known of the clips. A
clip of which several values of an axis hold counts in each of their cells, one of which none is known in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow.compute as pc
from scipy.special import gammaincinv

from kernels.spans import Ints
from miner.footage import Bools, Floats, Footage
from miner.schema import CLIP_FACTS
from miner.selection.axes import Axes, Axis
from miner.sound import Sound

FEW_S = 600.0  # less driving makes no rate
FEW_M = 1000.0
_AXES = (("weather", "light"), ("weather", "timeofday"), ("weather",), ("light",), ("timeofday",), ("location",))
_MOST_CELLS = 60
_KEYS = ("per_hour", "low", "high", "per_km", "per_km_low", "per_km_high")


@dataclass(frozen=True)
class Conditions:
    """Cells of the `axes`: the values of each, which `events` (n, cells) show it, seconds and metres driven in it."""

    axes: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    events: Bools
    seconds: Floats
    metres: Floats

    def rates(self, rows: Sequence[int] | Ints) -> list[dict[str, Any]]:
        """How often some events happen in each cell, by cell as `rate`."""
        counts = self.events[np.asarray(rows, np.int64)].sum(axis=0)
        return [self.rate(cell, int(count)) for cell, count in enumerate(counts)]

    def rate(self, cell: int, count: int) -> dict[str, Any]:
        """Of one cell: its values by axis, `count` events, hours and km of driving, and `rate`."""
        seconds, metres = float(self.seconds[cell]), float(self.metres[cell])
        driven = {"hours": seconds / 3600, "km": None if np.isnan(metres) else metres / 1000}
        values = dict(zip(self.axes, self.cells[cell], strict=True))
        return {"cell": values, "events": count, **driven, **rate(count, seconds, metres)}

    def named(self, cell: int) -> str:
        """A cell in words."""
        return ", ".join(f"{axis}: {value}" for axis, value in zip(self.axes, self.cells[cell], strict=True))


def conditions_of(sound: Sound, footage: Footage, leader: Ints) -> Conditions | None:
    """The conditions of the events with these leaders (n,), by the first axes that the clips' facts have values of."""
    if not sound.has("clip_facts"):
        return None
    facts = sound.scan("clip_facts", CLIP_FACTS.names)
    place = pc.index_in(facts["clip_id"], footage.clip_ids)
    facts, rows = facts.filter(pc.is_valid(place)), place.drop_null().to_numpy().astype(np.int64)
    axes = Axes(facts)
    for names in _AXES:
        along = [axes.axis(name) for name in names if name in axes.names()]
        if len(along) == len(names) and all(axis.values for axis in along):
            cells, members = _cells(along)
            if 0 < len(cells) <= _MOST_CELLS:
                return _driven(names, cells, members, (footage, leader, rows))
    return None


def _cells(along: Sequence[Axis]) -> tuple[list[tuple[str, ...]], Bools]:
    """Combinations of values that clips have, and which have each: (n, cells)."""
    if int(np.prod([len(axis.values) for axis in along])) > _MOST_CELLS**2:
        return [], np.zeros((0, 0), np.bool_)
    paths = [*product(*(axis.values for axis in along))]
    masks = [np.all([axis.of(value) for axis, value in zip(along, path, strict=True)], axis=0) for path in paths]
    there = [place for place, mask in enumerate(masks) if mask.any()]
    return [paths[place] for place in there], np.array([masks[place] for place in there]).T


def _driven(
    names: tuple[str, ...], cells: list[tuple[str, ...]], members: Bools, of: tuple[Footage, Ints, Ints]
) -> Conditions:
    """`of`: the clips, their leaders, and which clip each row of `members` is."""
    footage, leader, rows = of
    heads = np.unique(leader)
    events = np.zeros((len(heads), len(cells)), np.bool_)
    np.logical_or.at(events, np.searchsorted(heads, leader[rows]), members)
    seconds, metres = footage.seconds[rows] @ members, footage.metres[rows]
    known = np.isfinite(metres)
    driven = np.where(members[known].any(axis=0), np.nan_to_num(metres) @ members, np.nan)
    return Conditions(names, tuple(cells), events, seconds, driven)


def rate(count: int, seconds: float, metres: float) -> dict[str, float | None]:
    """Events an hour and a km, and between what each rate lies (95 %); None where too little was driven to tell."""
    found: dict[str, float | None] = dict.fromkeys(_KEYS)
    for keys, much, few, unit in ((_KEYS[:3], seconds, FEW_S, 3600), (_KEYS[3:], metres, FEW_M, 1000)):
        if much >= few:  # False for NaN
            low, high = gamma_interval(count)
            found |= dict(zip(keys, (each * unit / much for each in (count, low, high)), strict=True))
    return found


def gamma_interval(count: float) -> tuple[float, float]:
    """95 % limits of the mean of a Poisson number that came out as `count`: Gamma(count + 1/2), Jeffreys' posterior."""
    return float(gammaincinv(count + 0.5, 0.025)), float(gammaincinv(count + 0.5, 0.975))
