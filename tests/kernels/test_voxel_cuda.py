"""Voxelization on the GPU against the CPU's, bit for bit.

`test_on_the_simulator` runs this file on Numba's simulator, in a process of its own, as the simulator is chosen when
numba is imported. All else runs there and on a real GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, cuda

from kernels import voxel, voxel_cuda, voxel_cuda_passes
from kernels.voxel_cuda import Workspace
from kernels.voxel_grid import Dropped
from kernels.voxel_passes import CHUNK

Array = np.ndarray[Any, Any]

BOUNDS = (-8.0, -8.0, -2.0, 8.0, 8.0, 4.0)
SIMULATED = bool(config.ENABLE_CUDASIM)
EXAMPLES = 3 if SIMULATED else 200
_ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -1e9], np.float32)

on_gpu = pytest.mark.skipif(not cuda.is_available(), reason="neither a GPU nor Numba's simulator")


@pytest.mark.skipif(SIMULATED, reason="runs on the simulator already")
def test_on_the_simulator() -> None:
    command = [sys.executable, "-m", "pytest", __file__, "-p", "no:cacheprovider"]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.skipif(cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"no CUDA GPU was found .* use kernels.voxel"):
        voxel_cuda.downsample(np.zeros((1, 3), np.float32), 0.1)


@pytest.fixture(autouse=True)
def quick_switches() -> Iterator[None]:
    """The simulator's threads wait for each other by looking again and again: let them take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5 if SIMULATED else before)
    yield
    sys.setswitchinterval(before)


@st.composite
def clouds(draw: st.DrawFn, odd: bool = True) -> Array:
    """Clouds of 0 to 70 points of 3 to 5 features: scattered or on the faces of cells, with repeats and odd numbers."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, width = draw(st.sampled_from([0, 1, 7, 40, 70])), draw(st.integers(3, 5))
    points = random.normal(0, draw(st.sampled_from([0.3, 2.0, 5.0])), (count, width))
    if draw(st.booleans()):
        points = np.round(points / 0.1) * 0.1
    if count and draw(st.booleans()):
        points = points[np.sort(random.integers(0, count, count))]
    points = points.astype(np.float32)
    if odd:
        where = random.random(points.shape) < 0.05
        points[where] = random.choice(_ODD, int(where.sum()))
    return points


def assert_same(mine: Any, theirs: Any) -> None:
    assert type(mine) is type(theirs) and mine.dropped == theirs.dropped
    for device, expected in zip(mine[:3], theirs[:3], strict=True):
        found = device.copy_to_host()
        assert found.shape == expected.shape and found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes() or np.array_equal(found, expected, equal_nan=True)


def check(points: Array, size: Any, bounds: Any, work: Workspace) -> None:
    """All functions against the CPU's."""
    with np.errstate(all="ignore"):
        assert_same(voxel_cuda.downsample(points, size, bounds, work), voxel.downsample(points, size, bounds))
        dynamic = voxel_cuda.voxelize_dynamic(points, size, bounds, work)
        assert_same(dynamic, voxel.voxelize_dynamic(points, size, bounds))
        limits = {"max_points": 3, "max_voxels": 9}
        hard = voxel_cuda.voxelize(points, size, bounds, **limits, workspace=work)
        assert_same(hard, voxel.voxelize(points, size, bounds, **limits))


WORKSPACES: list[Workspace] = []


def workspace() -> Workspace:
    """One for all examples: what one call leaves must not show in the next."""
    if not WORKSPACES:
        WORKSPACES.append(Workspace())
    return WORKSPACES[0]


@on_gpu
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=EXAMPLES)
@given(clouds(), st.sampled_from([0.1, 0.5, (0.3, 1.0, 2.0)]))
def test_within_bounds_all_equal_the_cpu(points: Array, size: Any) -> None:
    check(points, size, BOUNDS, workspace())


@on_gpu
@settings(max_examples=EXAMPLES)
@given(clouds(odd=False), st.sampled_from([0.1, 1.0]), st.tuples(*[st.integers(-900, 900)] * 3))
def test_without_bounds_all_equal_the_cpu(points: Array, size: float, away_m: tuple[int, ...]) -> None:
    points[:, :3] += np.float32(away_m)
    points[3::7, 1] = np.nan
    check(points, size, None, workspace())


@on_gpu
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=EXAMPLES)
@given(clouds(), st.sampled_from([0.5, (0.3, 2.0)]), st.integers(1, 5), st.integers(1, 9))
def test_pillars_equal_the_cpu(points: Array, size: Any, max_points: int, max_pillars: int) -> None:
    limits = {"max_points": max_points, "max_pillars": max_pillars}
    mine = voxel_cuda.pillarize(points, size, BOUNDS, **limits, workspace=workspace())
    assert_same(mine, voxel.pillarize(points, size, BOUNDS, **limits))


