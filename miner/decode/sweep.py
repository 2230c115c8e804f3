"""LiDAR sweeps from file formats of their own to points, strictly.

Bad data raises BadInput with the file, its size and the cause.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miner.errors import BadInput

SWEEP_FORMATS = frozenset({"kitti_bin", "nuscenes_bin", "pcd", "npz", "npy", "feather", "csv"})


@dataclass(frozen=True)
class Sweep:
    """One LiDAR sweep as it was read: `data` are its own bytes; `points` float32 (n, f), one column for each of
    `fields`.

    The first three fields are x, y, z in metres in the sensor frame (right-handed, z up), finite in every row; `dropped`
    points were not finite. `intensity`, where there is one, is as the sensor gives it.
    """

    data: bytes
    points: NDArray[np.float32]
    fields: tuple[str, ...]
    dropped: int = 0


def decode_sweep(data: bytes, fileformat: str, uri: str) -> Sweep:
    """The points of an encoded sweep of one of SWEEP_FORMATS. Raises BadInput."""
    raise BadInput("unsupported-sweep", f"{uri}: {fileformat}")


def sweep_format(name: str, data: bytes) -> str:
    """The format of a sweep file that a user names. Raises BadInput."""
    raise BadInput("unsupported-sweep", name)
