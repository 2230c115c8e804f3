"""Vectors like those of a joint image-text model, made up: the frames of a lake, and queries of two kinds.

Frames lie in a narrow cone, in scenes of very different length, in clips of 20 that look alike; their variance falls
off over the dimensions as that of real embeddings does. `image` queries are held-out frames of the same clips. `text`
queries lie in a cone of their own (the modality gap), speak of three clips more or less, and carry noise that no frame
has: their nearest frames are hardly nearer than the next thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

CLIP = 20
_CLIPS_AT_ONCE = 2_500
_CONE, _OF_CLIP, _OF_FRAME, _OF_TEXT = 1.2, 0.7, 0.35, 0.25
_MEANT = np.array([0.6, 0.3, 0.1], np.float32)


class Drawn(NamedTuple):
    """Frames (n, dim) in the order of time, and queries (q, dim) by kind; all float32 of unit length."""

    frames: Vectors
    queries: dict[str, Vectors]


@dataclass(frozen=True)
class World:
    """What the vectors are drawn from; the same seed gives the same world."""

    dim: int = 512
    scenes: int = 2_000
    seed: int = 0

    def draw(self, frames: int, queries: int) -> Drawn:
        """Frames, and as many queries of each kind."""
        rng = np.random.default_rng(self.seed)
        turn = np.linalg.qr(rng.normal(size=(self.dim, self.dim)))[0].astype(np.float32)
        spread = np.arange(1, self.dim + 1, dtype=np.float32) ** -0.5
        axes = turn * (spread / np.linalg.norm(spread))[:, None]  # directions of large variance are no axes

        def latent(count: int) -> Vectors:
            return rng.standard_normal((count, self.dim), np.float32) @ axes

        cone, gap = (_CONE * each / np.linalg.norm(each) for each in rng.normal(size=(2, self.dim)).astype(np.float32))
        weights = 1 / np.arange(1, self.scenes + 1)  # Zipf: few scenes are long
        scene_of = np.sort(rng.choice(self.scenes, -(-frames // CLIP), p=weights / weights.sum()))
        scenes, made = latent(self.scenes), np.empty((frames, self.dim), np.float32)
        asked = rng.choice(len(scene_of), (queries, 3), replace=len(scene_of) < 3 * queries)
        meant = np.empty((queries, 3, self.dim), np.float32)
        for first in range(0, len(scene_of), _CLIPS_AT_ONCE):
            chosen = scene_of[first : first + _CLIPS_AT_ONCE]
            clips = scenes[chosen] + _OF_CLIP * latent(len(chosen))
            inside = (asked >= first) & (asked < first + len(chosen))
            meant[inside] = clips[asked[inside] - first]
            part = made[first * CLIP : (first + len(chosen)) * CLIP]
            own = clips.repeat(CLIP, axis=0)[: len(part)]
            part[:] = _unit(cone + own + _OF_FRAME * latent(len(part)))
        image = _unit(cone + meant[:, 0] + _OF_FRAME * latent(queries))
        noise = rng.standard_normal((queries, self.dim), np.float32) * self.dim**-0.5
        text = _unit(gap + _MEANT @ meant + _OF_TEXT * noise)
        return Drawn(made, {"image": image, "text": text})


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit
