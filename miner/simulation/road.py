"""The road of a scene and the motion of the recording vehicle on it.

World frame: x along the road, y left, z up, the road plane z = 0. A place on the road is (x, d): station x on the
centre line and lateral offset d, positive to the left; traffic keeps right, so it drives forward at d < 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
PAVED, GRASS, FIELD = 0, 1, 2


class Road(NamedTuple):
    """Geometry of a road: its centre line is y = amplitude_m sin(wavenumber x + phase_rad). Lengths in metres.

    `lanes` per direction of `lane_m`, then parking or shoulder, then pavement, then the verge (PAVED, GRASS or FIELD).
    Roads of half width `crossing_m` cross at `crossing_first_m` and every `crossing_every_m`, 0 for none.
    """

    amplitude_m: float
    wavenumber: float
    phase_rad: float
    lanes: int
    lane_m: float
    parking_m: float
    pavement_m: float
    verge: int
    median: int
    crossing_first_m: float
    crossing_every_m: float
    crossing_m: float

    @property
    def edge_m(self) -> float:
        """Offset of the kerb."""
        return self.lanes * self.lane_m + self.parking_m

    @property
    def border_m(self) -> float:
        """Offset where the pavement ends."""
        return self.edge_m + self.pavement_m

    def heading_rad(self, x: ArrayLike) -> Array:
        """Direction of the centre line at stations x."""
        bend = self.amplitude_m * self.wavenumber * np.cos(self.wavenumber * np.asarray(x) + self.phase_rad)
        return np.asarray(np.arctan(bend))

    def place(self, x: Array | float, d: Array | float) -> tuple[Array, Array]:
        """World x and y of places (x, d)."""
        heading = self.heading_rad(x)
        middle = self.amplitude_m * np.sin(self.wavenumber * np.asarray(x) + self.phase_rad)
        return np.asarray(x - d * np.sin(heading)), np.asarray(middle + d * np.cos(heading))

    def lane_d(self, lane: float, direction: int = 1) -> float:
        """Offset of the middle of a lane, 0 next to the centre line; direction -1 is oncoming."""
        return -direction * (lane + 0.5) * self.lane_m

    def clear_of_crossings(self, x: float, reach_m: float) -> bool:
        """Whether something from x - reach to x + reach stays off the crossing roads."""
        if not self.crossing_every_m:
            return True
        away = (
            x - self.crossing_first_m + self.crossing_every_m / 2
        ) % self.crossing_every_m - self.crossing_every_m / 2
        return abs(away) > self.crossing_m + reach_m

    def crossings(self, from_m: float, to_m: float) -> Array:
        """Stations of the crossing roads in a stretch."""
        every = self.crossing_every_m
        if not every:
            return np.empty(0)
        first, last = (int(np.ceil((end - self.crossing_first_m) / every)) for end in (from_m, to_m))
        return self.crossing_first_m + every * np.arange(first, last, dtype=np.float64)


@dataclass(frozen=True)
class Ego:
    """Motion of the recording vehicle: steady, then braking evenly to a stop, where `brake_s` is not infinite."""

    lane: int
    speed_mps: float
    brake_s: float
    decel_mps2: float

    def station_m(self, t_s: ArrayLike) -> Array:
        """Stations at times in seconds since the start of the scene."""
        t = np.asarray(t_s, np.float64)
        braking = np.clip(t - self.brake_s, 0.0, self.speed_mps / self.decel_mps2)
        return np.asarray(self.speed_mps * (np.minimum(t, self.brake_s) + braking) - 0.5 * self.decel_mps2 * braking**2)


_LAYOUT = {  # lanes, lane_m, parking_m, pavement_m, verge, median, bend, crossing every m, speed m/s
    "city": (2, 3.2, 2.3, 3.6, PAVED, 0, 0.03, 90.0, (6.0, 11.0)),
    "residential": (1, 3.1, 2.2, 2.0, GRASS, 0, 0.06, 110.0, (5.0, 9.0)),
    "highway": (3, 3.6, 2.8, 0.0, GRASS, 1, 0.05, 0.0, (18.0, 27.0)),
    "rural": (1, 3.3, 0.4, 0.0, FIELD, 0, 0.12, 0.0, (12.0, 20.0)),
}


def make_road(environment: str, rng: np.random.Generator) -> Road:
    """A road for these surroundings."""
    lanes, lane_m, parking_m, pavement_m, verge, median, bend, every_m, _ = _LAYOUT[environment]
    wavenumber = 2 * np.pi / float(rng.uniform(180.0, 320.0))
    bend = bend * float(rng.uniform(0.2, 1.0))
    phase_rad, first_m = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(20.0, 110.0))
    across = (lanes, lane_m, parking_m, pavement_m, verge, median)
    return Road(bend / wavenumber, wavenumber, phase_rad, *across, first_m, every_m, 4.2)


def make_ego(environment: str, stop_s: float | None, rng: np.random.Generator) -> Ego:
    """The vehicle's lane and motion; with `stop_s` it comes to a stop at that time of the scene."""
    speed = float(rng.uniform(*_LAYOUT[environment][8]))
    lane = 1 if environment == "highway" else 0
    if stop_s is None:
        return Ego(lane, speed, float("inf"), 1.0)
    decel = max(3.0, speed / stop_s)
    return Ego(lane, speed, stop_s - speed / decel, decel)
