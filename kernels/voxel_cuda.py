"""`kernels.voxel` on a GPU: same arguments, same results, in device memory.

points are float32 (n, features >= 3): a device array (anything with `__cuda_array_interface__`, as a torch tensor, is
taken without a copy) or a NumPy array, which is copied over. Results are Numba device arrays: `torch.as_tensor` takes
them as they are, `copy_to_host` brings them back. They equal those of `kernels.voxel` bit for bit, order included, and
means and pillars too, as sums are taken in the same order.

Threads race, results do not: a hash table in global memory finds the voxel of each point (atomic compare and swap on
its key); the lowest point index of each voxel (atomic minimum) and a prefix sum over the points number the voxels as
first seen; the points of a voxel, put together where an atomic cursor points, are sorted by index. Time is linear in
the points, but one thread per feature sums a voxel's points, so a voxel that holds most of a sweep is slow. All is
queued on CUDA's default stream; a call waits for it once, to learn the number of voxels, and again where a grid must be
fitted to the points.

Without a GPU every call raises RuntimeError. Numba's simulator (NUMBA_ENABLE_CUDASIM=1) counts as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numba import config, cuda
from numpy.typing import NDArray

from kernels import voxel_cuda_passes as passes
from kernels.voxel_cuda_passes import BEGIN, END, MASK, ROW, TABLE
from kernels.voxel_grid import (
    Dropped,
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

DeviceArray = Any  # with __cuda_array_interface__; no type of Numba's covers its simulator
VoxelSize = float | Sequence[float]
Bounds = Sequence[float]
Result = TypeVar("Result", Means, Voxels)

MAX_POINTS = 2**28  # of a batch; a table of 2^30 slots has numbers of 32 bits
_NO_LIMITS = (MAX_POINTS, MAX_POINTS)
# Enough threads for any GPU at hand, and few on the simulator, where each is one of Python's.
BLOCKS, THREADS = (2, 8) if config.ENABLE_CUDASIM else (2048, 256)


class Workspace:
    """Device memory kept between calls, which grows with the largest batch seen, and the shape of launches.

    Results of a call with a workspace are views that hold until its next call. blocks and threads: blocks of a launch
    and threads of a block; results do not depend on them.
    """

    def __init__(self, blocks: int = BLOCKS, threads: int = THREADS) -> None:
        if not cuda.is_available():
            raise RuntimeError("no CUDA GPU was found (`numba -s` tells why): use kernels.voxel, which runs on the CPU")
        self.blocks, self.threads = blocks, threads
        self._arrays: dict[str, DeviceArray] = {}
        self._scales: tuple[Any, NDArray[np.float32]] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held, results included."""
        return sum(array.nbytes for array in self._arrays.values())

    def array(self, name: str, rows: int, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Memory (>= rows, *shape) under a name; its content is what an earlier call left."""
        kept = self._arrays.get(name)
        if kept is None or kept.shape[0] < rows or tuple(kept.shape[1:]) != shape:
            self._arrays[name] = kept = cuda.device_array((max(1, rows + rows // 8), *shape), dtype)
        return kept

    def upload(self, name: str, host: NDArray[Any]) -> DeviceArray:
        """A copy of a small host array under a name."""
        kept = self._arrays.get(name)
        if kept is None or tuple(kept.shape) != host.shape:
            self._arrays[name] = kept = cuda.device_array(host.shape, host.dtype)
        kept.copy_to_device(host)
        return kept

    def over(self, kernel: Any, sweeps: int = 1, shared_bytes: int = 0) -> Any:
        """The kernel with its launch, blocks shared out among a row per sweep."""
        rows = min(max(sweeps, 1), 65535)
        return kernel[(-(-self.blocks // rows), rows), self.threads, 0, shared_bytes]

    def scales(self, size: tuple[float, ...], box: tuple[float, ...] | None, sweeps: int) -> NDArray[np.float32]:
        """`Grid.scale` of each sweep, f32 (sweeps, 12); without bounds a guess, the grids that fitted last."""
        if self._scales is None or self._scales[0] != (size, box, sweeps):
            grid = window_grid(size) if box is None else bounded_grid(size, box)
            self.keep_scales(size, box, np.tile(grid.scale(), (sweeps, 1)))
        assert self._scales is not None
        return self._scales[1]

    def keep_scales(self, size: tuple[float, ...], box: tuple[float, ...] | None, scales: NDArray[np.float32]) -> None:
        """Make these what `scales` gives next."""
        self._scales = ((size, box, len(scales)), scales)


@dataclass(frozen=True)
class Batch(Generic[Result]):
    """Results of a batch of sweeps: `batch[s]` is that of sweep s, as views that are made when asked for.

    whole: the voxels of all sweeps in a row, as detectors take them; those of sweep s are rows[s] to rows[s + 1], host
    memory i64 (sweeps + 1,).
    """

    whole: Result
    rows: NDArray[np.int64]
    dropped: list[Dropped]

    def __len__(self) -> int:
        return len(self.dropped)

    def __getitem__(self, sweep: int) -> Result:
        sweep = range(len(self))[sweep]
        first, last = int(self.rows[sweep]), int(self.rows[sweep + 1])
        views = [_rows(array, first, last) for array in self.whole[:3]]
        return type(self.whole)(views[0], views[1], views[2], self.dropped[sweep])

    def __iter__(self) -> Iterator[Result]:
        return map(self.__getitem__, range(len(self)))


class _Cloud(NamedTuple):
    """Points of all sweeps in a row f32 (N, features), device memory; first of each sweep, and N: i64 (sweeps + 1,)."""

    points: DeviceArray
    starts: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.starts[-1])

    @property
    def sweeps(self) -> int:
        return len(self.starts) - 1


class _Tables(NamedTuple):
    """Device memory of the search for voxels.

    spans i64 (sweeps + 1, 5): first point of a sweep and the one after its last, its first slot and the mask of its
    slots, its first voxel; slots i32 (N,): each point's slot or -1; table i32 (., 4): a slot's key, first point, number
    of points, voxel or -1; sums i64 (N + 1,): voxels (high 32 bits) and their points (low) first seen before a point.
    """

    spans: DeviceArray
    slots: DeviceArray
    table: DeviceArray
    sums: DeviceArray


class _Found(NamedTuple):
    """Voxels of all sweeps, m in a row.

    scales f32 (sweeps, 12); coords i32 (m, 3), counts i32 (m,); segments i32 (m, 2): where in `_ordered` a voxel's
    points begin and how many there are; rows: first voxel of each sweep, and m, host memory.
    """

    tables: _Tables
    scales: DeviceArray
    coords: DeviceArray
    counts: DeviceArray
    segments: DeviceArray
    rows: NDArray[np.int64]
    dropped: list[Dropped]

    @property
    def voxels(self) -> int:
        return int(self.rows[-1])

    def listed(self, first: DeviceArray) -> tuple[DeviceArray, DeviceArray, DeviceArray, Dropped]:
        """The fields of a result over all sweeps, whose first one is `first`."""
        result, coords, counts = (_rows(array, 0, self.voxels) for array in (first, self.coords, self.counts))
        dropped = Dropped(sum(each.not_finite for each in self.dropped), sum(each.outside for each in self.dropped))
        return result, coords, counts, dropped


def downsample(
    points: DeviceArray, voxel_size: VoxelSize, bounds: Bounds | None = None, workspace: Workspace | None = None
) -> Means:
    """As `kernels.voxel.downsample`."""
    return downsample_batch([points], voxel_size, bounds, workspace).whole


def voxelize(
    points: DeviceArray,
    voxel_size: VoxelSize,
    bounds: Bounds | None = None,
    *,
    max_points: int,
    max_voxels: int,
    workspace: Workspace | None = None,
) -> Voxels:
    """As `kernels.voxel.voxelize`."""
    limits = {"max_points": max_points, "max_voxels": max_voxels}
    return voxelize_batch([points], voxel_size, bounds, **limits, workspace=workspace).whole


def voxelize_dynamic(
    points: DeviceArray, voxel_size: VoxelSize, bounds: Bounds | None = None, workspace: Workspace | None = None
) -> Numbers:
    """As `kernels.voxel.voxelize_dynamic`."""
    work = workspace or Workspace()
    cloud = _cloud([points], work)
    found = _find_voxels(cloud, (voxel_size, bounds), _NO_LIMITS, work)
    numbers = work.array("numbers", cloud.total, (), np.int32)
    work.over(passes.number)(found.tables.slots, found.tables.table, cloud.total, numbers)
    return Numbers(_rows(numbers, 0, cloud.total), *found.listed(found.counts)[1:])


def pillarize(
    points: DeviceArray,
    pillar_size: float | tuple[float, float],
    bounds: Bounds,
    *,
    max_points: int,
    max_pillars: int,
    workspace: Workspace | None = None,
) -> Pillars:
    """As `kernels.voxel.pillarize`."""
    work = workspace or Workspace()
    width, depth = (pillar_size, pillar_size) if isinstance(pillar_size, float | int) else pillar_size
    cloud, size = _cloud([points], work), (width, depth, bounds[5] - bounds[2])
    found = _find_voxels(cloud, (size, bounds), _limits(max_points, max_pillars), work)
    kept = (cloud.points, _ordered(cloud, found, work), found.segments, found.counts, found.voxels)
    middles = work.array("middles", found.voxels, (5,), np.float32)
    features = work.array("features", found.voxels, (max_points, cloud.points.shape[1] + 5), np.float32)
    work.over(passes.find_middles)(*kept, found.coords, found.scales, middles)
    work.over(passes.decorate)(*kept, found.scales, middles, features)
    return Pillars(*found.listed(features))


def downsample_batch(
    sweeps: Iterable[DeviceArray],
    voxel_size: VoxelSize,
    bounds: Bounds | None = None,
    workspace: Workspace | None = None,
) -> Batch[Means]:
    """`downsample` of each sweep, all in one set of launches.

    sweeps: arrays with the same number of features, which are first copied into one; or one contiguous array (sweeps,
    n, features), which is taken as it is: fill shorter sweeps up with NaN, which is dropped and counted.
    """
    work = workspace or Workspace()
    cloud = _cloud(sweeps, work)
    found = _find_voxels(cloud, (voxel_size, bounds), _NO_LIMITS, work)
    order = _ordered(cloud, found, work)
    means = work.array("means", found.voxels, (cloud.points.shape[1],), np.float32)
    work.over(passes.average, cloud.sweeps)(cloud.points, order, found.segments, found.tables.spans, means)
    return Batch(Means(*found.listed(means)), found.rows, found.dropped)


def voxelize_batch(
    sweeps: Iterable[DeviceArray],
    voxel_size: VoxelSize,
    bounds: Bounds | None = None,
    *,
    max_points: int,
    max_voxels: int,
    workspace: Workspace | None = None,
) -> Batch[Voxels]:
    """`voxelize` of each sweep, all in one set of launches; sweeps as for `downsample_batch`."""
    work = workspace or Workspace()
    cloud = _cloud(sweeps, work)
    found = _find_voxels(cloud, (voxel_size, bounds), _limits(max_points, max_voxels), work)
    order = _ordered(cloud, found, work)
    voxels = work.array("voxels", found.voxels, (max_points, cloud.points.shape[1]), np.float32)
    work.over(passes.gather)(cloud.points, order, found.segments, found.counts, found.voxels, voxels)
    return Batch(Voxels(*found.listed(voxels)), found.rows, found.dropped)


def _limits(max_points: int, max_voxels: int) -> tuple[int, int]:
    if max_points < 1 or max_voxels < 1:
        raise ValueError(f"at least one point and one voxel must be allowed, got {max_points} and {max_voxels}")
    return max_points, max_voxels


def _find_voxels(
    cloud: _Cloud, cells: tuple[VoxelSize, Bounds | None], limits: tuple[int, int], work: Workspace
) -> _Found:
    """Voxels of each sweep as first seen, up to `max_voxels` of each; their points are counted up to `max_points`."""
    size, box = as_voxel_size(cells[0]), as_bounds(cells[1])
    max_points, max_voxels = limits
    spans = _spans(cloud.starts)
    slots, sums = work.array("slots", cloud.total, (), np.int32), work.array("sums", cloud.total + 1, (), np.int64)
    table = work.array("table", int(spans[-1, TABLE]), (4,), np.int32)
    tables = _Tables(work.upload("spans", spans), slots, table, sums)
    scales = work.upload("scales", work.scales(size, box, cloud.sweeps))
    voxels, dropped = _insert(cloud, scales, tables, work)
    if box is None and any(each.outside for each in dropped):
        _fit_scales(cloud, dropped, size, (tables.spans, scales), work)
        scales = work.upload("scales", work.scales(size, box, cloud.sweeps))
        voxels, dropped = _insert(cloud, scales, tables, work)
    spans[1:, ROW] = np.cumsum(np.minimum(voxels, max_voxels))
    work.upload("spans", spans)
    coords = work.array("coords", int(spans[-1, ROW]), (3,), np.int32)
    counts = work.array("counts", int(spans[-1, ROW]), (), np.int32)
    segments = work.array("segments", int(spans[-1, ROW]), (2,), np.int32)
    work.over(passes.list_voxels, cloud.sweeps)(
        tables.spans, scales, slots, table, sums, coords, counts, segments, max_points
    )
    return _Found(tables, scales, coords, counts, segments, spans[:, ROW].copy(), dropped)


def _insert(
    cloud: _Cloud, scales: DeviceArray, tables: _Tables, work: Workspace
) -> tuple[NDArray[np.int64], list[Dropped]]:
    """Fill the table, the slots and the sums. Gives the number of voxels of each sweep and its dropped points."""
    spans, slots, table, sums = tables
    summary = work.array("summary", cloud.sweeps + 1, (2,), np.int64)
    totals, rest = (work.array(name, work.blocks, (), np.int64) for name in ("totals", "rest"))
    count, share = cloud.total + 1, -(-(cloud.total + 1) // (work.blocks * work.threads))
    work.over(passes.clear)(table, spans, summary)
    work.over(passes.insert, cloud.sweeps)(cloud.points, spans, scales, table, slots, summary)
    work.over(passes.mark)(slots, table, cloud.total, sums)
    shared_bytes = 8 * work.threads
    work.over(passes.scan, shared_bytes=shared_bytes)(sums, totals, count, share)
    work.over(passes.scan, shared_bytes=shared_bytes)(totals, rest, work.blocks, -(-work.blocks // work.threads))
    work.over(passes.add_totals)(sums, totals, count, share * work.threads)
    work.over(passes.summarize)(spans, sums, summary)
    told = summary.copy_to_host()[: cloud.sweeps + 1]
    voxels, inside = np.diff(told[:, 0] >> 32), np.diff(told[:, 0] & passes.LOW)
    not_finite = told[:-1, 1]
    outside = np.diff(cloud.starts) - inside - not_finite
    return voxels, [Dropped(int(bad), int(far)) for bad, far in zip(not_finite, outside, strict=True)]


def _fit_scales(
    cloud: _Cloud,
    dropped: list[Dropped],
    size: tuple[float, float, float],
    held: tuple[DeviceArray, DeviceArray],
    work: Workspace,
) -> None:
    """Fit the grids of sweeps that have points outside of theirs; held: spans and scales."""
    none = np.repeat(np.array([np.inf, -np.inf], np.float32), 3)
    edges = work.upload("edges", np.tile(none, (cloud.sweeps, 1)))
    work.over(passes.measure, cloud.sweeps)(cloud.points, *held, edges)
    cells, scales = np.floor(edges.copy_to_host()), work.scales(size, None, cloud.sweeps).copy()
    for sweep, (_, outside) in enumerate(dropped):
        if outside:
            scales[sweep] = fitted_grid(size, cells[sweep, :3].tolist(), cells[sweep, 3:].tolist()).scale()
    work.keep_scales(size, None, scales)


def _ordered(cloud: _Cloud, found: _Found, work: Workspace) -> DeviceArray:
    """The points of each voxel by index, voxel by voxel, i32 (N,); `found.segments` says where."""
    order = work.array("order", cloud.total, (), np.int32)
    long = work.array("long", 1 + cloud.total // passes.SHORT, (), np.int32)
    tables, segments = found.tables, found.segments
    work.over(passes.scatter)(tables.slots, tables.table, cloud.total, segments, order, long)
    work.over(passes.sort_short)(order, segments, found.voxels, long)
    work.over(passes.sort_long)(order, segments, long)
    return order


def _spans(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """`_Tables.spans` with the voxels still to come; each sweep's slots are at most half full."""
    spans = np.zeros((len(starts), 5), np.int64)
    spans[:, BEGIN], spans[:-1, END] = starts, starts[1:]
    slots = np.array([1 << (2 * int(points)).bit_length() for points in np.diff(starts)], np.int64)
    spans[:-1, MASK], spans[1:, TABLE] = slots - 1, np.cumsum(slots)
    return spans


def _cloud(sweeps: Iterable[Any], work: Workspace) -> _Cloud:
    """The sweeps in device memory, in a row; a copy there only where they are not so already."""
    if len(getattr(sweeps, "shape", ())) == 3:
        whole = _on_device(_checked(sweeps, 3))
        count, points, features = whole.shape
        if whole.is_c_contiguous():
            starts = _check_total(np.arange(count + 1, dtype=np.int64) * points)
            return _Cloud(whole.reshape(count * points, features), starts)
        sweeps = [whole[sweep] for sweep in range(count)]
    arrays = [_checked(sweep, 2) for sweep in sweeps]
    starts = _check_total(np.cumsum([0, *(array.shape[0] for array in arrays)], dtype=np.int64))
    if len({array.shape[1] for array in arrays}) > 1:
        raise ValueError(f"sweeps of a batch must have equally many features, got {[a.shape[1] for a in arrays]}")
    if len(arrays) == 1:
        return _Cloud(_on_device(arrays[0]), starts)
    if all(isinstance(array, np.ndarray) for array in arrays):
        return _Cloud(_on_device(np.concatenate(arrays) if arrays else np.empty((0, 3), np.float32)), starts)
    points = work.array("points", int(starts[-1]), (arrays[0].shape[1],), np.float32)
    for array, start in zip(arrays, starts.tolist(), strict=False):
        work.over(passes.copy_rows)(_on_device(array), points, start)
    return _Cloud(points, starts)


def _checked(points: Any, dimensions: int) -> Any:
    """The points as NumPy array or as a view of Numba's of device memory."""
    array = points
    if not (isinstance(points, np.ndarray) or getattr(points, "__cuda_ndarray__", False)):  # NumPy's or Numba's own
        array = cuda.as_cuda_array(points) if hasattr(points, "__cuda_array_interface__") else None
    if array is None or array.dtype != np.float32 or array.ndim != dimensions or array.shape[dimensions - 1] < 3:
        got = type(points).__name__ if array is None else f"{array.dtype} {tuple(array.shape)}"
        raise ValueError(f"points must be a float32 array (n, features >= 3), of NumPy or in device memory, got {got}")
    return array


def _on_device(array: Any) -> DeviceArray:
    return cuda.to_device(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array


def _check_total(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    if starts[-1] > MAX_POINTS:
        raise ValueError(f"points must be at most {MAX_POINTS}, got {starts[-1]}: voxelize them in parts")
    return starts


def _rows(array: DeviceArray, first: int, last: int) -> DeviceArray:
    """A view of some rows; empty arrays of their own, as a GPU has no view of nothing."""
    if first == last:
        return cuda.device_array((0, *array.shape[1:]), array.dtype)
    return array[first:last]
