"""One scene put together: conditions, road, motion, actors, clock. Cheap; what is only seen is made by `view`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miner.simulation.actors import Actor, Crowd, actor_poses, actor_solids, place_actors, shadows
from miner.simulation.conditions import Conditions, scene_conditions
from miner.simulation.rig import CAMERAS, LIDAR, LIDAR_MOUNT, Array, ego_SE3_sensor, turn_z
from miner.simulation.road import Ego, Road, make_ego, make_road
from miner.simulation.scenery import make_scenery
from miner.simulation.solids import Solids, join
from miner.simulation.spec import Spec, scene_index
from miner.simulation.traffic import Setting, cross_road, make_traffic, plant_event

FIRST_NS = 1_700_000_000_000_000_000
BETWEEN_SCENES_NS = 5_000_000_000
BEFORE_M, BEHIND_M = 150.0, 60.0
SIGHT_M = 50.0


@dataclass(frozen=True)
class World:
    """A scene. `event_x_m` is the station of its rare event, or None; times of the scene are [start_ns, end_ns)."""

    spec: Spec
    name: str
    index: int
    conditions: Conditions
    road: Road
    ego: Ego
    actors: list[Actor]
    event_x_m: float | None
    start_ns: int
    end_ns: int

    def seconds_at(self, timestamp_ns: NDArray[np.int64] | int) -> Array:
        """Seconds since the start of the scene."""
        return np.asarray((np.asarray(timestamp_ns, np.int64) - self.start_ns) / 1e9)

    def rng(self, stream: int) -> np.random.Generator:
        """A random stream of this scene."""
        return scene_rng(self.spec, self.index, stream)


def scene_rng(spec: Spec, index: int, stream: int) -> np.random.Generator:
    """Random numbers that depend on the seed, the scene and the stream alone."""
    return np.random.default_rng([spec.seed, index, 100 + stream])


def make_world(spec: Spec, name: str) -> World:
    """The scene `name`. Raises NotFound for a name the spec does not have."""
    index = scene_index(spec, name)
    conditions, rng = scene_conditions(spec, index), scene_rng(spec, index, 0)
    stops = conditions.environment in ("city", "residential") and bool(rng.random() < 0.4)
    blocked = conditions.event not in (None, "fog_bank")
    ego = make_ego(conditions.environment, 0.7 * spec.seconds if stops or blocked else None, rng)
    end_x_m = float(ego.station_m(spec.seconds))
    road = make_road(conditions.environment, rng)
    setting = Setting(conditions, road, ego, end_x_m, spec.seconds)
    crowd = Crowd(scene_rng(spec, index, 1))
    make_traffic(setting, crowd)
    if stops and not blocked:
        cross_road(setting, crowd)
    event_x_m = plant_event(setting, crowd)
    length_ns = round(spec.seconds * 1e9)
    start_ns = FIRST_NS + index * (length_ns + BETWEEN_SCENES_NS)
    return World(spec, name, index, conditions, road, ego, crowd.actors, event_x_m, start_ns, start_ns + length_ns)


def ego_poses(world: World, t_s: Array) -> tuple[Array, Array]:
    """Positions (t, 3) m and headings (t,) rad of the recording vehicle in the world, at seconds of the scene."""
    x = world.ego.station_m(t_s)
    world_x, world_y = world.road.place(x, world.road.lane_d(world.ego.lane))
    return np.stack([world_x, world_y, np.zeros_like(world_x)], -1), world.road.heading_rad(x)


def channels(spec: Spec) -> list[str]:
    """The sensors of the recording vehicle, in the order of their rows."""
    return [*spec.cameras, *([LIDAR] if spec.lidar_hz > 0 else [])]


def timestamps_ns(world: World, channel: str) -> NDArray[np.int64]:
    """When a sensor fires, int64 (n,): evenly at its rate, after its own delay, within the scene."""
    lidar = channel == LIDAR
    rate = world.spec.lidar_hz if lidar else world.spec.camera_hz
    delay_ns = 1_000_000 * (LIDAR_MOUNT if lidar else CAMERAS[channel]).delay_ms
    length_ns = world.end_ns - world.start_ns
    beats = np.arange(int(np.ceil(length_ns * rate / 1e9)), dtype=np.int64)
    times = np.round(beats * (1e9 / rate)).astype(np.int64) + delay_ns
    return times[times < length_ns] + world.start_ns


def event_span_ns(world: World) -> tuple[int, int] | None:
    """The half-open time during which the rare event is within SIGHT_M ahead, or None without one."""
    if world.event_x_m is None:
        return None
    t_s = np.arange(0.0, world.spec.seconds, 0.05)
    near = np.flatnonzero(world.event_x_m - world.ego.station_m(t_s) < SIGHT_M)
    first = t_s[near[0]] if len(near) else t_s[-1]
    return world.start_ns + int(first * 1e9), world.end_ns


@dataclass(frozen=True)
class View:
    """What does not move, and the actors' parts in their own frames: made once a scene, used for all its readings."""

    world: World
    scenery: Solids
    parts: Solids


def view(world: World) -> View:
    """The visible side of a scene."""
    span = (-BEHIND_M, float(world.ego.station_m(world.spec.seconds)) + BEFORE_M)
    scenery = make_scenery(world.conditions.environment, world.road, span, world.rng(2))
    return View(world, scenery, actor_solids(world.actors))


def solids_at(seen: View, t_s: float) -> Solids:
    """Everything there is at one time, in the world frame; `owner` is the row of the actor."""
    world = seen.world
    poses = actor_poses(world.actors, world.road, world.ego, t_s)
    moving = place_actors(seen.parts, poses, 0, t_s)
    return join([seen.scenery, moving, shadows(world.actors, poses, 0)])


def sensor_pose(world: World, channel: str, t_s: float) -> tuple[Array, Array]:
    """Rotation (3, 3) and translation (3,) m of a sensor in the world."""
    position, heading = ego_poses(world, np.array([t_s]))
    ego_R_sensor, offset = ego_SE3_sensor(channel)
    turn = turn_z(heading[0])
    return turn @ ego_R_sensor, turn @ offset + position[0]
