"""What an encoder sees of a frame: the whole of it and square tiles, cut to the encoder's size.

A view depends on the frame, its region and its size alone, never on what else is asked of the same frame.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from kernels.resize import Workspace, resize
from miner.decode.image import MAX_ASPECT, MAX_SIDE
from miner.decode.quality import QUALITY_MIN_SIDE
from miner.errors import BadInput, UnknownName

Views = Literal["whole", "tiles", "whole+tiles"]

MAX_TILES = MAX_ASPECT
NEARLY_SQUARE = 1.1  # a frame no longer than this times its short side is one view

# Shrinking a reduced decode by 1.5 or more looks like shrinking the full one: 48 to 55 dB on whole road frames of six
# datasets at half scale, 45 to 52 dB at a quarter; by 1.2 it is 2 to 4 dB less. Of the other reductions of the codec,
# 3/8 and 5/8 reach 39 and 43 dB, 6/8 is good but slower than the full decode.
_DECODE_MARGIN = 1.5


class Region(NamedTuple):
    """A part of a frame as shares of its width and height, from the top left corner, 0 <= x0 < x1 <= 1."""

    x0: float
    y0: float
    x1: float
    y1: float


def regions(width: int, height: int, views: str) -> list[Region | None]:
    """The parts of a `width` x `height` frame that become rows; None is the whole frame.

    `whole` squashes the full frame to the encoder's square. `tiles` are ceil(long / short) squares over the long side,
    evenly spaced, together covering every pixel. `whole+tiles` is both. A nearly square frame is one view in each.

    Raises BadInput `not-a-frame` where that would be more than 16 tiles or a side is over 65,535 pixels, UnknownName
    for other `views`.
    """
    if views not in get_args(Views):
        raise UnknownName.of("views", views, get_args(Views))
    if max(width, height) > MAX_SIDE:
        raise BadInput("not-a-frame", f"{width} x {height} pixels: at most {MAX_SIDE} on a side")
    tiles = _tiles(width, height) if views != "whole" else []
    if not tiles:
        return [None]
    return [None, *tiles] if views == "whole+tiles" else list(tiles)


def crop_views(image: NDArray[np.uint8], parts: list[Region | None], size: int) -> NDArray[np.uint8]:
    """Parts of a frame, each squashed to a square: uint8 (H, W, 3) to uint8 (len(parts), size, size, 3).

    Antialiased bicubic, as CLIP models were trained with.
    """
    height, width = image.shape[:2]
    views = np.empty((len(parts), size, size, 3), np.uint8)
    space = Workspace.of(width, size)
    for view, part in zip(views, parts, strict=True):
        x0, y0, x1, y1 = part or (0.0, 0.0, 1.0, 1.0)
        resize(image, (x0 * width, y0 * height, min(x1 * width, width), min(y1 * height, height)), view, space)
    return views


def min_side_for(size: int) -> int:
    """The `min_side` to decode with for views of `size` pixels: large enough for every view, and for `quality_of`."""
    return max(math.ceil(_DECODE_MARGIN * size), QUALITY_MIN_SIDE)


def _tiles(width: int, height: int) -> list[Region]:
    long, short = max(width, height), min(width, height)
    if long <= NEARLY_SQUARE * short:
        return []
    count = math.ceil(long / short)
    if count > MAX_TILES:
        raise BadInput("not-a-frame", f"{width} x {height} pixels: more than {MAX_TILES} times as long as wide")
    starts = [round(i * (long - short) / (count - 1)) for i in range(count)]
    spans = [(start / long, (start + short) / long) for start in starts]
    return [Region(a, 0.0, b, 1.0) if width >= height else Region(0.0, a, 1.0, b) for a, b in spans]
