"""Building blocks of procedural colours: lattice noise, lines, mixing. Colours are linear RGB triples."""

from __future__ import annotations

import math

from kernels._jit import jit
from miner.simulation.lighting import RGB


@jit
def lattice(ix: int, iy: int, seed: int) -> float:
    """A fixed pseudo-random number in [0, 1) for a lattice point."""
    h = (ix * 374761393 + iy * 668265263 + seed * 974711) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF) / 16777216.0


@jit
def noise(x: float, y: float, seed: int) -> float:
    """Value noise of unit cell size, 0..1."""
    ix, iy = math.floor(x), math.floor(y)
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    low = lattice(ix, iy, seed) * (1 - fx) + lattice(ix + 1, iy, seed) * fx
    high = lattice(ix, iy + 1, seed) * (1 - fx) + lattice(ix + 1, iy + 1, seed) * fx
    return low * (1 - fy) + high * fy


@jit
def mix(a: RGB, b: RGB, share: float) -> RGB:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


@jit
def dim(a: RGB, by: float) -> RGB:
    return a[0] * by, a[1] * by, a[2] * by


@jit
def over(x: float, period: float) -> float:
    """x modulo a period, quicker than %."""
    return x - period * math.floor(x / period)


@jit
def line_cover(offset: float, width: float, blur: float) -> float:
    """How much of a painted line of this width covers a pixel of size `blur` at `offset` from its middle."""
    cover = (0.5 * (width + blur) - abs(offset)) / blur
    return min(max(cover, 0.0), min(1.0, width / blur))
