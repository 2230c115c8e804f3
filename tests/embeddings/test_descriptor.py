"""The LiDAR scene descriptor: what must not change its vectors, what must, and real sweeps."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.descriptor import DescriptorEncoder, fit_whitening, whiten
from embeddings.encoder import WeightsMissing, load_encoder
from miner.decode.sweep import decode_sweep
from miner.simulation import Spec, scene_names, scene_tables, sweep

ENCODER = DescriptorEncoder()
# drive, files below MINER_TEST_DATA, file format
EXCERPTS = [
    ("kitti_raw", "kitti_raw/*/*/velodyne_points/data/*.bin", "kitti_bin"),
    ("kitti_tracking", "kitti_tracking/training/velodyne/*/*.bin", "kitti_bin"),
    ("argoverse2", "argoverse2/sensor/*/*/sensors/lidar/*.feather", "feather"),
    ("ddad", "ddad/*/point_cloud/LIDAR/*.npz", "npz"),
    ("suscape", "suscape/example/lidar/*.pcd", "pcd"),
    ("radiate", "radiate/*/velo_lidar/*.csv", "csv"),
    ("nuscenes", "nuscenes/samples/LIDAR_TOP/*.bin", "nuscenes_bin"),
    ("", "kitti_object/training/velodyne/*.bin", "kitti_bin"),  # each from a drive of its own
]


def encode(*sweeps: np.ndarray, encoder: DescriptorEncoder = ENCODER) -> np.ndarray:
    """Unpadded sweeps to vectors."""
    return np.concatenate([encoder.encode(points[None].astype(np.float32)) for points in sweeps])


def turned(points: np.ndarray, yaw_rad: float) -> np.ndarray:
    cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
    found = points.copy()
    found[:, :2] = points[:, :2] @ np.array([[cos, sin], [-sin, cos]], points.dtype)
    return found


def street(seed: int, beams: int = 64, azimuths: int = 900) -> np.ndarray:
    """A sweep of a straight street: ground, walls of houses on both sides and boxes of vehicles in between."""
    rng = np.random.default_rng(seed)
    azimuth, elevation = np.meshgrid(np.arange(azimuths) * 2 * math.pi / azimuths, np.linspace(-0.4, 0.2, beams))
    x, y, z = np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(z < 0, -1.8 / z, np.inf)
        for side, width in zip((1, -1), rng.uniform(4, 20, 2), strict=True):
            to_wall = side * width / y
            roof = rng.uniform(2, 12, 40)[np.clip(to_wall * x / 10 + 20, 0, 39).astype(int)]
            distance = np.where((to_wall > 0) & (to_wall * z < roof), np.minimum(distance, to_wall), distance)
    for centre in rng.uniform(-math.pi, math.pi, 12):
        near = rng.uniform(5, 30)
        hit = (np.abs((azimuth - centre + math.pi) % (2 * math.pi) - math.pi) < 1 / near) & (near * z < 0)
        distance = np.where(hit, np.minimum(distance, near), distance)
    shown = distance < 70
    points = distance[shown, None] * np.stack([x[shown], y[shown], z[shown]], 1)
    intensity = np.where(points[:, 2] < -1.7, 0.1, rng.uniform(0.2, 0.6))
    return np.column_stack([points, intensity]).astype(np.float32)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(-7, 7))
def test_yaw_does_not_matter(seed: int, yaw_rad: float) -> None:
    points = street(seed)
    a, b = encode(points, turned(points, yaw_rad))
    assert a @ b >= 0.985  # here whole columns of points sit on the borders of sectors; real sweeps keep 0.99


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_order_padding_and_bad_rows_do_not_matter(seed: int) -> None:
    points, rng = street(seed, beams=16), np.random.default_rng(seed)
    bad = np.full((len(points) + 50, 4), np.nan, np.float32)
    bad[:50, rng.integers(3)] = np.inf
    bad[50:] = points
    a, b, c, d = encode(points, rng.permutation(points), np.concatenate([points, bad[:50]]), bad)
    np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_array_equal(c, a)
    np.testing.assert_array_equal(d, a)


def test_units_of_intensity_do_not_matter() -> None:
    points = street(5)
    plain, bytes_, none = encode(points, points * [1, 1, 1, 255], points * [1, 1, 1, 0])
    np.testing.assert_allclose(plain, bytes_, atol=1e-5)
    assert np.isfinite(none).all() and none @ plain > 0


def test_mounting_height_does_not_matter() -> None:
    points = street(6)
    a, b = encode(points, points + np.array([0, 0, 0.8, 0]))
    assert a @ b > 0.99


@pytest.mark.parametrize("seed", range(4))
def test_density_matters_little(seed: int) -> None:
    half = np.random.default_rng(seed).random(len(street(seed))) < 0.5
    dense, thinned, coarse, other = encode(street(seed), street(seed)[half], street(seed, 32, 700), street(seed + 100))
    assert dense @ thinned > 0.95
    assert dense @ coarse > max(0.9, dense @ other)


@pytest.mark.parametrize("rows", [np.zeros((0, 4)), np.zeros((8, 4)), np.full((8, 4), np.nan)])
def test_a_sweep_of_nothing(rows: np.ndarray) -> None:
    [vector] = encode(rows)
    np.testing.assert_allclose(vector, np.repeat([1, 0], ENCODER.dim // 2) / math.sqrt(ENCODER.dim / 2), atol=1e-7)


def test_simulated_scenes_differ() -> None:
    spec = Spec(scenes=10, seconds=1, lidar_hz=2, azimuths=360, pixels=False)
    starts = [scene_tables(spec, name, "").scenes["start_ns"][0].as_py() for name in scene_names(spec)]
    spec = Spec(scenes=10, seconds=1, lidar_hz=2, azimuths=360)
    vectors = encode(*(sweep(spec, name, start)[:, :4] for name, start in zip(scene_names(spec), starts, strict=True)))
    assert np.median((vectors @ vectors.T)[np.triu_indices(10, 1)]) <= 0.8


def test_whitening_makes_directions_alike() -> None:
    rng = np.random.default_rng(0)
    mixing, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    rows = (rng.normal(size=(4000, 12)) * np.linspace(1, 5, 12)) @ mixing + rng.normal(size=12)
    mean, matrix = fit_whitening(rows.astype(np.float32))
    np.testing.assert_allclose(np.cov((rows - mean) @ matrix, rowvar=False), np.eye(12), atol=0.15)
    variances = ((rows - mean) @ matrix[:, [0, -1]] / np.linalg.norm(matrix[:, [0, -1]], axis=0)).var(axis=0)
    assert variances[0] > variances[1]  # strongest direction first


def test_whitening_of_few_vectors_blows_nothing_up() -> None:
    rng = np.random.default_rng(1)
    mean, matrix = fit_whitening((rng.normal(size=(5, 100)) * np.r_[5, np.ones(99)]).astype(np.float32))
    assert np.isfinite(matrix).all() and np.linalg.cond(matrix) < 100
    np.testing.assert_array_equal(whiten(mean, mean, matrix), np.eye(100)[0])


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((9, 4)), np.full((9, 4), np.nan), np.ones(4)])
def test_whitening_of_nothing(vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="whitening needs"):
        fit_whitening(vectors.astype(np.float32))


def test_a_whitened_encoder(tmp_path: Path) -> None:
    sweeps = [street(seed, beams=16) for seed in range(12)]
    raw = encode(*sweeps)
    mean, matrix = fit_whitening(raw)
    versions = {ENCODER.version}
    for kept in (ENCODER.dim, 8):
        np.savez(tmp_path / f"{kept}.npz", mean=mean, matrix=matrix[:, :kept])
        encoder = load_encoder(f"descriptor:whiten={tmp_path / f'{kept}.npz'}")
        assert isinstance(encoder, DescriptorEncoder) and encoder.dim == kept
        versions.add(encoder.version)
        vectors = encode(*sweeps, encoder=encoder)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        again = pickle.loads(pickle.dumps(encoder))
        assert (again.name, again.version) == (encoder.name, encoder.version)
        np.testing.assert_array_equal(encode(sweeps[0], encoder=again), vectors[:1])
        assert np.median(vectors @ vectors.T) < np.median(raw @ raw.T) - 0.3
    assert len(versions) == 3


def test_bad_whitening_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="fit_whitening"):
        DescriptorEncoder(f"whiten={tmp_path / 'none.npz'}")
    path = tmp_path / "w.npz"
    contents = [b"", b"not a zip", b"PK\x03\x04 cut", None]
    for content in contents:
        path.write_bytes(content) if content is not None else np.savez(path, mean=np.zeros(3), matrix=np.eye(3))
        with pytest.raises(ValueError, match=r"w\.npz: expected"):
            DescriptorEncoder(f"whiten={path}")
    np.savez(path, mean=np.zeros(ENCODER.dim))
    with pytest.raises(ValueError, match="expected"):
        DescriptorEncoder(f"whiten={path}")


@pytest.mark.parametrize("argument", ["whiten", "whiten=", "64"])
def test_unknown_arguments(argument: str) -> None:
    with pytest.raises(ValueError, match=r"whiten=FILE\.npz"):
        DescriptorEncoder(argument)


@pytest.fixture(scope="module")
def drives(test_data: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """The drive of each real sweep, and the sweeps."""
    names, sweeps = [], []
    for drive, pattern, fileformat in EXCERPTS:
        for path in sorted(test_data.glob(pattern)):
            found = decode_sweep(path.read_bytes(), fileformat, str(path))
            names.append(drive or path.stem)
            sweeps.append(found.points[:, [0, 1, 2, found.fields.index("intensity")]])
    if len(set(names)) < 8:
        pytest.skip("too few LiDAR excerpts in MINER_TEST_DATA")
    return np.array(names), sweeps


def test_real_sweeps_find_their_drive(drives: tuple[np.ndarray, list[np.ndarray]]) -> None:
    names, vectors = drives[0], encode(*drives[1])
    cosines = vectors @ vectors.T
    nearest = names[(cosines - 2 * np.eye(len(names))).argmax(axis=1)]
    several = [name for name in set(names) if (names == name).sum() > 1]
    assert len(several) >= 6
    assert all((nearest[names == name] == name).all() for name in several)
    distinct = sorted(set(names))
    pairs = [(a, b) for i, a in enumerate(distinct) for b in distinct[:i]]
    assert np.median([np.median(cosines[np.ix_(names == a, names == b)]) for a, b in pairs]) <= 0.5


def test_real_sweeps_turned_and_moved(drives: tuple[np.ndarray, list[np.ndarray]]) -> None:
    rng = np.random.default_rng(0)
    for points, vector in zip(drives[1], encode(*drives[1]), strict=True):
        angle = rng.uniform(0, 2 * math.pi)
        step = np.array([math.cos(angle), math.sin(angle), 0, 0])
        yaw, shift, scaled = encode(turned(points, angle), points + step, points * [1, 1, 1, 255])
        assert vector @ yaw >= 0.99 and vector @ shift >= 0.95 and vector @ scaled >= 0.9999
