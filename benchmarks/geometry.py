"""Claim: bird's-eye view, range image, points in boxes of a sweep are >= 3x as fast as the best vectorised NumPy.

On one core. The rivals are several ways to write each in NumPy with the same answer; the fastest counts, and its name
is in the row (`np.maximum.at` is quick since NumPy 1.25, and among them). Every contender works on the same sweep in
turn, in one process and thread; times are CPU seconds of that thread, medians over sweeps and repeats. JIT is left out.
A bird's-eye view is drawn into fresh memory, or ("again") into the last one's after clearing the cells that one used.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.clouds import Sweep, clouds
from benchmarks.report import Row, run
from kernels.birdseye import BirdsEyeRaster, birds_eye_view
from kernels.boxes import assign_points
from kernels.deskew import azimuth_times_ns, deskew
from kernels.project import project_points
from kernels.range_image import HDL64_ELEVATION_RAD, range_image
from kernels.se3 import SE3, PoseTrack, interpolate, wxyz_to_matrix

Call = Callable[[Sweep], Any]
Range = tuple[float, float]
Area = tuple[Range, Range, float]
Cells = NDArray[Any]

TARGET = 3.0
ROWS, COLUMNS = 64, 2048
Z_RANGE_M = (-3.0, 5.0)
DENSITIES = (np.log(np.arange(64) + 1.0) / np.log(64.0)).astype(np.float32)
# What detectors take: the front of PIXOR and its kin, and the surroundings of CenterPoint.
AREAS: dict[str, Area] = {
    "front 70.4 x 80 m, 0.1 m": ((0.0, 70.4), (-40.0, 40.0), 0.1),
    "around 102.4 x 102.4 m, 0.2 m": ((-51.2, 51.2), (-51.2, 51.2), 0.2),
}


def _in_cells(sweep: Sweep, area: Area) -> tuple[NDArray[np.int32], Any, Any]:
    """Cell, height and intensity of the points inside."""
    (x_low, _), (y_low, _), cell_m = area
    rows, columns = _shape(area)
    x = (sweep[:, 0] - np.float32(x_low)) / np.float32(cell_m)
    y = (sweep[:, 1] - np.float32(y_low)) / np.float32(cell_m)
    height = sweep[:, 2] - np.float32(Z_RANGE_M[0])
    within = (x >= 0) & (x < rows) & (y >= 0) & (y < columns)
    kept = np.flatnonzero(within & (height >= 0) & (height < Z_RANGE_M[1] - Z_RANGE_M[0]))
    cells = (rows - 1 - x[kept].astype(np.int32)) * columns + columns - 1 - y[kept].astype(np.int32)
    return cells, height[kept], sweep[kept, 3]


def _counted(cells: NDArray[np.int32], image: NDArray[np.float32]) -> Cells:
    """Density and occupancy from a sort of the cells, which is cheaper than bincount over a raster. The used cells."""
    ordered = np.sort(cells)
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    used = ordered[first]
    image[2, used] = DENSITIES[np.minimum(np.diff(first, append=len(ordered)), 63)]
    image[3, used] = 1
    return used


def view_by_height(sweep: Sweep, area: Area, image: NDArray[np.float32]) -> Cells:
    """Write all points in order of height, so that the highest stays: sort words of `height bits | index`."""
    cells, height, intensity = _in_cells(sweep, area)
    last = len(cells) - 1
    words = (height.view(np.int32).astype(np.int64) << 32) | np.arange(last, -1, -1)
    words.sort()
    order = last - (words & 0xFFFFFFFF)
    image[0, cells[order]], image[1, cells[order]] = height[order], intensity[order]
    return _counted(cells, image)


def view_by_reduceat(sweep: Sweep, area: Area, image: NDArray[np.float32]) -> Cells:
    """Sort words of `cell | index`, then maximum.reduceat over the points of each cell."""
    cells, height, intensity = _in_cells(sweep, area)
    words = (cells.astype(np.int64) << 20) | np.arange(len(cells))
    words.sort()
    order, cells = words & 0xFFFFF, words >> 20
    first = np.flatnonzero(np.diff(cells, prepend=-1))
    used, counts, height = cells[first], np.diff(first, append=len(cells)), height[order]
    highest = np.maximum.reduceat(height, first)
    winners = np.flatnonzero(height == np.repeat(highest, counts))[::-1]  # the first of equals is written last
    image[1, cells[winners]] = intensity[order[winners]]
    image[0, used], image[2, used], image[3, used] = highest, DENSITIES[np.minimum(counts, 63)], 1
    return used


def view_by_at(sweep: Sweep, area: Area, image: NDArray[np.float32]) -> Cells:
    """np.maximum.at, then the points that are as high as their cell."""
    cells, height, intensity = _in_cells(sweep, area)
    np.maximum.at(image[0], cells, height)
    winners = np.flatnonzero(height == image[0][cells])[::-1]
    image[1, cells[winners]] = intensity[winners]
    return _counted(cells, image)


View = Callable[[Sweep, Area, NDArray[np.float32]], Cells]
VIEWS: dict[str, View] = {
    "sort by height": view_by_height,
    "sort by cell, maximum.reduceat": view_by_reduceat,
    "maximum.at": view_by_at,
}


def _shape(area: Area) -> tuple[int, int]:
    (x_low, x_high), (y_low, y_high), cell_m = area
    return round((x_high - x_low) / cell_m), round((y_high - y_low) / cell_m)


def fresh(view: View, area: Area) -> Call:
    """`view` into new memory each time."""

    def draw(sweep: Sweep) -> NDArray[np.float32]:
        image = np.zeros((4, math.prod(_shape(area))), np.float32)
        view(sweep, area, image)
        return image

    return draw


def again(view: View, area: Area) -> Call:
    """`view` into the same memory each time."""
    image, used = np.zeros((4, math.prod(_shape(area))), np.float32), np.empty(0, np.int32)

    def draw(sweep: Sweep) -> NDArray[np.float32]:
        nonlocal used
        for channel in image:
            channel[used] = 0
        used = view(sweep, area, image)
        return image

    return draw


def _in_rays(sweep: Sweep) -> tuple[NDArray[np.int64], Any, Any]:
    """Row in the sweep, cell of the image and depth of the points inside; angles in float32, which NumPy vectorises."""
    x, y, z = (np.ascontiguousarray(sweep[:, axis]) for axis in range(3))
    low, high = HDL64_ELEVATION_RAD
    flat = x * x + y * y
    depth = np.sqrt(flat + z * z)
    row = (np.float32(high) - np.arctan2(z, np.sqrt(flat))) * np.float32(ROWS / (high - low))
    column = ((np.float32(math.pi) - np.arctan2(y, x)) * np.float32(COLUMNS / (2 * math.pi))).astype(np.int32)
    kept = np.flatnonzero((row >= 0) & (row < ROWS) & (depth >= np.float32(1e-3)) & (depth < np.float32(1e18)))
    cells = row[kept].astype(np.int32) * COLUMNS + np.minimum(column[kept], COLUMNS - 1)
    return kept, cells, depth[kept]


def _written(sweep: Sweep, rows: Any, cells: Any, depth: Any) -> tuple[Any, Any, Any]:
    image, point = np.zeros((2, ROWS * COLUMNS), np.float32), np.full(ROWS * COLUMNS, -1, np.int32)
    image[0, cells], image[1, cells], point[cells] = depth, sweep[rows, 3], rows
    return image[0], image[1], point


def rays_by_depth(sweep: Sweep) -> tuple[Any, Any, Any]:
    """Write all points from far to near, as RangeNet++ does, in the order of words `depth bits | index`."""
    rows, cells, depth = _in_rays(sweep)
    words = (depth.view(np.int32).astype(np.int64) << 32) | np.arange(len(rows))
    words.sort()
    order = (words & 0xFFFFFFFF)[::-1]
    return _written(sweep, rows[order], cells[order], depth[order])


def rays_by_at(sweep: Sweep) -> tuple[Any, Any, Any]:
    """np.minimum.at, then the points that are as near as their cell."""
    rows, cells, depth = _in_rays(sweep)
    nearest = np.full(ROWS * COLUMNS, np.inf, np.float32)
    np.minimum.at(nearest, cells, depth)
    winners = np.flatnonzero(nearest[cells] == depth)[::-1]
    return _written(sweep, rows[winners], cells[winners], depth[winners])


def rays_by_reduceat(sweep: Sweep) -> tuple[Any, Any, Any]:
    """Sort words of `cell | index`, then minimum.reduceat over the points of each cell."""
    rows, cells, depth = _in_rays(sweep)
    words = (cells.astype(np.int64) << 20) | np.arange(len(cells))
    words.sort()
    order, cells = words & 0xFFFFF, words >> 20
    first = np.flatnonzero(np.diff(cells, prepend=-1))
    depth = depth[order]
    nearest = np.repeat(np.minimum.reduceat(depth, first), np.diff(first, append=len(cells)))
    winners = np.flatnonzero(depth == nearest)[::-1]
    return _written(sweep, rows[order[winners]], cells[winners], depth[winners])


def make_boxes(sweep: Sweep, count: int) -> tuple[list[SE3], NDArray[np.float64]]:
    """Boxes of cars, people, lorries and cyclists, upright, of any heading, at random points of the sweep."""
    rng = np.random.default_rng(len(sweep))
    kinds = np.array([[4.4, 1.8, 1.6], [0.8, 0.7, 1.75], [10.0, 2.6, 3.2], [1.8, 0.7, 1.7]])
    sizes = kinds[rng.choice(4, count, p=[0.7, 0.2, 0.05, 0.05])] * rng.uniform(0.85, 1.15, (count, 3))
    beyond = sweep[np.hypot(sweep[:, 0], sweep[:, 1]) > 5]
    centres = beyond[rng.integers(0, len(beyond), count), :3].astype(np.float64)
    half = rng.uniform(-math.pi, math.pi, count) / 2
    turns = np.column_stack([np.cos(half), np.zeros((count, 2)), np.sin(half)])
    return [SE3.from_wxyz(t, q) for t, q in zip(centres, turns, strict=True)], sizes


def _inside(points: Any, pose: SE3, size: NDArray[np.float64]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = np.all(np.abs((points - pose.translation) @ pose.rotation) <= size / 2, axis=1)
    return inside


def boxes_one_by_one(sweep: Sweep, poses: list[SE3], sizes: NDArray[np.float64]) -> tuple[Any, Any]:
    """All points in the frame of each box in turn."""
    points, counts, box = sweep[:, :3].astype(np.float64), np.zeros(len(poses), np.int64), np.full(len(sweep), -1)
    for i in reversed(range(len(poses))):
        inside = _inside(points, poses[i], sizes[i])
        counts[i], box[inside] = inside.sum(), i
    return counts, box


def boxes_by_bounds(sweep: Sweep, poses: list[SE3], sizes: NDArray[np.float64]) -> tuple[Any, Any]:
    """The points within the bounds of each box in x and y first."""
    x, y = np.ascontiguousarray(sweep[:, 0]), np.ascontiguousarray(sweep[:, 1])
    counts, box = np.zeros(len(poses), np.int64), np.full(len(sweep), -1)
    for i in reversed(range(len(poses))):
        across, along, _ = (np.abs(poses[i].rotation) @ sizes[i] / 2 + 1e-3).astype(np.float32)
        at = poses[i].translation.astype(np.float32)
        near = np.flatnonzero((np.abs(x - at[0]) <= across) & (np.abs(y - at[1]) <= along))
        inside = near[_inside(sweep[near, :3].astype(np.float64), poses[i], sizes[i])]
        counts[i], box[inside] = len(inside), i
    return counts, box


def boxes_by_order(sweep: Sweep, poses: list[SE3], sizes: NDArray[np.float64]) -> tuple[Any, Any]:
    """Points sorted by x once; those of a box's bounds are then a slice."""
    words = np.sort(_ordered_bits(sweep[:, 0]) << 32 | np.arange(len(sweep)))
    order = words & 0xFFFFFFFF
    points, counts, box = sweep[order, :3].astype(np.float64), np.zeros(len(poses), np.int64), np.full(len(sweep), -1)
    for i in reversed(range(len(poses))):
        reach, at = np.abs(poses[i].rotation) @ sizes[i] / 2 + 1e-6, poses[i].translation
        low, high = np.searchsorted(points[:, 0], [at[0] - reach[0], at[0] + reach[0]])
        near = low + np.flatnonzero(np.abs(points[low:high, 1] - at[1]) <= reach[1])
        inside = order[near[_inside(points[near], poses[i], sizes[i])]]
        counts[i], box[inside] = len(inside), i
    return counts, box


