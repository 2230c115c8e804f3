"""What an encoder is, and how to get one by name.

An encoder turns ready arrays into unit vectors. Reading, decoding and resizing happen before it (`miner.decode`), so
that one decode feeds every encoder of a pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embeddings.plugins import load_plugin


class WeightsMissing(RuntimeError):
    """An encoder's weights cannot be had; the message says what was looked for and what to do."""


@dataclass(frozen=True)
class InputSpec:
    """What `encode` takes: uint8 RGB of shape (batch, size, size, 3). The encoder itself normalises, on its device.

    Every call has exactly `batch` rows, the last one padded: a vector then depends on its frame alone, bit for bit,
    whatever else travelled in its batch.
    """

    modality: str
    size: int
    batch: int


@runtime_checkable
class Encoder(Protocol):
    """Frames to vectors. `name` as the user writes it, `version` changes whenever vectors do."""

    name: str
    version: str
    dim: int
    input: InputSpec

    def encode(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (input.batch, size, size, 3) to unit float32 (input.batch, dim). Deterministic."""
        ...


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """An encoder whose space texts share, so that text finds frames."""

    def encode_text(self, texts: list[str]) -> NDArray[np.float32]:
        """Texts to unit float32 (len(texts), dim)."""
        ...


def load_encoder(name: str) -> Encoder:
    """The encoder `name`, ready to use: `lite`, `hashing`, `openclip:ViT-B-32/laion2b_s34b_b79k`, ...

    What follows the colon is handed to the encoder's constructor. Raises UnknownPlugin for an unknown family and
    WeightsMissing, within seconds and saying what to do, when weights cannot be had.
    """
    family, _, argument = name.partition(":")
    factory = load_plugin("miner.encoders", family)
    encoder: Encoder = factory(argument) if argument else factory()
    return encoder


def slug(name: str) -> str:
    """`name` as a file name: `openclip:ViT-B-32/laion` gives `openclip-ViT-B-32-laion`."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")


def encode_all(encoder: Encoder, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Any number of frames, uint8 (n, size, size, 3), to unit float32 (n, dim), in padded batches of one shape."""
    step = encoder.input.batch
    vectors = np.empty((len(frames), encoder.dim), np.float32)
    for start in range(0, len(frames), step):
        part = frames[start : start + step]
        padding = np.zeros((step - len(part), *part.shape[1:]), np.uint8)
        vectors[start : start + step] = encoder.encode(np.concatenate([part, padding]))[: len(part)]
    return vectors
