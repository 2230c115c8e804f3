"""A LiDAR sweep as a short profile of its surroundings that does not change when the sensor turns or moves a little.

Points fall into a polar grid around the sensor (Scan Context, Kim & Kim 2018): rings that widen with range, sectors of
equal angle. A cell keeps its highest point above the ground, not how many points it has, so that 32 and 64 beams, near
and far surfaces weigh the same. Three parts follow, none of which knows where azimuth zero is:

- `heights`: for each band of rings, the square root of the share of sectors in which something stands at least 0.5, 1,
  .. 7.5 m tall. The ring key of Scan Context with a histogram (as Röhling et al. 2015 compare places by) in place of
  one mean; the root makes distances Hellinger's, so that what is rare counts. Ground is left out: which cells of it are
  hit says more about the beams than about the road.
- `layout`: magnitudes of the Fourier series over azimuth of the height of the far bands: a street, a crossing or one
  wall differ here. What M2DP (He et al. 2016) reads from projections onto many planes, without its alignment by PCA.
  Near bands are left out: there one metre of driving turns everything.
- `reflectivity`: mean intensity at each height against the mean of the sweep, as a logarithm, so units do not matter.

Rings overlap softly in bands, so that a step of a metre changes little.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

Array = NDArray[np.float64]

NEAR_M, FAR_M = 2.5, 75.0  # nearer points are often the vehicle itself
RINGS, SECTORS = 48, 180
BANDS, ORDERS = 6, 4
HEIGHTS, STEP_M, TALLEST_M = 15, 0.5, 8.0
LEVELS, LEVEL_M, LOWEST_M = 8, 1.0, -1.0
PARTS = {"heights": BANDS * HEIGHTS, "layout": (BANDS - 2) * ORDERS, "reflectivity": LEVELS}
PROFILE = sum(PARTS.values())

_RING_OFFSET_M = 6.0  # rings are even in log(range + offset): about 1 m wide near the sensor, 4 m at its end
_TABLE_PER_M = 8.0
_GROUND_RINGS, _GROUND_SECTORS, _GROUND_REACH = 4, 3, RINGS // 2  # patches to look for ground in, to about 20 m
_LAYOUT_WEIGHT = 3.0
_PRIOR_SHARE = 0.01  # of the sweep's points, at its mean intensity, added to each level: few points say little


def _ring_table() -> NDArray[np.int64]:
    """The ring of each eighth of a metre of range, -1 outside NEAR_M..FAR_M."""
    range_m = np.arange(math.ceil(FAR_M * _TABLE_PER_M) + 1) / _TABLE_PER_M
    low, high = math.log(NEAR_M + _RING_OFFSET_M), math.log(FAR_M + _RING_OFFSET_M)
    ring = np.floor((np.log(range_m + _RING_OFFSET_M) - low) / (high - low) * RINGS + 1e-9).astype(np.int64)
    return np.where((range_m >= NEAR_M) & (range_m < FAR_M), ring, -1)


def _band_weights() -> Array:
    """Shares (BANDS, RINGS) of each ring in each band: triangles that overlap by half, rows sum to 1."""
    centres = np.linspace(0, RINGS - 1, BANDS)[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(RINGS) - centres) / ((RINGS - 1) / (BANDS - 1)))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


RING_OF_RANGE = _ring_table()
BAND_WEIGHTS = _band_weights()


class PolarGrid(NamedTuple):
    """A sweep in cells, heights above the ground found in it.

    top_m f64 (RINGS, SECTORS): the highest point in 0..TALLEST_M, 0 where there is none. counts and intensity f64
    (LEVELS,): points and their intensities summed for each metre of height from LOWEST_M, the ends for all beyond.
    """

    top_m: Array
    counts: Array
    intensity: Array


@jit
def sector_of(x: float, y: float) -> int:
    """The sector of a direction, 0 along +x, counted to the left. Exact to 1e-5 rad of arc at sector borders.

    Arc tangent by Abramowitz & Stegun 4.4.47: an eighth of the time of the library's.
    """
    ax, ay = abs(x), abs(y)
    a = min(ax, ay) / max(ax, ay)
    s = a * a
    angle = a * (0.9998660 + s * (-0.3302995 + s * (0.1801410 + s * (-0.0851330 + s * 0.0208351))))
    if ay > ax:
        angle = 0.5 * math.pi - angle
    if x < 0.0:
        angle = math.pi - angle
    if y < 0.0:
        angle = 2.0 * math.pi - angle
    return min(int(angle * (SECTORS / (2.0 * math.pi))), SECTORS - 1) if angle > 0.0 else 0


@jit
def cells_of(points: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The cell of each point, i32 (n,), ring * SECTORS + sector, and the lowest z of each cell, f32 (cells,).

    -1 for a point out of range or with a coordinate that is not finite; inf for an empty cell.
    """
    cells = np.empty(len(points), np.int32)
    lowest = np.full(RINGS * SECTORS, np.float32(np.inf))
    for i in range(len(points)):
        x, y, z = float(points[i, 0]), float(points[i, 1]), points[i, 2]
        range_m = math.sqrt(x * x + y * y)
        cells[i] = -1
        if NEAR_M <= range_m < FAR_M and abs(z) < math.inf:
            ring = RING_OF_RANGE[int(range_m * _TABLE_PER_M)]
            cells[i] = ring * SECTORS + sector_of(x, y)
            lowest[cells[i]] = min(lowest[cells[i]], z)
    return cells, lowest


