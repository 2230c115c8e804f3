"""Claim: voxel means and hard voxels on one CPU core, several times as fast as the fastest that Python has.

Every contender voxelizes the same float32 array in turn, in one process and one thread; times are CPU seconds of that
thread, medians over sweeps and repeats. Imports and JIT are left out. Open3D and small_gicp return the means of x, y, z
only, in float64: their time with the conversion from float32 left out is shown beside, as is kiss-icp's.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.clouds import Sweep, clouds
from benchmarks.report import Row, run
from kernels.voxel import Workspace, downsample, downsample_batch, voxelize

Call = Callable[[], object]
Maker = Callable[[Sweep, float], Call]

SIZES_M = (0.1, 0.2)
RANGE_M = (-75.2, -75.2, -2.0, 75.2, 75.2, 4.0)  # Waymo's, in OpenPCDet
MAX_POINTS = 35
HARD_CASES = ((0.1, 20_000), (0.1, 150_000), (0.2, 20_000))
MB = 1e6


@dataclass
class Times:
    """CPU seconds of each contender, one per sweep and repeat, and the points of the sweep it was taken on."""

    points: list[int] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """Median of million points per second."""
        return float(np.median(np.array(self.points) / np.array(self.seconds[name]))) / 1e6

    def spread(self, name: str) -> tuple[float, float]:
        """Lowest and highest of million points per second."""
        rates = np.array(self.points) / np.array(self.seconds[name]) / 1e6
        return float(rates.min()), float(rates.max())


def _torch_means(sweep: Sweep, size_m: float) -> Call:
    import torch

    torch.set_num_threads(1)
    points = torch.from_numpy(sweep)

    def call() -> object:
        cells = torch.floor(points[:, :3] / size_m).to(torch.int64) + 8192
        keys = (cells[:, 2] * 16384 + cells[:, 1]) * 16384 + cells[:, 0]
        _, voxel, counts = torch.unique(keys, return_inverse=True, return_counts=True)
        sums = torch.zeros(len(counts), points.shape[1]).index_add_(0, voxel, points)
        return sums / counts[:, None], counts

    return call


def _packed(sweep: Sweep, size_m: float) -> np.ndarray:
    cells = np.floor(sweep[:, :3] / np.float32(size_m)).astype(np.int64) + 8192
    keys: np.ndarray = (cells[:, 2] * 16384 + cells[:, 1]) * 16384 + cells[:, 0]
    return keys


def _scipy_means(sweep: Sweep, size_m: float) -> Call:
    from scipy.sparse import csr_array

    def call() -> object:
        _, voxel, counts = np.unique(_packed(sweep, size_m), return_inverse=True, return_counts=True)
        rows = np.arange(len(sweep) + 1)
        members = csr_array((np.ones(len(sweep), np.float32), voxel, rows), (len(sweep), len(counts)))
        return (members.T @ sweep) / counts[:, None].astype(np.float32), counts

    return call


def _pandas_means(sweep: Sweep, size_m: float) -> Call:
    import pandas

    def call() -> object:
        groups = pandas.DataFrame(sweep).groupby(_packed(sweep, size_m), sort=False)
        return groups.mean().to_numpy(), groups.size().to_numpy()

    return call


def _small_gicp_means(sweep: Sweep, size_m: float) -> Call:
    import small_gicp

    return lambda: small_gicp.voxelgrid_sampling(sweep[:, :3].astype(np.float64), size_m, num_threads=1)


def _small_gicp_core(sweep: Sweep, size_m: float) -> Call:
    import small_gicp

    cloud = small_gicp.PointCloud(sweep[:, :3].astype(np.float64))
    return lambda: small_gicp.voxelgrid_sampling(cloud, size_m, num_threads=1)


def _open3d_cloud(sweep: Sweep) -> Any:
    import open3d

    return open3d.geometry.PointCloud(open3d.utility.Vector3dVector(sweep[:, :3].astype(np.float64)))


def _open3d_means(sweep: Sweep, size_m: float) -> Call:
    return lambda: _open3d_cloud(sweep).voxel_down_sample(size_m)


def _open3d_core(sweep: Sweep, size_m: float) -> Call:
    cloud = _open3d_cloud(sweep)
    return lambda: cloud.voxel_down_sample(size_m)


def _kiss_icp_core(sweep: Sweep, size_m: float) -> Call:
    from kiss_icp.pybind import kiss_icp_pybind

    cloud = kiss_icp_pybind._Vector3dVector(sweep[:, :3].astype(np.float64))
    return lambda: kiss_icp_pybind._voxel_down_sample(cloud, size_m)


MEANS: dict[str, Maker] = {
    "torch unique + index_add": _torch_means,
    "NumPy unique + SciPy CSR": _scipy_means,
    "pandas groupby": _pandas_means,
    "small_gicp": _small_gicp_means,
    "Open3D": _open3d_means,
}
CORES: dict[str, Maker] = {
    "small_gicp, conversion left out": _small_gicp_core,
    "Open3D, conversion left out": _open3d_core,
    "kiss-icp (keeps the first point), conversion left out": _kiss_icp_core,
}
GOALS = {"Open3D": 8.0, "kiss-icp (keeps the first point), conversion left out": 3.5}


def _installed(makers: dict[str, Maker], sweep: Sweep) -> dict[str, Maker]:
    """The contenders that can be imported here; their first call is made."""
    found = {}
    for name, maker in makers.items():
        try:
            maker(sweep, SIZES_M[-1])()
        except ImportError:
            continue
        found[name] = maker
    return found


def alternate(contenders: list[dict[str, Call]], points: list[int], repeats: int) -> Times:
    """Every contender on every sweep in turn, `repeats` times; the order turns, as the first finds the sweep cold."""
    times = Times()
    for _ in range(repeats):
        for calls, count in zip(contenders, points, strict=True):
            turn = len(times.points) % len(calls)
            times.points.append(count)
            names = list(calls)
            for name in names[turn:] + names[:turn]:
                started = time.thread_time()
                calls[name]()
                times.seconds.setdefault(name, []).append(time.thread_time() - started)
    return times


def means(sources: dict[str, list[Sweep]], repeats: int) -> list[Row]:
    """Ours against every rival, and the fastest of them in each case."""
    example = next(iter(sources.values()))[0]
    rivals = _installed(MEANS | CORES, example)
    workspace = Workspace()

    def ours(sweep: Sweep, size_m: float) -> Call:
        return lambda: downsample(sweep, size_m, workspace=workspace)

    makers = {"ours": ours} | rivals
    cases = {}
    for source, sweeps in sources.items():
        for size_m in SIZES_M:
            calls = [{name: maker(sweep, size_m) for name, maker in makers.items()} for sweep in sweeps]
            cases[f"{source}, {size_m} m"] = alternate(calls, [len(sweep) for sweep in sweeps], repeats)
    fastest = {
        case: max((name for name in rivals if name in MEANS), key=times.rate, default=None)
        for case, times in cases.items()
    }
    rows = [_against(case, "means", times, fastest[case], 5.0) for case, times in cases.items()]
    rows.append(_overall("means", cases, fastest, "the fastest of each", 6.0))
    for name in MEANS | CORES:
        chosen = {case: name if name in rivals else None for case in cases}
        rows.append(_overall("means", cases, chosen, name, GOALS.get(name)))
    return rows


def _against(case: str, metric: str, times: Times, rival: str | None, goal: float | None) -> Row:
    ours, theirs = times.rate("ours"), times.rate(rival) if rival else None
    holds = ours >= goal * theirs if theirs and goal else None
    target = f">= {goal:g}x" if goal else None
    return Row(case, metric, "Mpts/s", ours, theirs, rival, times.spread("ours"), target, holds)


def _overall(
    metric: str, cases: dict[str, Times], rivals: dict[str, str | None], label: str, goal: float | None
) -> Row:
    """Geometric means over the cases."""
    rates = [times.rate("ours") for times in cases.values()]
    ours = _geometric(rates)
    against = [cases[case].rate(rival) for case, rival in rivals.items() if rival]
    theirs = _geometric(against) if len(against) == len(cases) else None
    holds = ours >= goal * theirs if theirs and goal else None
    target = f">= {goal:g}x" if goal else None
    case = f"geometric mean of {len(cases)}"
    return Row(case, metric, "Mpts/s", ours, theirs, label, (min(rates), max(rates)), target, holds)


def _geometric(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def hard(sources: dict[str, list[Sweep]], repeats: int) -> list[Row]:
    """Hard voxels against spconv, whose results must be the same bit for bit."""
    rows: list[Row] = []
    cases: dict[str, Times] = {}
    spconv = importlib.util.find_spec("spconv") is not None
    for source, sweeps in sources.items():
        for size_m, max_voxels in HARD_CASES:
            case = f"{source}, {size_m} m, {max_voxels // 1000}k voxels"
            calls = _hard_calls(sweeps, size_m, max_voxels, spconv)
            if spconv:
                rows.append(_equal(case, calls))
            cases[case] = times = alternate(calls, [len(sweep) for sweep in sweeps], repeats)
            rows.append(_against(case, "hard voxels", times, "spconv" if spconv else None, 2.0))
            rows.append(_against(case, "hard voxels", times, "OpenPCDet" if spconv else None, 2.4))
    for name, goal in (("spconv", 2.3), ("OpenPCDet", 3.0)):
        chosen = {case: name if spconv else None for case in cases}
        rows.append(_overall("hard voxels", cases, chosen, name, goal))
    return rows


def _hard_calls(sweeps: list[Sweep], size_m: float, max_voxels: int, spconv: bool) -> list[dict[str, Call]]:
    workspace = Workspace()

    def ours(sweep: Sweep) -> Call:
        return lambda: voxelize(
            sweep, size_m, RANGE_M, max_points=MAX_POINTS, max_voxels=max_voxels, workspace=workspace
        )

    calls: list[dict[str, Call]] = [{"ours": ours(sweep)} for sweep in sweeps]
    if spconv:
        from cumm import tensorview
        from spconv.utils import Point2VoxelCPU3d

        theirs = Point2VoxelCPU3d([size_m] * 3, list(RANGE_M), 4, max_voxels, MAX_POINTS)

        def views(sweep: Sweep) -> Call:
            return lambda: [part.numpy_view() for part in theirs.point_to_voxel(tensorview.from_numpy(sweep))]

        def copies(sweep: Sweep) -> Call:  # as in OpenPCDet's VoxelGeneratorWrapper
            return lambda: [part.numpy() for part in theirs.point_to_voxel(tensorview.from_numpy(sweep))]

        for call, sweep in zip(calls, sweeps, strict=True):
            call |= {"spconv": views(sweep), "OpenPCDet": copies(sweep)}
    return calls


def _equal(case: str, calls: list[dict[str, Call]]) -> Row:
    equal = sum(_same(each["ours"](), each["OpenPCDet"]()) for each in calls)
    good = equal == len(calls)
    return Row(case, "bit-equal to spconv", "sweeps", equal, len(calls), "all", target="all", holds=good)


def _same(mine: Any, theirs: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(mine[:3], theirs, strict=True))


def memory(sources: dict[str, list[Sweep]]) -> Row:
    """What one thread holds for hard voxels of 0.1 m, results included, beside spconv's dense grid of indices."""
    workspace = Workspace()
    for sweep in next(iter(sources.values())):
        voxelize(sweep, 0.1, RANGE_M, max_points=MAX_POINTS, max_voxels=20_000, workspace=workspace)
    cells = np.prod(np.round((np.array(RANGE_M[3:]) - RANGE_M[:3]) / 0.1))
    ours, grid = workspace.nbytes / MB, float(cells * 4 / MB)
    return Row("0.1 m, 20k voxels of 35", "memory", "MB", ours, grid, "spconv's grid", None, "<= 20", ours <= 20)


