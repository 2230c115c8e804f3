"""What is in a lake, in numbers; and all that is known of one scene, clip or reading."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from miner.errors import NotFound
from miner.store import Store, one_of

_KINDS = {"clips": "clip", "sample_data": "reading", "scenes": "scene"}
_NAMED = (("clips", "clip_id"), ("sample_data", "sample_data_id"), ("scenes", "scene_id"), ("scenes", "name"))


def describe(store: Store) -> dict[str, Any]:
    """Tables with rows and versions, scenes, hours, readings by channel, clips, encoders, quarantine by reason."""
    tables = store.tables()
    scenes = store.scan("scenes", ["dataset", "start_ns", "end_ns"]) if "scenes" in tables else None
    seconds = pc.sum(pc.subtract(scenes["end_ns"], scenes["start_ns"])).as_py() or 0 if scenes else 0
    return {
        "lake": store.uri,
        "scenes": store.count("scenes"),
        "hours": seconds / 3.6e12,
        "datasets": _counts(scenes, "dataset") if scenes else {},
        "readings": store.count("sample_data"),
        "channels": _counts(store.scan("sample_data", ["channel"]), "channel") if "sample_data" in tables else {},
        "annotations": store.count("annotations"),
        "categories": _counts(store.scan("annotations", ["category"]), "category") if "annotations" in tables else {},
        "clips": store.count("clips"),
        "encoders": [_encoder(store, table) for table in store.vector_tables()],
        "quarantine": _counts(store.scan("quarantine", ["reason"]), "reason") if "quarantine" in tables else {},
        "tables": {table: {"rows": store.count(table), "version": store.version(table)} for table in tables},
    }


def show(store: Store, name: str) -> dict[str, Any]:
    """One scene, clip or reading by id (or a scene by name): its rows and what belongs to it. Raises NotFound."""
    table, row = find(store, name)
    return {"kind": _KINDS[table], **row, **_around(store, table, row)}


def find(store: Store, name: str) -> tuple[str, dict[str, Any]]:
    """The clip, reading or scene of an id (or the scene of a name): its table and row. Raises NotFound."""
    for table, column in _NAMED:
        found = store.scan(table, filter=one_of(column, [name])).to_pylist() if store.exists(table) else []
        if found:
            return table, found[0]
    raise NotFound(
        f"{store.uri} has no scene, clip or reading {name!r}", "Ids come from: miner search LAKE TEXT --json"
    )


def _around(store: Store, table: str, row: dict[str, Any]) -> dict[str, Any]:
    scene = one_of("scene_id", [row["scene_id"]])
    if table == "sample_data":
        mine = one_of("sample_data_id", [row["sample_data_id"]])
        mine += f" OR {one_of('sample_id', [row['sample_id']])}" if row["sample_id"] else ""
        notes = store.scan("annotations", filter=f"{scene} AND ({mine})")
        assets = (
            store.scan("assets", filter=one_of("sample_data_id", [row["sample_data_id"]]))
            if store.exists("assets")
            else None
        )
        return {"annotations": notes.to_pylist(), "asset": assets.to_pylist()[:1] if assets else []}
    start, end = row["start_ns"], row["end_ns"]
    inside = f"{scene} AND timestamp_ns >= {start} AND timestamp_ns < {end}"
    readings = store.scan("sample_data", ["sample_data_id", "channel", "modality", "timestamp_ns", "uri"], inside)
    facts = store.scan("clip_facts", filter=scene).to_pylist() if store.exists("clip_facts") else []
    clips = [fact for fact in facts if table == "scenes" or fact["clip_id"] == row["clip_id"]]
    return {
        "channels": _counts(readings, "channel"),
        "readings": readings.sort_by([("timestamp_ns", "ascending"), ("channel", "ascending")]).to_pylist(),
        "clips": clips,
    }


def _counts(rows: pa.Table, column: str) -> dict[str, int]:
    pairs = pc.value_counts(rows[column]).to_pylist()
    return {pair["values"]: pair["counts"] for pair in sorted(pairs, key=lambda pair: str(pair["values"]))}


def _encoder(store: Store, table: str) -> dict[str, Any]:
    metadata = {key.decode(): value.decode() for key, value in store.schema(table).metadata.items()}
    return {
        "encoder": metadata["encoder"],
        "version": metadata["version"],
        "dim": int(metadata["dim"]),
        "modality": metadata["modality"],
        "views": metadata["views"],
        "readings": store.count(table, "part = 0"),
        "vectors": store.count(table),
    }
