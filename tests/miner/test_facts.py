"""Facts of clips against a plain loop over readings and annotations."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.facts import clip_facts
from miner.schema import ANNOTATIONS, CLIP_FACTS, CLIPS, SAMPLE_DATA, SCENES, check

POSE = {"translation": [0.0] * 3, "rotation_wxyz": [1.0, 0.0, 0.0, 0.0]}


def scene_row(scene_id: str) -> dict[str, Any]:
    names = {"scene_id": scene_id, "dataset": "d", "log_id": "l", "name": f"name {scene_id}"}
    return names | {"start_ns": 0, "end_ns": 100, "location": "boston"}


def reading_row(number: int, scene_id: str, timestamp_ns: int, **other: Any) -> dict[str, Any]:
    row = {"sample_data_id": f"r{number}", "scene_id": scene_id, "channel": "CAM", "modality": "camera"}
    return row | {"timestamp_ns": timestamp_ns, "is_key_frame": True, "uri": "x.jpg", "fileformat": "jpg"} | other


def note_row(number: int, scene_id: str, category: str, **other: Any) -> dict[str, Any]:
    row = {"annotation_id": f"a{number}", "scene_id": scene_id, "category": category, "attributes": "{}"}
    return row | {"source": "test", "version": "1"} | other


def clip_row(number: int, scene_id: str, start_ns: int, end_ns: int) -> dict[str, Any]:
    return {"clip_id": f"c{number}", "scene_id": scene_id, "start_ns": start_ns, "end_ns": end_ns, "recipe": "r"}


def table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return check(pa.Table.from_pylist(rows, schema), schema)


def facts(scenes: list[Any], readings: list[Any], notes: list[Any], clips: list[Any]) -> list[dict[str, Any]]:
    found = clip_facts(
        table(scenes, SCENES), table(readings, SAMPLE_DATA), table(notes, ANNOTATIONS), table(clips, CLIPS)
    )
    assert found.schema.equals(CLIP_FACTS)
    return [
        row | {"categories": {each["name"]: each["count"] for each in row["categories"]}} for row in found.to_pylist()
    ]


def test_counts_readings_tracks_boxes_and_labels() -> None:
    readings = [
        reading_row(0, "s", 0, sample_id="sample-0"),
        reading_row(1, "s", 9),
        reading_row(2, "s", 9, modality="lidar"),
        reading_row(3, "s", 10, modality="radar", sample_id="sample-1"),
        reading_row(4, "other", 5),
    ]
    box: dict[str, Any] = {"ego_SE3_object": POSE, "size_lwh": [1.0, 1.0, 1.0]}
    notes = [
        note_row(0, "s", "car", track_id="t0", timestamp_ns=0, **box),
        note_row(1, "s", "car", track_id="t0", timestamp_ns=9, **box),
        note_row(2, "s", "car", track_id="t0", timestamp_ns=10, **box),
        note_row(3, "s", "car", track_id="t1", sample_id="sample-0", **box),
        note_row(4, "s", "car", sample_data_id="r1", bbox_xyxy=[0.0, 0.0, 1.0, 1.0]),
        note_row(5, "s", "car", sample_data_id="r1", bbox_xyxy=[0.0, 0.0, 1.0, 1.0]),
        note_row(6, "s", "weather", timestamp_ns=1, attributes='{"value": "rain"}'),
        note_row(7, "s", "weather", timestamp_ns=2, attributes='{"value": "rain"}'),
        note_row(8, "s", "light", attributes='{"value": "night"}'),
        note_row(9, "s", "event", timestamp_ns=3, attributes='{"value": "tyre", "start_ns": 3, "end_ns": 11}'),
        note_row(10, "s", "odd", timestamp_ns=3, attributes='{"value": 3}'),
        note_row(11, "s", "bad", timestamp_ns=3, attributes="no json"),
        note_row(12, "s", "late", timestamp_ns=99),
    ]
    clips = [clip_row(0, "s", 0, 10), clip_row(1, "s", 10, 20), clip_row(2, "other", 0, 10), clip_row(3, "gone", 0, 10)]
    first, second, third = facts([scene_row("other"), scene_row("s")], readings, notes, clips)
    assert (first["num_frames"], first["num_sweeps"], first["scene"], first["location"]) == (2, 1, "name s", "boston")
    expected = {"car": 4, "weather: rain": 1, "light: night": 1, "event: tyre": 1, "odd: 3": 1, "bad": 1}
    assert first["categories"] == expected
    assert (second["num_frames"], second["num_sweeps"]) == (0, 1)
    assert second["categories"] == {"car": 1, "light: night": 1, "event: tyre": 1}
    assert (third["clip_id"], third["num_frames"], third["categories"]) == ("c2", 1, {})


@pytest.mark.parametrize("empty", ["scenes", "readings", "notes", "clips"])
def test_empty_tables(empty: str) -> None:
    rows: dict[str, list[Any]] = {
        "scenes": [scene_row("s")],
        "readings": [reading_row(0, "s", 1)],
        "notes": [note_row(0, "s", "weather", attributes='{"value": "fog"}')],
        "clips": [clip_row(0, "s", 0, 10)],
    }
    found = facts(**rows | {empty: []})
    assert len(found) == (0 if empty in ("scenes", "clips") else 1)
    if found:
        assert found[0]["num_frames"] == (empty != "readings")
        assert found[0]["categories"] == ({} if empty == "notes" else {"weather: fog": 1})


def oracle(readings: list[Any], notes: list[Any], clips: list[Any]) -> list[tuple[int, dict[str, int]]]:
    times = {row["sample_data_id"]: row["timestamp_ns"] for row in readings}
    result = []
    for clip in clips:
        objects: dict[str, set[Any]] = defaultdict(set)
        for note in notes:
            at = note.get("timestamp_ns", times.get(note.get("sample_data_id")))
            if note["scene_id"] != clip["scene_id"] or (at is not None and not clip["start_ns"] <= at < clip["end_ns"]):
                continue
            if "bbox_xyxy" in note:
                objects[note["category"]].add(note.get("track_id", note["annotation_id"]))
            else:
                objects[f"{note['category']}: {json.loads(note['attributes'])['value']}"].add("label")
        inside = [r for r in readings if r["scene_id"] == clip["scene_id"]]
        frames = sum(clip["start_ns"] <= r["timestamp_ns"] < clip["end_ns"] for r in inside)
        result.append((frames, {name: len(each) for name, each in objects.items()}))
    return result


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_the_oracle(data: st.DataObject) -> None:
    scene_ids, ids = st.sampled_from(["a", "b"]), iter(range(1000))
    times = st.integers(0, 30)
    readings = [reading_row(next(ids), *each) for each in data.draw(st.lists(st.tuples(scene_ids, times), max_size=10))]
    notes = []
    for scene_id, category in data.draw(st.lists(st.tuples(scene_ids, st.sampled_from(["car", "bus"])), max_size=15)):
        other: dict[str, Any] = {"attributes": json.dumps({"value": data.draw(st.sampled_from(["x", "y"]))})}
        if data.draw(st.booleans()):
            other["bbox_xyxy"] = [0.0, 0.0, 1.0, 1.0]
        if data.draw(st.booleans()):
            other["timestamp_ns"] = data.draw(times)
        elif readings and data.draw(st.booleans()):
            other["sample_data_id"] = data.draw(st.sampled_from(readings))["sample_data_id"]
        if data.draw(st.booleans()):
            other["track_id"] = data.draw(st.sampled_from(["t0", "t1"]))
        notes.append(note_row(next(ids), scene_id, category, **other))
    spans = data.draw(st.lists(st.tuples(scene_ids, times, st.integers(1, 20)), max_size=5))
    clips = [clip_row(next(ids), scene_id, start, start + length) for scene_id, start, length in spans]
    found = facts([scene_row("a"), scene_row("b")], readings, notes, clips)
    assert [(row["num_frames"], row["categories"]) for row in found] == oracle(readings, notes, clips)


def test_a_million_annotations_take_seconds() -> None:
    count, rng = 1_000_000, np.random.default_rng(0)
    scene_ids = [f"s{i}" for i in range(1000)]
    notes = pa.table(
        {
            "scene_id": pa.array(scene_ids).take(rng.integers(0, 1000, count)),
            "sample_id": pa.nulls(count, pa.string()),
            "sample_data_id": pa.nulls(count, pa.string()),
            "track_id": pa.array([f"t{i}" for i in range(50_000)]).take(rng.integers(0, 50_000, count)),
            "category": pa.array(["car", "bus", "bike"]).take(rng.integers(0, 3, count)),
            "timestamp_ns": rng.integers(0, 100, count),
            "attributes": pa.array(["{}"]).take(np.zeros(count, np.int64)),
            "ego_SE3_object": pa.nulls(count, pa.string()),
            "size_lwh": pa.nulls(count, pa.string()),
            "bbox_xyxy": pa.array([0.0]).take(np.zeros(count, np.int64)),
        }
    )
    scenes = table([scene_row(each) for each in scene_ids], SCENES)
    clips = table([clip_row(i, f"s{i // 5}", i % 5 * 20, i % 5 * 20 + 20) for i in range(5000)], CLIPS)
    start = time.process_time()
    found = clip_facts(scenes, table([], SAMPLE_DATA), notes, clips)
    assert time.process_time() - start < 20
    expected = len(
        set(
            zip(
                *(notes[name].to_pylist() for name in ("scene_id", "category", "track_id")),
                (notes["timestamp_ns"].to_numpy() // 20).tolist(),
                strict=True,
            )
        )
    )
    assert sum(each["count"] for row in found["categories"].to_pylist() for each in row) == expected
