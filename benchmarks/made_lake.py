"""A lake of made-up vectors, made in a minute: frames with clips, scenes, facts and files' names, but without files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.embeddings_like import CLIP
from kernels.spans import Ints
from miner.schema import check, embeddings_schema
from miner.store import Store

ENCODER = "made"
TABLE = f"embeddings/{ENCODER}"
SCENE_CLIPS = 40
RANGE = 10_000
SHARES = (10, 1, 0.1, 0.01)

_AT_ONCE = 100_000
_FRAME_NS = 500_000_000


def ranks_of(frames: int) -> Ints:
    """The rank of each frame's clip, any number below RANGE, evenly: (n,)."""
    clips = -(-frames // CLIP)
    return (np.random.default_rng(2).permutation(clips) * RANGE // clips).repeat(CLIP)[:frames]


def make(uri: str, vectors: NDArray[np.float32]) -> None:
    """A lake whose camera frames have these vectors (n, dim), in the order of time, `CLIP` a clip.

    A clip has the label `share: SHARE` for each of SHARES, in percent of RANGE, that its rank is below.
    """
    store, random = Store.create(uri), np.random.default_rng(1)
    count, dim = vectors.shape
    clips = -(-count // CLIP)
    scene_ids, ranks = _ids(random, -(-clips // SCENE_CLIPS)), ranks_of(count)[::CLIP]
    spans = _clips(scene_ids, _ids(random, clips))
    _append(store, "scenes", _scenes(scene_ids))
    _append(store, "clips", spans.append_column("recipe", _same("made", clips)))
    _append(store, "annotations", pa.concat_tables([_labels(spans, ranks, share, random) for share in SHARES]))
    store.ensure(TABLE, embeddings_schema(ENCODER, "1", dim))
    for start in range(0, count, _AT_ONCE):
        part = vectors[start : start + _AT_ONCE]
        readings = _readings(start, len(part), scene_ids, random)
        for table, columns in (("sample_data", _FILE), ("assets", _ASSET)):
            more = {name: _same(value, len(part)) for name, value in columns.items()}
            own = readings.select([name for name in readings.column_names if name in _COLUMNS[table]])
            _append(store, table, pa.table({**dict(zip(own.column_names, own.columns, strict=True)), **more}))
        store.append(TABLE, _embeddings(readings, part))


def within(share: float) -> str:
    """The filter that lets `share` percent of the clips through, one of SHARES."""
    return f"count('share: {share:g}') = 1"


_FILE = {"modality": "camera", "is_key_frame": True, "fileformat": "jpg"}
_ASSET: dict[str, Any] = {"modality": "camera", "sha256": "0" * 64, "num_bytes": 300_000, "flags": []}
_COLUMNS = {
    "sample_data": ["sample_data_id", "scene_id", "channel", "timestamp_ns", "uri"],
    "assets": ["sample_data_id", "scene_id", "sharpness"],
}


def _scenes(scene_ids: pa.Array) -> pa.Table:
    numbers = np.arange(len(scene_ids))
    return pa.table(
        {
            "scene_id": scene_ids,
            "dataset": _same("made", len(numbers)),
            "log_id": _same("log", len(numbers)),
            "name": pa.array([f"drive {number}" for number in numbers]),
            "start_ns": numbers * 0,
            "end_ns": numbers * 0 + SCENE_CLIPS * CLIP * _FRAME_NS,
        }
    )


def _clips(scene_ids: pa.Array, clip_ids: pa.Array) -> pa.Table:
    numbers = np.arange(len(clip_ids))
    start = numbers % SCENE_CLIPS * CLIP * _FRAME_NS
    scenes = scene_ids.take(pa.array(numbers // SCENE_CLIPS))
    return pa.table({"clip_id": clip_ids, "scene_id": scenes, "start_ns": start, "end_ns": start + CLIP * _FRAME_NS})


def _labels(clips: pa.Table, ranks: Ints, share: float, random: np.random.Generator) -> pa.Table:
    chosen = clips.filter(pa.array(ranks < RANGE * share / 100))
    same = {"category": "share", "attributes": f'{{"value": "{share:g}"}}', "source": "made", "version": "1"}
    columns = {"annotation_id": _ids(random, len(chosen)), "scene_id": chosen["scene_id"]}
    columns |= {"timestamp_ns": chosen["start_ns"], **{name: _same(value, len(chosen)) for name, value in same.items()}}
    return pa.table(columns)


def _readings(start: int, count: int, scene_ids: pa.Array, random: np.random.Generator) -> pa.Table:
    numbers = np.arange(start, start + count)
    of_scene = numbers % (SCENE_CLIPS * CLIP)
    ids = _ids(random, count)
    return pa.table(
        {
            "sample_data_id": ids,
            "embedding_id": _ids(random, count),
            "scene_id": scene_ids.take(pa.array(numbers // (SCENE_CLIPS * CLIP))),
            "channel": _same("CAM_FRONT", count),
            "timestamp_ns": of_scene * _FRAME_NS,
            "uri": pa.array([f"/recordings/camera/front/{number:09d}.jpg" for number in numbers]),
            "sharpness": pa.array(random.random(count), pa.float32()),
        }
    )


def _embeddings(readings: pa.Table, vectors: NDArray[np.float32]) -> pa.Table:
    rows = readings.drop_columns(["uri", "sharpness"])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return rows.append_column("part", pa.array(np.zeros(len(rows), np.int16))).append_column("vector", lists)


def _append(store: Store, table: str, rows: pa.Table) -> None:
    store.ensure(table)
    store.append(table, check(rows, store.schema(table)))


def _ids(random: np.random.Generator, count: int) -> pa.Array:
    """Random 32-hex ids, made without a Python string each."""
    text = random.bytes(16 * count).hex().encode()
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * 32)
    return pa.StringArray.from_buffers(count, offsets.buffers()[1], pa.py_buffer(text))


def _same(value: Any, count: int) -> pa.Array:
    kind = pa.list_(pa.string()) if value == [] else None
    return pa.array([value], kind).take(pa.array(np.zeros(count, np.int64)))
