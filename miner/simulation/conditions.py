"""What a scene is like before anything is placed: surroundings, weather, light, and whether something rare happens.

All draws are spread evenly over the scene indices, so that small sets have variety and shares come out as chosen, yet
each is computed from (seed, index) alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from miner.simulation.spec import Spec

ENVIRONMENTS = {"city": 0.4, "residential": 0.25, "highway": 0.2, "rural": 0.15}
WEATHERS = {"clear": 0.5, "rain": 0.22, "fog": 0.12, "snow": 0.16}
LIGHTS = {"day": 0.55, "dusk": 0.15, "night": 0.3}
EVENTS = ("tyre_on_lane", "animal", "tipped_vehicle", "fog_bank", "closed_road")
_SPREAD = 1.2207440846057596  # root of x^4 = x + 1: Roberts' R3 low-discrepancy sequence


@dataclass(frozen=True)
class Conditions:
    """One scene's circumstances; `event` is the planted rare event, or None."""

    environment: str
    weather: str
    light: str
    event: str | None


def _pick(shares: dict[str, float], at: float) -> str:
    """The name at `at` (0..1) of the cumulative shares."""
    for name, share in shares.items():
        at -= share
        if at < 0:
            return name
    return next(reversed(shares))


def planted_event(spec: Spec, index: int) -> str | None:
    """The rare event of a scene: one scene of each block of 1 / rare_rate scenes has one, the kinds taking turns."""
    rate, start = spec.rare_rate, float(np.random.default_rng([spec.seed, 0, 7]).random())
    if rate == 0:
        return None
    block = math.floor((index + start) * rate)
    first, last = (math.ceil(edge / rate - start) for edge in (block, block + 1))
    rng = np.random.default_rng([spec.seed, block, 8])
    chosen = first + int(rng.integers(max(last - first, 1)))
    turn = np.random.default_rng([spec.seed, block // len(EVENTS), 9]).permutation(len(EVENTS))
    return EVENTS[turn[block % len(EVENTS)]] if index == chosen else None


def scene_conditions(spec: Spec, index: int) -> Conditions:
    """The conditions of scene `index`."""
    start = np.random.default_rng([spec.seed, 0, 6]).random(3)
    at = [float((start[i] + (index + 1) * _SPREAD ** -(i + 1)) % 1.0) for i in range(3)]
    return Conditions(
        environment=_pick(ENVIRONMENTS, at[0]),
        weather=_pick(WEATHERS, at[1]),
        light=_pick(LIGHTS, at[2]),
        event=planted_event(spec, index),
    )
