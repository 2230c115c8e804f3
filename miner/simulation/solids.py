"""Things as sets of simple solids with materials: the form in which cameras and LiDAR see the world."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.raycast import BOX, CYLINDER, ELLIPSOID, Shapes

Array = NDArray[np.float64]
Triple = tuple[float, float, float]
ALONG_Z = np.eye(3)
ALONG_Y = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # takes the axis of a cylinder to y
ALONG_X = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # and to x
NOBODY = -1


class Material(IntEnum):
    """How a solid is drawn and how well it reflects a laser."""

    PLAIN = 0
    BODY = 1  # a car's lower body: doors, wheel arches
    CABIN = 2  # a car's upper body: glass between pillars
    WHEEL = 3
    LAMP = 4  # shines
    FACADE = 5  # floors of windows over shop fronts
    HOUSE = 6  # bricks, few windows, a door
    ROOF = 7
    LEAVES = 8
    STRIPES = 9  # red and white, slanting
    SHADOW = 10  # darkens the ground it lies on
    FUR = 11
    CONE = 12  # orange with a white band
    COACH = 13  # a bus: a band of windows
    CARGO = 14  # a container: ribs
    SIGN = 15  # a round sign: red ring, white field
    BOARD = 16  # a direction board: white lines of text on its colour
    BARK = 17


class Part(NamedTuple):
    """One solid of a thing: its middle and full size in metres, linear RGB albedo; it swings along x when walking."""

    shape: int
    material: int
    centre: Triple
    size: Triple
    colour: Triple
    taper: tuple[float, float] = (0.0, 0.0)
    rotation: Array = ALONG_Z
    swing_m: float = 0.0


@dataclass(frozen=True)
class Solids:
    """m solids in one frame.

    centre, half, colour f64 (m, 3); rotation f64 (m, 3, 3); taper f64 (m, 2); shape, material i8 (m,); swing_m
    f64 (m,); owner i32 (m,), the row of the actor each belongs to or NOBODY.
    """

    centre: Array
    half: Array
    colour: Array
    rotation: Array
    taper: Array
    shape: NDArray[np.int8]
    material: NDArray[np.int8]
    swing_m: Array
    owner: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Solids:
        """The chosen solids."""
        return Solids(*(getattr(self, field.name)[rows] for field in fields(self)))

    def shapes(self) -> Shapes:
        """The geometry alone, for the ray caster."""
        return Shapes(self.centre, self.rotation, self.half, self.taper, self.shape)


def stack(parts: list[Part], owner: int = NOBODY) -> Solids:
    """Parts of one thing as solids."""
    m = len(parts)
    return Solids(
        centre=np.array([part.centre for part in parts], np.float64).reshape(m, 3),
        half=np.array([part.size for part in parts], np.float64).reshape(m, 3) / 2,
        colour=np.array([part.colour for part in parts], np.float64).reshape(m, 3),
        rotation=np.array([part.rotation for part in parts], np.float64).reshape(m, 3, 3),
        taper=np.array([part.taper for part in parts], np.float64).reshape(m, 2),
        shape=np.array([part.shape for part in parts], np.int8),
        material=np.array([part.material for part in parts], np.int8),
        swing_m=np.array([part.swing_m for part in parts], np.float64),
        owner=np.full(m, owner, np.int32),
    )


def join(groups: Iterable[Solids]) -> Solids:
    """All solids of several groups, in order."""
    listed = list(groups) or [stack([])]
    return Solids(*(np.concatenate([getattr(group, field.name) for group in listed]) for field in fields(Solids)))


def box(material: int, centre: Triple, size: Triple, colour: Triple, taper: tuple[float, float] = (0.0, 0.0)) -> Part:
    """An upright box, tapered towards its top."""
    return Part(BOX, material, centre, size, colour, taper)


def ball(material: int, centre: Triple, size: Triple, colour: Triple) -> Part:
    """An ellipsoid."""
    return Part(ELLIPSOID, material, centre, size, colour)


def rod(material: int, centre: Triple, size: Triple, colour: Triple, rotation: Array = ALONG_Z) -> Part:
    """A cylinder; `size` is before `rotation`, its last entry the length."""
    return Part(CYLINDER, material, centre, size, colour, rotation=rotation)
