"""Sweeps against files written here, in every format and with every kind of damage, and against real ones."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pyarrow import feather

from miner.decode.pcd import unpack_lzf
from miner.decode.points import MAX_POINTS
from miner.decode.sweep import SWEEP_FORMATS, Sweep, decode_sweep, sweep_format
from miner.errors import BadInput
from tests.kitti import sweep
from tests.sweeps import ENCODERS, arrow, csv, lzf, npy, npz, nuscenes_sweep, pcd, zipped

XYZI = ("x", "y", "z", "intensity")


def bad(data: bytes, fileformat: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        decode_sweep(data, fileformat, "a/sweep.x")
    assert caught.value.detail.startswith("a/sweep.x: ") and f"{len(data)} bytes" in caught.value.detail
    return caught.value


def same(found: Sweep, points: NDArray[np.generic], fields: tuple[str, ...] = XYZI) -> None:
    assert found.fields == fields and found.points.dtype == np.float32 and found.dropped == 0
    np.testing.assert_array_equal(found.points, np.asarray(points, np.float32))


# --- good sweeps ---


def test_bins() -> None:
    data = sweep().tobytes()
    found = decode_sweep(data, "kitti_bin", "x")
    same(found, sweep())
    assert found.data == data
    same(decode_sweep(nuscenes_sweep().tobytes(), "nuscenes_bin", "x"), nuscenes_sweep(), (*XYZI, "ring"))


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd(encoding: str) -> None:
    found = decode_sweep(pcd(sweep(300), encoding), "pcd", "x")
    same(found, np.column_stack([sweep(300), np.arange(300) % 7]), (*XYZI, "ring"))
    assert found.points.flags["C_CONTIGUOUS"]


def test_pcd_of_other_writers() -> None:
    data = pcd(sweep(60), WIDTH=20, HEIGHT=3, VIEWPOINT=None)
    assert len(decode_sweep(data, "pcd", "x").points) == 60
    assert len(decode_sweep(data + bytes(500), "pcd", "x").points) == 60  # PCL leaves the rest of a page
    assert len(decode_sweep(data.replace(b"\n", b"\r\n", 9), "pcd", "x").points) == 60
    holes = sweep(60)
    holes[:50, :3] = np.nan
    found = decode_sweep(pcd(holes), "pcd", "x")  # NaN is what PCD has where nothing came back
    assert len(found.points) == 10 and found.dropped == 50


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_npy(order: str, kind: str) -> None:
    points = sweep().astype(kind)
    same(decode_sweep(npy(points, order), "npy", "x"), points)
    same(decode_sweep(npy(points[:, :3], order), "npy", "x"), points[:, :3], ("x", "y", "z"))


@pytest.mark.parametrize("compressed", [True, False])
def test_npz_takes_the_first_table_of_floats(compressed: bool) -> None:
    others = {"a": np.arange(9), "b": np.zeros((9, 2)), "c": np.array([{"no": "pickle"}])}
    same(decode_sweep(npz(compressed, **others, d=sweep(), e=sweep(9)), "npz", "x"), sweep())


def test_columns_beyond_those_with_names() -> None:
    points = np.column_stack([nuscenes_sweep(), np.arange(50), np.arange(50)])
    same(decode_sweep(npy(points), "npy", "x"), points, (*XYZI, "ring", "column_5", "column_6"))


@pytest.mark.parametrize("compression", ["lz4", "zstd", "uncompressed"])
def test_feather(compression: str) -> None:
    columns = {"intensity": np.arange(9, dtype=np.uint8), "laser_number": np.arange(9, dtype=np.uint8)}
    columns |= {"z": np.full(9, 3, np.float16), "x": np.arange(9, dtype=np.float16), "y": np.arange(9) / 2}
    data = arrow(columns | {"name": np.array(["a"] * 9), "offset_ns": np.arange(9, dtype=np.int32)}, compression)
    n = np.arange(9)
    found = decode_sweep(data, "feather", "x")
    same(found, np.column_stack([n, n / 2, np.full(9, 3), n, n, n]), (*XYZI, "ring", "offset_ns"))


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_csv(separator: str) -> None:
    points = nuscenes_sweep()
    same(decode_sweep(csv(points, separator=separator), "csv", "x"), points, (*XYZI, "ring"))
    shuffled, header = points[:, [3, 0, 2, 1]], separator.join(("Reflectivity", "X", '"z"', "y"))
    same(decode_sweep(csv(shuffled, header, separator) + b"\r\n", "csv", "x"), points[:, :4])
    same(decode_sweep(b"\xef\xbb\xbf" + csv(shuffled, header, separator), "csv", "x"), points[:, :4])


@settings(max_examples=30)
@given(arrays(np.float32, st.tuples(st.integers(1, 40), st.just(4)), elements=st.integers(0, 99).map(float)))
def test_all_formats_say_the_same(points: NDArray[np.float32]) -> None:
    points[0, 0] = 1
    columns = dict(zip(XYZI, points.T, strict=True))
    files = [("kitti_bin", points.tobytes()), ("npy", npy(points)), ("npz", npz(a=points)), ("csv", csv(points))]
    for fileformat, data in [*files, ("feather", arrow(columns))]:
        same(decode_sweep(data, fileformat, "x"), points)
    for encoding in ("ascii", "binary", "binary_compressed"):
        np.testing.assert_array_equal(decode_sweep(pcd(points, encoding), "pcd", "x").points[:, :4], points)


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=5), max_size=60).flatmap(lambda p: st.permutations(p * 6)))
def test_lzf_round_trip(parts: list[bytes]) -> None:
    content = b"".join(parts)
    assert unpack_lzf(lzf(content), len(content)) == content


# --- damage ---


def test_points_that_are_no_numbers_are_dropped_and_counted() -> None:
    points = sweep(400)
    points[3, 0], points[5, 2], points[7, 1], points[9, 3] = np.nan, np.inf, 1e9, np.nan
    found = decode_sweep(points.tobytes(), "kitti_bin", "x")
    assert found.dropped == 3
    expected = np.delete(points, [3, 5, 7], axis=0)
    expected[6, 3] = 0  # without an intensity the point stays
    np.testing.assert_array_equal(found.points, expected)


def _with(points: NDArray[np.float32], share: float, value: float) -> bytes:
    points = points.copy()
    points[: int(share * len(points)), 0] = value
    return points.tobytes()


@pytest.mark.parametrize(
    ("data", "fileformat", "reason"),
    [
        (b"", "kitti_bin", "empty-file"),
        (b"", "pcd", "empty-file"),
        (sweep().tobytes() + b"1234567", "kitti_bin", "bad-size"),
        (sweep().tobytes()[:-1], "nuscenes_bin", "bad-size"),
        (sweep().tobytes(), "nuscenes_bin", "wrong-format"),
        (nuscenes_sweep(80).tobytes(), "kitti_bin", "wrong-format"),
        (sweep()[:, [0, 1, 2, 0]].astype(np.float64).tobytes(), "kitti_bin", "wrong-format"),
        (_with(sweep(100), 1.0, np.nan), "kitti_bin", "no-points"),
        (bytes(1600), "kitti_bin", "no-points"),
        (_with(sweep(100), 0.6, np.inf), "kitti_bin", "not-finite"),
        (_with(sweep(100), 0.02, 1e5), "kitti_bin", "out-of-range"),
        (npy(np.zeros((0, 4))), "npy", "no-points"),
        (npy(sweep().astype(np.int32)), "npy", "bad-npy"),
        (npy(sweep()[:, :2]), "npy", "bad-npy"),
        (npy(sweep().ravel()), "npy", "bad-npy"),
        (npy(np.array([{}])), "npy", "bad-npy"),
        (npy(np.zeros((9, 65))), "npy", "bad-columns"),
        (npy(sweep()) + b"1", "npy", "bad-npy"),
        (b"\x93NUMPY\x09\x00" + bytes(90), "npy", "bad-npy"),
        (npz(a=np.arange(3)), "npz", "bad-npz"),
        (b"PK\x03\x04" + bytes(99), "npz", "bad-npz"),
        (arrow({"x": np.ones(3), "y": np.ones(3), "height": np.ones(3)}), "feather", "bad-columns"),
        (ENCODERS["feather"]()[:-20], "feather", "bad-feather"),
        (b"ARROW1", "feather", "bad-feather"),
        (b"ARROW1\0\0ARROW1", "feather", "bad-feather"),
        (csv(sweep(), "a,b,c,d"), "csv", "bad-columns"),
        (csv(sweep(), "x,y,y,z"), "csv", "bad-csv"),
        (csv(sweep(), "x,y,z"), "csv", "bad-csv"),
        (csv(sweep()) + b"\n1,2,3", "csv", "bad-csv"),
        (csv(sweep()).replace(b".", b"~", 1), "csv", "bad-columns"),
        (b"x,y,z\n", "csv", "no-points"),
        (b"<html><body>404</body></html>", "csv", "bad-columns"),
        (b"<html><body>404</body></html>", "pcd", "bad-pcd"),
        (b"# .PCD", "pcd", "bad-pcd"),
        (pcd(sweep(), POINTS=51), "pcd", "bad-pcd"),
        (pcd(sweep(), POINTS=-50, WIDTH=-50), "pcd", "bad-pcd"),
        (pcd(sweep(), POINTS=-50), "pcd", "bad-pcd"),
        (pcd(sweep(), POINTS="many", WIDTH="many"), "pcd", "bad-pcd"),
        (pcd(sweep(), POINTS=49, WIDTH=49), "pcd", "bad-pcd"),
        (pcd(sweep(), "ascii", POINTS=49, WIDTH=49), "pcd", "bad-pcd"),
        (pcd(sweep(), "binary_compressed", POINTS=49, WIDTH=49), "pcd", "bad-pcd"),
        (pcd(sweep(), POINTS=10**12, WIDTH=10**12), "pcd", "too-many-points"),
        (pcd(sweep(), "ascii", POINTS=MAX_POINTS, WIDTH=MAX_POINTS), "pcd", "bad-pcd"),
        (pcd(sweep()[:0]), "pcd", "no-points"),
        (pcd(sweep(), FIELDS="x y w _ h i r"), "pcd", "bad-columns"),
        (pcd(sweep(), FIELDS="x y z _ h x r"), "pcd", "bad-pcd"),
        (pcd(sweep(), FIELDS=None), "pcd", "bad-pcd"),
        (pcd(sweep(), SIZE="4 4 4"), "pcd", "bad-pcd"),
        (pcd(sweep(), SIZE="4 4 3 1 2 4 1"), "pcd", "bad-pcd"),
        (pcd(sweep(), TYPE="F F O U I F U"), "pcd", "bad-pcd"),
        (pcd(sweep(), COUNT="1 1 1 999999999 2 1 1"), "pcd", "bad-pcd"),
        (pcd(sweep(), DATA="zip"), "pcd", "bad-pcd"),
        (b"# .PCD v0.7\n" + b"#\n" * 70_000 + pcd(sweep()), "pcd", "bad-pcd"),
    ],
)
def test_damage(data: bytes, fileformat: str, reason: str) -> None:
    assert bad(data, fileformat).reason == reason


def test_unknown_format() -> None:
    with pytest.raises(BadInput, match=r"unsupported-sweep.*las.*kitti_bin"):
        decode_sweep(b"x", "las", "x")


def test_a_header_that_lies_costs_no_memory() -> None:
    header = npy(np.zeros((0, 4)))
    lies = [
        ("npy", header.replace(b"(0, 4)", b"(9999999999, 4)")),
        ("npy", header.replace(b"(0, 4)", b"(19999999, 4)")),
        ("npy", header.replace(b"(0, 4)", b"(19999999, 9)")),
        ("npz", zipped(header.replace(b"(0, 4)", b"(9999999999, 4)"))),
        ("npz", zipped(header.replace(b"(0, 4)", b"(19999999, 4)"))),
        ("npz", zipped(b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 24) + bytes(1 << 24))),
        ("pcd", pcd(sweep(), POINTS=MAX_POINTS, WIDTH=MAX_POINTS)),
        ("pcd", pcd(sweep(), "ascii", POINTS=MAX_POINTS, WIDTH=MAX_POINTS)),
        ("pcd", pcd(sweep(), "binary_compressed", POINTS=MAX_POINTS, WIDTH=MAX_POINTS)),
    ]
    for fileformat, data in lies:
        tracemalloc.start()
        bad(data, fileformat)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000, fileformat
        tracemalloc.stop()


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_feather_buffers_that_claim_terabytes(compression: str) -> None:
    points = np.zeros(4000, np.float64)
    data = arrow(dict.fromkeys("xyz", points), compression)
    at = data.index(struct.pack("<q", points.nbytes))
    lie = data[:at] + struct.pack("<q", 10**12) + data[at + 8 :]
    assert bad(lie, "feather").reason == "too-many-points"


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=60)
@given(data=st.data())
def test_flipped_and_cut_files_give_points_or_bad_input(name: str, data: st.DataObject) -> None:
    content = bytearray(ENCODERS[name]())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    try:
        found = decode_sweep(bytes(content), name.partition(" ")[0], "x")
    except BadInput:
        return
    assert len(found.points) and np.isfinite(found.points[:, :3]).all()
    assert found.points.shape[1] == len(found.fields) >= 3


# --- whose format it is ---


@pytest.mark.parametrize("name", ENCODERS)
def test_the_format_of_a_file(name: str) -> None:
    fileformat = name.partition(" ")[0]
    file = {"csv": "a.CSV", "kitti_bin": "a.bin", "nuscenes_bin": "a.pcd.bin"}.get(name, "named wrong.bin")
    assert sweep_format(file, ENCODERS[name]()) == fileformat
    assert fileformat in SWEEP_FORMATS


def test_bins_are_told_apart_where_both_sizes_fit() -> None:
    assert sweep_format("a.bin", sweep(80).tobytes()) == "kitti_bin"
    assert sweep_format("a.bin", nuscenes_sweep(80).tobytes()) == "nuscenes_bin"
    bright = sweep(80) * np.array([1, 1, 1, 255], np.float32)  # KITTI's layout with intensities of another sensor
    assert sweep_format("a.bin", bright.tobytes()) == "kitti_bin"


@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0" + bytes(range(256)), b"hello", sweep()[:, :3].tobytes()[:-4]])
def test_no_sweep(data: bytes) -> None:
    with pytest.raises(BadInput, match="unknown-sweep"):
        sweep_format("a.bin", data)


def test_nothing() -> None:
    with pytest.raises(BadInput, match="empty-file"):
        sweep_format("a.bin", b"")


# --- real sweeps ---


def _files(test_data: Path, pattern: str) -> list[Path]:
    files = sorted(test_data.glob(pattern))
    assert files
    return files


def test_real_bins_are_read_as_what_they_are_only(test_data: Path) -> None:
    kitti = _files(test_data, "kitti_*/**/*.bin")
    nuscenes = _files(test_data, "nuscenes/samples/LIDAR_TOP/*.bin")
    for files, own, other, columns in (
        (kitti, "kitti_bin", "nuscenes_bin", 4),
        (nuscenes, "nuscenes_bin", "kitti_bin", 5),
    ):
        for file in files:
            data = file.read_bytes()
            same_size = data[: len(data) // 80 * 80]
            assert sweep_format(file.name, data) == sweep_format(file.name, same_size) == own
            found = decode_sweep(data, own, str(file))
            np.testing.assert_array_equal(found.points, np.frombuffer(data, np.float32).reshape(-1, columns))
            assert bad(same_size, other).reason == "wrong-format"


def test_real_sweeps_of_other_formats(test_data: Path) -> None:
    argoverse = _files(test_data, "argoverse2/sensor/*/*/sensors/lidar/*.feather")[0]
    ddad = _files(test_data, "ddad/*/point_cloud/LIDAR/*.npz")[0]
    radiate = _files(test_data, "radiate/*/velo_lidar/*.csv")[0]
    suscape = _files(test_data, "suscape/example/lidar/*.pcd")[0]
    table = feather.read_table(argoverse).to_pandas()
    body = suscape.read_bytes().split(b"DATA binary\n", 1)[1]
    packed = np.frombuffer(body[: 66781 * 48], np.uint8).reshape(-1, 48)  # x, y, z, 4 bytes, intensity, 28 bytes
    expected = {
        argoverse: table[["x", "y", "z", "intensity"]].to_numpy(np.float32),
        ddad: np.load(ddad)["data"],
        radiate: np.array([line.split(",")[:4] for line in radiate.read_text().split()], np.float32),
        suscape: packed[:, [*range(12), 16, 17, 18, 19]].copy().view("<f4"),
    }
    for file, points in expected.items():
        data = file.read_bytes()
        found = decode_sweep(data, sweep_format(file.name, data), str(file))
        assert found.fields[:4] == XYZI and found.dropped == 0
        np.testing.assert_array_equal(found.points[:, :4], points.astype(np.float32))
