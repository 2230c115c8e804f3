"""What stands still beside the road: buildings, trees, lamps, signs, rails. Nothing here has a label."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from miner.simulation.models import AMBER, BLACK, GREY, RED
from miner.simulation.rig import turn_z
from miner.simulation.road import Road
from miner.simulation.solids import ALONG_X, Material, Part, Solids, Triple, ball, box, join, rod, stack

LAMP_EVERY_M = 28.0
_FRONTS: list[Triple] = [
    (0.45, 0.33, 0.22), (0.5, 0.46, 0.38), (0.33, 0.14, 0.1), (0.55, 0.5, 0.42), (0.3, 0.32, 0.36), (0.5, 0.38, 0.18),
]  # fmt: skip
_ROOFS: list[Triple] = [(0.3, 0.09, 0.05), (0.14, 0.12, 0.12), (0.22, 0.14, 0.09)]


@dataclass
class Site:
    """A stretch of road being furnished."""

    road: Road
    from_m: float
    to_m: float
    rng: np.random.Generator
    groups: list[Solids] = field(default_factory=list)

    def put(self, parts: list[Part], x_m: float, d_m: float, yaw_rad: float = 0.0) -> None:
        """Stand parts at (x, d), turned against the road's direction; their frame is on the ground."""
        local = stack(parts)
        turn = turn_z(float(self.road.heading_rad(x_m)) + yaw_rad)
        x, y = self.road.place(x_m, d_m)
        centre = local.centre @ turn.T + np.array([float(x), float(y), 0.0])
        self.groups.append(replace(local, centre=centre, rotation=turn @ local.rotation))

    def stations(self, every_m: float, jitter: float = 0.0) -> Iterator[float]:
        """Stations along the stretch; crossing roads are left free."""
        for x in np.arange(self.from_m, self.to_m, every_m):
            x = float(x + self.rng.uniform(-jitter, jitter))
            if self.road.clear_of_crossings(x, 1.0):
                yield x

    def colour(self, options: list[Triple]) -> Triple:
        """One of the colours, a little lighter or darker."""
        red, green, blue = options[int(self.rng.integers(len(options)))]
        light = float(self.rng.uniform(0.8, 1.2))
        return red * light, green * light, blue * light


def _towers(site: Site) -> None:
    """A closed row of tall fronts on both sides, open at crossings."""
    for side in (-1, 1):
        x = site.from_m
        while x < site.to_m:
            width, height = float(site.rng.uniform(11, 20)), 3.4 * float(site.rng.integers(3, 9)) + 1.2
            if site.road.clear_of_crossings(x + width / 2, width / 2 + 3.0):
                size = (width - 0.1, 14.0, height)
                walls = box(Material.FACADE, (0, 0, height / 2), size, site.colour(_FRONTS))
                edge = box(Material.PLAIN, (0, 0, height + 0.2), (width, 14.5, 0.5), site.colour(_FRONTS))
                site.put([walls, edge], x + width / 2, side * (site.road.border_m + 7.6))
                x += width
            else:
                x += 3.0


def _houses(site: Site) -> None:
    for side in (-1, 1):
        for x in site.stations(17.0, 2.0):
            if not site.road.clear_of_crossings(x, 9.0):
                continue
            width, deep, tall = site.rng.uniform(9, 12), 8.5, float(site.rng.choice([3.2, 5.8]))
            roof = box(
                Material.ROOF, (0, 0, tall + 1.6), (width + 0.8, deep + 0.8, 3.2), site.colour(_ROOFS), (0.0, 1.0)
            )
            walls = box(Material.HOUSE, (0, 0, tall / 2), (width, deep, tall), site.colour(_FRONTS))
            chimney = box(Material.HOUSE, (0.3 * width, 0.8, tall + 2.6), (0.7, 0.7, 2.4), (0.3, 0.12, 0.08))
            site.put([walls, roof, chimney], x, side * (site.road.border_m + 9.5 + site.rng.uniform(-1, 2)))


def _tree(site: Site, x: float, d: float, scale: float) -> None:
    green = site.colour([(0.05, 0.16, 0.03), (0.09, 0.19, 0.04), (0.03, 0.12, 0.04)])
    trunk = rod(Material.BARK, (0, 0, 1.3 * scale), (0.36 * scale, 0.36 * scale, 2.6 * scale), (0.12, 0.08, 0.05))
    if site.rng.random() < 0.25:
        tiers = [(1.2, 3.4, 2.4), (2.6, 2.8, 2.2), (4.0, 2.0, 2.2)]
        crown = [
            box(Material.LEAVES, (0, 0, (z + h / 2) * scale), (w * scale, w * scale, h * scale), green, (1.0, 1.0))
            for z, w, h in tiers
        ]
    else:
        spots = site.rng.uniform(-0.8, 0.8, (4, 3)) * scale
        crown = [
            ball(Material.LEAVES, (px, py, 3.9 * scale + 0.8 * pz), (2.9 * scale, 2.9 * scale, 2.5 * scale), green)
            for px, py, pz in spots.tolist()
        ]
    site.put([trunk, *crown], x, d, float(site.rng.uniform(0, 3)))


def _street_trees(site: Site) -> None:
    for side in (-1, 1):
        for x in site.stations(13.0, 3.0):
            if site.rng.random() < 0.5:
                _tree(site, x, side * (site.road.edge_m + 1.1), 0.8)


def _garden_trees(site: Site) -> None:
    for side in (-1, 1):
        for x in site.stations(12.0, 4.0):
            _tree(site, x, side * (site.road.border_m + site.rng.uniform(1.5, 3.5)), float(site.rng.uniform(0.7, 1.2)))


