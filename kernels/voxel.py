"""Voxelization on the CPU: centroids, hard voxels, the voxel of each point, pillars; sweep by sweep or over threads.

points are f32 (n, features >= 3), the first three features x, y, z in m; voxel_size is one edge length in m or three;
bounds are x, y, z of the lower corner and of the upper in m, cells count from the lower corner and points outside are
dropped. Without bounds cells count from the origin of the frame, and ValueError is raised where the points span more
than 2^32 cells (at 0.1 m some 290 m x 290 m x 51 m). Points that are NaN or infinite in x, y, z are dropped, counted.
Voxels come in first-seen order and coords as z, y, x.

Without a workspace every call takes fresh memory. With one, a call takes no memory, and its results are read-only views
that hold until the next call with the same workspace: copy what must live longer. A workspace serves one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kernels import voxel_passes as passes
from kernels.voxel_grid import (
    Dropped,
    Grid,
    Means,
    Numbers,
    Pillars,
    Voxels,
    as_bounds,
    as_voxel_size,
    bounded_grid,
    fitted_grid,
    window_grid,
)

Floats = NDArray[np.float32]
VoxelSize = float | Sequence[float]
Bounds = Sequence[float]
Asked = tuple[VoxelSize, Bounds | None]
Result = TypeVar("Result", Means, Voxels, Numbers, Pillars)
Pass = Callable[[passes.Cells, passes.Table], tuple[int, int]]

MAX_POINTS = 2**26
_SMALLEST_TABLE = 12  # bits
_SLOTS_PER_POINT = 1.5  # of a sweep; its points share voxels, so that one slot in five or so is taken
_SLOTS_PER_VOXEL = 6  # where their number is limited


class Workspace:
    """Memory for one thread's voxelization, kept between calls; grows with the largest sweep seen."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._generations: dict[int, int] = {}
        self._cells: tuple[Any, passes.Cells] | None = None
        self._found: passes.Found | None = None
        self._runs: passes.Runs | None = None
        self._held = {"voxels": 0, "features": 0}

    @property
    def nbytes(self) -> int:
        """Bytes held, results included."""
        return sum(array.nbytes for array in self._arrays.values())

    def array(self, name: str, rows: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Memory (>= rows, *shape) under a name; its content is what an earlier call left."""
        kept = self._arrays.get(name)
        if kept is None or len(kept) < rows or kept.shape[1:] != shape:
            self._arrays[name] = kept = np.empty((rows + rows // 8, *shape), dtype)
        return kept

    def rows(self, name: str, shape: tuple[int, int, int]) -> Floats:
        """Memory f32 (max voxels, max points, features): zero but for the rows that an earlier call filled."""
        if name not in self._arrays or self._arrays[name].shape != shape:
            self._arrays[name] = np.zeros(shape, np.float32)
            self._arrays[f"{name} held"] = np.zeros(shape[0], np.int32)
            self._held[name] = 0
        return self._arrays[name]

    def clear_rows(self, name: str, counts: NDArray[np.int32]) -> None:
        """Zero what an earlier call left beyond `counts` in the memory of `rows`."""
        passes.clear_rows(self._arrays[name], counts, self._arrays[f"{name} held"], self._held[name])
        self._held[name] = len(counts)

    def found(self, count: int) -> passes.Found:
        """Memory for up to `count` voxels."""
        if self._found is None or len(self._found.words) < count:
            words, counts = self.array("words", count, (), np.uint64), self.array("counts", count, (), np.int32)
            self._found = passes.Found(words, counts, self.array("coords", count, (3,), np.int32))
        return self._found

    def runs(self, features: int) -> passes.Runs:
        """Scratch of one chunk."""
        if self._runs is None or self._runs.sums.shape[1] != features:
            point_keys = self.array("point keys", passes.CHUNK, (), np.uint32)
            words = self._arrays["run words"] = np.zeros(passes.CHUNK + passes.AHEAD, np.uint64)
            sums = self.array("run sums", passes.CHUNK, (features,), np.float32)
            self._runs = passes.Runs(point_keys, words, sums)
        return self._runs

    def table(self, slots: int) -> passes.Table:
        """An empty hash table of at least so many slots, one of a new generation."""
        bits = max(_SMALLEST_TABLE, (slots - 1).bit_length())
        name = f"slots {bits}"
        if name not in self._arrays:
            self._arrays[name], self._generations[bits] = np.zeros(2**bits, np.uint32), 0
        self._generations[bits] += 1
        if self._generations[bits] >= 2 ** (32 - bits):
            self._arrays[name][:] = 0
            self._generations[bits] = 1
        return passes.Table(self._arrays[name], np.uint64(bits), np.uint32(self._generations[bits] << bits))

    def cells(self, voxel_size: VoxelSize, bounds: Bounds | None) -> passes.Cells:
        """The grid of these arguments; without bounds a guess, the grid that fitted last."""
        plain = type(voxel_size) is float and (bounds is None or type(bounds) is tuple)
        if self._cells is not None and plain and self._cells[0] == (voxel_size, bounds):
            return self._cells[1]
        size, box = as_voxel_size(voxel_size), as_bounds(bounds)
        return self._keep(voxel_size, bounds, window_grid(size) if box is None else bounded_grid(size, box))

    def fit_cells(self, voxel_size: VoxelSize, points: Floats) -> passes.Cells:
        """The grid of all finite points, without bounds."""
        span = passes.span_cells(points, self.cells(voxel_size, None).scale)
        return self._keep(voxel_size, None, fitted_grid(as_voxel_size(voxel_size), span[:3], span[3:]))

    def _keep(self, voxel_size: VoxelSize, bounds: Bounds | None, grid: Grid) -> passes.Cells:
        cells = passes.Cells(grid.scale(), grid.strides())
        self._cells = ((voxel_size, bounds), cells)
        return cells


def downsample(
    points: Floats, voxel_size: VoxelSize, bounds: Bounds | None = None, workspace: Workspace | None = None
) -> Means:
    """One point per voxel: the mean of every feature of its points.

    Sums are float32, in an order that does not depend on the machine: the relative error of a mean is below count x
    2^-23. A NaN in a feature beyond z stays in the mean of its voxel.
    """
    points, work = _checked(points), workspace or Workspace()
    found, runs = work.found(len(points)), work.runs(points.shape[1])
    means = work.array("means", len(points), (points.shape[1],), np.float32)

    def one_pass(cells: passes.Cells, table: passes.Table) -> tuple[int, int]:
        return passes.mean_voxels(points, cells, passes.Work(table, runs, found), means)

    count, dropped = _run(one_pass, points, (voxel_size, bounds), work, _SLOTS_PER_POINT * len(points))
    return _locked(Means(means[:count], found.coords[:count], found.counts[:count], dropped), workspace)


def voxelize(
    points: Floats,
    voxel_size: VoxelSize,
    bounds: Bounds | None = None,
    *,
    max_points: int,
    max_voxels: int,
    workspace: Workspace | None = None,
) -> Voxels:
    """Hard voxelization: the first `max_points` points of the first `max_voxels` voxels, in the order of the points.

    With bounds the answer equals that of spconv's Point2VoxelCPU3d bit for bit.
    """
    asked = (voxel_size, bounds)
    return _locked(_gather(_checked(points), asked, (max_points, max_voxels), workspace or Workspace()), workspace)


def voxelize_dynamic(
    points: Floats, voxel_size: VoxelSize, bounds: Bounds | None = None, workspace: Workspace | None = None
) -> Numbers:
    """Dynamic voxelization: the voxel of each point, without a limit on points or voxels."""
    points, work = _checked(points), workspace or Workspace()
    found, runs = work.found(len(points)), work.runs(points.shape[1])
    numbers = work.array("numbers", len(points), (), np.int32)

    def one_pass(cells: passes.Cells, table: passes.Table) -> tuple[int, int]:
        return passes.number_voxels(points, cells, passes.Work(table, runs, found), numbers)

    count, dropped = _run(one_pass, points, (voxel_size, bounds), work, _SLOTS_PER_POINT * len(points))
    return _locked(Numbers(numbers[: len(points)], found.coords[:count], found.counts[:count], dropped), workspace)


def pillarize(
    points: Floats,
    pillar_size: VoxelSize,
    bounds: Bounds,
    *,
    max_points: int,
    max_pillars: int,
    workspace: Workspace | None = None,
) -> Pillars:
    """Hard voxels of one cell in z, each point with its offsets in m from its pillar: the input of PointPillars.

    features are the point's own, then x, y, z minus the mean of the pillar's points, then x, y minus the pillar's
    centre (Lang et al., PointPillars, CVPR 2019, section 2.1: D = 9 of 4).
    """
    points, work = _checked(points), workspace or Workspace()
    width, depth = pillar_size if isinstance(pillar_size, Sequence | np.ndarray) else (pillar_size, pillar_size)
    size = (width, depth, bounds[5] - bounds[2])
    voxels, coords, counts, dropped = _gather(points, (size, bounds), (max_points, max_pillars), work)
    features = work.rows("features", (max_pillars, max_points, points.shape[1] + 5))
    passes.decorate_pillars(voxels, counts, coords, work.cells(size, bounds).scale, features)
    work.clear_rows("features", counts)
    return _locked(Pillars(features[: len(counts)], coords, counts, dropped), workspace)


def downsample_batch(
    sweeps: Iterable[Floats],
    voxel_size: VoxelSize,
    bounds: Bounds | None = None,
    workspaces: Sequence[Workspace] | None = None,
) -> list[Means]:
    """`downsample` of each sweep, one thread per workspace (by default one per CPU). Results are copies, in order."""
    return _over_threads(partial(downsample, voxel_size=voxel_size, bounds=bounds), sweeps, workspaces)


def voxelize_batch(
    sweeps: Iterable[Floats],
    voxel_size: VoxelSize,
    bounds: Bounds | None = None,
    *,
    max_points: int,
    max_voxels: int,
    workspaces: Sequence[Workspace] | None = None,
) -> list[Voxels]:
    """`voxelize` of each sweep, one thread per workspace (by default one per CPU). Results are copies, in order."""
    limited = partial(voxelize, max_points=max_points, max_voxels=max_voxels)
    return _over_threads(partial(limited, voxel_size=voxel_size, bounds=bounds), sweeps, workspaces)


def _over_threads(
    voxelized: Callable[..., Result], sweeps: Iterable[Floats], workspaces: Sequence[Workspace] | None
) -> list[Result]:
    spaces = [Workspace() for _ in range(os.cpu_count() or 1)] if workspaces is None else workspaces
    free: SimpleQueue[Workspace] = SimpleQueue()
    for space in spaces:
        free.put(space)

    def one(sweep: Floats) -> Result:
        space = free.get()
        try:
            return _copied(voxelized(sweep, workspace=space))
        finally:
            free.put(space)

    with ThreadPoolExecutor(len(spaces)) as pool:
        return list(pool.map(one, sweeps))


def _run(one_pass: Pass, points: Floats, asked: Asked, work: Workspace, slots: float) -> tuple[int, Dropped]:
    """Number of voxels and dropped points of a pass; without bounds a second one where the first grid is too small."""
    voxel_size, bounds = asked
    cells = work.cells(voxel_size, bounds)
    count, dropped = _dropped(one_pass(cells, work.table(int(slots))), len(points))
    if bounds is None and dropped.outside:
        cells = work.fit_cells(voxel_size, points)
        count, dropped = _dropped(one_pass(cells, work.table(int(slots))), len(points))
    return count, dropped


def _dropped(answer: tuple[int, int], points: int) -> tuple[int, Dropped]:
    count, seen = answer
    not_finite = seen >> 32
    return count, Dropped(not_finite, points - (seen & 0xFFFFFFFF) - not_finite)


def _gather(points: Floats, asked: Asked, limits: tuple[int, int], work: Workspace) -> Voxels:
    max_points, max_voxels = limits
    if max_points < 1 or max_voxels < 1:
        raise ValueError(f"at least one point and one voxel must be allowed, got {max_points} and {max_voxels}")
    most = min(len(points), max_voxels)
    found, runs = work.found(most), work.runs(points.shape[1])
    voxels = work.rows("voxels", (max_voxels, max_points, points.shape[1]))

    def one_pass(cells: passes.Cells, table: passes.Table) -> tuple[int, int]:
        answer = passes.gather_voxels(points, cells, passes.Work(table, runs, found), voxels)
        work.clear_rows("voxels", found.counts[: answer[0]])
        return answer

    slots = min(_SLOTS_PER_POINT * len(points), _SLOTS_PER_VOXEL * max_voxels)
    count, dropped = _run(one_pass, points, asked, work, slots)
    return Voxels(voxels[:count], found.coords[:count], found.counts[:count], dropped)


def _checked(points: Floats) -> Floats:
    if not isinstance(points, np.ndarray) or points.dtype != np.float32 or points.ndim != 2 or points.shape[1] < 3:
        got = f"{points.dtype} {points.shape}" if isinstance(points, np.ndarray) else type(points).__name__
        raise ValueError(f"points must be a float32 array (n, features >= 3), got {got}")
    if len(points) > MAX_POINTS:
        raise ValueError(f"points must be at most {MAX_POINTS}, got {len(points)}: voxelize them in parts")
    return np.ascontiguousarray(points)


def _locked(result: Result, workspace: Workspace | None) -> Result:
    """Read-only where the memory is a workspace's: what a caller wrote to it would show in a later result."""
    if workspace is not None:
        for array in result[:3]:
            array.flags.writeable = False
    return result


def _copied(result: Result) -> Result:
    return type(result)._make([*(array.copy() for array in result[:3]), result.dropped])
