"""Pictures of what camera rays hit: light, sky and fog on the colours of `ground` and `materials`, in one pass.

Numba's disk cache of `shade` looks at this file's time stamp alone: after a change in a module it compiles in
(`ground`, `materials`, `patterns`, `solids`), touch this file.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit
from kernels.raycast import ELLIPSOID, GROUND, ROUND, SKY, Hits, Shapes
from miner.simulation.ground import ground_albedo
from miner.simulation.lighting import RGB, Lighting, Surfaces
from miner.simulation.materials import Solid, albedo_and_glow
from miner.simulation.patterns import dim, mix, noise
from miner.simulation.road import Array, Road
from miner.simulation.scenery import LAMP_EVERY_M
from miner.simulation.solids import Material

_LAMP, _SHADOW, _CABIN, _BODY = (int(m) for m in (Material.LAMP, Material.SHADOW, Material.CABIN, Material.BODY))


@jit
def _normal(solid: Solid, face: int, p: RGB) -> RGB:
    """Outward unit normal in the world."""
    half, (rx, ry, rz) = solid.half, solid.turn
    x = y = z = 0.0
    if face == ROUND:
        x, y = p[0] / half[0] ** 2, p[1] / half[1] ** 2
        z = p[2] / half[2] ** 2 if solid.kind == ELLIPSOID else 0.0
    elif face < 2:
        x, z = (2.0 * face - 1.0) / half[0], 0.5 * solid.taper[0] / half[2]
    elif face < 4:
        y, z = (2.0 * face - 5.0) / half[1], 0.5 * solid.taper[1] / half[2]
    else:
        z = 2.0 * face - 9.0
    size = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / size, y / size, z / size
    return (
        rx[0] * x + rx[1] * y + rx[2] * z,
        ry[0] * x + ry[1] * y + ry[2] * z,
        rz[0] * x + rz[1] * y + rz[2] * z,
    )


@jit
def _light_at(w: RGB, n: RGB, station: tuple[float, float], light: Lighting) -> RGB:
    """Light that falls on world point w with normal n: sky, sun, our headlights, street lamps."""
    sun = max(n[0] * light.sun_from[0] + n[1] * light.sun_from[1] + n[2] * light.sun_from[2], 0.0)
    up = 0.72 + 0.28 * n[2]
    r, g, b = dim(light.ambient, up)
    r, g, b = r + light.sun[0] * sun, g + light.sun[1] * sun, b + light.sun[2] * sun
    if light.night > 0.0:
        c, s = math.cos(light.ego_yaw_rad), math.sin(light.ego_yaw_rad)
        ahead = c * (w[0] - light.ego_x) + s * (w[1] - light.ego_y) - 2.5
        aside = c * (w[1] - light.ego_y) - s * (w[0] - light.ego_x)
        if ahead > 0.0:
            wide = 1.6 + 0.3 * ahead
            beam = math.exp(-((aside / wide) ** 2)) * math.exp(-ahead / 26.0) * min(ahead / 4.0, 1.0)
            beam *= light.night * 0.95 / (1.0 + max(w[2] - 1.1, 0.0) ** 2 * 1.5)
            r, g, b = r + beam, g + 0.96 * beam, b + 0.85 * beam
        if light.lamps_d > 0.0:
            along = station[0] - LAMP_EVERY_M * math.floor(station[0] / LAMP_EVERY_M + 0.5)
            away = abs(station[1]) - light.lamps_d
            pool = light.night * 0.34 / (1.0 + (along**2 + away**2) / 22.0 + max(w[2] - 6.6, 0.0) ** 2)
            r, g, b = r + pool, g + 0.76 * pool, b + 0.42 * pool
    return r, g, b


@jit
def _sky(ray: RGB, light: Lighting) -> RGB:
    up = max(ray[2], 0.0)
    low = light.horizon
    colour = mix(low, light.zenith, min(1.0, 1.7 * math.sqrt(up)))
    towards = max(ray[0] * light.sun_from[0] + ray[1] * light.sun_from[1] + ray[2] * light.sun_from[2], 0.0)
    glow = 0.35 * towards**24 + (2.0 if towards > 0.9996 else 0.0)
    colour = (colour[0] + light.sun[0] * glow, colour[1] + light.sun[1] * glow, colour[2] + light.sun[2] * glow)
    if up > 0.02:
        u, v = ray[0] / (up + 0.12), ray[1] / (up + 0.12)
        puff = 0.6 * noise(u * 1.1, v * 1.1, 20) + 0.3 * noise(u * 2.7, v * 2.7, 21) + 0.1 * noise(u * 7.0, v * 7.0, 22)
        share = min(max((puff - 0.75 + 0.45 * light.cloud) * 3.5, 0.0), 0.85)
        colour = mix(colour, (1.25 * low[0], 1.2 * low[1], 1.15 * low[2]), share)
    return colour


@jit
def _bank(origin: RGB, ray: RGB, distance: float, light: Lighting) -> float:
    """Metres of a ray inside the fog bank."""
    if light.bank_density == 0.0:
        return 0.0
    first, last = 0.0, min(distance, 400.0)
    if ray[0] == 0.0:
        return last if light.bank0_m < origin[0] < light.bank1_m else 0.0
    a, b = (light.bank0_m - origin[0]) / ray[0], (light.bank1_m - origin[0]) / ray[0]
    inside = max(min(max(a, b), last) - max(min(a, b), first), 0.0)
    height = origin[2] + ray[2] * max(min(a, b), 0.0)
    return inside * math.exp(-max(height - 4.0, 0.0) / 4.0)


@jit
def _fogged(colour: RGB, origin: RGB, ray: RGB, distance: float, light: Lighting) -> RGB:
    depth = light.fog_density * min(distance, 260.0 if light.fog_density < 0.02 else 600.0)
    depth += light.bank_density * _bank(origin, ray, distance, light)
    mist = light.fog
    glow = light.night * 0.09 * min(1.0, 30.0 * (light.fog_density + light.bank_density))
    return mix(colour, (mist[0] + glow, mist[1] + glow * 0.95, mist[2] + glow * 0.85), 1.0 - math.exp(-depth))


@jit
def _road_place(x: float, y: float, road: Road) -> tuple[float, float]:
    """Station and offset of a world point."""
    bend = road.wavenumber * x + road.phase_rad
    slope = road.amplitude_m * road.wavenumber * math.cos(bend)
    d = (y - road.amplitude_m * math.sin(bend)) / math.sqrt(1.0 + slope * slope)
    return x + d * slope, d


@jit
def _ground_colour(w: RGB, ray: RGB, blur: float, road: Road, light: Lighting) -> RGB:
    station = _road_place(w[0], w[1], road)
    albedo = ground_albedo(station[0], station[1], blur, road, light.snow)
    shine = _light_at(w, (0.0, 0.0, 1.0), station, light)
    colour = (albedo[0] * shine[0], albedo[1] * shine[1], albedo[2] * shine[2])
    if light.wet > 0.0 and abs(station[1]) < road.lanes * road.lane_m + road.parking_m + road.pavement_m:
        mirror = _sky((ray[0], ray[1], -ray[2]), light)
        puddle = 0.35 + 0.65 * noise(station[0] * 0.5, station[1] * 0.9, 23)
        colour = mix(dim(colour, 0.6), mirror, light.wet * puddle * 0.8 * (1.0 + ray[2]) ** 5)
    return colour


@jit
def _solid_colour(w: RGB, hit: tuple[Solid, int, float], ray: RGB, road: Road, light: Lighting) -> RGB:
    solid, face, blur = hit
    if solid.material == _SHADOW:
        return dim(_ground_colour(w, ray, blur, road, light), 0.38)
    (rx, ry, rz), middle = solid.turn, solid.centre
    x, y, z = w[0] - middle[0], w[1] - middle[1], w[2] - middle[2]
    p = (
        rx[0] * x + ry[0] * y + rz[0] * z,
        rx[1] * x + ry[1] * y + rz[1] * z,
        rx[2] * x + ry[2] * y + rz[2] * z,
    )
    albedo, glow = albedo_and_glow(solid, face, p, light.night)
    n = _normal(solid, face, p)
    if light.snow > 0.0 and n[2] > 0.3 and solid.material != _LAMP:
        albedo = mix(albedo, (0.8, 0.82, 0.86), min(2.0 * (n[2] - 0.3), 0.85) * light.snow)
    shine = _light_at(w, n, _road_place(w[0], w[1], road), light)
    colour = (albedo[0] * shine[0] + glow[0], albedo[1] * shine[1] + glow[1], albedo[2] * shine[2] + glow[2])
    if solid.material == _CABIN or solid.material == _BODY:
        toward = 2.0 * (ray[0] * n[0] + ray[1] * n[1] + ray[2] * n[2])
        mirror = _sky((ray[0] - toward * n[0], ray[1] - toward * n[1], ray[2] - toward * n[2]), light)
        colour = mix(colour, mirror, 0.1 + 0.3 * (1.0 - min(0.5 * abs(toward), 1.0)) ** 3)
    return colour


@jit
def _solid(i: int, shapes: Shapes, looks: Surfaces) -> Solid:
    """Row i as plain values: the functions of a pixel pass no arrays, whose reference counts would cost the most."""
    turn, half, middle, colour = shapes.rotation[i], shapes.half[i], shapes.centre[i], looks.colour[i]
    rows = (
        (turn[0, 0], turn[0, 1], turn[0, 2]),
        (turn[1, 0], turn[1, 1], turn[1, 2]),
        (turn[2, 0], turn[2, 1], turn[2, 2]),
    )
    return Solid(
        (middle[0], middle[1], middle[2]),
        rows,
        (half[0], half[1], half[2]),
        (shapes.taper[i, 0], shapes.taper[i, 1]),
        (colour[0], colour[1], colour[2]),
        int(shapes.kind[i]),
        int(looks.material[i]),
        looks.seeds[i],
    )


@jit
def shade(
    view: tuple[RGB, Array, float], hits: Hits, scene: tuple[Shapes, Surfaces, Road], light: Lighting
) -> NDArray[np.float32]:
    """Linear RGB f32 (rows, cols, 3) of camera rays.

    view = origin x, y, z, unit directions f64 (rows, cols, 3), angle of a pixel in radians; hits from `raycast` on the
    shapes of `scene` = (Shapes, Surfaces, Road).
    """
    (origin, directions, pixel_rad), (shapes, looks, road) = view, scene
    rows, cols = hits.solid.shape
    picture = np.empty((rows, cols, 3), np.float32)
    for row in range(rows):
        for col in range(cols):
            ray = (directions[row, col, 0], directions[row, col, 1], directions[row, col, 2])
            distance, i = hits.distance[row, col], hits.solid[row, col]
            if i == SKY:
                colour = _sky(ray, light)
            else:
                w = (origin[0] + distance * ray[0], origin[1] + distance * ray[1], origin[2] + distance * ray[2])
                blur = 0.01 + distance * pixel_rad
                if i == GROUND:
                    colour = _ground_colour(w, ray, blur, road, light)
                else:
                    hit = (_solid(i, shapes, looks), int(hits.face[row, col]), blur)
                    colour = _solid_colour(w, hit, ray, road, light)
            colour = _fogged(colour, origin, ray, distance, light)
            picture[row, col, 0], picture[row, col, 1], picture[row, col, 2] = colour
    return picture