def _woods(site: Site) -> None:
    for side in (-1, 1):
        for x in site.stations(9.0, 4.0):
            if site.rng.random() < 0.75:
                d = site.road.border_m + 6.0 + 22.0 * float(site.rng.random()) ** 2
                _tree(site, x, side * d, float(site.rng.uniform(1.0, 1.8)))


def _lamps(site: Site) -> None:
    """Street lamps where the shading lights the ground: every LAMP_EVERY_M on both sides."""
    first = int(np.ceil(site.from_m / LAMP_EVERY_M))
    for i in range(first, int(site.to_m / LAMP_EVERY_M)):
        for side in (-1, 1):
            pole = rod(Material.PLAIN, (0, 0, 3.4), (0.16, 0.16, 6.8), GREY)
            arm = box(Material.PLAIN, (0, -side * 0.8, 6.8), (0.1, 1.7, 0.1), GREY)
            head = box(Material.LAMP, (0, -side * 1.5, 6.7), (0.3, 0.7, 0.14), (1.0, 0.8, 0.5))
            site.put([pole, arm, head], i * LAMP_EVERY_M, side * (site.road.edge_m + 0.5))


def _traffic_lights(site: Site) -> None:
    for crossing in site.road.crossings(site.from_m, site.to_m).tolist():
        lit = int(site.rng.integers(3))
        for way in (-1, 1):
            colours = [RED, AMBER, (0.05, 0.8, 0.25)]
            bulbs = [
                ball(
                    Material.LAMP if row == lit else Material.PLAIN,
                    (-way * 0.16, 0, 3.75 - 0.33 * row),
                    (0.14, 0.27, 0.27),
                    colours[row] if row == lit else BLACK,
                )
                for row in range(3)
            ]
            pole = rod(Material.PLAIN, (0, 0, 1.6), (0.14, 0.14, 3.2), GREY)
            case = box(Material.PLAIN, (0, 0, 3.42), (0.26, 0.4, 1.1), BLACK)
            x = crossing + way * (site.road.crossing_m + 1.0)
            site.put([pole, case, *bulbs], x, -way * (site.road.edge_m + 0.6))


def _signs(site: Site) -> None:
    for x in site.stations(55.0, 15.0):
        post = rod(Material.PLAIN, (0.06, 0, 1.2), (0.07, 0.07, 2.4), GREY)
        face = rod(Material.SIGN, (0, 0, 2.5), (0.75, 0.75, 0.05), RED, ALONG_X)
        site.put([post, face], x, -(site.road.edge_m + 0.9))


def _rails(site: Site) -> None:
    steel = (0.42, 0.43, 0.45)
    for x in np.arange(site.from_m, site.to_m, 4.0).tolist():
        for d in (0.0, site.road.edge_m + 0.6, -site.road.edge_m - 0.6):
            beam = box(Material.PLAIN, (0, 0, 0.62), (4.06, 0.12, 0.32), steel)
            post = box(Material.PLAIN, (0, 0, 0.3), (0.12, 0.1, 0.6), GREY)
            site.put([beam, post], x, d)


def _gantries(site: Site) -> None:
    wide = site.road.edge_m + 1.4
    for x in site.stations(120.0, 20.0):
        legs = [rod(Material.PLAIN, (0, y, 3.4), (0.3, 0.3, 6.8), GREY) for y in (0.0, -wide)]
        beam = box(Material.PLAIN, (0, -wide / 2, 6.5), (0.35, wide, 0.4), GREY)
        blue = (0.02, 0.07, 0.4)
        boards = [box(Material.BOARD, (-0.2, y, 6.3), (0.1, 3.6, 2.1), blue) for y in (-0.28 * wide, -0.72 * wide)]
        site.put([*legs, beam, *boards], x, 0.0)


def _fences(site: Site) -> None:
    wood = (0.25, 0.18, 0.11)
    for x in np.arange(site.from_m, site.to_m, 5.0).tolist():
        for side in (-1, 1):
            post = box(Material.BARK, (0, 0, 0.55), (0.12, 0.12, 1.1), wood)
            rails = [box(Material.BARK, (2.5, 0, z), (5.0, 0.05, 0.1), wood) for z in (0.5, 0.95)]
            site.put([post, *rails], x, side * (site.road.border_m + 3.2))


def _barns(site: Site) -> None:
    for x in site.stations(120.0, 40.0):
        side = int(site.rng.choice([-1, 1]))
        walls = box(Material.HOUSE, (0, 0, 2.2), (18, 10, 4.4), (0.35, 0.08, 0.05))
        roof = box(Material.ROOF, (0, 0, 6.4), (19, 11, 4.0), (0.14, 0.12, 0.12), (0.0, 1.0))
        site.put([walls, roof], x, side * (site.road.border_m + 22.0))


_FURNISH: dict[str, list[Callable[[Site], None]]] = {
    "city": [_towers, _street_trees, _lamps, _traffic_lights, _signs],
    "residential": [_houses, _garden_trees, _lamps, _signs],
    "highway": [_rails, _gantries, _woods],
    "rural": [_fences, _barns, _woods, _signs],
}


def make_scenery(environment: str, road: Road, span_m: tuple[float, float], rng: np.random.Generator) -> Solids:
    """All still solids between two stations, in the world frame."""
    site = Site(road, *span_m, rng)
    for furnish in _FURNISH[environment]:
        furnish(site)
    return join(site.groups)