def _ordered_bits(numbers: NDArray[np.float32]) -> NDArray[np.int64]:
    """Integers that order as the floats do."""
    bits = np.ascontiguousarray(numbers).view(np.int32)
    ordered: NDArray[np.int64] = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    return ordered


CAMERA_SE3_LIDAR = SE3(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.array([0.0, -0.08, -0.27]))
INTRINSIC = np.array([[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1]])


def project_in_numpy(sweep: Sweep) -> tuple[Any, Any, Any]:
    """Matrix products in float64 and a mask."""
    points = CAMERA_SE3_LIDAR.transform(sweep[:, :3])
    depth = points[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = (points @ INTRINSIC[:2].T) / depth[:, None]
    pixels[depth < 0.1] = np.nan
    u, v = pixels.T
    return pixels, depth, (depth >= 0.1) & (u >= 0) & (v >= 0) & (u < 1242) & (v < 375)


TRACK = PoseTrack(
    np.arange(12) * 10_000_000,
    np.column_stack([np.arange(12) * 0.1, np.zeros((12, 2))]),
    np.column_stack([np.cos(np.arange(12) * 0.002), np.zeros((12, 2)), np.sin(np.arange(12) * 0.002)]),
)
EGO_SE3_LIDAR = SE3(np.eye(3), np.array([0.8, 0.0, 1.7]))
MIDDLE_NS = 50_000_000


def deskew_in_numpy(sweep: Sweep, times: NDArray[np.int64]) -> NDArray[np.float32]:
    """A pose for each point by vectorised lerp and slerp, then one batched product."""
    t, q = interpolate(TRACK.times_ns, TRACK.translations, TRACK.rotations_wxyz, times)
    moved = np.einsum("nij,nj->ni", wxyz_to_matrix(q), EGO_SE3_LIDAR.transform(sweep[:, :3])) + t
    [t0], [q0] = TRACK.at([MIDDLE_NS])
    result = sweep.copy()
    result[:, :3] = (SE3.from_wxyz(t0, q0) @ EGO_SE3_LIDAR).inverse().transform(moved)
    return result


def same(ours: Any, theirs: Any, places: float) -> None:
    """Every array equal but for the share `places` of float32 rounding at edges of cells. Raises AssertionError."""
    for one, other in zip(ours, theirs, strict=True):
        close = np.isclose(np.ravel(one), np.ravel(other), rtol=1e-6, atol=1e-4, equal_nan=True)
        assert close.mean() >= 1 - places, f"the answers differ in {1 - close.mean():.2%} of places"


def compared(case: str, sweeps: list[Sweep], ours: Call, rivals: dict[str, Call], repeats: int) -> Row:
    """All contenders on each sweep in turn, `repeats` times. Answers are compared first."""
    seconds: dict[str, list[float]] = {name: [] for name in ("ours", *rivals)}
    contenders = {"ours": ours, **rivals}
    for sweep in sweeps:
        for rival in rivals.values():
            same(ours(sweep), rival(sweep), 1e-3)
        for _ in range(repeats):
            for name, call in contenders.items():
                started = time.thread_time()
                call(sweep)
                seconds[name].append(time.thread_time() - started)
    points = np.repeat([len(sweep) for sweep in sweeps], repeats) / 1e6
    rates = {name: points / np.array(taken) for name, taken in seconds.items()}
    best = max(rivals, key=lambda name: float(np.median(rates[name])))
    ratio = float(np.median(rates["ours"])) / float(np.median(rates[best]))
    return Row(
        case,
        "points per CPU second",
        "M/s",
        float(np.median(rates["ours"])),
        float(np.median(rates[best])),
        f"NumPy, {best}",
        (float(rates["ours"].min()), float(rates["ours"].max())),
        f">= {TARGET:g}x",
        ratio >= TARGET,
    )


def view_rows(source: str, sweeps: list[Sweep], repeats: int) -> list[Row]:
    """Bird's-eye views of both areas, in fresh memory and again in the same."""
    rows = []
    for name, area in AREAS.items():
        case = f"bird's-eye view, {name}, {source}"
        ours: Call = partial(_fresh_view, area=area)
        rivals = {way: fresh(view, area) for way, view in VIEWS.items()}
        rows.append(compared(case, sweeps, ours, rivals, repeats))
        rivals = {way: again(view, area) for way, view in VIEWS.items()}
        rows.append(compared(f"{case}, again", sweeps, BirdsEyeRaster(*area, Z_RANGE_M).draw, rivals, repeats))
    return rows


def _fresh_view(sweep: Sweep, area: Area) -> NDArray[np.float32]:
    x_range_m, y_range_m, cell_m = area
    return birds_eye_view(sweep, x_range_m, y_range_m, cell_m, Z_RANGE_M)


def range_rows(source: str, sweeps: list[Sweep], repeats: int) -> list[Row]:
    """The range image of a 64-beam scanner."""
    rivals: dict[str, Call] = {
        "sort by depth": rays_by_depth,
        "minimum.at": rays_by_at,
        "sort by cell, minimum.reduceat": rays_by_reduceat,
    }
    return [compared(f"range image, {ROWS} x {COLUMNS}, {source}", sweeps, range_image, rivals, repeats)]


def box_rows(source: str, sweeps: list[Sweep], repeats: int) -> list[Row]:
    """Counts and the box of each point, for as many boxes as a quiet and a busy scene have."""
    ways = {"each box": boxes_one_by_one, "bounds": boxes_by_bounds, "sort by x": boxes_by_order}
    rows = []
    for count in (10, 40):
        boxes = {id(sweep): make_boxes(sweep, count) for sweep in sweeps}
        ours = _with(assign_points, boxes)
        rivals = {way: _with(call, boxes) for way, call in ways.items()}
        rows.append(compared(f"points in {count} boxes, {source}", sweeps, ours, rivals, repeats))
    return rows


def _with(call: Callable[..., Any], boxes: dict[int, tuple[Any, Any]]) -> Call:
    return lambda sweep: call(sweep, *boxes[id(sweep)])


def motion_rows(source: str, sweeps: list[Sweep], repeats: int) -> list[Row]:
    """Camera projection and motion compensation."""
    times = {id(sweep): azimuth_times_ns(sweep, 0, 100_000_000) for sweep in sweeps}
    projected: Call = lambda s: project_points(s, CAMERA_SE3_LIDAR, INTRINSIC, 1242, 375)  # noqa: E731
    moved: Call = lambda s: deskew(s, times[id(s)], TRACK, EGO_SE3_LIDAR, MIDDLE_NS)  # noqa: E731
    in_numpy: dict[str, Call] = {"a pose a point": lambda s: deskew_in_numpy(s, times[id(s)])}
    return [
        compared(f"camera projection, {source}", sweeps, projected, {"matrix product": project_in_numpy}, repeats),
        compared(f"motion compensation, {source}", sweeps, moved, in_numpy, repeats),
    ]


def measure(options: argparse.Namespace) -> list[Row]:
    """Every kernel on every source of sweeps at hand."""
    count, repeats = (2, 5) if options.quick else (6, 15)
    claims = (view_rows, range_rows, box_rows, motion_rows)
    return [row for source, sweeps in clouds(count).items() for rows in claims for row in rows(source, sweeps, repeats)]


if __name__ == "__main__":
    run("geometry", measure)
