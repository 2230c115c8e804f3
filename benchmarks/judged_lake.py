"""The judged real frames as a lake: each item a clip, with the vectors of its cameras and its sweep.

MINER_TEST_DATA points to a folder with `ground_truth.jsonl` (items: id, cameras, lidar, tags) and `queries.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.encoder import Encoder, encode_all, encode_sweeps, slug
from miner.decode.files import read_bytes
from miner.decode.image import decode_image
from miner.decode.sweep import decode_sweep, sweep_format
from miner.decode.views import Region, crop_views, min_side_for, regions
from miner.embed import sweep_points, table_of
from miner.errors import BadInput
from miner.schema import embeddings_schema
from miner.store import Store

_SPAN = 10


@dataclass(frozen=True)
class Item:
    """One judged moment: pictures and a sweep by path, and hand-set tags."""

    id: str
    cameras: tuple[Path, ...]
    lidar: Path | None
    tags: frozenset[str]

    @property
    def drive(self) -> str:
        """The recording it is of; an item of a collection of single frames is one of its own."""
        return self.id.rpartition("/")[0] if self.id.count("/") > 1 else self.id


@dataclass(frozen=True)
class View:
    """One vector of an item."""

    item: str
    channel: str
    vector: NDArray[np.float32]
    region: Region | None = None


def load_judged(root: Path) -> list[Item]:
    """Items with a picture or a sweep; videos and records are left out."""
    found = []
    for line in (root / "ground_truth.jsonl").read_text().splitlines():
        item = json.loads(line)
        cameras = tuple(root / path for path in item["cameras"] if path.endswith((".jpg", ".png")))
        lidar = root / item["lidar"] if item.get("lidar") else None
        if cameras or lidar:
            found.append(Item(item["id"], cameras, lidar, frozenset(item.get("tags", ()))))
    return found


def kept(
    folder: Path | None, encoder: Encoder, items: list[Item], make: Callable[[Encoder, list[Item]], list[View]]
) -> list[View]:
    """The views of the items, made once for each encoder and set of items where there is a folder to keep them in."""
    if folder is None:
        return make(encoder, items)
    digest = hashlib.sha256("".join(item.id for item in items).encode()).hexdigest()[:8]
    path = folder / f"{slug(encoder.name)}-{encoder.version}-{digest}.npz"
    if not path.exists():
        save_views(path, make(encoder, items))
    with np.load(path) as file:
        edges = [None if np.isnan(each[0]) else Region(*each.tolist()) for each in file["region"]]
        whole = zip(file["item"].tolist(), file["channel"].tolist(), file["vector"], edges, strict=True)
        return [View(*each) for each in whole]


def save_views(path: Path, views: list[View]) -> None:
    """Views as one file."""
    nowhere = (np.nan,) * 4
    np.savez(
        path,
        item=np.array([view.item for view in views]),
        channel=np.array([view.channel for view in views]),
        vector=np.stack([view.vector for view in views]),
        region=np.array([view.region or nowhere for view in views]),
    )


def camera_views(encoder: Encoder, items: list[Item]) -> list[View]:
    """Whole frames and tiles of all pictures."""
    views, size = [], encoder.input.size
    for item in items:
        for number, path in enumerate(item.cameras):
            frame = decode_image(read_bytes(str(path)), path.suffix, str(path), min_side_for(size))
            height, width = frame.shape[:2]
            cuts = [*regions(width, height, "whole"), *regions(width, height, "tiles")]
            vectors = encode_all(encoder, crop_views(frame, cuts, size))
            views += [View(item.id, f"CAM_{number}", v, region) for v, region in zip(vectors, cuts, strict=True)]
    return views


def lidar_views(encoder: Encoder, items: list[Item]) -> list[View]:
    """The sweeps of a format that is read."""
    views = []
    for item in items:
        if item.lidar is None:
            continue
        try:
            data = read_bytes(str(item.lidar))
            sweep = decode_sweep(data, sweep_format(item.lidar.name, data), str(item.lidar))
        except BadInput:
            continue
        [vector] = encode_sweeps(encoder, [sweep_points(sweep, encoder.input.size)])
        views.append(View(item.id, "LIDAR", vector))
    return views


def judged_lake(folder: Path, items: list[Item], views: list[tuple[Encoder, list[View]]]) -> Store:
    """A lake whose clips are the items, by their ids, and whose scenes are their drives."""
    store = Store.create(str(folder))
    start = {item.id: place * _SPAN for place, item in enumerate(items)}
    drive = {item.id: item.drive for item in items}
    clips = [
        {"clip_id": item.id, "scene_id": item.drive, "start_ns": at, "end_ns": at + _SPAN, "recipe": "judged"}
        for item in items
        for at in [start[item.id]]
    ]
    _append(store, "clips", clips)
    for encoder, found in views:
        schema = embeddings_schema(encoder.name, encoder.version, encoder.dim, "whole", encoder.input.modality)
        table = table_of(encoder.name)
        store.ensure(table, schema)
        rows = [
            {
                "embedding_id": f"{view.item}-{view.channel}-{place}",
                "sample_data_id": f"{view.item}-{view.channel}",
                "scene_id": drive[view.item],
                "channel": view.channel,
                "timestamp_ns": start[view.item],
                "part": place,
                "region": None if view.region is None else view.region._asdict(),
                "vector": view.vector.tolist(),
            }
            for place, view in enumerate(found)
        ]
        store.append(table, pa.Table.from_pylist(rows, schema))
    return store


def _append(store: Store, table: str, rows: list[dict[str, Any]]) -> None:
    store.ensure(table)
    store.append(table, pa.Table.from_pylist(rows, store.schema(table)))
