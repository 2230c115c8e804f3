"""Synthetic image embeddings for benchmarks: a narrow cone, scenes of very unequal size, clips of near-equal frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLIP = 20  # frames
SCENES = 2_000


def embeddings(n: int, dim: int = 512, seed: int = 0) -> NDArray[np.float32]:
    """`n` unit rows (n, dim), frames of a clip one after another.

    Two frames of a clip have a cosine near 0.95, two clips of a scene 0.8, two scenes 0.5; scenes lie near a space of
    64 dimensions and have sizes after Zipf's law.
    """
    rng = np.random.default_rng(seed)
    cone = _unit(rng, 1, dim)
    basis = np.linalg.qr(rng.normal(size=(dim, 64)))[0].astype(np.float32)
    scenes = _unit(rng, SCENES, 64) @ basis.T
    share = 1 / np.arange(1, SCENES + 1) ** 0.8
    clips = -(-n // CLIP)
    scene = rng.choice(SCENES, clips, p=share / share.sum())
    centre = (
        0.7 * cone + 0.55 * scenes[scene] + 0.4 * (0.8 * _unit(rng, clips, 64) @ basis.T + 0.6 * _unit(rng, clips, dim))
    )
    vectors = np.empty((n, dim), np.float32)
    for first in range(0, n, CLIP * 500):
        rows = slice(first, min(first + CLIP * 500, n))
        part = np.repeat(centre[first // CLIP : -(-rows.stop // CLIP)], CLIP, axis=0)[: rows.stop - first]
        part = part + 0.23 * _unit(rng, len(part), dim)
        vectors[rows] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def _unit(rng: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = rng.standard_normal((rows, dim), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
