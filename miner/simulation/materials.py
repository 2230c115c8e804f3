"""Materials of solids: facades, cars, wheels, signs. `p` is a place in the solid's frame, metres from its middle."""

from __future__ import annotations

import math
from typing import NamedTuple

from kernels._jit import jit
from kernels.raycast import ROUND
from miner.simulation.lighting import RGB
from miner.simulation.patterns import dim, lattice, mix, noise, over
from miner.simulation.solids import Material

_PLAIN, _BODY, _CABIN, _WHEEL = (int(m) for m in (Material.PLAIN, Material.BODY, Material.CABIN, Material.WHEEL))
_LAMP, _FACADE, _HOUSE, _ROOF = (int(m) for m in (Material.LAMP, Material.FACADE, Material.HOUSE, Material.ROOF))
_LEAVES, _STRIPES, _SHADOW, _FUR = (int(m) for m in (Material.LEAVES, Material.STRIPES, Material.SHADOW, Material.FUR))
_CONE, _COACH, _CARGO, _SIGN = (int(m) for m in (Material.CONE, Material.COACH, Material.CARGO, Material.SIGN))
_BOARD, _BARK = int(Material.BOARD), int(Material.BARK)


class Solid(NamedTuple):
    """One solid as plain values; `turn` holds the rows of its rotation."""

    centre: RGB
    turn: tuple[RGB, RGB, RGB]
    half: RGB
    taper: tuple[float, float]
    colour: RGB
    kind: int
    material: int
    seed: int


