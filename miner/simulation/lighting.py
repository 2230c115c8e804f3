"""What weather and light do to a picture, as numbers: the constants of the shading."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from miner.simulation.conditions import Conditions
from miner.simulation.rig import Array
from miner.simulation.road import Road

RGB = tuple[float, float, float]


class Lighting(NamedTuple):
    """Colours are linear RGB; `sun_from` is the unit direction to the sun; densities per metre.

    night, wet, snow, cloud are 0..1. `lamps_d` is the offset of street lamps, 0 where there are none. Inside a bank
    (world x from bank0_m to bank1_m) fog has `bank_density` more. The ego position and heading throw the headlights.
    """

    ambient: RGB
    sun: RGB
    sun_from: RGB
    zenith: RGB
    horizon: RGB
    fog: RGB
    fog_density: float
    bank0_m: float
    bank1_m: float
    bank_density: float
    night: float
    wet: float
    snow: float
    cloud: float
    lamps_d: float
    ego_x: float
    ego_y: float
    ego_yaw_rad: float


_DAYLIGHT = {  # ambient, sun, zenith, horizon, height of the sun in degrees
    "day": ((0.42, 0.46, 0.54), (0.95, 0.9, 0.8), (0.16, 0.34, 0.72), (0.62, 0.74, 0.88), 48.0),
    "dusk": ((0.17, 0.16, 0.22), (0.55, 0.28, 0.12), (0.1, 0.12, 0.3), (0.85, 0.42, 0.2), 8.0),
    "night": ((0.014, 0.017, 0.03), (0.012, 0.014, 0.02), (0.002, 0.003, 0.009), (0.016, 0.014, 0.018), 40.0),
}
_FOG_DENSITY = {"clear": 0.0008, "rain": 0.006, "fog": 0.035, "snow": 0.009}
_GREY_SKY = {"day": (0.56, 0.59, 0.62), "dusk": (0.28, 0.24, 0.27), "night": (0.022, 0.021, 0.024)}


def _mix(a: RGB, b: RGB, share: float) -> RGB:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def make_lighting(conditions: Conditions, road: Road, rng: np.random.Generator) -> Lighting:
    """The lighting of a scene, before the rare event and the vehicle's place are filled in."""
    ambient, sun, zenith, horizon, height = _DAYLIGHT[conditions.light]
    grey = _GREY_SKY[conditions.light]
    overcast = {"clear": 0.0, "rain": 0.85, "fog": 1.0, "snow": 0.8}[conditions.weather]
    azimuth, up = float(rng.uniform(-0.9, 0.9)), math.radians(height)
    if conditions.light != "dusk":
        azimuth *= 3.0
    lit = conditions.environment in ("city", "residential")
    black = (0.0, 0.0, 0.0)
    return Lighting(
        ambient=_mix(ambient, grey, 0.55 * overcast),
        sun=_mix(sun, black, 0.85 * overcast),
        sun_from=(math.cos(up) * math.cos(azimuth), math.cos(up) * math.sin(azimuth), math.sin(up)),
        zenith=_mix(zenith, _mix(grey, black, 0.1), overcast),
        horizon=_mix(horizon, grey, overcast),
        fog=_mix(horizon, grey, max(overcast, 0.6)),
        fog_density=_FOG_DENSITY[conditions.weather],
        bank0_m=0.0,
        bank1_m=0.0,
        bank_density=0.0,
        night={"day": 0.0, "dusk": 0.45, "night": 1.0}[conditions.light],
        wet=1.0 if conditions.weather == "rain" else 0.0,
        snow=1.0 if conditions.weather == "snow" else 0.0,
        cloud=float(rng.uniform(0.1, 0.8)),
        lamps_d=road.edge_m - 1.0 if lit else 0.0,
        ego_x=0.0,
        ego_y=0.0,
        ego_yaw_rad=0.0,
    )


def headlit(lighting: Lighting, event: tuple[str | None, float], pose: tuple[float, float, float]) -> Lighting:
    """`lighting` with the vehicle at pose (x m, y m, yaw rad), and the fog bank where that is the event (kind, x)."""
    kind, x = event
    bank = (x - 14.0, x + 120.0, 0.16) if kind == "fog_bank" else (0.0, 0.0, 0.0)
    return lighting._replace(
        bank0_m=bank[0], bank1_m=bank[1], bank_density=bank[2], ego_x=pose[0], ego_y=pose[1], ego_yaw_rad=pose[2]
    )


class Surfaces(NamedTuple):
    """Looks of m solids: material i8 (m,), colour f64 (m, 3) linear RGB; seeds i64 (m,) vary their patterns."""

    material: NDArray[np.int8]
    colour: Array
    seeds: NDArray[np.int64]
