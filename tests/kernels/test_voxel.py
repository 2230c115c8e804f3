"""Voxelization against plain NumPy loops, against spconv where it is installed, and its laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.voxel import (
    Dropped,
    Workspace,
    downsample,
    downsample_batch,
    pillarize,
    voxelize,
    voxelize_batch,
    voxelize_dynamic,
)
from kernels.voxel_passes import CHUNK

BOUNDS = (-8.0, -8.0, -2.0, 8.0, 8.0, 4.0)
Array = np.ndarray[Any, Any]


def cell_of(point: Array, size: tuple[float, ...], bounds: tuple[float, ...] | None) -> tuple[int, ...] | None:
    """z, y, x of a point's cell in float32 arithmetic, None outside; the oracle of all that follows."""
    lower = np.float32(bounds[:3] if bounds else (0, 0, 0))
    edges = np.float32(size)
    with np.errstate(all="ignore"):
        cell = np.floor((point[:3] - lower) / edges)
        if bounds:
            shape = np.floor(np.float64((np.float32(bounds[3:]) - lower) / edges) + 0.5)
            if not ((cell >= 0) & (cell < shape)).all():
                return None
    return tuple(int(number) for number in cell[::-1])


def grouped(points: Array, size: tuple[float, ...], bounds: tuple[float, ...] | None) -> tuple[Any, Dropped]:
    """Cells to the rows of their points, in first-seen order."""
    cells: dict[tuple[int, ...], list[int]] = {}
    not_finite = outside = 0
    for row, point in enumerate(points):
        if not np.isfinite(point[:3]).all():
            not_finite += 1
        elif (cell := cell_of(point, size, bounds)) is None:
            outside += 1
        else:
            cells.setdefault(cell, []).append(row)
    return cells, Dropped(not_finite, outside)


def triple(size: float | tuple[float, ...]) -> tuple[float, ...]:
    return size if isinstance(size, tuple) else (size,) * 3


_NEAR = st.floats(-10, 10, width=32)
_GRID = st.integers(-80, 80).map(lambda number: float(np.float32(number * 0.1)))  # on the faces of cells
_BAD = st.sampled_from([float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e9, -1e9, 0.0, -0.0])
_SIZE = st.one_of(st.sampled_from([0.1, 0.2, 0.5, 3.0]), st.tuples(*[st.floats(0.05, 5)] * 3))


@st.composite
def clouds(draw: st.DrawFn, bad: bool = True, features: int | None = None) -> Array:
    """Up to 80 points of 3 to 6 features, with repeated points (so with runs) and what sensors send in error."""
    width = features or draw(st.integers(3, 6))
    number = st.one_of(_NEAR, _GRID, _BAD) if bad else st.one_of(_NEAR, _GRID)
    distinct = draw(arrays(np.float32, (draw(st.integers(0, 20)), width), elements=number))
    times = draw(st.lists(st.integers(0, len(distinct) - 1), max_size=60)) if len(distinct) else []
    points: Array = np.concatenate([distinct, distinct[times]])
    points[:, 3:] = np.nan_to_num(points[:, 3:], nan=0, posinf=1, neginf=-1).clip(-100, 100)
    return points


WORKSPACE = Workspace()  # of all examples: what one call leaves must not show in the next


def check_downsample(points: Array, size: Any, bounds: Any) -> None:
    cells, dropped = grouped(points, triple(size), bounds)
    found = downsample(points, size, bounds, WORKSPACE)
    assert found.dropped == dropped
    assert found.coords.dtype == found.counts.dtype == np.int32 and found.means.dtype == np.float32
    assert found.coords.tolist() == [list(cell) for cell in cells]
    assert found.counts.tolist() == [len(rows) for rows in cells.values()]
    for mean, rows in zip(found.means, cells.values(), strict=True):
        largest = np.abs(points[rows]).max(axis=0)
        error = np.abs(mean - points[rows].astype(np.float64).mean(axis=0))
        assert (error <= largest * len(rows) * 2.0**-23).all()


def check_dynamic(points: Array, size: Any, bounds: Any) -> None:
    cells, dropped = grouped(points, triple(size), bounds)
    found = voxelize_dynamic(points, size, bounds, WORKSPACE)
    expected = np.full(len(points), -1, np.int32)
    for voxel, rows in enumerate(cells.values()):
        expected[rows] = voxel
    assert np.array_equal(found.voxel_of_point, expected) and found.voxel_of_point.dtype == np.int32
    assert found.coords.tolist() == [list(cell) for cell in cells] and found.dropped == dropped
    assert found.counts.tolist() == [len(rows) for rows in cells.values()]