def sweep(count: int, seed: int = 0, features: int = 4) -> Array:
    """A spinning scan of walls: neighbours share cells, and the same cells come back in every ring."""
    random = np.random.default_rng(seed)
    angle = np.linspace(0, 8 * np.pi, count)
    distance = 3 + np.sin(5 * angle) + random.normal(0, 0.02, count)
    points = random.random((count, features), np.float32)
    points[:, 0], points[:, 1], points[:, 2] = distance * np.cos(angle), distance * np.sin(angle), angle / 40
    return points


@on_gpu
def test_means_across_chunks_equal_the_cpu() -> None:
    run = np.random.default_rng(0).random((90, 5), np.float32)
    points = np.concatenate([np.full((CHUNK - 40, 5), np.nan, np.float32), run])
    mine = voxel_cuda.downsample(points, 3.0, BOUNDS, workspace())
    assert_same(mine, voxel.downsample(points, 3.0, BOUNDS))


@on_gpu
@pytest.mark.parametrize("copies", [voxel_cuda_passes.SHORT + 1, 150])
def test_many_points_in_one_voxel(copies: int) -> None:
    points = np.concatenate([sweep(30), np.random.default_rng(0).random((copies, 4), np.float32) / 9, sweep(9)])
    check(np.random.default_rng(1).permutation(points), 0.5, None, workspace())


@on_gpu
@pytest.mark.parametrize("length", [2, 3, 31, 32, 33, 64, 100])
def test_segments_are_sorted(length: int) -> None:
    work, random = workspace(), np.random.default_rng(length)
    parts = [random.permutation(length) + 5, random.permutation(4), random.permutation(length + 3)]
    order = cuda.to_device(np.concatenate([[9], *parts, [1]]).astype(np.int32))
    ends = 1 + np.cumsum([len(part) for part in parts])
    segments = cuda.to_device(np.stack([ends, [len(part) for part in parts]], axis=1).astype(np.int32))
    long = cuda.to_device(np.zeros(4, np.int32))
    work.over(voxel_cuda_passes.sort_short)(order, segments, 3, long)
    assert long.copy_to_host()[0] == sum(len(part) > voxel_cuda_passes.SHORT for part in parts)
    work.over(voxel_cuda_passes.sort_long)(order, segments, long)
    assert order.copy_to_host().tolist() == [9, *(number for part in parts for number in sorted(part)), 1]
    assert segments.copy_to_host()[:, 0].tolist() == [1, *ends[:-1]]


@on_gpu
@pytest.mark.parametrize("launch", [(1, 1), (3, 5)])
def test_results_do_not_depend_on_the_launch(launch: tuple[int, int]) -> None:
    check(sweep(90), 0.5, BOUNDS, Workspace(*launch))


@on_gpu
def test_cells_of_their_own_fill_the_table() -> None:
    cells = np.random.default_rng(0).permutation(125)[:, None] // np.array([1, 5, 25]) % 5
    check(np.float32(cells) + np.float32(0.5), 1.0, None, workspace())


@on_gpu
def test_probes_go_on_at_the_start_of_the_table() -> None:
    last = [cell for cell in range(999) if voxel_cuda_passes.hashed.py_func(cell) & 15 == 15][:7]  # of 16 slots
    points = np.full((7, 3), 0.5, np.float32)
    points[:, 0] += last
    check(points, 1.0, (0.0, 0.0, 0.0, 1000.0, 1.0, 1.0), Workspace())


@on_gpu
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lower_bounds_are_inside_and_upper_ones_outside(axis: int) -> None:
    points = np.zeros((4, 4), np.float32)
    points[:, axis] = [BOUNDS[axis], np.nextafter(np.float32(BOUNDS[axis]), np.float32(-99)), BOUNDS[axis + 3], 1]
    assert voxel_cuda.downsample(points, 0.5, BOUNDS, workspace()).dropped == Dropped(0, 2)
    check(points, 0.5, BOUNDS, workspace())


@on_gpu
@pytest.mark.parametrize("features", [3, 5])
def test_nothing_in_nothing_out(features: int) -> None:
    for points in (np.empty((0, features), np.float32), np.full((5, features), np.nan, np.float32)):
        check(points, 0.1, None, workspace())
        mine = voxel_cuda.pillarize(points, 0.5, BOUNDS, max_points=2, max_pillars=3, workspace=workspace())
        assert_same(mine, voxel.pillarize(points, 0.5, BOUNDS, max_points=2, max_pillars=3))
    assert len(voxel_cuda.downsample_batch([], 0.1, workspace=workspace())) == 0


