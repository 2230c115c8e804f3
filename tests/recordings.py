"""Small recordings on disk for tests: real picture files in a folder tree, some of them broken on request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import simplejpeg


def write_frames(folder: Path, count: int, seed: int = 0, first: int = 0) -> list[Path]:
    """`count` different JPEG files of 96 x 64 pixels, named frame_000000.jpg and on."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    files = []
    for number in range(first, first + count):
        coarse = random.integers(0, 256, (8, 12, 3), np.uint8)
        frame = np.ascontiguousarray(coarse.repeat(8, axis=0).repeat(8, axis=1))
        files.append(folder / f"frame_{number:06d}.jpg")
        files[-1].write_bytes(simplejpeg.encode_jpeg(frame, quality=90))
    return files


def write_drives(root: Path, scenes: int = 3, frames: int = 8) -> Path:
    """A source for the `images` reader: `scenes` folders of `frames` frames."""
    for scene in range(scenes):
        write_frames(root / f"drive_{scene:02d}", frames, seed=scene)
    return root
