"""Facts of a picture that need no model: how sharp, how bright, and a hash that near-duplicates share.

All take luma, uint8 (H, W). Compare values of pictures of one size only: make a thumbnail first (`kernels.resize`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

Pixels = NDArray[np.uint8]

HASH_SIDE = 32


@jit
def luma(image: Pixels) -> Pixels:
    """uint8 RGB (H, W, 3) to its brightness, uint8 (H, W): 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), in 1/256."""
    grey = np.empty(image.shape[:2], np.uint8)
    values, out = image.reshape(-1), grey.reshape(-1)
    for i in range(len(out)):  # over flat arrays: only so do the strided loads become vectors
        red, green, blue = values[3 * i], values[3 * i + 1], values[3 * i + 2]
        out[i] = (np.uint32(77) * red + np.uint32(150) * green + np.uint32(29) * blue + np.uint32(128)) >> 8
    return grey


@jit
def sharpness(grey: Pixels) -> float:
    """Variance of the Laplacian (4 neighbours, inner pixels), in grey levels squared; 0 for less than 3 x 3 pixels.

    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy" (LAPV in Pertuz et al. 2013). It falls
    with blur and with contrast: fog and night are low too.
    """
    height, width = grey.shape
    total, squares = 0, 0
    if height < 3 or width < 3:
        return 0.0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            around = int(grey[y - 1, x]) + int(grey[y + 1, x]) + int(grey[y, x - 1]) + int(grey[y, x + 1])
            response = 4 * int(grey[y, x]) - around
            total += response
            squares += response * response
    count = (height - 2) * (width - 2)
    variance: float = squares / count - (total / count) ** 2
    return variance


def exposure(grey: Pixels) -> float:
    """Mean luma as a share of white: 0 is black, 1 is white. Day frames lie near 0.4, night frames under 0.2."""
    return float(grey.mean()) / 255.0


def perceptual_hash(grey: Pixels) -> int:
    """64 bits as int64 that few change under scaling, compression and brightness; for luma of exactly 32 x 32.

    DCT hash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"): one bit for each of
    the coefficients 1..8 x 1..8 of the picture's DCT-II, set where above their median, lowest vertical frequency first.
    Compare by the number of different bits: at most 10 of 64 mean near-duplicates. A flat picture gives 0.
    """
    if grey.shape != (HASH_SIDE, HASH_SIDE):
        raise ValueError(f"expected luma of {HASH_SIDE} x {HASH_SIDE}, got {grey.shape}")
    place, frequency = np.arange(HASH_SIDE) + 0.5, np.arange(1, 9)
    basis = np.cos(math.pi / HASH_SIDE * np.outer(frequency, place))
    low = np.round(basis @ grey.astype(np.float64) @ basis.T, 6)
    return int(np.packbits(low > np.median(low)).view(">i8")[0])
