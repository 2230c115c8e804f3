"""A deterministic encoder without weights, for tests and rehearsals: a random projection of a tiny picture.

All sums are integers, so a vector is the same on every machine, in every batch, in every version of NumPy. Pictures
that look alike are near (Johnson & Lindenstrauss 1984); texts share no meaning with pictures.
"""

from __future__ import annotations

from hashlib import shake_128
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import InputSpec

_SIZE, _GRID = 32, 8


class HashingEncoder:
    """`hashing` or `hashing:<dim>`: frames (and bags of words) to `dim` numbers."""

    light: Literal[True] = True

    def __init__(self, dim: str = "64") -> None:
        if not dim.isdecimal() or int(dim) < 1:
            raise ValueError(f"hashing:<dim> takes a positive number, got {dim!r}")
        self.dim = int(dim)
        self.name = "hashing" if self.dim == 64 else f"hashing:{self.dim}"
        self.version = "1"
        self.input = InputSpec("camera", _SIZE, 16)
        inputs = 3 * _GRID**2 + 1
        self._projection = _odd_numbers(b"projection", inputs * self.dim).reshape(inputs, self.dim)

    def __reduce__(self) -> tuple[type[HashingEncoder], tuple[str]]:
        return type(self), (str(self.dim),)

    def encode(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, 32, 32, 3) to unit float32 (n, dim)."""
        step = _SIZE // _GRID
        cells = batch.reshape(len(batch), _GRID, step, _GRID, step, 3).sum(axis=(2, 4), dtype=np.int64)
        bias = np.ones((len(batch), 1), np.int64)  # keeps a black frame from being null
        return _unit(np.concatenate([cells.reshape(len(batch), -1), bias], axis=1) @ self._projection)

    def encode_text(self, texts: list[str]) -> NDArray[np.float32]:
        """Texts to unit float32 (len(texts), dim): the sum of a pseudo-random vector for each lower-case word."""
        sums = np.zeros((len(texts), self.dim), np.int64)
        for row, text in zip(sums, texts, strict=True):
            for word in ["", *text.lower().split()]:
                row += _odd_numbers(b"word:" + word.encode(), self.dim)
        return _unit(sums)


def _odd_numbers(seed: bytes, count: int) -> NDArray[np.int64]:
    """`count` pseudo-random odd numbers in -255..255: symmetric about zero and never zero."""
    stream = shake_128(b"hashing encoder 1:" + seed).digest(count)
    return 2 * np.frombuffer(stream, np.uint8).astype(np.int64) - 255


def _unit(rows: NDArray[np.int64]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True).astype(np.float64))
    unit: NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return unit
