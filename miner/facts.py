"""What is in each clip, for filters: scene columns, numbers of frames and sweeps, objects per category."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Ints, Spans, instants, overlaps
from miner.schema import CLIP_FACTS, check

READS = {
    "scenes": ["scene_id", "dataset", "log_id", "name", "location", "vehicle", "split", "license", "description"],
    "sample_data": ["sample_data_id", "scene_id", "sample_id", "modality", "timestamp_ns"],
    "annotations": [
        *("scene_id", "sample_id", "sample_data_id", "track_id", "category", "timestamp_ns", "attributes"),
        *("ego_SE3_object", "size_lwh", "bbox_xyxy"),
    ],
    "clips": ["clip_id", "scene_id", "start_ns", "end_ns"],
}


def clip_facts(scenes: pa.Table, sample_data: pa.Table, annotations: pa.Table, clips: pa.Table) -> pa.Table:
    """One row of `schema.CLIP_FACTS` per clip whose scene is there, in the order of `clips`. Reads the columns READS.

    A reading is in a clip if its time is; cameras count as frames, LiDAR and radar as sweeps. Boxes count each track
    once per category and clip, and each box without a track. A label without a box (category `weather`, value `rain`)
    counts once per clip, as `weather: rain`; if its attributes have `start_ns` and `end_ns` it holds for that span.
    An annotation without a time has that of its reading, else of its sample, else it holds for the whole scene.
    """
    clips = clips.filter(pc.is_in(clips["scene_id"], scenes["scene_id"].combine_chunks()))
    names = pa.concat_arrays([table["scene_id"].combine_chunks() for table in (clips, sample_data, annotations)])
    codes = names.dictionary_encode().indices.to_numpy().astype(np.int64)
    clip_codes, reading_codes, note_codes = np.split(codes, np.cumsum([len(clips), len(sample_data)]))
    windows = Spans(_ints(clips["start_ns"]), _ints(clips["end_ns"]), clip_codes)
    frames, sweeps = _readings(sample_data, reading_codes, windows)
    described = scenes.select(READS["scenes"]).rename_columns({"name": "scene"})
    rows = described.take(pc.index_in(clips["scene_id"], described["scene_id"].combine_chunks()))
    for name in ("clip_id", "start_ns", "end_ns"):
        rows = rows.append_column(name, clips[name])
    rows = rows.append_column("num_frames", pa.array(frames, pa.int32()))
    rows = rows.append_column("num_sweeps", pa.array(sweeps, pa.int32()))
    rows = rows.append_column(
        "categories", _categories(annotations, annotation_spans(annotations, note_codes, sample_data), windows)
    )
    return check(rows.select(CLIP_FACTS.names), CLIP_FACTS)


def _readings(sample_data: pa.Table, codes: Ints, windows: Spans) -> tuple[Ints, Ints]:
    """How many camera frames and other sweeps fall in each window."""
    reading, clip = overlaps(instants(_ints(sample_data["timestamp_ns"]), codes), windows)
    camera = pc.equal(sample_data["modality"], "camera").to_numpy()[reading].astype(np.bool_)
    count = len(windows.starts)
    return np.bincount(clip[camera], minlength=count), np.bincount(clip[~camera], minlength=count)


def annotation_spans(annotations: pa.Table, codes: Ints, sample_data: pa.Table) -> Spans:
    """When each annotation holds, and the number of its scene (`codes`): as `clip_facts` says."""
    by_sample = sample_data.group_by("sample_id").aggregate([("timestamp_ns", "min")])
    times = pc.coalesce(
        annotations["timestamp_ns"],
        _looked_up(annotations["sample_data_id"], sample_data["sample_data_id"], sample_data["timestamp_ns"]),
        _looked_up(annotations["sample_id"], by_sample["sample_id"], by_sample["timestamp_ns_min"]),
    )
    always = np.iinfo(np.int64)
    timed = pc.is_valid(times).to_numpy()
    starts = np.where(timed, _ints(pc.fill_null(times, 0)), always.min)
    ends = np.where(timed, starts + 1, always.max)
    rows, firsts, lasts = _stated(annotations)
    starts[rows], ends[rows] = firsts, lasts
    return Spans(starts, ends, codes)


def _stated(annotations: pa.Table) -> tuple[Ints, Ints, Ints]:
    """Labels whose attributes state their span: rows, starts and ends."""
    rows = np.flatnonzero(~_boxed(annotations) & pc.match_substring(annotations["attributes"], '"start_ns"').to_numpy())
    texts = annotations["attributes"].take(rows).to_pylist()
    found = [(row, _attributes(text)) for row, text in zip(rows, texts, strict=True)]
    spans = [(row, each["start_ns"], each["end_ns"]) for row, each in found if _is_span(each)]
    row, start, end = np.array(spans, np.int64).reshape(-1, 3).T
    return row, start, end


def _is_span(attributes: dict[str, Any]) -> bool:
    start, end = attributes.get("start_ns"), attributes.get("end_ns")
    return isinstance(start, int) and isinstance(end, int) and -(2**63) <= start < end < 2**63


def _categories(annotations: pa.Table, spans: Spans, windows: Spans) -> pa.Array:
    """Per window a list of (name, count), by name."""
    note, clip = overlaps(spans, windows)
    counted = pa.table({"clip": clip, "name": _names(annotations).take(note), "object": _objects(annotations)[note]})
    distinct = counted.group_by(["clip", "name", "object"]).aggregate([])
    counts = (
        distinct.group_by(["clip", "name"])
        .aggregate([([], "count_all")])
        .sort_by([("clip", "ascending"), ("name", "ascending")])
    )
    offsets = np.searchsorted(counts["clip"].to_numpy(), np.arange(len(windows.starts) + 1))
    fields = CLIP_FACTS.field("categories").type.value_type
    entries = [counts["name"].combine_chunks().cast(pa.string()), counts["count_all"].combine_chunks().cast(pa.int32())]
    structs = pa.StructArray.from_arrays(entries, fields=list(fields))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs)


def _objects(annotations: pa.Table) -> Ints:
    """A number per object, to be counted: one per track, one per box without a track, one for all labels."""
    tracks = annotations["track_id"].combine_chunks().dictionary_encode()
    number = pc.fill_null(tracks.indices, -1).to_numpy().astype(np.int64)
    alone = len(tracks.dictionary) + np.arange(len(number))
    return np.where(_boxed(annotations), np.where(number < 0, alone, number), -1)


def _names(annotations: pa.Table) -> pa.ChunkedArray:
    """The category; of labels without a box with the value: `weather: rain`."""
    encoded = annotations["attributes"].combine_chunks().dictionary_encode()
    values = pa.array([_value(text) for text in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)
    labels = pc.coalesce(pc.binary_join_element_wise(annotations["category"], values, ": "), annotations["category"])
    return pc.if_else(pa.array(_boxed(annotations)), annotations["category"], labels)


def _value(attributes: str) -> str | None:
    value = _attributes(attributes).get("value")
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _attributes(text: str) -> dict[str, Any]:
    """The JSON object of an annotation; what is no JSON object has no attributes."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _boxed(annotations: pa.Table) -> NDArray[np.bool_]:
    valid = [pc.is_valid(annotations[name]).to_numpy() for name in ("ego_SE3_object", "size_lwh", "bbox_xyxy")]
    boxed: NDArray[np.bool_] = np.logical_or.reduce(valid).astype(np.bool_)
    return boxed


def _looked_up(keys: pa.ChunkedArray, known: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The value of each key; null for a key that is null or not known."""
    return values.take(pc.index_in(keys, known.combine_chunks(), skip_nulls=True))


def _ints(column: pa.ChunkedArray) -> Ints:
    array: Ints = column.to_numpy().astype(np.int64, copy=False)
    return array