@on_gpu
@pytest.mark.parametrize("bounds", [None, BOUNDS])
def test_a_batch_equals_its_sweeps(bounds: Any) -> None:
    sweeps = [sweep(60), sweep(0), sweep(25) + np.float32(400), sweep(70, seed=1), np.full((3, 4), np.nan, np.float32)]
    mixed = [cuda.to_device(each) if place % 2 else each for place, each in enumerate(sweeps)]
    for given_ in (sweeps, mixed):
        batch = voxel_cuda.downsample_batch(given_, 0.5, bounds, workspace())
        assert batch.whole.means.shape[0] == batch.rows[-1]
        for mine, each in zip(batch, sweeps, strict=True):
            assert_same(mine, voxel.downsample(each, 0.5, bounds))
    hard = voxel_cuda.voxelize_batch(sweeps, 0.5, bounds, max_points=2, max_voxels=11, workspace=workspace())
    for mine, each in zip(hard, sweeps, strict=True):
        assert_same(mine, voxel.voxelize(each, 0.5, bounds, max_points=2, max_voxels=11))
    assert_same(hard[-2], voxel.voxelize(sweeps[3], 0.5, bounds, max_points=2, max_voxels=11))
    with pytest.raises(IndexError):
        hard[5]


@on_gpu
def test_one_array_is_a_batch_of_sweeps() -> None:
    sweeps = np.stack([sweep(40, seed=seed) for seed in range(3)])
    strided = cuda.to_device(np.repeat(sweeps, 2, axis=1))[:, ::2]
    for given_ in (sweeps, cuda.to_device(sweeps), strided):
        for mine, each in zip(voxel_cuda.downsample_batch(given_, 0.5, BOUNDS, workspace()), sweeps, strict=True):
            assert_same(mine, voxel.downsample(each, 0.5, BOUNDS))


@on_gpu
def test_a_workspace_is_reused() -> None:
    work = Workspace()
    kept = voxel_cuda.downsample(sweep(60), 0.5, None, work)
    expected = voxel.downsample(sweep(60), 0.5)
    assert_same(kept, expected)
    held = work.nbytes
    voxel_cuda.downsample(sweep(60, seed=1), 0.5, None, work)
    assert work.nbytes == held
    fresh = voxel_cuda.downsample(sweep(60), 0.5)
    voxel_cuda.downsample(sweep(60, seed=1), 0.5)
    assert_same(fresh, expected)


@on_gpu
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("far", [3e38, 2e6])
def test_coordinates_beyond_the_packed_range_raise(far: float) -> None:
    points = sweep(20)
    points[7, 1] = far
    with pytest.raises(ValueError, match="more than fit in 32 bits: give bounds"):
        voxel_cuda.downsample(points, 0.1, workspace=workspace())
    check(points, 0.1, BOUNDS, workspace())


@on_gpu
@pytest.mark.parametrize(
    "points", [np.zeros((4, 4)), np.zeros(4, np.float32), np.zeros((4, 2), np.float32), [[0.0, 0, 0]]]
)
def test_points_must_be_rows_of_float32(points: Any) -> None:
    with pytest.raises(ValueError, match="points must be a float32 array"):
        voxel_cuda.downsample(points, 0.1, workspace=workspace())
    with pytest.raises(ValueError, match="points must be a float32 array"):
        voxel_cuda.downsample_batch([sweep(3), points], 0.1, workspace=workspace())


@on_gpu
def test_what_cannot_be_asked_for() -> None:
    for limits in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match="at least one point"):
            voxel_cuda.voxelize(sweep(9), 0.1, max_points=limits[0], max_voxels=limits[1])
    with pytest.raises(ValueError, match=r"equally many features, got \[4, 5\]"):
        voxel_cuda.downsample_batch([sweep(3), sweep(3, features=5)], 0.1)
    with pytest.raises(ValueError, match="positive"):
        voxel_cuda.downsample(sweep(9), 0.0)
    with pytest.raises(ValueError, match="must hold a cell"):
        voxel_cuda.downsample(sweep(9), 0.1, (0, 0, 0, 1, 1, -1))


@pytest.mark.skipif(SIMULATED or not cuda.is_available(), reason="no GPU")
def test_tensors_pass_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(sweep(5000)).cuda()
    assert voxel_cuda._cloud([tensor], Workspace()).points.device_ctypes_pointer.value == tensor.data_ptr()
    found = voxel_cuda.downsample(tensor, 0.2)
    assert_same(found, voxel.downsample(sweep(5000), 0.2))
    means = torch.as_tensor(found.means, device="cuda")
    assert means.data_ptr() == found.means.device_ctypes_pointer.value
    assert np.array_equal(means.cpu().numpy(), found.means.copy_to_host())


@pytest.mark.skipif(SIMULATED or not cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("size", [0.1, 1.0])
def test_a_full_batch_equals_the_cpu(size: float) -> None:
    sweeps = [sweep(120_000, seed=seed) for seed in range(8)]
    for mine, each in zip(voxel_cuda.downsample_batch(sweeps, size), sweeps, strict=True):
        assert_same(mine, voxel.downsample(each, size))
    limits = {"max_points": 35, "max_voxels": 20_000}
    for hard, each in zip(voxel_cuda.voxelize_batch(sweeps, size, BOUNDS, **limits), sweeps, strict=True):
        assert_same(hard, voxel.voxelize(each, size, BOUNDS, **limits))
