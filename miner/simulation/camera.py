"""Camera frames: the rays of a calibrated camera, cast and shaded, with weather before the lens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.raycast import Hits, corners, image_windows, raycast
from miner.simulation.lighting import Lighting, Surfaces, headlit, make_lighting
from miner.simulation.rig import Array, intrinsic
from miner.simulation.shading import shade
from miner.simulation.solids import Material, Solids
from miner.simulation.world import View, ego_poses, sensor_pose, solids_at

FAR_M = 190.0


@dataclass(frozen=True)
class Shot:
    """One camera at one time. rotation (3, 3) and origin (3,) place it in the world; matrix (3, 3) is its intrinsic."""

    seen: View
    channel: str
    t_s: float
    rotation: Array
    origin: Array
    matrix: Array
    size_hw: tuple[int, int]


def make_shot(seen: View, channel: str, timestamp_ns: int) -> Shot:
    """The camera `channel` of a scene at a time."""
    spec, t_s = seen.world.spec, float(seen.world.seconds_at(timestamp_ns))
    rotation, origin = sensor_pose(seen.world, channel, t_s)
    matrix = intrinsic(channel, spec.width, spec.height)
    return Shot(seen, channel, t_s, rotation, origin, matrix, (spec.height, spec.width))


def directions(shot: Shot) -> Array:
    """Unit rays through the middles of all pixels, f64 (rows, cols, 3), in the world frame."""
    height, width = shot.size_hw
    v, u = np.mgrid[0:height, 0:width] + 0.5
    x, y = (u - shot.matrix[0, 2]) / shot.matrix[0, 0], (v - shot.matrix[1, 2]) / shot.matrix[1, 1]
    rays = np.stack([x, y, np.ones_like(x)], -1) / np.sqrt(x * x + y * y + 1.0)[..., None]
    return np.ascontiguousarray(rays @ shot.rotation.T)


def _in_view(shot: Shot, solids: Solids) -> tuple[Solids, NDArray[np.int32]]:
    """The solids near enough to matter, and their windows in the image."""
    away = np.linalg.norm(solids.centre[:, :2] - shot.origin[:2], axis=1)
    near = solids.take(away < FAR_M)
    windows = image_windows((corners(near.shapes()) - shot.origin) @ shot.rotation, shot.matrix, shot.size_hw)
    seen = (windows[:, 1] > windows[:, 0]) & (windows[:, 3] > windows[:, 2])
    return near.take(seen), windows[seen]


def trace(shot: Shot, rays: Array) -> tuple[Solids, Hits]:
    """What each pixel sees: the solids in view, and the hits, whose index is a row of these solids."""
    solids, windows = _in_view(shot, solids_at(shot.seen, shot.t_s))
    return solids, raycast(shot.origin, rays, solids.shapes(), windows)


def _lighting(shot: Shot) -> Lighting:
    world = shot.seen.world
    base = make_lighting(world.conditions, world.road, world.rng(3))
    position, heading = ego_poses(world, np.array([shot.t_s]))
    pose = (float(position[0, 0]), float(position[0, 1]), float(heading[0]))
    return headlit(base, (world.conditions.event, world.event_x_m or 0.0), pose)


def _halos(picture: NDArray[np.float32], shot: Shot, solids: Solids, hits: Hits, light: Lighting) -> None:
    """Add the halos of visible lamps, and their streaks on a wet road."""
    height, width = shot.size_hw
    lamps = solids.take(solids.material == Material.LAMP)
    place = (lamps.centre - shot.origin) @ shot.rotation
    for (x, y, z), rgb, (ahead, _, above) in zip(place, lamps.colour, lamps.centre, strict=True):
        if not 1.0 < z < 120.0:
            continue
        u, v = shot.matrix[0, 0] * x / z + shot.matrix[0, 2], shot.matrix[1, 1] * y / z + shot.matrix[1, 2]
        if not (0 <= u < width and 0 <= v < height):
            continue
        if hits.distance[int(v), int(u)] < 0.97 * np.sqrt(x * x + y * y + z * z) - 0.3:
            continue
        size = (1.5 + 0.22 * shot.matrix[0, 0] / z) * (1.0 + 12.0 * light.fog_density)
        depth = (light.fog_density + 0.004) * z + light.bank_density * _bank_m(shot.origin[0], ahead, light)
        dim = np.exp(-depth) * light.night
        _blot(picture, (u, v), (size, size), rgb * dim * 0.9)
        if light.wet:
            foot = v + shot.matrix[1, 1] * 2.0 * above / z
            _blot(picture, (u, foot), (size * 0.7, size * 3.0), rgb * dim * 0.25)


def _bank_m(from_x: float, to_x: float, light: Lighting) -> float:
    """Metres of fog bank between two world x."""
    first, last = min(from_x, to_x), max(from_x, to_x)
    return max(min(last, light.bank1_m) - max(first, light.bank0_m), 0.0)


def _blot(picture: NDArray[np.float32], at: tuple[float, float], size: tuple[float, float], rgb: Array) -> None:
    """Add a soft spot at pixel (u, v) with standard deviations `size`, in place."""
    height, width = picture.shape[:2]
    (u, v), (wide, tall) = at, size
    c0, c1 = max(int(u - 3 * wide), 0), min(int(u + 3 * wide) + 1, width)
    r0, r1 = max(int(v - 3 * tall), 0), min(int(v + 3 * tall) + 1, height)
    if c0 >= c1 or r0 >= r1:
        return
    spot = np.exp(-0.5 * ((np.arange(r0, r1) - v) / tall)[:, None] ** 2 - 0.5 * ((np.arange(c0, c1) - u) / wide) ** 2)
    picture[r0:r1, c0:c1] += (spot[..., None] * rgb).astype(np.float32)


def _fall(picture: NDArray[np.float32], weather: str, bright: float, rng: np.random.Generator) -> None:
    """Draw rain streaks or snow flakes, in place."""
    height, width = picture.shape[:2]
    scale = width / 640
    rain = weather == "rain"
    count = int((380 if rain else 750) * height / 360 * scale)
    length = int((22 if rain else 3) * scale) + 1
    near = rng.random(count) ** 3
    u, v = rng.random(count) * width, rng.random(count) * height
    reach = np.arange(length)[None] * (0.3 + near[:, None])
    cols = ((u[:, None] + (0.18 if rain else 0.5) * reach) % width).astype(np.int64)
    rows = ((v[:, None] + reach) % height).astype(np.int64)
    share = ((0.1 if rain else 0.35) + 0.3 * near)[:, None]
    for shift in (0,) if rain else (0, 1):
        spots = rows, np.minimum(cols + shift, width - 1)
        picture[spots] = (picture[spots] * (1 - share[..., None]) + share[..., None] * bright).astype(np.float32)


def render_view(seen: View, channel: str, timestamp_ns: int) -> NDArray[np.uint8]:
    """One frame of a scene, uint8 RGB (height, width, 3)."""
    shot = make_shot(seen, channel, timestamp_ns)
    rays = directions(shot)
    solids, hits = trace(shot, rays)
    light = _lighting(shot)
    seeds = np.round(np.abs(solids.centre[:, 0] * 13 + solids.half[:, 2] * 101)).astype(np.int64)
    looks = Surfaces(solids.material, solids.colour, seeds)
    scene = (solids.shapes(), looks, seen.world.road)
    x, y, z = shot.origin.tolist()
    picture = shade(((x, y, z), rays, 1.0 / float(shot.matrix[0, 0])), hits, scene, light)
    if light.night > 0:
        _halos(picture, shot, solids, hits, light)
    stamp = [seen.world.spec.seed, seen.world.index, timestamp_ns, sum(channel.encode())]
    return _develop(picture, seen.world.conditions.weather, light, np.random.default_rng(stamp))


def _develop(
    picture: NDArray[np.float32], weather: str, light: Lighting, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Exposure, falling rain or snow, sensor noise, gamma."""
    exposed = picture * (1.25 + 1.4 * light.night)
    exposed = exposed / (1.0 + np.maximum(exposed - 0.6, 0.0))
    bright = 0.6 * (1.0 - light.night) + 0.36
    if weather in ("rain", "snow"):
        _fall(exposed, weather, bright * (0.8 if weather == "rain" else 1.1), rng)
    grain = rng.random(exposed.shape[:2], dtype=np.float32)[..., None] - np.float32(0.5)
    shown = np.sqrt(np.clip(exposed, 0.0, 1.0)) * 255 + grain * np.float32(4.0 + 10.0 * light.night)
    frame: NDArray[np.uint8] = np.clip(shown, 0, 255).astype(np.uint8)
    return frame
