"""Footage made of arrays, and mixtures of directions to plant rare things in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miner.footage import Footage
from miner.ids import make_id

YEAR_2024_NS = 1_704_067_200 * 10**9


def footage(
    vectors: NDArray[np.float32],
    scene: NDArray[np.int64] | None = None,
    start_s: NDArray[np.float64] | None = None,
    place: NDArray[np.float64] | None = None,
    length_s: float = 10.0,
    since_ns: int = YEAR_2024_NS,
    **more: NDArray[np.float32],
) -> Footage:
    """Clips with these vectors: each of a drive of its own, hours from the others, unless told otherwise.

    Further encoders by name. Ids follow from the numbers of the rows as they are given.
    """
    count = len(vectors)
    scene = np.arange(count) if scene is None else scene
    starts = 3600.0 * scene if start_s is None else start_s
    start_ns = since_ns + (starts * 1e9).astype(np.int64)
    ids = np.array([make_id("clip", row) for row in range(count)])
    order = np.lexsort((ids, start_ns))
    return Footage(
        pa.array(ids.tolist(), pa.string()),
        pa.array([make_id("scene", number) for number in range(int(scene.max(initial=0)) + 1)]),
        scene.astype(np.int64),
        start_ns,
        start_ns + int(length_s * 1e9),
        {"camera": vectors, **more},
        np.full((count, 3), np.nan) if place is None else place,
        np.full(count, np.nan),
        np.zeros(count, np.bool_),
    ).take(order)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows of length 1."""
    rows: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return rows


def around(centres: NDArray[np.floating], spread: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A direction near each of `centres` (n, d): its noise is `spread` times as long, as of a von Mises-Fisher mode."""
    return unit(centres + spread * rng.normal(size=centres.shape) / np.sqrt(centres.shape[1]))


def mixture(
    count: int, modes: int, rng: np.random.Generator, dim: int = 32, spread: float = 0.6
) -> NDArray[np.float32]:
    """Directions (count, dim) of equally frequent modes."""
    return around(unit(rng.normal(size=(modes, dim)))[rng.integers(modes, size=count)], spread, rng)
