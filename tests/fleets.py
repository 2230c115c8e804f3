"""Lakes of a fleet that nobody drove: clips with labels, places and vectors, written to the tables directly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from miner.ids import make_id
from miner.lake import Lake, create
from miner.schema import ANNOTATIONS, ASSETS, CLIPS, SAMPLE_DATA, SCENES, check, embeddings_schema

CLIP_NS = 1_000_000_000
WEATHERS, LIGHTS = ("clear", "rain", "fog"), ("day", "night")
DIM = 16


def scene_rows(scene: int, clips: int, rng: np.random.Generator) -> dict[str, list[dict[str, Any]]]:
    """One scene of clips of a second with one frame each, all of one weather and light, driving 10 m/s to the east."""
    scene_id, log = make_id("scene", "fleet", scene), f"log-{scene // 2}"
    start = scene * 1000 * CLIP_NS
    weather = WEATHERS[rng.choice(3, p=[0.7, 0.25, 0.05])]
    light = LIGHTS[rng.choice(2, p=[0.8, 0.2])]
    base = {"scene_id": scene_id, "start_ns": start, "end_ns": start + clips * CLIP_NS}
    head = {"dataset": "fleet", "log_id": log, "name": f"scene-{scene}", "location": f"town-{scene % 3}"}
    scenes = [{**base, **head, "vehicle": f"car-{scene % 4}", "split": "test" if scene % 5 == 4 else "train"}]
    labels = [("weather", weather), ("light", light)]
    notes = [
        {"annotation_id": make_id("annotation", scene_id, name), "scene_id": scene_id, "category": name,
         "attributes": json.dumps({"value": value}), "source": "test", "version": "1"}
        for name, value in labels
    ]  # fmt: skip
    readings, windows = [], []
    for clip in range(clips):
        at = start + clip * CLIP_NS
        reading = make_id("sample_data", scene_id, clip)
        pose = {"translation": [10.0 * clip, 1000.0 * scene, 0.0], "rotation_wxyz": [1.0, 0.0, 0.0, 0.0]}
        readings.append(
            {"sample_data_id": reading, "scene_id": scene_id, "channel": "CAM", "modality": "camera",
             "timestamp_ns": at + CLIP_NS // 2, "is_key_frame": True, "uri": f"/nowhere/{scene}/{clip}.jpg",
             "fileformat": "jpg", "global_SE3_ego": pose}
        )  # fmt: skip
        windows.append({"clip_id": make_id("clip", scene_id, clip), "scene_id": scene_id, "start_ns": at,
                        "end_ns": at + CLIP_NS, "recipe": "window=1s"})  # fmt: skip
        if rng.random() < 0.3:
            notes.append(
                {"annotation_id": make_id("annotation", reading, "car"), "scene_id": scene_id,
                 "sample_data_id": reading, "category": "vehicle.car", "bbox_xyxy": [0.0, 0.0, 9.0, 9.0],
                 "attributes": "{}", "source": "test", "version": "1"}
            )  # fmt: skip
    return {"scenes": scenes, "sample_data": readings, "annotations": notes, "clips": windows}


def add_scenes(lake: Lake, scenes: range, clips: int = 10, seed: int = 0) -> None:
    """Append scenes, and bring the facts up to them."""
    parts = [scene_rows(scene, clips, np.random.default_rng([seed, scene])) for scene in scenes]
    schemas = {"sample_data": SAMPLE_DATA, "annotations": ANNOTATIONS, "clips": CLIPS, "scenes": SCENES}
    for table, schema in schemas.items():
        lake.store.ensure(table)
        rows = [row for part in parts for row in part[table]]
        lake.store.append(table, check(pa.Table.from_pylist(rows, schema), schema))
    readings = [row for part in parts for row in part["sample_data"]]
    lake.store.ensure("assets")
    assets = [
        {"sample_data_id": row["sample_data_id"], "scene_id": row["scene_id"], "modality": "camera", "num_bytes": 9,
         "sha256": row["sample_data_id"] * 2, "sharpness": 40.0 + number % 7, "exposure": 0.5, "flags": []}
        for number, row in enumerate(readings)
    ]  # fmt: skip
    lake.store.append("assets", check(pa.Table.from_pylist(assets, schema=ASSETS), ASSETS))
    schema = embeddings_schema("hashing", "1", DIM)
    lake.store.ensure("embeddings/hashing", schema)
    rng = np.random.default_rng([seed, scenes.start, 7])
    vectors = rng.standard_normal((len(readings), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = ("sample_data_id", "scene_id", "channel", "timestamp_ns")
    columns: dict[str, Any] = {name: [row[name] for row in readings] for name in names}
    columns["embedding_id"] = [make_id("embedding", row["sample_data_id"], 0) for row in readings]
    columns["part"] = pa.array(np.zeros(len(readings), np.int16))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    lake.store.append("embeddings/hashing", check(pa.table(columns), schema))
    lake.index()


def fleet(folder: Path, scenes: int = 20, clips: int = 10, seed: int = 0) -> Lake:
    """A lake of `scenes` scenes of `clips` clips."""
    lake = create(folder / "lake")
    add_scenes(lake, range(scenes), clips, seed)
    return lake
