"""LiDAR sweeps from file formats of their own to points, strictly.

Bad data raises BadInput with the file, its size and the cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miner.decode.columns import decode_csv, decode_feather
from miner.decode.files import shown
from miner.decode.npy import decode_npy, decode_npz
from miner.decode.pcd import decode_pcd
from miner.decode.points import Points, by_position, check_size
from miner.errors import BadInput

MAX_RANGE_M = 10_000.0

_BIN_COLUMNS = {"kitti_bin": 4, "nuscenes_bin": 5}
_ANY = float(np.finfo(np.float32).max)
_MAX_ODD, _MAX_FAR, _MAX_NOT_FINITE = 0.01, 0.01, 0.5  # shares of the points of a sweep
_MAGIC = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"ARROW1": "feather", b"# .PCD": "pcd"}
_DECODERS: dict[str, Callable[[bytes], Points]] = {
    "kitti_bin": lambda data: _decode_bin(data, "kitti_bin"),
    "nuscenes_bin": lambda data: _decode_bin(data, "nuscenes_bin"),
    "pcd": decode_pcd,
    "npy": decode_npy,
    "npz": decode_npz,
    "feather": decode_feather,
    "csv": decode_csv,
}
SWEEP_FORMATS = frozenset(_DECODERS)


@dataclass(frozen=True)
class Sweep:
    """One LiDAR sweep as it was read: `data` are its own bytes; `points` float32 (n, f), one column for each of
    `fields`.

    The first three fields are x, y, z in metres in the sensor frame (right-handed, z up), finite in every row;
    `dropped` points were not finite or beyond MAX_RANGE_M. `intensity`, where there is one, is as the sensor gives it
    (KITTI 0 to 1, nuScenes 0 to 255), with 0 for what is not finite. Other fields are as in the file.
    """

    data: bytes
    points: NDArray[np.float32]
    fields: tuple[str, ...]
    dropped: int = 0


def decode_sweep(data: bytes, fileformat: str, uri: str) -> Sweep:
    """The points of an encoded sweep of one of SWEEP_FORMATS.

    kitti_bin: float32 x, y, z, reflectance. nuscenes_bin: float32 x, y, z, intensity, ring. pcd: version 0.7. npy, npz:
    the first float array with 3 or more columns, never pickled. feather: columns x, y, z and others (Argoverse 2). csv:
    numbers under a header with x, y, z or without one (RADIATE). Columns without names are x, y, z, intensity, ring.

    Raises BadInput: `empty-file`, `bad-size` (no whole number of points), `wrong-format` (KITTI read as nuScenes or the
    other way), `no-points`, `not-finite`, `out-of-range`, `too-many-points`, `bad-columns`, or `bad-pcd`, `bad-npy`,
    `bad-npz`, `bad-feather`, `bad-csv`.
    """
    if fileformat not in _DECODERS:
        raise BadInput("unsupported-sweep", f"{shown(uri)}: {fileformat}, known: {', '.join(sorted(_DECODERS))}")
    try:
        if not data:
            raise BadInput("empty-file", "no sweep")
        return sweep_of(data, _DECODERS[fileformat](data), gaps_are_normal=fileformat == "pcd")
    except BadInput as bad:
        raise BadInput(bad.reason, f"{shown(uri)}: {len(data)} bytes ({fileformat}): {bad.detail}") from bad


def sweep_of(data: bytes, points: Points, gaps_are_normal: bool) -> Sweep:
    """What is sound of the points; some formats have NaN or a far place where nothing came back.

    Raises BadInput `no-points`, and unless `gaps_are_normal` `not-finite` and `out-of-range`.
    """
    values, dropped = _sound(points.values, gaps_are_normal)
    if "intensity" in points.fields:
        values = _finite_column(values, points.fields.index("intensity"))
    return Sweep(data, values, points.fields, dropped)


def sweep_format(path_name: str, data: bytes) -> str:
    """Which of SWEEP_FORMATS a file is in: its bytes decide, for text also its name.

    A file of bare float32 is KITTI's or nuScenes's by its size and by what its last column holds. Raises BadInput
    `empty-file` or `unknown-sweep`.
    """
    if not data:
        raise BadInput("empty-file", f"{path_name}: 0 bytes")
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    if b"FIELDS " in data[:4096] and b"\nDATA " in data[:4096]:
        return "pcd"
    if path_name.lower().endswith((".csv", ".txt")):
        return "csv"
    for name in ("nuscenes_bin", "kitti_bin"):
        if _fits(data, name):
            return name
    raise BadInput(
        "unknown-sweep",
        f"{path_name}: {len(data)} bytes: neither float32 x, y, z, reflectance (KITTI) nor x, y, z, intensity, ring "
        f"(nuScenes) nor any of {', '.join(sorted(_DECODERS.keys() - _BIN_COLUMNS.keys()))}",
    )


def _decode_bin(data: bytes, fileformat: str) -> Points:
    columns = _BIN_COLUMNS[fileformat]
    if len(data) % (4 * columns):
        raise BadInput("bad-size", f"no multiple of {4 * columns}, the bytes of a point")
    check_size(len(data) // (4 * columns), columns)
    values = np.frombuffer(data, "<f4").reshape(-1, columns)
    if (odd := _share_odd(values)) > _MAX_ODD:
        column, other = ("ring", "kitti_bin") if columns == 5 else ("reflectance", "nuscenes_bin")
        fits = f"; it fits {other}" if _fits(data, other) else ""
        raise BadInput("wrong-format", f"{odd:.0%} of {len(values)} points have no {column} in column {columns}{fits}")
    return by_position(values)


def _fits(data: bytes, fileformat: str) -> bool:
    columns = _BIN_COLUMNS[fileformat]
    if len(data) % (4 * columns):
        return False
    return _share_odd(np.frombuffer(data, "<f4").reshape(-1, columns)) <= _MAX_ODD


def _share_odd(values: NDArray[np.float32]) -> float:
    """The share of the finite points (n, 4 or 5) that do not end as their format wants.

    A reflectance is in 0..1 in KITTI's own files, in 0..255 in those of others; a ring is a small whole number. The
    coordinates that stand there when points are read with the wrong number of columns are neither.
    """
    last = values[:, -1][_in_range(values, _ANY)]
    good = (last >= 0) & (last <= 255)
    if values.shape[1] == 5:
        good &= last == np.floor(last)
    return 1.0 - float(good.mean()) if len(last) else 0.0


def _sound(values: NDArray[np.float32], gaps_are_normal: bool) -> tuple[NDArray[np.float32], int]:
    """The points with finite coordinates within range and how many were left out.

    Raises BadInput where none is left, or so many are bad that the sweep is not what it claims to be.
    """
    xyz = values[:, :3]
    finite, near = _in_range(xyz, _ANY), _in_range(xyz, MAX_RANGE_M)
    total, num_finite, num_near = len(values), int(finite.sum()), int(near.sum())
    if not xyz[near if gaps_are_normal else finite].any():
        raise BadInput("no-points", f"{total} points, {num_finite} of them finite, none in range other than 0, 0, 0")
    if total - num_finite > _MAX_NOT_FINITE * total and not gaps_are_normal:
        raise BadInput("not-finite", f"{total - num_finite} of {total} points are NaN or Inf")
    if num_finite - num_near > _MAX_FAR * num_finite and not gaps_are_normal:
        far = num_finite - num_near
        raise BadInput("out-of-range", f"{far} of {num_finite} points are beyond {MAX_RANGE_M:.0f} m of the sensor")
    return (values if num_near == total else values[near]), total - num_near


def _in_range(values: NDArray[np.float32], limit: float) -> NDArray[np.bool_]:
    """Which rows have only numbers of at most `limit`; column by column is 5 times as fast as along the rows."""
    good = np.ones(len(values), np.bool_)
    with np.errstate(invalid="ignore"):
        for column in values.T:
            good &= np.abs(column) <= limit  # false for NaN
    return good


def _finite_column(values: NDArray[np.float32], column: int) -> NDArray[np.float32]:
    bad = ~np.isfinite(values[:, column])
    if not bad.any():
        return values
    values = values.copy()
    values[bad, column] = 0
    return values