@jit
def _facade(u: float, v: float, seed: int, colour: RGB, night: float) -> tuple[RGB, RGB]:
    """A front at u metres along and v metres up: albedo and glow."""
    dark = (0.025, 0.035, 0.05)
    pitch = 2.3 + 0.9 * lattice(seed, 1, 11)
    col = math.floor(u / pitch)
    fu = u / pitch - col
    draw = lattice(col, math.floor(v / 3.4), seed)
    if v < 3.6:
        if 2.75 < v < 3.25:
            hue = lattice(col // 3, seed, 12)
            awning = mix((0.5, 0.04, 0.03), (0.03, 0.22, 0.3), hue) if hue < 0.6 else (0.55, 0.4, 0.05)
            return awning, dim(awning, 0.35 * night)
        if 0.08 < fu < 0.92 and 0.4 < v < 2.7:
            warm = dim((1.0, 0.75, 0.4), 0.75 * night if lattice(col // 3, seed, 13) < 0.7 else 0.0)
            return dark, warm
        return dim(colour, 0.55), (0.0, 0.0, 0.0)
    fv = (v - 3.6) / 3.4 - math.floor((v - 3.6) / 3.4)
    if 0.24 < fu < 0.76 and 0.2 < fv < 0.74:
        if abs(fu - 0.5) < 0.025 or abs(fv - 0.5) < 0.02:
            return (0.45, 0.45, 0.44), (0.0, 0.0, 0.0)
        lit = night if draw < 0.32 else 0.0
        return mix(dark, (0.2, 0.25, 0.3), draw * 0.6), dim((1.0, 0.72, 0.35), lit * (0.25 + draw))
    if 0.2 < fu < 0.8 and 0.13 < fv < 0.2:
        return (0.5, 0.49, 0.46), (0.0, 0.0, 0.0)
    band = 0.75 if fv > 0.95 else 1.0
    return dim(colour, band * (0.92 + 0.12 * noise(u * 1.1, v * 1.1, seed))), (0.0, 0.0, 0.0)


@jit
def _house(u: float, v: float, seed: int, colour: RGB, night: float) -> tuple[RGB, RGB]:
    """A house wall: windows with frames, one door, courses of bricks."""
    col = math.floor(u / 2.9 + 0.5)
    fu, fv = u - col * 2.9, over(v, 2.9)
    if col == 0 and v < 2.15 and abs(fu) < 0.5:
        return mix((0.3, 0.05, 0.03), (0.04, 0.12, 0.2), lattice(seed, 2, 14)), (0.0, 0.0, 0.0)
    if abs(fu) < 0.66 and 0.85 < fv < 2.25 and v < 5.6:
        if abs(fu) > 0.56 or abs(fu) < 0.04 or fv < 0.95 or fv > 2.15:
            return (0.7, 0.7, 0.68), (0.0, 0.0, 0.0)
        lit = night if lattice(col, int(v / 2.9), seed) < 0.5 else 0.0
        return (0.04, 0.05, 0.07), dim((1.0, 0.7, 0.3), 0.75 * lit)
    row = math.floor(v / 0.22)
    brick = 0.85 + 0.3 * lattice(math.floor(u / 0.5 + 0.5 * (row % 2)), row, seed)
    return dim(colour, brick), (0.0, 0.0, 0.0)


@jit
def _cabin(p: RGB, half: RGB, taper: tuple[float, float], face: int, colour: RGB) -> RGB:
    """A car's upper body: roof in its colour, else glass between pillars."""
    if face >= 4:
        return colour
    share = 0.5 * (p[2] / half[2] + 1.0)
    across = p[1] / (half[1] * (1 - taper[1] * share)) if face < 2 else p[0] / (half[0] * (1 - taper[0] * share))
    pillar = abs(across) > (0.9 if face < 2 else 0.86) or (face >= 2 and abs(across + 0.05) < 0.05)
    if pillar or share > 0.92 or share < 0.08:
        return dim(colour, 0.8)
    return 0.03, 0.045, 0.06


@jit
def _body(p: RGB, half: RGB, face: int, colour: RGB) -> RGB:
    """A car's lower body: dark wheel arches, door gaps, a crease and handles on its sides."""
    if face == 2 or face == 3:
        length = half[0] * 2
        for at in (-0.3 * length, 0.31 * length):
            if (p[0] - at) ** 2 + (p[2] + half[2] * 0.8) ** 2 < 0.15:
                return 0.008, 0.008, 0.009
        if abs(p[0] + 0.03 * length) < 0.02 or abs(abs(p[0]) - 0.2 * length) < 0.018:
            return dim(colour, 0.3)
        if 0.09 < p[2] < 0.14 and 0.05 * length < over(p[0], 0.2 * length) < 0.05 * length + 0.17:
            return dim(colour, 0.4)
        return dim(colour, 1.0 if p[2] > 0.03 else 0.72)
    return colour


@jit
def _wheel(p: RGB, half: RGB, face: int) -> RGB:
    """A tyre with a rim of five spokes on its flat sides."""
    if face == ROUND:
        return dim((0.02, 0.02, 0.022), 1.0 if math.sin(40.0 * math.atan2(p[1], p[0])) > 0 else 0.5)
    r = math.hypot(p[0] / half[0], p[1] / half[1])
    if half[2] > 0.14:  # lying about, without a rim: a tyre with its hole
        return (0.004, 0.004, 0.004) if r < 0.5 else (0.035, 0.035, 0.037) if r < 0.85 else (0.018, 0.018, 0.02)
    if r > 0.66:
        return 0.018, 0.018, 0.02
    spoke = math.cos(5.0 * math.atan2(p[1], p[0]))
    return (0.4, 0.4, 0.42) if r < 0.18 or r > 0.58 or spoke > 0.2 else (0.05, 0.05, 0.055)


@jit
def _coach(p: RGB, half: RGB, face: int, colour: RGB) -> RGB:
    """A bus: a band of windows along the sides, a large windscreen, a door."""
    up = p[2] / half[2]
    if face == 2 or face == 3:
        if 0.05 < up < 0.72 and abs(p[0]) < half[0] * 0.95:
            return colour if over(p[0], 1.5) < 0.1 else (0.03, 0.045, 0.06)
        if face == 2 and up < 0.72 and abs(p[0] - half[0] * 0.8) < 0.6:
            return 0.05, 0.06, 0.08
        return (0.7, 0.7, 0.68) if -0.2 < up < -0.1 else colour
    if face == 1 or face == 0:
        wide = abs(p[1]) < half[1] * 0.86
        return (0.03, 0.045, 0.06) if wide and (-0.25 if face == 1 else 0.1) < up < 0.7 else colour
    return colour


@jit
def _sign(p: RGB, half: RGB) -> RGB:
    r = math.hypot(p[0], p[1]) / half[0]
    if r > 0.72:
        return 0.7, 0.02, 0.02
    return (0.75, 0.75, 0.73)


@jit
def _board(p: RGB, half: RGB, colour: RGB) -> RGB:
    """Text seen from afar: a border and broken lines."""
    u, v = p[1] / half[1], p[2] / half[2]
    if abs(u) > 0.95 or abs(v) > 0.9:
        return 0.75, 0.75, 0.73
    row = math.floor((v + 1.0) * 2.2)
    in_row = 0.25 < (v + 1.0) * 2.2 - row < 0.8 and abs(u) < 0.8
    letter = lattice(math.floor(p[1] / (0.12 * half[2])), row, 15) < 0.62
    return (0.8, 0.8, 0.78) if in_row and letter else colour


@jit
def albedo_and_glow(solid: Solid, face: int, p: RGB, night: float) -> tuple[RGB, RGB]:
    """Albedo and glow of a solid at p."""
    material, half, seed, colour = solid.material, solid.half, solid.seed, solid.colour
    none = (0.0, 0.0, 0.0)
    u = p[1] if face < 2 else p[0]
    if material == _FACADE or material == _HOUSE:
        if face >= 4:
            return (0.2, 0.2, 0.2), none
        if material == _FACADE:
            return _facade(u + half[0], p[2] + half[2], seed, colour, night)
        return _house(u, p[2] + half[2], seed, colour, night)
    if material == _LAMP:
        return dim(colour, 0.75), dim(colour, 0.25 + 1.6 * night)
    if material == _CABIN:
        return _cabin(p, half, solid.taper, face, colour), none
    if material == _BODY:
        return _body(p, half, face, colour), none
    if material == _WHEEL:
        return _wheel(p, half, face), none
    if material == _COACH:
        return _coach(p, half, face, colour), none
    if material == _SIGN:
        return (_sign(p, half) if face != ROUND else (0.3, 0.3, 0.3)), none
    if material == _BOARD:
        return (_board(p, half, colour) if face < 2 else (0.3, 0.3, 0.32)), none
    if material == _STRIPES:
        return ((0.75, 0.75, 0.73) if over(p[1] + p[2], 0.6) < 0.3 else (0.7, 0.03, 0.02)), none
    if material == _CONE:
        return ((0.8, 0.8, 0.78) if -0.05 < p[2] / half[2] < 0.4 else (0.9, 0.22, 0.02)), none
    if material == _CARGO:
        return dim(colour, 0.75 if over(u, 0.5) < 0.12 and face < 4 else 1.0), none
    return dim(colour, _grain(material, p)), none


@jit
def _grain(material: int, p: RGB) -> float:
    """Lightness of rough materials, around 1."""
    if material == _LEAVES:
        return (
            0.3 + 0.8 * noise(p[0] * 4.0 + p[2], p[1] * 4.0 + p[2] * 5.0, 16) + 0.6 * noise(p[0] * 9.0, p[2] * 9.0, 24)
        )
    if material == _FUR:
        return 0.85 + 0.3 * noise(p[0] * 20.0, p[1] * 12.0 + p[2] * 25.0, 17)
    if material == _ROOF:
        return (0.8 if over(p[2], 0.36) < 0.07 else 1.0) * (0.8 + 0.4 * noise(p[0] * 2.5, p[2] * 4.0, 18))
    if material == _BARK:
        return 0.6 + 0.8 * noise(p[0] * 8.0 + p[1] * 8.0, p[2] * 2.0, 19)
    return 1.0
