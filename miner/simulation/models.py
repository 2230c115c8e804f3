"""Things that get a labelled box: vehicles, people, animals and what lies on roads, each made of a few solids.

A model's frame has its origin in the middle of its box, x forward, y left, z up. All parts stay inside the box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kernels.raycast import CYLINDER
from miner.simulation.solids import ALONG_X, ALONG_Y, Material, Part, Triple, ball, box, rod

BLACK, DARK, GREY, WHITE = (0.012, 0.012, 0.014), (0.04, 0.04, 0.045), (0.3, 0.3, 0.32), (0.75, 0.75, 0.72)
RED, AMBER, HEAD = (0.8, 0.02, 0.02), (0.95, 0.4, 0.02), (1.0, 0.95, 0.8)
PAINTS = [
    WHITE,
    GREY,
    DARK,
    (0.5, 0.02, 0.02),
    (0.03, 0.08, 0.35),
    (0.55, 0.56, 0.6),
    (0.02, 0.2, 0.09),
    (0.6, 0.45, 0.05),
]
CLOTHES = [DARK, (0.05, 0.07, 0.25), (0.5, 0.04, 0.04), (0.55, 0.5, 0.4), (0.03, 0.25, 0.2), (0.7, 0.55, 0.05), WHITE]
SKINS = [(0.55, 0.32, 0.22), (0.35, 0.18, 0.1), (0.13, 0.07, 0.05)]


def _choice(options: list[Triple], rng: np.random.Generator) -> Triple:
    return options[int(rng.integers(len(options)))]


def _wheels(size: Triple, axles: list[float], radius: float) -> list[Part]:
    _, width, height = size
    at = [(x, side * (width / 2 - 0.13)) for x in axles for side in (-1, 1)]
    tyre = (2 * radius, 2 * radius, 0.24)
    return [rod(Material.WHEEL, (x, y, radius - height / 2), tyre, BLACK, ALONG_Y) for x, y in at]


def _lamps(size: Triple, z: float) -> list[Part]:
    length, width, _ = size
    at, lamp = width / 2 - 0.24, (0.08, 0.36, 0.16)
    front = [box(Material.LAMP, (length / 2 - 0.04, side * at, z), lamp, HEAD) for side in (-1, 1)]
    return front + [box(Material.LAMP, (0.04 - length / 2, side * at, z + 0.08), lamp, RED) for side in (-1, 1)]


def _underside(size: Triple, axles: list[float]) -> list[Part]:
    """What shows of a car that lies on its side: axles, exhaust, engine."""
    length, width, height = size
    z = 0.19 - height / 2
    return [
        *(rod(Material.PLAIN, (x, 0, z), (0.1, 0.1, width - 0.3), GREY, ALONG_Y) for x in axles),
        box(Material.PLAIN, (-0.12 * length, 0.3, z), (0.7 * length, 0.1, 0.08), GREY),
        box(Material.PLAIN, (-0.4 * length, 0.3, z), (0.5, 0.3, 0.12), (0.42, 0.4, 0.36)),
        box(Material.PLAIN, (0.26 * length, 0, z), (0.7, 0.8, 0.12), (0.1, 0.1, 0.1)),
    ]


def _car(size: Triple, rng: np.random.Generator) -> list[Part]:
    length, width, height = size
    paint, low = _choice(PAINTS, rng), -height / 2
    cabin_m = height - 0.86
    middle = rng.uniform(-0.09, -0.03) * length
    body = [
        box(Material.BODY, (0, 0, low + 0.58), (length - 0.06, width, 0.64), paint, (0.06, 0.03)),
        box(
            Material.CABIN,
            (middle, 0, low + 0.86 + cabin_m / 2),
            (0.64 * length, width * 0.95, cabin_m),
            paint,
            (0.42, 0.2),
        ),
        box(Material.PLAIN, (0, 0, low + 0.34), (length, width * 0.97, 0.2), DARK),
        box(Material.PLAIN, (0.02 - length / 2, 0, low + 0.62), (0.04, 0.52, 0.13), WHITE),
        box(Material.PLAIN, (length / 2 - 0.02, 0, low + 0.6), (0.04, width * 0.5, 0.16), BLACK),
    ]
    axles = [-0.3 * length, 0.31 * length]
    return body + _underside(size, axles) + _wheels(size, axles, 0.33) + _lamps(size, low + 0.66)


def _truck(size: Triple, rng: np.random.Generator) -> list[Part]:
    length, width, height = size
    paint, low, cab = _choice(PAINTS, rng), -height / 2, 2.1
    cargo = length - cab - 0.25
    parts = [
        box(
            Material.CARGO,
            (-length / 2 + cargo / 2, 0, low + 1.1 + (height - 1.1) / 2),
            (cargo, width, height - 1.1),
            _choice(PAINTS, rng),
        ),
        box(Material.PLAIN, (length / 2 - cab / 2, 0, low + 0.95), (cab, width * 0.96, 0.9), paint),
        box(Material.CABIN, (length / 2 - cab / 2, 0, low + 2.0), (cab - 0.06, width * 0.94, 1.3), paint, (0.12, 0.03)),
        box(Material.PLAIN, (0, 0, low + 0.85), (length - 0.4, width * 0.5, 0.4), DARK),
        box(Material.STRIPES, (0.06 - length / 2, 0, low + 0.95), (0.08, width * 0.9, 0.2), RED),
    ]
    axles = [0.37 * length, -0.22 * length, -0.36 * length]
    return parts + _wheels(size, axles, 0.5) + _lamps(size, low + 0.72)


def _bus(size: Triple, rng: np.random.Generator) -> list[Part]:
    length, width, height = size
    low = -height / 2
    paint = _choice([(0.7, 0.5, 0.03), (0.55, 0.03, 0.04), (0.05, 0.15, 0.5), (0.05, 0.3, 0.12)], rng)
    parts = [
        box(
            Material.COACH,
            (0, 0, low + 0.35 + (height - 0.4) / 2),
            (length - 0.04, width, height - 0.4),
            paint,
            (0.01, 0.04),
        ),
        box(Material.LAMP, (length / 2 - 0.03, 0, height / 2 - 0.32), (0.06, width * 0.6, 0.24), AMBER),
        box(Material.PLAIN, (0, 0, low + 0.4), (length, width * 0.96, 0.3), DARK),
    ]
    return parts + _wheels(size, [0.33 * length, -0.28 * length], 0.48) + _lamps(size, low + 0.7)


def _person(size: Triple, rng: np.random.Generator) -> list[Part]:
    height = size[2]
    low, leg = -height / 2, 0.47 * height
    coat, trousers, skin = _choice(CLOTHES, rng), _choice(CLOTHES, rng), _choice(SKINS, rng)
    legs = [
        Part(CYLINDER, Material.PLAIN, (0, side * 0.1, low + leg / 2), (0.15, 0.15, leg), trousers, swing_m=side * 0.11)
        for side in (-1, 1)
    ]
    arms = [
        Part(
            CYLINDER,
            Material.PLAIN,
            (0, side * (size[1] / 2 - 0.055), low + 0.64 * height),
            (0.1, 0.1, 0.36 * height),
            coat,
            swing_m=-side * 0.12,
        )
        for side in (-1, 1)
    ]
    trunk = [
        box(Material.PLAIN, (0, 0, low + 0.64 * height), (0.24, 0.46, 0.36 * height), coat, (0.1, 0.0)),
        ball(Material.PLAIN, (0, 0, height / 2 - 0.13), (0.22, 0.19, 0.26), skin),
        ball(
            Material.PLAIN, (-0.02, 0, height / 2 - 0.09), (0.24, 0.21, 0.18), _choice([BLACK, (0.12, 0.06, 0.02)], rng)
        ),
    ]
    return legs + arms + trunk


def _cyclist(size: Triple, rng: np.random.Generator) -> list[Part]:
    length, _, height = size
    low, coat, frame = -height / 2, _choice(CLOTHES, rng), _choice(PAINTS, rng)
    wheel = 0.68
    at = length / 2 - wheel / 2
    wheels = [rod(Material.WHEEL, (x, 0, low + wheel / 2), (wheel, wheel, 0.05), BLACK, ALONG_Y) for x in (-at, at)]
    bike = [
        box(Material.PLAIN, (0, 0, low + 0.62), (0.75, 0.06, 0.07), frame),
        box(Material.PLAIN, (-0.05, 0, low + 0.45), (0.06, 0.05, 0.4), frame),
        box(Material.PLAIN, (at - 0.1, 0, low + 0.75), (0.05, 0.05, 0.6), frame),
        box(Material.PLAIN, (at - 0.14, 0, low + 1.05), (0.06, 0.56, 0.05), DARK),
        box(Material.LAMP, (-at + 0.12, 0, low + 0.8), (0.06, 0.1, 0.1), RED),
    ]
    rider = [
        *(box(Material.PLAIN, (0.05, side * 0.12, low + 0.68), (0.2, 0.13, 0.66), DARK) for side in (-1, 1)),
        box(Material.PLAIN, (0, 0, low + 1.22), (0.34, 0.4, 0.5), coat, (0.2, 0.1)),
        *(box(Material.PLAIN, (0.28, side * 0.2, low + 1.2), (0.45, 0.09, 0.1), coat) for side in (-1, 1)),
        ball(Material.PLAIN, (0.08, 0, height / 2 - 0.16), (0.2, 0.18, 0.26), _choice(SKINS, rng)),
        ball(Material.PLAIN, (0.07, 0, height / 2 - 0.09), (0.26, 0.2, 0.17), _choice([RED, WHITE, AMBER], rng)),
    ]
    return wheels + bike + rider


def _deer(size: Triple, rng: np.random.Generator) -> list[Part]:
    length, width, height = size
    low, fur = -height / 2, _choice([(0.3, 0.16, 0.07), (0.36, 0.22, 0.12), (0.2, 0.11, 0.06)], rng)
    belly = low + 0.52 * height
    legs = [
        Part(
            CYLINDER,
            Material.FUR,
            (x * length, y * width, low + 0.22 * height),
            (0.09, 0.09, 0.44 * height),
            fur,
            swing_m=0.06 * x * y,
        )
        for x in (-0.28, 0.2)
        for y in (-0.26, 0.26)
    ]
    trunk = [
        ball(Material.FUR, (-0.05 * length, 0, belly), (0.72 * length, width * 0.9, 0.33 * height), fur),
        box(
            Material.FUR,
            (0.27 * length, 0, low + 0.68 * height),
            (0.2 * length, width * 0.35, 0.36 * height),
            fur,
            (0.3, 0.3),
        ),
        ball(Material.FUR, (0.36 * length, 0, low + 0.83 * height), (0.26 * length, width * 0.36, 0.14 * height), fur),
        ball(Material.PLAIN, (-0.42 * length, 0, belly + 0.06), (0.1, 0.12, 0.2), WHITE),
    ]
    antlers = [
        box(Material.BARK, (x * length, side * 0.12, low + z * height), (0.04, s, 0.12 * height), (0.4, 0.3, 0.18))
        for side in (-1, 1)
        for x, z, s in ((0.29, 0.93, 0.04), (0.33, 0.96 - 0.03, 0.12))
    ]
    return legs + trunk + antlers


def _tyre(size: Triple, rng: np.random.Generator) -> list[Part]:
    across, _, height = size
    flat = rod(Material.WHEEL, (0, 0, -0.12 * height), (across, across, 0.76 * height), BLACK)
    return [
        flat,
        rod(Material.WHEEL, (0.1 * across, 0, 0.38 * height), (0.7 * across, 0.7 * across, 0.24 * height), BLACK),
    ]


def _barrier(size: Triple, rng: np.random.Generator) -> list[Part]:
    length, width, height = size
    boards = [box(Material.STRIPES, (0, 0, z * height), (0.06, width, 0.27 * height), RED) for z in (-0.05, 0.28)]
    posts = [
        box(Material.PLAIN, (0, side * 0.42 * width, -0.05 * height), (0.09, 0.09, 0.9 * height), GREY)
        for side in (-1, 1)
    ]
    feet = [
        box(Material.PLAIN, (0, side * 0.42 * width, -0.46 * height), (length, 0.16, 0.08 * height), DARK)
        for side in (-1, 1)
    ]
    lamps = [
        ball(Material.LAMP, (0, side * 0.42 * width, 0.45 * height), (0.16, 0.16, 0.1 * height), AMBER)
        for side in (-1, 1)
    ]
    return boards + posts + feet + lamps


def _cone(size: Triple, rng: np.random.Generator) -> list[Part]:
    across, _, height = size
    foot = box(Material.PLAIN, (0, 0, -0.47 * height), (across, across, 0.06 * height), DARK)
    return [
        foot,
        box(Material.CONE, (0, 0, 0.03 * height), (0.7 * across, 0.7 * across, 0.94 * height), AMBER, (0.8, 0.8)),
    ]


def _closure(size: Triple, rng: np.random.Generator) -> list[Part]:
    height = size[2]
    post = rod(Material.PLAIN, (-0.08, 0, -0.15 * height), (0.08, 0.08, 0.7 * height), GREY)
    sign = rod(Material.SIGN, (0, 0, 0.5 * height - 0.55), (1.1, 1.1, 0.06), RED, ALONG_X)
    board = box(Material.BOARD, (0, 0, -0.05 * height), (0.06, 1.3, 0.5), (0.7, 0.5, 0.02))
    return [post, sign, board]


@dataclass(frozen=True)
class Model:
    """A kind of thing: its label, the middle and spread of its (length, width, height) in metres, and its parts."""

    category: str
    size_lwh: Triple
    spread: float
    parts: Callable[[Triple, np.random.Generator], list[Part]]


MODELS: dict[str, Model] = {
    "car": Model("vehicle.car", (4.5, 1.84, 1.5), 0.07, _car),
    "van": Model("vehicle.car", (5.1, 2.0, 2.05), 0.05, _car),
    "truck": Model("vehicle.truck", (9.0, 2.5, 3.5), 0.08, _truck),
    "bus": Model("vehicle.bus", (11.5, 2.55, 3.1), 0.05, _bus),
    "pedestrian": Model("human.pedestrian", (0.62, 0.64, 1.72), 0.07, _person),
    "cyclist": Model("vehicle.bicycle", (1.8, 0.62, 1.75), 0.04, _cyclist),
    "deer": Model("animal", (1.9, 0.6, 1.7), 0.1, _deer),
    "tyre": Model("movable_object.debris", (1.05, 1.05, 0.5), 0.05, _tyre),
    "barrier": Model("movable_object.barrier", (0.6, 2.0, 1.2), 0.0, _barrier),
    "cone": Model("movable_object.trafficcone", (0.42, 0.42, 0.8), 0.0, _cone),
    "closure": Model("movable_object.barrier", (0.3, 1.3, 2.9), 0.0, _closure),
}
