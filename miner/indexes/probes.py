"""Queries to measure an index with: rows of its own table, and texts, which lie beside them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import TextEncoder
from miner.encoders import get_encoder
from miner.errors import MinerError
from miner.schema import IMPORTED

Vectors = NDArray[np.float32]

COUNT = 160
PROMPTS, MADE_UP = "prompts", "made up"
_SUBJECTS = (
    *("a car", "a truck", "a bus", "a cyclist", "a motorcycle", "a pedestrian", "children", "a crowd of people"),
    *("a dog", "a police car", "an ambulance", "a construction site", "traffic cones", "a trailer", "a traffic jam"),
    *("a traffic light", "a stop sign", "a crosswalk", "a tram", "an intersection"),
)
_SITUATIONS = (
    *("", " at night", " in the rain", " in fog", " on a highway", " in a city street", " close to the camera"),
    " with the sun low ahead",
)
_GAP, _MEANT, _NOISE = 1.0, (0.5, 0.3, 0.2), 0.4


@dataclass(frozen=True)
class Probes:
    """Queries (q, dim) by kind, and where those of texts come from: `prompts` of the encoder, or `made up`."""

    queries: Mapping[str, Vectors]
    text_source: str

    @classmethod
    def of(cls, sample: Vectors, encoder: str, version: str, modality: str) -> Probes:
        """Probes for a table, of which `sample` (s, dim) are random rows."""
        chosen = np.random.default_rng(1).permutation(len(sample))
        count = min(COUNT, max(len(sample) // 8, 4))
        image = sample[chosen[:count]]
        text = _prompts(encoder, version, count) if modality == "camera" else None
        if text is not None and text.shape[1] == sample.shape[1]:
            return cls({"image": image, "text": text}, PROMPTS)
        return cls({"image": image, "text": _made_up(sample[chosen[::-1]], count)}, MADE_UP)


def _prompts(name: str, version: str, count: int) -> Vectors | None:
    """Real texts through the encoder of the table; None where it is not here, or knows no text."""
    if version == IMPORTED:
        return None
    with suppress(MinerError):
        encoder = get_encoder(name, version)
        if isinstance(encoder, TextEncoder):
            texts = [f"{subject}{situation}" for subject in _SUBJECTS for situation in _SITUATIONS]
            return encoder.encode_text(texts[:: max(len(texts) // count, 1)][:count])
    return None


def _made_up(sample: Vectors, count: int) -> Vectors:
    """What texts are like: in a cone of their own, speaking of a few rows more or less, with noise no row has."""
    rng, centre = np.random.default_rng(2), sample.mean(axis=0)
    away = rng.normal(size=centre.shape) if len(centre) > 1 else np.ones(1)
    spread = np.linalg.norm(sample - centre, axis=1).mean() + 1e-6
    meant = sample[rng.integers(0, len(sample), (count, len(_MEANT)))] - centre
    noise = rng.normal(size=(count, len(centre))) * len(centre) ** -0.5
    weighted = np.einsum("w,qwd->qd", np.array(_MEANT), meant)
    texts = _GAP * spread * away / np.linalg.norm(away) + weighted + _NOISE * spread * noise
    unit: Vectors = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32)
    return unit
