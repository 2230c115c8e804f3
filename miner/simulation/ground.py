"""The ground: asphalt, lane markings, crossings, pavements, verges, snow. Stations x and offsets d as in `road`."""

from __future__ import annotations

import math

from kernels._jit import jit
from miner.simulation.lighting import RGB
from miner.simulation.patterns import dim, lattice, line_cover, mix, noise, over
from miner.simulation.road import FIELD, PAVED, Road


@jit
def _from_crossing(x: float, road: Road) -> float:
    """Metres from the middle of the nearest crossing road, inf where there are none."""
    if road.crossing_every_m == 0.0:
        return math.inf
    away = x - road.crossing_first_m
    return away - road.crossing_every_m * math.floor(away / road.crossing_every_m + 0.5)


@jit
def _paint(x: float, d: float, blur: float, road: Road) -> float:
    """Cover of white lane paint: dashes between lanes, lines at the edges."""
    a, lanes_m = abs(d), road.lanes * road.lane_m
    cover = line_cover(a - lanes_m + 0.12, 0.15, blur) if road.pavement_m == 0.0 else 0.0
    dash = 1.0 if over(x, 9.0) < 4.0 else 0.0
    for lane in range(1, road.lanes):
        cover = max(cover, dash * line_cover(a - lane * road.lane_m, 0.15, blur))
    if road.pavement_m > 0.0 and road.lanes > 1:
        cover = max(cover, line_cover(a - lanes_m, 0.12, blur) if over(x, 2.0) < 1.0 else 0.0)
    if road.lanes == 1:
        cover = max(cover, dash * line_cover(d, 0.15, blur))
    return cover


@jit
def _asphalt(x: float, d: float, blur: float, road: Road) -> RGB:
    grain = 0.75 + 0.5 * noise(x * 9.0, d * 9.0, 1) * min(1.0, 0.1 / blur) + 0.25 * (noise(x * 0.4, d * 1.3, 2) - 0.5)
    grey = 0.062 * grain
    patch = 0.8 if lattice(math.floor(x / 7.0), math.floor(d / 3.2), 3) < 0.06 else 1.0
    return grey * patch, grey * patch, grey * 1.06 * patch


@jit
def _roadway(x: float, d: float, blur: float, road: Road) -> RGB:
    colour = _asphalt(x, d, blur, road)
    worn = 0.8 + 0.2 * noise(x * 3.0, d * 3.0, 4)
    crossing = _from_crossing(x, road)
    gap = abs(crossing) - road.crossing_m
    if gap < 0.0:
        return colour
    if 0.8 < gap < 4.0:
        return mix(colour, (0.72, 0.72, 0.7), worn * (1.0 if over(d, 1.1) < 0.55 else 0.0))
    if 5.0 < gap < 5.5 and (crossing < 0.0) == (d < 0.0):
        return mix(colour, (0.72, 0.72, 0.7), worn)
    colour = mix(colour, (0.72, 0.72, 0.7), worn * _paint(x, d, blur, road))
    if road.lanes > 1 and road.median == 0:
        yellow = max(line_cover(d - 0.14, 0.12, blur), line_cover(d + 0.14, 0.12, blur))
        colour = mix(colour, (0.62, 0.42, 0.03), worn * yellow)
    return colour


@jit
def _verge(x: float, d: float, blur: float, road: Road) -> RGB:
    rough = noise(x * 1.7, d * 1.7, 5)
    fine = (noise(x * 8.0, d * 8.0, 6) - 0.5) * min(1.0, 0.2 / blur)
    if road.verge == PAVED:
        return dim((0.2, 0.19, 0.18), 0.8 + 0.3 * rough)
    if road.verge == FIELD and abs(d) > road.lanes * road.lane_m + road.parking_m + road.pavement_m + 3.4:
        furrow = 0.5 + 0.5 * math.sin(d * 4.0)
        return mix((0.16, 0.17, 0.04), (0.3, 0.24, 0.07), 0.6 * rough + 0.4 * furrow)
    return dim(mix((0.04, 0.1, 0.018), (0.1, 0.15, 0.03), rough), 1.0 + 0.9 * fine)


@jit
def _pavement(x: float, d: float, blur: float, road: Road) -> RGB:
    joint = (
        max(line_cover(over(x, 0.9) - 0.45, 0.035, blur), line_cover(over(d, 0.9) - 0.45, 0.035, blur))
        if blur < 0.3
        else 0.1
    )
    slab = 0.26 + 0.07 * lattice(math.floor(x / 0.9 - 0.5), math.floor(d / 0.9 - 0.5), 7)
    return dim((1.0, 0.97, 0.92), slab * (1.0 - 0.5 * joint))


@jit
def ground_albedo(x: float, d: float, blur: float, road: Road, snow: float) -> RGB:
    """Albedo of the ground at station x and offset d; `blur` is the size of a pixel there in metres."""
    a = abs(d)
    edge_m = road.lanes * road.lane_m + road.parking_m
    if a < edge_m:
        colour = _roadway(x, d, blur, road)
    elif abs(_from_crossing(x, road)) < road.crossing_m:
        colour = _asphalt(x, d, blur, road)
    elif road.pavement_m > 0.0 and a < edge_m + 0.2:
        colour = (0.42, 0.41, 0.39)
    elif a < edge_m + road.pavement_m:
        colour = _pavement(x, d, blur, road)
    else:
        colour = _verge(x, d, blur, road)
    if snow > 0.0:
        lie = 0.92
        if a < edge_m:
            rut = abs(abs(over(a, road.lane_m) - 0.5 * road.lane_m) - 0.8)
            lie = 0.12 if rut < 0.32 and a < road.lanes * road.lane_m else 0.5
        lie *= 0.75 + 0.4 * noise(x * 0.9, d * 1.4, 8)
        colour = mix(colour, (0.8, 0.82, 0.86), min(lie, 1.0) * snow)
    return colour