@jit
def ground_height(lowest: NDArray[np.float32]) -> float:
    """The z of the ground near the sensor: the median over patches within 20 m of their lowest point; 0 for no points.

    Robust while most patches show ground: reflections from below it and patches that a vehicle hides do not count.
    """
    found = np.empty(_GROUND_REACH * SECTORS)
    count = 0
    for ring in range(0, _GROUND_REACH, _GROUND_RINGS):
        for sector in range(0, SECTORS, _GROUND_SECTORS):
            patch = np.inf
            for k in range(ring, ring + _GROUND_RINGS):
                for s in range(sector, sector + _GROUND_SECTORS):
                    patch = min(patch, lowest[k * SECTORS + s])
            if patch < np.inf:
                found[count] = patch
                count += 1
    return float(np.median(found[:count])) if count else 0.0


@jit
def polar_grid(points: NDArray[np.float32]) -> PolarGrid:
    """A sweep f32 (n, 4) of x, y, z (m, sensor frame, z up) and intensity, in cells. Any order; bad rows are left out.

    An intensity that is negative or not finite counts as 0.
    """
    cells, lowest = cells_of(points)
    ground_m = ground_height(lowest)
    top_m, counts, intensity = np.zeros(RINGS * SECTORS), np.zeros(LEVELS), np.zeros(LEVELS)
    for i in range(len(points)):
        if cells[i] < 0:
            continue
        cell, height_m, value = cells[i], points[i, 2] - ground_m, points[i, 3]
        top_m[cell] = max(top_m[cell], min(height_m, TALLEST_M))
        level = int(min(max((height_m - LOWEST_M) / LEVEL_M, 0.0), LEVELS - 1.0))
        counts[level] += 1.0
        if 0.0 < value < math.inf:
            intensity[level] += value
    return PolarGrid(top_m.reshape(RINGS, SECTORS), counts, intensity)


@jit
def heights(top_m: Array) -> Array:
    """Square roots f64 (BANDS, HEIGHTS) of the share of sectors whose top is at least STEP_M * (1, 2, ..)."""
    shares = np.zeros((BANDS, HEIGHTS))
    for ring in range(RINGS):
        tall = np.zeros(HEIGHTS + 1)
        for sector in range(SECTORS):
            tall[min(int(top_m[ring, sector] / STEP_M), HEIGHTS)] += 1.0 / SECTORS
        for step in range(HEIGHTS - 1, 0, -1):
            tall[step] += tall[step + 1]
        for band in range(BANDS):
            for step in range(HEIGHTS):
                shares[band, step] += BAND_WEIGHTS[band, ring] * tall[step + 1]
    return np.sqrt(shares)


@jit
def layout(top_m: Array) -> Array:
    """Fourier magnitudes f64 (BANDS - 2, ORDERS), orders 1.., of root heights over azimuth, bands from the third on."""
    found = np.zeros((BANDS - 2, ORDERS))
    for band in range(2, BANDS):
        row = np.zeros(SECTORS)
        for ring in range(RINGS):
            weight = BAND_WEIGHTS[band, ring]
            if weight > 0.0:
                for sector in range(SECTORS):
                    row[sector] += weight * math.sqrt(top_m[ring, sector])
        for order in range(1, ORDERS + 1):
            real, imaginary = 0.0, 0.0
            for sector in range(SECTORS):
                angle = 2.0 * math.pi * ((order * sector) % SECTORS) / SECTORS
                real += row[sector] * math.cos(angle)
                imaginary += row[sector] * math.sin(angle)
            found[band - 2, order - 1] = math.hypot(real, imaginary) / SECTORS
    return found


@jit
def reflectivity(counts: Array, intensity: Array) -> Array:
    """Logarithms f64 (LEVELS,) of mean intensity at each level over that of all; zeros where all intensities are 0."""
    total, mean = counts.sum(), intensity.sum() / max(counts.sum(), 1.0)
    found = np.zeros(LEVELS)
    if mean > 0.0:
        prior = _PRIOR_SHARE * total
        for level in range(LEVELS):
            found[level] = math.log((intensity[level] / mean + prior) / (counts[level] + prior))
    return found


@jit
def sweep_profile(points: NDArray[np.float32]) -> Array:
    """The profile f64 (PROFILE,) of a sweep f32 (n, 4): heights, layout, reflectivity. All zero for no points."""
    grid = polar_grid(points)
    return np.concatenate(
        (
            heights(grid.top_m).ravel(),
            _LAYOUT_WEIGHT * layout(grid.top_m).ravel(),
            reflectivity(grid.counts, grid.intensity),
        )
    )


@jit
def fourier_features(profile: Array, frequencies: Array) -> Array:
    """Unit f64 (2 m,): cosines and sines of the profile f64 (d,) along frequencies f64 (d, m) (Rahimi & Recht 2007).

    For normal frequencies of deviation 1 the product of two is near exp(-|a - b|^2 / 2). Plain loops: the bits do not
    depend on how a matrix library would cut the product.
    """
    count = frequencies.shape[1]
    phase = np.zeros(count)
    for i in range(len(profile)):
        for j in range(count):
            phase[j] += profile[i] * frequencies[i, j]
    return np.concatenate((np.cos(phase), np.sin(phase))) / math.sqrt(count)
