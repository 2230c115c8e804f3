"""What every sweep decoder gives: points in rows, with a name for each column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from miner.errors import BadInput

MAX_POINTS = 20_000_000
MAX_COLUMNS = 64

_BY_POSITION = ("x", "y", "z", "intensity", "ring")
_OTHER_NAMES = {
    "i": "intensity",
    "reflectance": "intensity",
    "reflectivity": "intensity",
    "laser_number": "ring",
    "laser_id": "ring",
}


class Points(NamedTuple):
    """`values` float32 (n, f), one column for each of `fields`; the first three fields are x, y, z."""

    values: NDArray[np.float32]
    fields: tuple[str, ...]


def check_size(points: int, columns: int) -> None:
    """Raises BadInput where a sweep claims more than MAX_POINTS points, or not 3 to MAX_COLUMNS columns."""
    if points > MAX_POINTS:
        raise BadInput("too-many-points", f"{points} points, at most {MAX_POINTS} are read")
    if not 3 <= columns <= MAX_COLUMNS:
        raise BadInput("bad-columns", f"{columns} columns, expected 3 to {MAX_COLUMNS}")


def by_position(values: NDArray[np.generic]) -> Points:
    """Columns (n, f) without names: x, y, z, intensity, ring, column_5 and on."""
    more = (f"column_{place}" for place in range(len(_BY_POSITION), values.shape[1]))
    return Points(_float32(values), (*_BY_POSITION, *more)[: values.shape[1]])


def by_name(columns: Mapping[str, NDArray[np.generic]]) -> Points:
    """Columns (n,) with names, x, y, z first and the others as they come; a usual name for intensity or ring is
    replaced by these words. Raises BadInput `bad-columns` where x, y or z is missing."""
    lower = {name.lower(): column for name, column in columns.items()}
    named = {other if (other := _OTHER_NAMES.get(name, name)) not in lower else name: lower[name] for name in lower}
    if missing := {"x", "y", "z"} - named.keys():
        raise BadInput("bad-columns", f"no {', '.join(sorted(missing))} among {', '.join(columns)[:300]}")
    fields = ("x", "y", "z", *(name for name in named if name not in ("x", "y", "z")))
    values = np.empty((len(named["x"]), len(fields)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 becomes Inf and is dropped
        for place, name in enumerate(fields):
            values[:, place] = named[name]
    return Points(values, fields)


def _float32(values: NDArray[np.generic]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32, copy=False)
