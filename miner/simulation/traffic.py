"""Who is on the road, and the rare thing that may wait on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from miner.simulation.actors import Crowd, Region
from miner.simulation.conditions import Conditions
from miner.simulation.road import Ego, Road

_MIX = {
    "city": (("car", "van", "truck", "bus"), (0.66, 0.12, 0.1, 0.12)),
    "residential": (("car", "van", "truck"), (0.75, 0.18, 0.07)),
    "highway": (("car", "van", "truck", "bus"), (0.6, 0.12, 0.23, 0.05)),
    "rural": (("car", "van", "truck"), (0.7, 0.15, 0.15)),
}
_GAP_M = {"city": (16, 40), "residential": (30, 80), "highway": (24, 70), "rural": (40, 110)}
_WALKERS = {"city": 16, "residential": 5, "highway": 0, "rural": 1}
_CYCLISTS = {"city": 3, "residential": 2, "highway": 0, "rural": 1}
EVENT_GAP_M = {"tyre_on_lane": 8.0, "animal": 10.0, "tipped_vehicle": 13.0, "closed_road": 13.0, "fog_bank": 25.0}
_REACH_M = {"tyre_on_lane": 1.7, "animal": 4.0, "tipped_vehicle": 5.5, "closed_road": 0.0}


@dataclass(frozen=True)
class Setting:
    """Where traffic is made: conditions, road, our motion, our last station, seconds of the scene."""

    conditions: Conditions
    road: Road
    ego: Ego
    end_x_m: float
    seconds: float


def _vehicle(environment: str, rng: np.random.Generator) -> str:
    names, shares = _MIX[environment]
    return str(rng.choice(names, p=shares))


def _lanes(setting: Setting, crowd: Crowd) -> None:
    """Moving vehicles: those ahead in our lane keep our speed, other lanes flow at theirs."""
    road, rng, environment = setting.road, crowd.rng, setting.conditions.environment
    reach = 60.0 + setting.ego.speed_mps * setting.seconds
    for direction in (1, -1):
        for lane in range(road.lanes):
            ours = direction == 1 and lane == setting.ego.lane
            flow = float(rng.uniform(0.9, 1.12)) * setting.ego.speed_mps
            x = -40.0 if direction == 1 else -30.0
            while x < 90.0 if direction == 1 else x < 70.0 + 2 * reach:
                x += float(rng.uniform(*_GAP_M[environment])) + 6.0
                model = _vehicle(environment, rng)
                if ours and -14.0 < x < 16.0:
                    continue
                d = road.lane_d(lane, direction) + float(rng.uniform(-0.25, 0.25))
                if ours:
                    crowd.add(model, x, d, convoy=1.0)
                elif direction == 1:
                    crowd.add(model, x, d, speed_x=flow)
                else:
                    crowd.add(model, x, d, speed_x=-flow, yaw_rad=math.pi)


def _parked(setting: Setting, crowd: Crowd) -> None:
    road, rng = setting.road, crowd.rng
    if road.parking_m < 2.0 or road.pavement_m == 0:
        return
    for direction in (1, -1):
        x = -30.0
        while x < setting.end_x_m + 70.0:
            x += float(rng.uniform(5.8, 16.0))
            if road.clear_of_crossings(x, 9.0):
                d = -direction * (road.edge_m - 1.15)
                crowd.add("car" if rng.random() < 0.85 else "van", x, d, yaw_rad=0.0 if direction == 1 else math.pi)


def _walkers(setting: Setting, crowd: Crowd) -> None:
    """People along the pavements, both ways."""
    road, rng = setting.road, crowd.rng
    beside = road.edge_m + max(road.pavement_m, 1.2) * 0.62
    for _ in range(rng.poisson(_WALKERS[setting.conditions.environment] * (1 + setting.end_x_m / 120.0))):
        way, side = int(rng.choice([-1, 1])), int(rng.choice([-1, 1]))
        x, d = float(rng.uniform(4.0, setting.end_x_m + 60.0)), side * (beside + float(rng.uniform(-0.7, 0.7)))
        speed = way * float(rng.uniform(0.9, 1.6))
        crowd.add("pedestrian", x, d, speed_x=speed, yaw_rad=0.0 if way == 1 else math.pi)


def _cyclists(setting: Setting, crowd: Crowd) -> None:
    road, rng = setting.road, crowd.rng
    for _ in range(rng.poisson(_CYCLISTS[setting.conditions.environment])):
        way = 1 if rng.random() < 0.6 else -1
        x, d = float(rng.uniform(10.0, setting.end_x_m + 40.0)), -way * (road.lanes * road.lane_m - 0.35)
        crowd.add("cyclist", x, d, speed_x=way * float(rng.uniform(3.5, 6.0)), yaw_rad=0.0 if way == 1 else math.pi)


def cross_road(setting: Setting, crowd: Crowd) -> None:
    """A few people crossing in front of the place where the recording vehicle stops, and nobody driving there."""
    road, rng = setting.road, crowd.rng
    zone = Region(setting.end_x_m + 4.0, setting.end_x_m + 16.0, -road.edge_m, road.edge_m)
    crowd.clear(zone, setting.ego, setting.seconds)
    for _ in range(int(rng.integers(1, 4))):
        side = int(rng.choice([-1, 1]))
        speed = float(rng.uniform(1.1, 1.6))
        x = setting.end_x_m + float(rng.uniform(8.5, 12.0))
        reach = speed * setting.seconds * 0.55
        start = min(road.edge_m + 1.0, reach) + float(rng.uniform(0.0, 1.0))
        motion = {"speed_d": -side * speed, "span_d_m": 2 * road.edge_m + 2.0, "yaw_rad": -side * math.pi / 2}
        crowd.add("pedestrian", x, side * start, **motion)


def _plant_tyre(setting: Setting, crowd: Crowd, x: float) -> None:
    d = setting.road.lane_d(setting.ego.lane)
    crowd.add("tyre", x, d + float(crowd.rng.uniform(-0.4, 0.4)))


def _plant_animal(setting: Setting, crowd: Crowd, x: float) -> None:
    d = setting.road.lane_d(setting.ego.lane)
    for i in range(int(crowd.rng.integers(1, 4))):
        side = int(crowd.rng.choice([-1, 1]))
        far = x + 2.5 * i + float(crowd.rng.uniform(0, 1.5))
        motion = {
            "speed_d": -side * 0.5,
            "span_d_m": 4.0,
            "yaw_rad": -side * (math.pi / 2 + float(crowd.rng.uniform(-0.4, 0.4))),
        }
        crowd.add("deer", far, d + side * float(crowd.rng.uniform(1.0, 2.5)), **motion)


def _plant_tipped(setting: Setting, crowd: Crowd, x: float) -> None:
    d = setting.road.lane_d(setting.ego.lane) + 0.4
    roll = float(crowd.rng.choice([math.pi / 2, math.pi], p=[0.4, 0.6]))  # its underside or its wheels towards us
    model = str(crowd.rng.choice(["car", "van", "truck"], p=[0.7, 0.2, 0.1]))
    far = x + (3.0 if model == "truck" else 0.0)
    crowd.add(model, far, d, roll_rad=roll, yaw_rad=float(crowd.rng.uniform(0.5, 1.3)))


def _plant_closure(setting: Setting, crowd: Crowd, x: float) -> None:
    road = setting.road
    left, right = -0.4 if road.median else road.edge_m, -road.edge_m
    for d in np.arange(right + 1.2, left - 0.8, 2.5).tolist():
        crowd.add("barrier", x, d)
    for i, d in enumerate(np.arange(right + 0.8, left - 0.6, 1.9).tolist()):
        crowd.add("cone", x - 2.0 - 0.3 * (i % 2), d)
    crowd.add("closure", x + 0.9, road.lane_d(setting.ego.lane) + 0.2)


_PLANT = {
    "tyre_on_lane": _plant_tyre,
    "animal": _plant_animal,
    "tipped_vehicle": _plant_tipped,
    "closed_road": _plant_closure,
}


def plant_event(setting: Setting, crowd: Crowd) -> float | None:
    """Put the scene's rare event on the road, nobody else there; its station, or None without an event."""
    event = setting.conditions.event
    if event is None:
        return None
    x = setting.end_x_m + EVENT_GAP_M[event]
    if event in _PLANT:
        reach_m = _REACH_M[event]
        middle = setting.road.lane_d(setting.ego.lane)
        left, right = middle + reach_m, middle - reach_m
        if event == "closed_road":
            right, left = -setting.road.border_m, 0.0 if setting.road.median else setting.road.border_m
        crowd.clear(Region(setting.end_x_m + 4.0, x + 12.0, right, left), setting.ego, setting.seconds)
        _PLANT[event](setting, crowd, x)
    return x


def make_traffic(setting: Setting, crowd: Crowd) -> None:
    """Fill the road with its ordinary users."""
    for fill in (_lanes, _parked, _walkers, _cyclists):
        fill(setting, crowd)