def bandwidth(sources: dict[str, list[Sweep]], repeats: int) -> Row:
    """Bytes of points in and voxels out per second of `downsample`, as a share of what copying memory reaches."""
    workspace, source = Workspace(), np.ones(8 * 2**20)
    target, rates, copies = np.empty_like(source), [], []
    for _ in range(repeats):
        for sweep in next(iter(sources.values())):
            for size_m in SIZES_M:
                started = time.thread_time()
                found = downsample(sweep, size_m, workspace=workspace)
                seconds = time.thread_time() - started
                rates.append((sweep.nbytes + sum(part.nbytes for part in found[:3])) / seconds / 1e9)
        started = time.thread_time()
        np.copyto(target, source)
        copies.append(2 * source.nbytes / (time.thread_time() - started) / 1e9)
    ours, copied = float(np.median(rates)), float(np.median(copies))
    spread = (min(rates), max(rates))
    return Row("one thread", "traffic", "GB/s", ours, copied, "copy", spread, ">= 0.1x", ours >= 0.1 * copied)


def batch(sources: dict[str, list[Sweep]], repeats: int) -> Row:
    """Wall time of a batch over two threads against one; the best of the repeats, as both need idle cores."""
    sweeps = 4 * next(iter(sources.values()))
    count = sum(map(len, sweeps))
    spaces = [Workspace(), Workspace()]
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats + 1):
        for threads, kept in rates.items():
            started = time.perf_counter()
            downsample_batch(sweeps, 0.1, workspaces=spaces[:threads])
            kept.append(count / (time.perf_counter() - started) / 1e6)
    one, two = max(rates[1]), max(rates[2])
    spread = (min(rates[2]), two)
    return Row(
        f"{len(sweeps)} sweeps, 2 threads", "means", "Mpts/s", two, one, "1 thread", spread, ">= 1.8x", two >= 1.8 * one
    )


def measure(options: argparse.Namespace) -> list[Row]:
    """All rows; --quick takes fewer sweeps and repeats."""
    sweeps, repeats = (3, 3) if options.quick else (10, 7)
    sources = clouds(sweeps)
    with threadpool_limits(1):
        rows = [*means(sources, repeats), *hard(sources, repeats), memory(sources), bandwidth(sources, repeats)]
    return [*rows, batch(sources, 3 * repeats)]


if __name__ == "__main__":
    run("voxel", measure)
