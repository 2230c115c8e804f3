"""LiDAR sweeps written in every format, for tests; the writers are plain, and none is the reader's own code."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather

from tests.kitti import sweep

Floats = NDArray[np.float32]


def nuscenes_sweep(points: int = 50, seed: int = 0) -> Floats:
    """Points (n, 5) as nuScenes has them: intensity 0 to 255, ring 0 to 31, both whole."""
    random = np.random.default_rng(seed)
    xyz = random.uniform((-80, -80, -3), (80, 80, 3), (points, 3))
    return np.column_stack([xyz, random.integers(0, 256, points), random.integers(0, 32, points)]).astype(np.float32)


def pcd(points: Floats, encoding: str = "binary", **entries: object) -> bytes:
    """x, y, z, intensity, ring with padding and a histogram between; `entries` replace those of the header."""
    padded = np.zeros(len(points), [("xyz", "<f4", 3), ("_", "u1", 3), ("h", "<i2", 2), ("i", "<f4"), ("r", "u1")])
    padded["xyz"], padded["i"], padded["r"], padded["h"] = points[:, :3], points[:, 3], np.arange(len(points)) % 7, 9
    header = {
        "VERSION": "0.7",
        "FIELDS": "x y z _ histogram Intensity ring",
        "SIZE": "4 4 4 1 2 4 1",
        "TYPE": "F F F U I F U",
        "COUNT": "1 1 1 3 2 1 1",
        "WIDTH": len(points),
        "HEIGHT": 1,
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": len(points),
        "DATA": encoding,
    } | entries
    text = "".join(f"{key} {value}\n" for key, value in header.items() if value is not None)
    return f"# .PCD v0.7 - Point Cloud Data file format\n{text}".encode() + _pcd_body(padded, encoding)


def _pcd_body(padded: NDArray[np.void], encoding: str) -> bytes:
    if encoding == "binary":
        return padded.tobytes()
    if encoding == "ascii":
        rows = [[*row["xyz"], *row["_"], *row["h"], row["i"], row["r"]] for row in padded]
        return "".join(" ".join(str(value) for value in row) + "\n" for row in rows).encode()
    columns = [padded["xyz"][:, 0], padded["xyz"][:, 1], padded["xyz"][:, 2], *(padded[name] for name in "_hir")]
    content = b"".join(np.ascontiguousarray(column).tobytes() for column in columns)
    packed = lzf(content)
    return struct.pack("<II", len(packed), len(content)) + packed


def lzf(content: bytes) -> bytes:
    """A plain LZF packer: copies from the latest place of the next three bytes, else bytes as they are."""
    packed, literals, at = bytearray(), bytearray(), 0
    seen: dict[bytes, int] = {}

    def flush() -> None:
        for start in range(0, len(literals), 32):
            run = literals[start : start + 32]
            packed.extend([len(run) - 1, *run])
        literals.clear()

    while at < len(content):
        key = content[at : at + 3]
        start = seen.get(key, -1)
        seen[key] = at
        length = 0
        if start >= 0 and len(key) == 3 and at - start <= 8192:
            while length < 264 and at + length < len(content) and content[start + length] == content[at + length]:
                length += 1
        if length < 3:
            literals.append(content[at])
            at += 1
            continue
        flush()
        back = at - start - 1
        size = length - 2
        packed.extend([(min(size, 7) << 5) | (back >> 8), *([size - 7] if size >= 7 else []), back & 255])
        at += length
    flush()
    return bytes(packed)


def npy(points: NDArray[np.generic], order: str = "C") -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(points, order=order))  # type: ignore[call-overload]
    return buffer.getvalue()


def npz(compressed: bool = True, **arrays: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("points.npy", content)
    return buffer.getvalue()


def arrow(columns: dict[str, NDArray[np.generic]], compression: str = "lz4") -> bytes:
    buffer = io.BytesIO()
    feather.write_feather(pa.table(columns), buffer, compression=compression)
    return buffer.getvalue()


def csv(points: Floats, header: str = "", separator: str = ",") -> bytes:
    lines = [separator.join(map(str, row)) for row in points.tolist()]
    return "\n".join([header, *lines] if header else lines).encode()


ENCODERS: dict[str, Callable[[], bytes]] = {
    "kitti_bin": lambda: sweep().tobytes(),
    "nuscenes_bin": lambda: nuscenes_sweep().tobytes(),
    "pcd": lambda: pcd(sweep()),
    "pcd ascii": lambda: pcd(sweep(), "ascii"),
    "pcd compressed": lambda: pcd(sweep(), "binary_compressed"),
    "npy": lambda: npy(sweep().astype(np.float64)),
    "npz": lambda: npz(data=sweep()),
    "feather": lambda: arrow(dict(zip(("x", "y", "z", "intensity"), sweep().T, strict=True))),
    "csv": lambda: csv(nuscenes_sweep()),
}
