"""How scarce events are: the density of events around each, with what is known of it, fused over encoders.

1. Of the events a *reference* of at most 20,000 is taken, those with the lowest ids: ids are hashes, so it is a random
   sample that hardly changes when events come to the lake. It can be stored, and then means the same for ever.
2. The share p of the reference around an event is a kernel density on the sphere (`kernels.density`) at three widths:
   those at which the median event has 0.2, 0.5 and 1.25 % of the others around it. Events of one's own drive do not
   count.
3. The surprisal of an event is the mean of -ln p over the widths, less the median of that mean over its surroundings:
   the 5 % of the reference nearest to it, of other drives, at least 30 events (after Breunig et al. 2000, "LOF:
   identifying density-based local outliers"). So it is told relative to its conditions, noted or not: what is common
   on a snowy night does not stand before what is rare on a clear day. A group is rare as long as it is less than half
   of the surroundings.
4. A sum k of kernels of squares q is s = q / k times a Poisson number k / s (Bohm and Zech 2014, "Statistics of
   weighted Poisson events"), whose mean has the posterior Gamma(k / s + 1/2) of Jeffreys' prior; s tends to 1 as k does
   to 0. Its 95 % interval, taken at all widths at once as these share their events, is the interval of the surprisal;
   the surroundings are taken as known.
5. Over the reference a surprisal has an upper tail probability u. Several encoders are fused as -2 sum ln u (Fisher
   1925): one of them suffices to tell that an event is scarce. The *rarity* is the share of the reference that is less
   scarce than that, 0 to 1; its interval has the error of this share, too (Dvoretzky-Kiefer-Wolfowitz; Massart 1990).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import gammaincc, gammaincinv

from kernels.density import concentration_of, kernel_sums, kernel_sums_and_medians
from kernels.spans import Ints
from miner.corpus import Vector
from miner.footage import Floats, Footage

MAX_REFERENCE = 20_000
SHARES = (0.002, 0.005, 0.0125)
_SURROUNDING_SHARE, _LEAST_SURROUNDING = 0.05, 30
LEVEL = 0.95
_SAMPLE = 300
_DIGITS = 9


class Estimate(NamedTuple):
    """A number and the limits of its 95 % interval, (n,) each."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Space:
    """The reference events in one encoder's space: unit `vectors` (r, dim), and the number of the drive of each (r,).

    `concentrations` (s,) of the kernels; `absolute` (r,), the mean of -ln p of each event, in the order of the
    vectors, and the reference's own `surprisals` (r,), ascending.
    """

    vectors: Vector
    drive: Ints
    concentrations: Floats
    absolute: Floats
    surprisals: Floats

    @classmethod
    def of(cls, vectors: Vector, drive: Ints) -> Space:
        """The space of some events: what it measures by follows from them alone."""
        sample = np.linspace(0, len(vectors) - 1, min(len(vectors), _SAMPLE)).astype(np.int64)
        shares = np.array([max(share, (place + 1) / len(vectors)) for place, share in enumerate(SHARES)])
        found = concentration_of(vectors[sample], vectors, (drive[sample], drive), shares)
        concentrations = np.array([float(f"{each:.6g}") for each in found])
        sums = kernel_sums(vectors, vectors, concentrations, (drive, drive))
        absolute = _surprise((sums + 0.5) / (_others(drive, drive) + 1))
        space = cls(vectors, drive, concentrations, absolute, np.zeros(0))
        return replace(space, surprisals=np.sort(space.surprisal(vectors, drive).value))

    def surprisal(self, vectors: Vector, drive: Ints) -> Estimate:
        """Of events (n, dim) of the drives (n,), in nats: relative to what surrounds each."""
        widths = np.concatenate([self.concentrations, 2 * self.concentrations])  # the kernel squared is twice as narrow
        nearest = max(_LEAST_SURROUNDING, round(_SURROUNDING_SHARE * len(self.vectors)))
        groups = drive, self.drive
        sums, usual = kernel_sums_and_medians(vectors, self.vectors, widths, groups, self.absolute, nearest)
        alike, squares = np.split(sums, 2, axis=1)
        others = _others(drive, self.drive)
        each = (squares + 0.5) / (alike + 0.5)
        tail = (1 - LEVEL) / 2
        high, low = (each * gammaincinv(alike / each + 0.5, at) / (others + 1) for at in (tail, 1 - tail))
        shares = (alike + 0.5) / (others + 1)
        value, low, high = (np.round(_surprise(p) - np.nan_to_num(usual), _DIGITS) for p in (shares, low, high))
        return Estimate(value, np.minimum(low, value), np.maximum(high, value))

    def tail(self, surprisal: Floats) -> Floats:
        """The share of the reference whose surprisal is higher; beyond the highest it falls exponentially."""
        return _upper_tail(self.surprisals, surprisal)