def check_hard(points: Array, size: Any, bounds: Any, max_points: int, max_voxels: int) -> None:
    cells, dropped = grouped(points, triple(size), bounds)
    kept = [(cell, rows[:max_points]) for cell, rows in cells.items()][:max_voxels]
    found = voxelize(points, size, bounds, max_points=max_points, max_voxels=max_voxels, workspace=WORKSPACE)
    assert found.voxels.shape == (len(kept), max_points, points.shape[1]) and found.voxels.dtype == np.float32
    assert found.coords.tolist() == [list(cell) for cell, _ in kept] and found.dropped == dropped
    assert found.counts.tolist() == [len(rows) for _, rows in kept]
    for voxel, (_, rows) in zip(found.voxels, kept, strict=True):
        assert np.array_equal(voxel[: len(rows)], points[rows]) and not voxel[len(rows) :].any()


@settings(max_examples=60)
@given(clouds(), _SIZE)
def test_within_bounds_all_equal_the_oracle(points: Array, size: Any) -> None:
    check_downsample(points, size, BOUNDS)
    check_dynamic(points, size, BOUNDS)
    check_hard(points, size, BOUNDS, 3, 7)


@settings(max_examples=60)
@given(clouds(bad=False), _SIZE, st.tuples(*[st.integers(-900, 900)] * 3))
def test_without_bounds_all_equal_the_oracle(points: Array, size: Any, away_m: tuple[int, ...]) -> None:
    points[:, :3] += np.float32(away_m)
    points[::7, 1] = np.nan
    check_downsample(points, size, None)
    check_dynamic(points, size, None)
    check_hard(points, size, None, 2, 9)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(clouds(), _SIZE, st.booleans())
def test_a_thousand_clouds(points: Array, size: Any, bounded: bool) -> None:
    if not bounded:
        points[~(np.abs(points[:, :3]) < 1e3).all(axis=1), :3] = np.nan
    bounds = BOUNDS if bounded else None
    check_downsample(points, size, bounds)
    check_dynamic(points, size, bounds)
    check_hard(points, size, bounds, 3, 7)


@settings(max_examples=60)
@given(clouds(), st.floats(0.2, 3), st.integers(1, 5), st.integers(1, 9))
def test_pillars_equal_the_oracle(points: Array, size: float, max_points: int, max_pillars: int) -> None:
    cells, dropped = grouped(points, (size, size, BOUNDS[5] - BOUNDS[2]), BOUNDS)
    kept = [(cell, rows[:max_points]) for cell, rows in cells.items()][:max_pillars]
    found = pillarize(points, size, BOUNDS, max_points=max_points, max_pillars=max_pillars, workspace=WORKSPACE)
    assert found.features.shape == (len(kept), max_points, points.shape[1] + 5) and found.dropped == dropped
    assert found.coords.tolist() == [list(cell) for cell, _ in kept] and not found.coords[:, 0].any()
    for features, (cell, rows) in zip(found.features, kept, strict=True):
        xyz = points[rows, :3].astype(np.float64)
        centre = np.array(BOUNDS[:2]) + (np.array(cell[:0:-1]) + 0.5) * size
        expected = np.hstack([points[rows], xyz - xyz.mean(axis=0), xyz[:, :2] - centre])
        np.testing.assert_allclose(features[: len(rows)], expected, atol=1e-5)
        assert not features[len(rows) :].any()


def sweep(count: int, seed: int = 0, features: int = 4) -> Array:
    """A spinning scan of walls: neighbours share cells, and the same cells come back in every ring."""
    random = np.random.default_rng(seed)
    angle = np.linspace(0, 40 * np.pi, count)
    distance = 5 + 2 * np.sin(5 * angle) + random.normal(0, 0.02, count)
    points = random.random((count, features), np.float32)
    points[:, 0], points[:, 1], points[:, 2] = distance * np.cos(angle), distance * np.sin(angle), angle / 40 - 2
    return points


