"""What a frame's pixels say of its quality, at whatever scale it was decoded: columns sharpness, exposure, phash; and
whether its size fits its calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.image import HASH_SIDE, exposure, luma, perceptual_hash, sharpness
from kernels.resize import resize

Pixels = NDArray[np.uint8]

QUALITY_SIDE = 128  # short side of the thumbnail that all is computed from, in pixels
_LONGEST = 16  # times its short side
_OFF_MIDDLE = 0.24

# The `min_side` to decode with at least. A thumbnail smaller by 2.5 or more hides at which scale the JPEG was decoded:
# against the full decode, sharpness differs by 5 % at most, exposure by 0.0005, the hash by a bit or two.
QUALITY_MIN_SIDE = 320


def quality_of(pixels: Pixels) -> dict[str, float | int]:
    """sharpness (grey levels squared), exposure (0..1) and phash (int64) of uint8 RGB (H, W, 3).

    From a luma thumbnail with a short side of 128 pixels (and at most 16 times as long), so that frames of any size and
    decode compare.
    """
    height, width = pixels.shape[:2]
    scale = QUALITY_SIDE / min(height, width)
    tall, wide = (min(round(scale * side), _LONGEST * QUALITY_SIDE) for side in (height, width))
    small = _resized(luma(pixels), tall, wide)
    tiny = _resized(small, HASH_SIDE, HASH_SIDE)
    return {"sharpness": sharpness(small), "exposure": exposure(small), "phash": perceptual_hash(tiny)}


def _resized(grey: Pixels, height: int, width: int) -> Pixels:
    out = np.empty((height, width, 1), np.uint8)
    resize(grey[..., None], (0, 0, grey.shape[1], grey.shape[0]), out)
    return out[..., 0]


def is_of_another_size(width: int, height: int, intrinsic: Sequence[float]) -> bool:
    """Whether a frame of `width` x `height` pixels cannot be the one that `intrinsic` (3 x 3, row by row) is of.

    The principal point of a camera lies near the middle of its picture: within 6 % of its sides in nuScenes and KITTI,
    up to 23 % in pictures that were cropped. In one resized to a half or to the double it is 25 % off or more.
    """
    x, y = intrinsic[2] / width, intrinsic[5] / height
    return not (abs(x - 0.5) <= _OFF_MIDDLE and abs(y - 0.5) <= _OFF_MIDDLE)
