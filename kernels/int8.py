"""Numbers in 8 bits for matrix products: what goes in is rounded, what comes out is scaled back.

Each row has its own step, a 127th of its largest magnitude, so that no row depends on others (vector-wise
quantization: Dettmers et al. 2022, arXiv:2208.07339). A few large numbers would make the steps of the others coarse, so
rows are turned before, both factors by the same Hadamard matrix, which spreads them and leaves products as they are
(QuaRot: Ashkboos et al. 2024, arXiv:2404.00456).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

Floats = NDArray[np.float32]

_MOST_PARTS = 64
_LARGEST = np.float32(127)
_LEAST = np.float32(1e-30)  # what is below is 0: its steps would be at the end of what float32 tells apart
_MAGNITUDE = np.int32(0x7FFFFFFF)


def quantize_rows(values: Floats) -> tuple[NDArray[np.int8], Floats]:
    """`values` float32 (n, k), C-contiguous, as int8 (n, k) in steps float32 (n,).

    whole * step is, to half a step, `values` times an orthogonal matrix, the same for every row of k numbers: the
    Hadamard matrix over 64 equal parts of a row, or over as many as a power of two divides it into. The step of a row
    of zeros (all below 1e-30) is 0, and that of one with a NaN, an infinity or what nears it (1e37) is not finite.
    """
    whole, steps = np.empty(values.shape, np.int8), np.empty(len(values), np.float32)
    _quantize(values, math.gcd(values.shape[1], _MOST_PARTS), whole, steps)
    return whole, steps


def scale_sums(sums: NDArray[np.int32], rows: Floats, columns: Floats, bias: Floats) -> Floats:
    """`sums * rows * columns + bias`, float32 (n, m), in the memory of `sums`, int32 (n, m), C-contiguous.

    rows (n,) and columns (m,) are the steps of the two factors, bias (m,) what is added, all float32.
    """
    _scale(sums, rows, columns, bias)
    scaled: Floats = sums.view(np.float32)
    return scaled


@jit
def _quantize(values: Floats, parts: int, whole: NDArray[np.int8], steps: Floats) -> None:
    """The bits of magnitudes are in the order of magnitudes, and a maximum of whole numbers becomes vector code."""
    unit, row = np.float32(1 / math.sqrt(parts)), np.empty(values.shape[1], np.float32)
    bits, step_bits = row.view(np.int32), steps.view(np.int32)
    for i in range(values.shape[0]):
        for j in range(len(row)):
            row[j] = values[i, j] * unit
        _turn(row, parts)
        largest = np.int32(0)
        for j in range(len(row)):
            largest = max(largest, np.int32(bits[j] & _MAGNITUDE))
        step_bits[i] = largest
        if steps[i] < _LEAST:
            steps[i] = 0
        share = _LARGEST / steps[i] if steps[i] else np.float32(0)
        steps[i] /= _LARGEST
        for j in range(len(row)):
            whole[i, j] = np.int8(np.rint(row[j] * share))


@jit
def _turn(row: Floats, parts: int) -> None:
    """Sums and differences of the parts of a row, as a Walsh-Hadamard transform has them, in place."""
    length = len(row) // parts
    while length < len(row):
        for start in range(0, len(row), 2 * length):
            left, right = row[start : start + length], row[start + length : start + 2 * length]
            for j in range(length):
                a, b = left[j], right[j]
                left[j], right[j] = a + b, a - b
        length *= 2


@jit
def _scale(sums: NDArray[np.int32], rows: Floats, columns: Floats, bias: Floats) -> None:
    for i in range(sums.shape[0]):
        row, step = sums[i], rows[i]
        for j in range(len(row)):
            row[j] = np.float32(np.float32(row[j]) * (step * columns[j]) + bias[j]).view(np.int32)
