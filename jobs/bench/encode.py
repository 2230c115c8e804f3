"""Encoders that need no weights to be fetched, on all cores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from embeddings.encoder import Encoder, TextEncoder, encode_all, encode_sweeps
from jobs.bench.measure import Cases, Measured, per_second
from miner.embed import DEFAULT_ENCODERS
from miner.encoders import get_encoder

_SWEEPS = 16


def cases(encoders: Sequence[str] = tuple(DEFAULT_ENCODERS.values())) -> Cases:
    """Images, sweeps and texts a second."""
    random = np.random.default_rng(0)
    for name in encoders:
        encoder = get_encoder(name)
        yield _seen(encoder, random)
        if isinstance(encoder, TextEncoder):
            yield per_second(f"{name}, a text", "texts", 1, partial(encoder.encode_text, ["a truck at night"]))


def _seen(encoder: Encoder, random: np.random.Generator) -> Measured:
    batch, size = encoder.input.batch, encoder.input.size
    if encoder.input.modality == "lidar":
        sweeps = [random.normal(0, 20, (size, 4)).astype(np.float32) for _ in range(_SWEEPS)]
        case = f"{encoder.name}, sweeps of {size:,} points"
        return per_second(case, "sweeps", _SWEEPS, lambda: encode_sweeps(encoder, sweeps))
    squares = random.integers(0, 256, (batch, *encoder.input.shape[1:]), np.uint8)
    return per_second(f"{encoder.name}, batch {batch}", "images", batch, lambda: encode_all(encoder, squares))
