"""What an encoder is, and how to get one by name.

An encoder turns ready arrays into unit vectors. Reading, decoding and resizing happen before it (`miner.decode`), so
that one decode feeds every encoder of a pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embeddings.plugins import load_plugin


class WeightsMissing(RuntimeError):
    """An encoder's weights cannot be had; the message says what was looked for and what to do."""


@dataclass(frozen=True)
class InputSpec:
    """What `encode` takes: one array of `shape`, exactly `batch` rows, the last ones padded with zeros.

    A vector then depends on its frame or sweep alone, bit for bit, whatever else travelled in its batch. `camera`:
    uint8 RGB squares of `size` pixels; the encoder normalises, on its device. `lidar`: float32 x, y, z in metres and
    intensity as the sensor gives it, in the sensor frame, at most `size` points; rows of NaN follow the points.
    """

    modality: str
    size: int
    batch: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(batch, size, size, 3) for frames, (batch, size, 4) for sweeps."""
        return (self.batch, self.size, *((4,) if self.modality == "lidar" else (self.size, 3)))

    @property
    def dtype(self) -> type[np.uint8] | type[np.float32]:
        """Of the array `encode` takes."""
        return np.float32 if self.modality == "lidar" else np.uint8


@runtime_checkable
class Encoder(Protocol):
    """Frames or sweeps to vectors. `name` as the user writes it, `version` changes whenever vectors do."""

    name: str
    version: str
    dim: int
    input: InputSpec

    def encode(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """An array as `input` says to unit float32 (input.batch, dim). Deterministic."""
        ...


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """A camera encoder whose space texts share, so that text finds frames."""

    def encode_text(self, texts: list[str]) -> NDArray[np.float32]:
        """Texts to unit float32 (len(texts), dim)."""
        ...


@runtime_checkable
class AdaptiveEncoder(Encoder, Protocol):
    """An encoder that computes as the machine likes best, and says in its version how."""

    def as_version(self, version: str) -> Encoder:
        """The encoder that makes vectors of `version`; itself where it cannot."""
        ...


@runtime_checkable
class LightEncoder(Encoder, Protocol):
    """An encoder that is made in milliseconds, without weights to load: each block may have its own."""

    light: Literal[True]


@runtime_checkable
class HeavyEncoder(Encoder, Protocol):
    """An encoder whose weights take seconds to load."""

    def load(self, compiled: bool = False) -> None:
        """Load what `encode` needs, if it is not there yet; with `compiled` to run by torch.compile, where it can."""
        ...


@runtime_checkable
class StreamEncoder(Encoder, Protocol):
    """An encoder that has the next batch ready while it computes."""

    def encode_stream(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """What `encode` gives of each batch, in order."""
        ...


Processor = Literal["any", "cpu", "gpu"]  # any: a GPU where one is visible


@runtime_checkable
class PlacedEncoder(Encoder, Protocol):
    """An encoder that can compute on a GPU, by torch: where that sees none, workers refuse to have one."""

    def on(self, processor: Processor) -> Encoder:
        """The encoder for a worker that has a GPU, or for one that has none though its machine may.

        `gpu` may be asked for where there is none, by whoever plans for those that have one; what is computed here is
        then computed on the CPU, as the GPU would.
        """
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


def encode_all(encoder: Encoder, frames: NDArray[Any]) -> NDArray[np.float32]:
    """Any number n of frames (or padded sweeps), as `encoder.input` says, to unit float32 (n, dim)."""
    batches = _batches(frames, encoder.input.batch)
    vectors, done = np.empty((len(frames), encoder.dim), np.float32), 0
    found = encoder.encode_stream(batches) if isinstance(encoder, StreamEncoder) else map(encoder.encode, batches)
    for some in found:
        vectors[done : done + len(some)] = some[: len(frames) - done]
        done += len(some)
    return vectors


def _batches(frames: NDArray[Any], step: int) -> Iterator[NDArray[Any]]:
    """Pieces of `step` rows: those that are full as they are in memory, the last one padded."""
    for start in range(0, len(frames), step):
        part = frames[start : start + step]
        missing = step - len(part)
        yield np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part


def encode_sweeps(encoder: Encoder, sweeps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Sweeps, each float32 (at most encoder.input.size, 4), to unit float32 (len(sweeps), dim)."""
    vectors = np.empty((len(sweeps), encoder.dim), np.float32)
    filled = np.full(encoder.input.shape, np.nan, np.float32)
    for start in range(0, len(sweeps), encoder.input.batch):
        some = sweeps[start : start + encoder.input.batch]
        filled[:] = np.nan
        for row, points in zip(filled, some, strict=False):
            row[: len(points)] = points
        vectors[start : start + len(some)] = encoder.encode(filled)[: len(some)]
    return vectors
