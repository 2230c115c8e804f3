"""LiDAR sweeps: a spinning multi-beam scanner, cast into the same world the cameras see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.raycast import GROUND, Hits, corners, raycast, turn_windows
from miner.simulation.rig import LIDAR, Array, ego_SE3_sensor, lidar_elevations_rad
from miner.simulation.solids import Material, Solids
from miner.simulation.world import View, sensor_pose, solids_at

RANGE_M, NEAR_M = 85.0, 1.6
NOISE_M = 0.015
_BACKSCATTER = {"clear": 0.0, "rain": 0.004, "fog": 0.016, "snow": 0.008}  # share of a beam lost per metre
_REFLECTS = {Material.SIGN: 0.95, Material.BOARD: 0.9, Material.STRIPES: 0.8, Material.CONE: 0.7, Material.CABIN: 0.12}


def pattern(beams: int, azimuths: int) -> Array:
    """Unit rays f64 (beams, azimuths, 3): row = ring, lowest first; column c looks along azimuth 2 pi c / azimuths."""
    elevation = lidar_elevations_rad(beams)[:, None]
    azimuth = (2 * np.pi / azimuths * np.arange(azimuths))[None]
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation) + 0 * azimuth], -1)


def cast_sweep(seen: View, timestamp_ns: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Points f32 (n, 5): x, y, z (m, LiDAR frame), intensity 0..255, ring; and i32 (n,): the actor of each, or -1."""
    spec = seen.world.spec
    t_s = float(seen.world.seconds_at(timestamp_ns))
    rotation, origin = sensor_pose(seen.world, LIDAR, t_s)
    solids = solids_at(seen, t_s)
    solids = solids.take(np.linalg.norm(solids.centre - origin, axis=1) - solids.half.max(1) < RANGE_M)
    rays = pattern(spec.beams, spec.azimuths)
    windows = turn_windows((corners(solids.shapes()) - origin) @ rotation, spec.beams, spec.azimuths)
    hits = raycast(origin, np.ascontiguousarray(rays @ rotation.T), solids.shapes(), windows)
    rng = np.random.default_rng([spec.seed, seen.world.index, timestamp_ns, 0])
    kept = _returned(hits, _BACKSCATTER[seen.world.conditions.weather], rng)
    measured = hits.distance[kept] + rng.normal(0.0, NOISE_M, int(kept.sum()))
    points = np.empty((len(measured), 5), np.float32)
    points[:, :3] = rays[kept] * measured[:, None]
    points[:, 3] = _intensity(hits.solid[kept], measured, solids)
    points[:, 4] = np.nonzero(kept)[0]
    owner = np.where(hits.solid[kept] >= 0, solids.owner[np.maximum(hits.solid[kept], 0)], -1)
    return points, owner.astype(np.int32)


def _returned(hits: Hits, lost_per_m: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which beams come back: near enough, not swallowed by the weather, and rarely by chance."""
    with np.errstate(invalid="ignore"):
        chance = 0.995 * np.exp(-lost_per_m * hits.distance)
    kept: NDArray[np.bool_] = (hits.distance < RANGE_M) & (hits.distance > NEAR_M)
    return kept & (rng.random(hits.distance.shape) < chance)


def _intensity(index: NDArray[np.int32], distance: Array, solids: Solids) -> Array:
    """Reflected strength 0..255: bright paint and retroreflectors high, glass and far ground low."""
    bright = 0.15 + 0.7 * solids.colour.mean(1)
    for material, value in _REFLECTS.items():
        bright[solids.material == material] = value
    strength = np.where(index == GROUND, 0.12, np.append(bright, 0.0)[np.maximum(index, -1)])
    return np.round(255 * strength * np.clip(1.1 - distance / RANGE_M, 0.1, 1.0))


def points_per_actor(seen: View, timestamp_ns: int) -> NDArray[np.int64]:
    """How many points of the sweep at this time lie on each actor, i64 (actors,)."""
    owner = cast_sweep(seen, timestamp_ns)[1]
    return np.bincount(owner[owner >= 0], minlength=len(seen.world.actors))


def lidar_to_ego(points: NDArray[np.float32]) -> Array:
    """Points (n, >=3) of a sweep in the ego frame, f64 (n, 3)."""
    rotation, translation = ego_SE3_sensor(LIDAR)
    return np.asarray(points[:, :3].astype(np.float64) @ rotation.T + translation)
