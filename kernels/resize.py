"""Crop and resize in one pass, as Pillow resizes: separable bicubic (Keys 1981, a = -0.5), antialiased when shrinking.

The filter is stretched by the shrinking factor, centred on the output pixel and normalised to sum 1; near the border of
the image (not of the box) it is cut off. Unlike Pillow nothing is rounded between the two axes. Sixteen output rows
are made at a time, so that all intermediate values stay in the cache: rows first (contiguous in the image), then those
are transposed and columns are summed for all sixteen at once. Sums run in a fixed order in float32, without fast-math,
so a result depends on the pixels, box and size alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels._jit import jit
from kernels.resize_lanes import LANES, sum_taps, transpose_16

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]

CHUNK = 64  # elements of a source row summed at a time: a cache line, and enough sums side by side to hide latency


class Taps(NamedTuple):
    """Which source pixels make each of n output pixels along one axis.

    first int32 (n,): the first of them; length int32 (n,): how many; weight float32 (n, k): their shares, sum 1, zeros
    behind the last.
    """

    first: NDArray[np.int32]
    length: NDArray[np.int32]
    weight: Floats


class Workspace(NamedTuple):
    """Scratch memory for one thread; nothing in it lives from call to call.

    Flat float32: block (16, 64) sums over source rows, band (columns, 16) the same of a whole width, transposed, lines
    (16, channels, 16) sums over columns, tile (16, output columns) of them, transposed back.
    """

    block: Floats
    band: Floats
    lines: Floats
    tile: Floats

    @classmethod
    def of(cls, width: int, out_width: int, channels: int = 3) -> Workspace:
        """For images of up to `width` pixels into ones of up to `out_width`, of 1 or 3 channels."""
        return cls(*(np.zeros(size, np.float32) for size in _sizes(width, out_width, channels)))


def resize(image: Pixels, box: Box, out: Pixels, workspace: Workspace | None = None) -> Pixels:
    """The part `box` of a uint8 image (H, W, 1 or 3) into uint8 `out` (h, w, same), rounded and clipped; gives `out`.

    box: x0, y0, x1, y1 in pixels of the image, also fractions of them, 0 <= x0 < x1 <= W. Raises ValueError for another
    box, array type or number of channels, and for a workspace that is too small.
    """
    source = _checked(image, out, np.uint8, out.shape[2:])
    space = _space(source, out.shape[1], workspace)
    _resize_rounded(source, *_both_taps(image, box, *out.shape[:2]), space, out)
    return out


def resize_normalised(
    image: Pixels, box: Box, moments: tuple[ArrayLike, ArrayLike], out: Floats, workspace: Workspace | None = None
) -> Floats:
    """As `resize`, but into float32 (C, h, w), as networks take it: (value / 255 - mean) / std, clipped, not rounded.

    moments: mean and std of each channel (or of all), in shares of 255.
    """
    source = _checked(image, out, np.float32, out.shape[:1])
    space = _space(source, out.shape[2], workspace)
    mean, std = (np.broadcast_to(np.asarray(each, np.float64), out.shape[:1]) for each in moments)
    scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    _resize_scaled(source, *_both_taps(image, box, *out.shape[1:]), space, scale, shift, out)
    return out


def _checked(image: Pixels, out: NDArray[np.generic], kind: type, channels: tuple[int, ...]) -> Pixels:
    """The image in one piece and at least a chunk wide (what is added to it is never weighed)."""
    if image.ndim != 3 or image.dtype != np.uint8 or not image.size or image.shape[2] not in (1, 3):
        raise ValueError(f"expected a uint8 image (H, W, 1 or 3), got {image.dtype} {image.shape}")
    width, depth = image.shape[1:]
    if out.ndim != 3 or out.dtype != kind or channels != (depth,) or not out.size or not out.flags.c_contiguous:
        raise ValueError(f"expected {kind.__name__} of {depth} channels in one piece, got {out.dtype} {out.shape}")
    lacking = max(-(-CHUNK // depth) - width, 0)
    source = np.pad(image, ((0, 0), (0, lacking), (0, 0))) if lacking else image
    return np.require(source, requirements=["C", "W"])


def _space(image: Pixels, out_width: int, workspace: Workspace | None) -> Workspace:
    if workspace is None:
        return Workspace.of(image.shape[1], out_width, image.shape[2])
    sizes = _sizes(image.shape[1], out_width, image.shape[2])
    if any(len(part) < size for part, size in zip(workspace, sizes, strict=True)):
        raise ValueError(f"the workspace is too small for {image.shape} into {out_width} columns")
    return workspace


def _sizes(width: int, out_width: int, channels: int) -> tuple[int, ...]:
    elements = max(width, -(-CHUNK // channels)) * channels
    return LANES * CHUNK, LANES * elements, LANES * LANES * channels, LANES * (out_width + LANES) * channels


def _both_taps(image: Pixels, box: Box, height: int, width: int) -> tuple[Taps, Taps]:
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= image.shape[1] and 0 <= y0 < y1 <= image.shape[0]):
        raise ValueError(f"expected a box inside {image.shape[1]} x {image.shape[0]} pixels, got {box}")
    return taps(image.shape[0], y0, y1, height), taps(image.shape[1], x0, x1, width)


def taps(length: int, start: float, stop: float, size: int) -> Taps:
    """What makes `size` output pixels of the part [start, stop) of an axis of `length` pixels."""
    stretch = max((stop - start) / size, 1.0)
    most = 2 * math.ceil(2 * stretch) + 1
    found = Taps(np.empty(size, np.int32), np.empty(size, np.int32), np.zeros((size, most), np.float32))
    _fill_taps(length, float(start), float(stop), *found)
    return found


@jit
def _bicubic(x: float) -> float:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0


@jit
def _fill_taps(
    length: int, start: float, stop: float, first: NDArray[np.int32], count: NDArray[np.int32], weight: Floats
) -> None:
    step = (stop - start) / len(first)
    stretch = max(step, 1.0)
    for i in range(len(first)):
        centre = start + (i + 0.5) * step
        low = max(int(centre - 2.0 * stretch + 0.5), 0)
        high = min(int(centre + 2.0 * stretch + 0.5), length)
        total = 0.0
        for t in range(low, high):
            share = _bicubic((t - centre + 0.5) / stretch)
            weight[i, t - low] = share
            total += share
        for t in range(high - low):
            weight[i, t] = weight[i, t] / total
        first[i], count[i] = low, high - low


@jit
def _make_band(image: Pixels, rows: Taps, top: int, window: tuple[int, int], block: Floats, band: Floats) -> None:
    """Sixteen output rows from `top` on, of the source columns `window` (in elements): band = (columns, 16), flat."""
    start, stop = window
    flat, width = image.reshape(-1), image.shape[1] * image.shape[2]
    weight, most = rows.weight.reshape(-1), rows.weight.shape[1]
    for chunk in range(start, stop, CHUNK):
        x = min(chunk, stop - CHUNK)
        for j in range(min(LANES, len(rows.first) - top)):
            y = top + j
            sum_taps(flat, rows.first[y] * width + x, width, weight, y * most, rows.length[y], block, j * CHUNK, 4)
        for k in range(0, CHUNK, LANES):
            transpose_16(block, k, CHUNK, band, (x - start + k) * LANES, LANES)


@jit
def _sum_columns(band: Floats, columns: Taps, left: int, start: int, depth: int, lines: Floats) -> None:
    """Sixteen output columns from `start` on: lines = (16 columns, depth, 16 rows), flat."""
    weight, most = columns.weight.reshape(-1), columns.weight.shape[1]
    step = depth * LANES
    for i in range(min(LANES, len(columns.first) - start)):
        x = start + i
        at = (columns.first[x] - left) * step
        if depth == 3:
            sum_taps(band, at, step, weight, x * most, columns.length[x], lines, i * step, 3)
        else:
            sum_taps(band, at, step, weight, x * most, columns.length[x], lines, i * step, 1)


@jit
def _window(columns: Taps, width: int, depth: int) -> tuple[int, int]:
    """The source columns that are needed, in pixels, and some more where they are less than a chunk."""
    least = (CHUNK + depth - 1) // depth
    left = max(min(columns.first[0], width - least), 0)
    return left, max(columns.first[-1] + columns.length[-1], left + least)


@jit
def _clipped(value: np.float32) -> np.float32:
    above = value if value > np.float32(0) else np.float32(0)
    return above if above < np.float32(255) else np.float32(255)


@jit
def _resize_rounded(image: Pixels, rows: Taps, columns: Taps, space: Workspace, out: Pixels) -> None:
    height, width, depth = out.shape
    left, right = _window(columns, image.shape[1], depth)
    flat, step = out.reshape(height, width * depth), (width + LANES) * depth
    for top in range(0, height, LANES):
        _make_band(image, rows, top, (left * depth, right * depth), space.block, space.band)
        for x in range(0, width, LANES):
            _sum_columns(space.band, columns, left, x, depth, space.lines)
            for k in range(depth):
                transpose_16(space.lines, k * LANES * LANES, LANES, space.tile, x * depth + k * LANES, step)
        for j in range(min(LANES, height - top)):
            values, row = space.tile[j * step :], flat[top + j]
            for i in range(len(row)):
                row[i] = np.uint8(np.int32(_clipped(values[i]) + np.float32(0.5)))


@jit
def _resize_scaled(
    image: Pixels, rows: Taps, columns: Taps, space: Workspace, scale: Floats, shift: Floats, out: Floats
) -> None:
    depth, height, width = out.shape
    left, right = _window(columns, image.shape[1], depth)
    step = (width + LANES) * depth
    for top in range(0, height, LANES):
        _make_band(image, rows, top, (left * depth, right * depth), space.block, space.band)
        for x in range(0, width, LANES):
            _sum_columns(space.band, columns, left, x, depth, space.lines)
            for c in range(depth):
                transpose_16(space.lines, c * LANES, depth * LANES, space.tile, c * (width + LANES) + x, step)
        for j in range(min(LANES, height - top)):
            for c in range(depth):
                values, row = space.tile[j * step + c * (width + LANES) :], out[c, top + j]
                for i in range(width):
                    row[i] = _clipped(values[i]) * scale[c] + shift[c]