@dataclass(frozen=True)
class Scale:
    """What rarities are read from: the reference events' spaces by encoder, their fused scarcity (r,), ascending."""

    spaces: Mapping[str, Space]
    fused: Floats

    def rarity(self, vectors: Mapping[str, Vector], drive: Ints) -> Estimate:
        """Of events of numbered drives (n,), by encoder their vectors (n, dim): the share that is less scarce."""
        estimates = self.surprisals(vectors, drive)
        sides = [fused(self.spaces, {name: each[side] for name, each in estimates.items()}) for side in range(3)]
        value, low, high = (np.round(1 - _upper_tail(self.fused, each), _DIGITS) for each in sides)
        error = float(np.sqrt(np.log(2 / (1 - LEVEL)) / (2 * max(len(self.fused), 1))))
        return Estimate(value, np.maximum(low - error, 0.0), np.minimum(high + error, 1.0))

    def surprisals(self, vectors: Mapping[str, Vector], drive: Ints) -> dict[str, Estimate]:
        """By encoder the surprisal of events, NaN for those without a vector."""
        found = {}
        for name, space in self.spaces.items():
            rows = np.flatnonzero(vectors[name].any(axis=1)) if name in vectors else np.empty(0, np.int64)
            parts = tuple(np.full(len(drive), np.nan) for _ in range(3))
            if len(rows):
                for part, own in zip(parts, space.surprisal(vectors[name][rows], drive[rows]), strict=True):
                    part[rows] = own
            found[name] = Estimate(*parts)
        return found


def fused(spaces: Mapping[str, Space], surprisals: Mapping[str, Floats]) -> Floats:
    """-ln of Fisher's combined probability of being so scarce by chance, over the encoders that saw the event."""
    logs = np.array([-np.log(spaces[name].tail(each)) for name, each in surprisals.items()])
    count = np.isfinite(logs).sum(axis=0)
    total = np.where(np.isfinite(logs), logs, 0.0).sum(axis=0)
    with np.errstate(divide="ignore"):
        return np.where(count == 1, total, np.where(count, -np.log(_fisher(total, np.maximum(count, 1))), np.nan))


@dataclass(frozen=True)
class Reference:
    """Events that scarcity is relative to: their space by encoder, and how much driving they are of.

    `metres` is NaN where it is not known. `clip_ids` are of the events, `near` the distances that made them.
    """

    spaces: Mapping[str, Space]
    clip_ids: Mapping[str, pa.Array]
    near: Mapping[str, float]
    seconds: float
    metres: float
    drives: int

    def rarity(self, events: Footage, drive: Ints) -> Estimate:
        """Of events (n,) of numbered drives: the share of the reference that is less scarce; NaN without a vector."""
        return self.scale.rarity(events.vectors, drive)

    @property
    def scale(self) -> Scale:
        """What a rarity is read from."""
        return Scale(self.spaces, self.fused)

    @cached_property
    def fused(self) -> Floats:
        """The fused scarcity of the reference itself, ascending: what a rarity is read from."""
        if len(self.spaces) == 1:
            [space] = self.spaces.values()
            return np.sort(-np.log(_upper_tail(space.surprisals, space.surprisals)))
        names: dict[str, int] = {}
        for ids in self.clip_ids.values():
            for each in ids.to_pylist():
                names.setdefault(each, len(names))
        of = {}
        for name, space in self.spaces.items():
            of[name] = np.full(len(names), np.nan)
            own = np.array([names[each] for each in self.clip_ids[name].to_pylist()], np.int64)
            of[name][own] = space.surprisal(space.vectors, space.drive).value
        return np.sort(fused(self.spaces, of))


def reference_of(events: Footage, near: Mapping[str, float], seconds: Floats, metres: Floats) -> Reference:
    """The reference among some events: of each encoder the 20,000 with the lowest ids.

    `near` made them events; `seconds` and `metres` are of the clips of all the driving that they are of.
    """
    drive = events.scene
    ids = np.array(events.clip_ids.to_pylist())
    spaces, chosen = {}, {}
    for name, vectors in events.vectors.items():
        rows = np.flatnonzero(events.has(name))
        if not len(rows):
            continue
        rows = rows[np.argsort(ids[rows], kind="stable")][:MAX_REFERENCE]
        spaces[name], chosen[name] = Space.of(vectors[rows], drive[rows]), pa.array(ids[rows].tolist())
    driven = float(np.nansum(metres)) if np.isfinite(metres).any() else float("nan")
    return Reference(spaces, chosen, near, float(seconds.sum()), driven, len(np.unique(drive)))


def _surprise(shares: Floats) -> Floats:
    """The mean of -ln p over the widths, (n, s) to (n,)."""
    mean: Floats = -np.log(shares.clip(1e-300)).mean(axis=1)
    return mean


def _others(drive: Ints, drives: Ints) -> Ints:
    """How many of the events of `drives` (r,) are not of each `drive` (n,), as a column."""
    own = dict(zip(*np.unique(drives, return_counts=True), strict=True))
    return np.array([len(drives) - own.get(each, 0) for each in drive], np.int64)[:, None]


def _fisher(total: Floats, count: NDArray[np.int64]) -> Floats:
    """The chance that `count` uniform numbers have a sum of -ln that is at least `total`."""
    chance: Floats = np.maximum(gammaincc(count, total), 1e-300)
    return chance


def _upper_tail(ordered: Floats, values: Floats) -> Floats:
    """The share of `ordered` (r,) above each of `values` (n,), between its numbers linear, never 0; NaN stays.

    Equal numbers share their middle. Above the highest it falls by e for each nat.
    """
    if not len(ordered):
        return np.full(len(values), np.nan)
    numbers, first, count = np.unique(ordered, return_index=True, return_counts=True)
    above = (len(ordered) - first - (count - 1) / 2 - 0.5) / len(ordered)
    inside = np.where(values < numbers[0], 1.0, np.interp(values, numbers, above))
    return np.where(values > numbers[-1], above[-1] * np.exp(-(values - numbers[-1]).clip(max=600)), inside)
