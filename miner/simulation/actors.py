"""Everything that gets a box: what it is, where it starts and how it moves; poses at any time, all at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kernels.se3 import wxyz_to_matrix
from miner.simulation.models import MODELS
from miner.simulation.rig import turn_z
from miner.simulation.road import Array, Ego, Road
from miner.simulation.solids import Material, Solids, box, join, stack


@dataclass(frozen=True)
class Actor:
    """One thing on or beside the road. Stations and offsets in metres, speeds in m/s, angles against the road.

    `convoy` is its share of the recording vehicle's motion (1: same motion), added to `speed_x`. `speed_d` carries it
    sideways until it has gone `span_d_m`. `roll_rad` tips it over.
    """

    model: str
    x_m: float
    d_m: float
    size_lwh: tuple[float, float, float]
    seed: int
    yaw_rad: float = 0.0
    roll_rad: float = 0.0
    speed_x: float = 0.0
    speed_d: float = 0.0
    span_d_m: float = 0.0
    convoy: float = 0.0

    @property
    def category(self) -> str:
        """The label of its boxes."""
        return MODELS[self.model].category


@dataclass(frozen=True)
class Poses:
    """World poses of n actors at t times: centre f64 (t, n, 3) m, wxyz f64 (t, n, 4), yaw_rad f64 (t, n)."""

    centre: Array
    wxyz: Array
    yaw_rad: Array


class Region(NamedTuple):
    """Stations from_x to to_x and offsets from_d to to_d, in metres."""

    from_x: float
    to_x: float
    from_d: float
    to_d: float


def _sweeps(actor: Actor, region: Region, ego_travel_m: float, seconds: float) -> bool:
    """Whether an actor touches the region on its way."""
    ahead = actor.speed_x * seconds + actor.convoy * ego_travel_m
    aside = math.copysign(min(abs(actor.speed_d) * seconds, actor.span_d_m), actor.speed_d)
    reach = actor.size_lwh[0] / 2
    from_x, to_x = region.from_x - actor.x_m, region.to_x - actor.x_m
    from_d, to_d = region.from_d - actor.d_m, region.to_d - actor.d_m
    along = min(0.0, ahead) - reach < to_x and from_x < max(0.0, ahead) + reach
    return along and min(0.0, aside) < to_d and from_d < max(0.0, aside)


@dataclass
class Crowd:
    """A list of actors being filled by the makers of traffic and events; draws sizes from its own random stream."""

    rng: np.random.Generator
    actors: list[Actor] = field(default_factory=list)

    def add(self, model: str, x_m: float, d_m: float, **motion: float) -> Actor:
        """One more actor of this model."""
        kind = MODELS[model]
        scale = 1.0 + kind.spread * float(self.rng.uniform(-1, 1))
        length, width, height = (side * scale for side in kind.size_lwh)
        actor = Actor(model, x_m, d_m, (length, width, height), int(self.rng.integers(2**31)), **motion)
        self.actors.append(actor)
        return actor

    def clear(self, region: Region, ego: Ego, seconds: float) -> None:
        """Take away whoever is in the region at any time of the scene."""
        travel = float(ego.station_m(seconds))
        self.actors = [actor for actor in self.actors if not _sweeps(actor, region, travel, seconds)]


def _column(actors: list[Actor], name: str) -> Array:
    return np.array([getattr(actor, name) for actor in actors], np.float64)


def actor_poses(actors: list[Actor], road: Road, ego: Ego, t_s: ArrayLike) -> Poses:
    """Where all actors are at times `t_s` (t,), seconds since the start of the scene."""
    t = np.atleast_1d(np.asarray(t_s, np.float64))[:, None]
    x = _column(actors, "x_m") + _column(actors, "speed_x") * t + _column(actors, "convoy") * ego.station_m(t)
    speed_d, span = _column(actors, "speed_d"), _column(actors, "span_d_m")
    d = _column(actors, "d_m") + np.sign(speed_d) * np.minimum(np.abs(speed_d) * t, span)
    world_x, world_y = road.place(x, d)
    roll = _column(actors, "roll_rad")
    size = np.array([actor.size_lwh for actor in actors], np.float64).reshape(-1, 3)
    height = np.abs(np.cos(roll)) * size[:, 2] + np.abs(np.sin(roll)) * size[:, 1]
    half_yaw = (road.heading_rad(x) + _column(actors, "yaw_rad")) / 2
    cy, sy, cr, sr = np.cos(half_yaw), np.sin(half_yaw), np.cos(roll / 2), np.sin(roll / 2)
    return Poses(
        centre=np.stack([world_x, world_y, np.broadcast_to(height / 2, world_x.shape)], -1),
        wxyz=np.stack([cy * cr, cy * sr, sy * sr, sy * cr], -1),
        yaw_rad=2 * half_yaw,
    )


def actor_solids(actors: list[Actor]) -> Solids:
    """The parts of all actors, each in its frame; owner is the row of the actor."""
    groups = []
    for row, actor in enumerate(actors):
        parts = MODELS[actor.model].parts(actor.size_lwh, np.random.default_rng(actor.seed))
        groups.append(stack(parts, row))
    return join(groups)


def place_actors(local: Solids, poses: Poses, at: int, t_s: float) -> Solids:
    """`local` from `actor_solids` moved to the poses of time row `at`, legs swung as at time `t_s`."""
    rotation, centre = wxyz_to_matrix(poses.wxyz[at])[local.owner], poses.centre[at][local.owner]
    offset = local.centre.copy()
    offset[:, 0] += local.swing_m * np.sin(2 * np.pi * 0.9 * t_s + 1.7 * local.owner)
    return replace(
        local,
        centre=(rotation @ offset[..., None])[..., 0] + centre,
        rotation=rotation @ local.rotation,
    )


def shadows(actors: list[Actor], poses: Poses, at: int) -> Solids:
    """A dark patch on the ground below each actor, owned by nobody, so that things stand on the road."""
    flat = [
        box(Material.SHADOW, (0, 0, 0), (a.size_lwh[0] * 1.06, a.size_lwh[1] * 1.2, 0.02), (0, 0, 0)) for a in actors
    ]
    solids = stack(flat)
    ground = poses.centre[at] * np.array([1.0, 1.0, 0.0])
    return replace(solids, centre=ground, rotation=turn_z(poses.yaw_rad[at]))
