"""Camera frames to measure with, JPEGs like those of a driving recorder, the same each time; a lake that knows them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import simplejpeg
from PIL import Image

from miner.ids import make_id
from miner.store import Store

WIDTH, HEIGHT = 1600, 900
_PICTURES = 32  # of different content; more files are links to these
_SCENE_FRAMES = 200
_FRAME_NS = 500_000_000


def write_frames(folder: Path, count: int) -> list[Path]:
    """`count` files 1600 x 900, quality 90, 4:2:0, about 320 KB each, as road scenes have."""
    folder.mkdir()
    files = [folder / f"{number:06d}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        if number < _PICTURES:
            file.write_bytes(_picture(number))
        else:
            os.link(files[number % _PICTURES], file)
    return files


def lake_of(uri: str, files: list[Path]) -> Store:
    """A lake with a camera reading for each file, in scenes of 200, and nothing embedded."""
    store, count = Store.create(uri), len(files)
    numbers = np.arange(count)
    scenes = [make_id("scene", int(number)) for number in range(-(-count // _SCENE_FRAMES))]
    columns = {
        "sample_data_id": [make_id("frame", str(number)) for number in range(count)],
        "scene_id": pa.array(scenes).take(pa.array(numbers // _SCENE_FRAMES)),
        "channel": ["CAM"] * count,
        "modality": ["camera"] * count,
        "timestamp_ns": numbers * _FRAME_NS,
        "is_key_frame": [True] * count,
        "uri": [str(file) for file in files],
        "fileformat": ["jpg"] * count,
    }
    store.ensure("sample_data")
    store.append("sample_data", pa.table(columns))
    return store


def _picture(seed: int) -> bytes:
    """Soft shapes with texture on them, as JPEG."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 16, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
    texture = random.normal(0, 6, (HEIGHT // 2, WIDTH // 2, 1)).repeat(2, 0).repeat(2, 1)
    pixels = np.clip(np.asarray(coarse) + texture, 0, 255).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=90, colorsubsampling="420"))