@pytest.mark.parametrize("count", [1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("features", [3, 4, 5])
def test_across_lanes_and_chunks(count: int, features: int) -> None:
    points = sweep(count, features=features)
    points[:: max(2, count // 9)] = np.nan
    check_downsample(points, 0.2, BOUNDS)
    check_dynamic(points, 0.2, None)
    check_hard(points, 0.2, BOUNDS, 5, 300)


@pytest.mark.parametrize("features", [3, 4, 6])
def test_nothing_in_nothing_out(features: int) -> None:
    for points in (np.empty((0, features), np.float32), np.full((5, features), np.nan, np.float32)):
        for bounds in (None, BOUNDS):
            means = downsample(points, 0.1, bounds)
            voxels = voxelize(points, 0.1, bounds, max_points=3, max_voxels=4)
            numbers = voxelize_dynamic(points, 0.1, bounds)
            pillars = pillarize(points, 0.1, BOUNDS, max_points=3, max_pillars=4)
            assert means.means.shape == (0, features) and voxels.voxels.shape == (0, 3, features)
            assert pillars.features.shape == (0, 3, features + 5)
            assert numbers.voxel_of_point.tolist() == [-1] * len(points)
            for found in (means, voxels, numbers, pillars):
                assert found.coords.shape == (0, 3) and found.counts.shape == (0,)
                assert found.dropped == Dropped(len(points), 0)
    assert downsample_batch([], 0.1) == []


@pytest.mark.parametrize("far", [3e38, 2e6, -2e6])
def test_coordinates_beyond_the_packed_range_raise(far: float) -> None:
    points = np.zeros((20, 4), np.float32)
    points[7, 1] = far
    for voxelized in (downsample, voxelize_dynamic):
        with pytest.raises(ValueError, match="more than fit in 32 bits: give bounds"):
            voxelized(points, 0.1)  # type: ignore[operator]
    with pytest.raises(ValueError, match="more than fit"):
        voxelize(points, 0.1, max_points=1, max_voxels=1)
    assert downsample(points, 0.1, BOUNDS).dropped == Dropped(0, 1)


def test_cells_may_be_anywhere_when_they_are_few() -> None:
    points = sweep(500)
    points[:, :2] += 90_000
    found = downsample(points, 0.5, workspace=WORKSPACE)
    assert found.counts.sum() == 500 and (found.coords[:, 1:] > 179_000).all()
    check_downsample(points, 0.5, None)
    check_downsample(points[:, [2, 1, 0]].copy(), 0.5, None)


@pytest.mark.parametrize(
    ("voxel_size", "bounds", "message"),
    [
        (0.0, None, "positive"),
        (-0.1, BOUNDS, "positive"),
        (float("nan"), None, "positive"),
        (1e-50, None, "positive"),
        ((0.1, 0.1), None, "one or three"),
        (0.1, (0, 0, 0, 1, 1), "5 numbers"),
        (0.1, (0, 0, 0, 1, 1, -1), "must hold a cell"),
        (0.1, (0, 0, 0, 1, 1, float("inf")), "must hold a cell"),
        (9.0, (0, 0, 0, 1, 1, 1), "must hold a cell"),
        (0.01, (-80, -80, -2, 80, 80, 4), "32 bits"),
        (0.001, (0, 0, 0, 20_000, 0.001, 0.001), "32 bits"),
    ],
)
def test_grids_that_cannot_be(voxel_size: Any, bounds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        downsample(sweep(10), voxel_size, bounds)


@pytest.mark.parametrize(
    "points", [np.zeros((4, 4)), np.zeros(4, np.float32), np.zeros((4, 2), np.float32), [[0.0, 0, 0]]]
)
def test_points_must_be_rows_of_float32(points: Any) -> None:
    with pytest.raises(ValueError, match="points must be a float32 array"):
        downsample(points, 0.1)


@pytest.mark.parametrize("limits", [(0, 5), (5, 0)])
def test_limits_must_allow_a_point(limits: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one point"):
        voxelize(sweep(10), 0.1, max_points=limits[0], max_voxels=limits[1])
    with pytest.raises(ValueError, match="at least one point"):
        pillarize(sweep(10), 0.1, BOUNDS, max_points=limits[0], max_pillars=limits[1])


def test_other_memory_layouts_give_the_same() -> None:
    points = sweep(900)
    frozen = points.copy()
    frozen.flags.writeable = False
    expected = downsample(points, 0.2)
    for same in (frozen, np.asfortranarray(points), np.repeat(points, 2, axis=0)[::2]):
        for mine, theirs in zip(downsample(same, 0.2)[:3], expected[:3], strict=True):
            assert np.array_equal(mine, theirs)


def test_a_workspace_is_reused_and_its_results_are_read_only() -> None:
    space = Workspace()
    first = downsample(sweep(9000), 0.1, workspace=space)
    held = space.nbytes
    again = downsample(sweep(9000, seed=1), 0.1, workspace=space)
    assert space.nbytes == held and np.shares_memory(first.means, again.means)
    with pytest.raises(ValueError, match="read-only"):
        again.means[0] = 0
    downsample(sweep(9000), 0.1).means[0] = 0


def test_generations_of_the_table_may_run_out() -> None:
    space = Workspace()
    voxelize_dynamic(sweep(40), 0.3, workspace=space)  # leaves slots of generation 1, which comes again
    [bits] = space._generations
    space._generations[bits] = 2 ** (32 - bits) - 3
    for seed in range(5):
        points = sweep(40, seed=seed % 2)
        for mine, alone in zip(
            voxelize_dynamic(points, 0.3, workspace=space), voxelize_dynamic(points, 0.3), strict=True
        ):
            assert np.array_equal(mine, alone)
    assert space._generations == {bits: 3}


def test_all_points_in_cells_of_their_own_fit_the_table() -> None:
    random = np.random.default_rng(0)
    points = random.permutation(30_000)[:, None] // np.array([1, 30, 900]) % 30 + np.float32(0.5)
    found = voxelize_dynamic(np.ascontiguousarray(points, np.float32), 1.0)
    _, first, expected = np.unique(points, axis=0, return_index=True, return_inverse=True)
    assert len(found.counts) == len(first)
    assert np.array_equal(np.argsort(np.argsort(first))[expected.ravel()], found.voxel_of_point)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_batch_equals_its_sweeps(threads: int) -> None:
    sweeps = [sweep(count, seed=count) for count in (10, 5000, 0, 700, 9000)]
    spaces = [Workspace() for _ in range(threads)]
    for batch, one in zip(downsample_batch(sweeps, 0.2, None, spaces), sweeps, strict=True):
        assert_same(batch, downsample(one, 0.2))
    limits = {"max_points": 4, "max_voxels": 300}
    for hard, one in zip(voxelize_batch(sweeps, 0.2, BOUNDS, **limits, workspaces=spaces), sweeps, strict=True):
        assert_same(hard, voxelize(one, 0.2, BOUNDS, **limits))


def test_a_batch_tells_of_a_bad_sweep() -> None:
    with pytest.raises(ValueError, match="float32"):
        downsample_batch([sweep(10), np.zeros((3, 3))], 0.2)


def assert_same(mine: Any, theirs: Any) -> None:
    assert mine.dropped == theirs.dropped
    for a, b in zip(mine[:3], theirs[:3], strict=True):
        assert np.array_equal(a, b) and a.dtype == b.dtype


def assert_equal_to_spconv(points: Array, size: float, bounds: tuple[float, ...], limits: tuple[int, int]) -> None:
    tensorview = pytest.importorskip("cumm.tensorview")
    spconv = pytest.importorskip("spconv.utils")
    generator = spconv.Point2VoxelCPU3d([size] * 3, list(bounds), points.shape[1], limits[1], limits[0])
    expected = generator.point_to_voxel(tensorview.from_numpy(points))
    found = voxelize(points, size, bounds, max_points=limits[0], max_voxels=limits[1], workspace=WORKSPACE)
    for mine, theirs in zip(found[:3], expected, strict=True):
        assert np.array_equal(mine, theirs.numpy())


@settings(max_examples=40, deadline=None)
@given(clouds(), st.sampled_from([0.1, 0.25, 0.32]), st.integers(1, 5), st.integers(1, 9))
def test_hard_voxels_equal_spconv_on_odd_clouds(points: Array, size: float, most: int, voxels: int) -> None:
    assert_equal_to_spconv(points, size, BOUNDS, (most, voxels))


@pytest.mark.parametrize("size", [0.1, 0.2])
@pytest.mark.parametrize("limits", [(35, 20_000), (3, 150_000)])
def test_hard_voxels_equal_spconv_on_a_sweep(size: float, limits: tuple[int, int]) -> None:
    assert_equal_to_spconv(sweep(60_000), size, BOUNDS, limits)


@pytest.mark.parametrize("size", [0.1, 0.2])
def test_hard_voxels_equal_spconv_on_real_sweeps(size: float) -> None:
    from benchmarks.clouds import kitti_sweeps

    sweeps = kitti_sweeps(3)
    if not sweeps:
        pytest.skip("MINER_TEST_DATA is not set")
    for points in sweeps:
        assert_equal_to_spconv(points, size, (-75.2, -75.2, -2.0, 75.2, 75.2, 4.0), (35, 20_000))
