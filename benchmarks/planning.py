"""Claim: what is still to do among 10M readings, 1 % of them without a vector, is planned in < 30 s and < 1 GB.

The rival is the obvious way: read all keys of both tables and take the difference in memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.process_tree import peak_gb
from benchmarks.report import Row, run
from miner.embed import EmbedStage
from miner.ids import make_id
from miner.key_indexes import index_keys
from miner.plan import make_plan, pending
from miner.store import Store

SCENE_READINGS = 500
STEP = 1_000_000
MISSING = 0.01


def _ids(random: np.random.Generator, count: int) -> pa.Array:
    """Random 32-hex ids, made without a Python string each."""
    text = random.bytes(16 * count).hex().encode()
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * 32)
    return pa.StringArray.from_buffers(count, offsets.buffers()[1], pa.py_buffer(text))


def build(uri: str, readings: int) -> None:
    """A lake of `readings` camera readings in scenes of 500, every hundredth at random without vector and asset."""
    store, stage, random = Store.create(uri), EmbedStage(("hashing",), "whole"), np.random.default_rng(0)
    store.ensure("sample_data")
    for output in stage.outputs:
        store.ensure(output.table, output.schema)
    vectors, assets = (output.table for output in stage.outputs)
    dim = stage.loaded[0].dim
    for start in range(0, readings, STEP):
        count = min(STEP, readings - start)
        scene_names = [
            make_id("scene", number) for number in range(start // SCENE_READINGS, -(-(start + count) // SCENE_READINGS))
        ]
        scenes = pa.array(scene_names).take(pa.array(np.arange(count) // SCENE_READINGS))
        ids = _ids(random, count)
        channel, text, zeros = _same("CAM", count), _same("x", count), pa.array(np.zeros(count, np.int64))
        rows = pa.table({"sample_data_id": ids, "scene_id": scenes, "channel": channel, "timestamp_ns": zeros})
        source = rows.append_column("modality", _same("camera", count)).append_column("uri", text)
        source = source.append_column("fileformat", text).append_column(
            "is_key_frame", pa.array(np.ones(count, np.bool_))
        )
        store.append("sample_data", source)
        done = rows.filter(pa.array(random.random(count) >= MISSING))
        unit = pa.FixedSizeListArray.from_arrays(pa.array(np.full(len(done) * dim, dim**-0.5, np.float32)), dim)
        embedded = done.append_column("embedding_id", done["sample_data_id"]).append_column("vector", unit)
        store.append(vectors, embedded.append_column("part", pa.array(np.zeros(len(done), np.int16))))
        facts = done.select(["sample_data_id", "scene_id"]).append_column("sha256", done["sample_data_id"])
        facts = facts.append_column("modality", _same("camera", len(done)))
        flags = pa.array([[]], pa.list_(pa.string())).take(pa.array(np.zeros(len(done), np.int64)))
        store.append(assets, facts.append_column("num_bytes", zeros[: len(done)]).append_column("flags", flags))
    for table in ("sample_data", assets):
        index_keys(store, table)


def planned(uri: str) -> int:
    """Pending units, found as the engine finds them."""
    store = Store.open(uri)
    return sum(len(chunk) for chunk in pending(store, make_plan(store, EmbedStage(("hashing",), "whole"))))


def listed(uri: str) -> int:
    """Pending units, by listing all keys."""
    store = Store.open(uri)
    keys = store.scan("sample_data", ["sample_data_id"], "modality = 'camera'")["sample_data_id"]
    done = store.scan("embeddings/hashing", ["sample_data_id"])["sample_data_id"]
    return int(pc.sum(pc.invert(pc.is_in(keys, done))).as_py())


def _same(value: str, count: int) -> pa.Array:
    return pa.array([value]).take(pa.array(np.zeros(count, np.int64)))


def _measured(way: Callable[[str], int], uri: str, answer: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    before = peak_gb()
    started = time.perf_counter()
    found = way(uri)
    seconds = time.perf_counter() - started
    answer.put((found, seconds, peak_gb() - before))


def in_own_process(way: Callable[[str], int], uri: str) -> tuple[int, float, float]:
    """Result, seconds and peak GB above the start of a fresh process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_measured, args=(way, uri, answer))
    process.start()
    found: tuple[int, float, float] = answer.get()
    process.join()
    return found


def measure(options: argparse.Namespace) -> list[Row]:
    """Both ways, each in a process of its own, three times in turn."""
    readings = 1_000_000 if options.quick else 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        uri = str(Path(folder) / "lake")
        build(uri, readings)
        pairs = [(in_own_process(planned, uri), in_own_process(listed, uri)) for _ in range(3)]
    assert len({found for pair in pairs for found, _, _ in pair}) == 1, "both ways must find the same units"
    rows = []
    for place, metric, unit, limit in ((1, "time", "s", 30.0), (2, "peak memory above start", "GB", 1.0)):
        ours, rival = ([each[side][place] for each in pairs] for side in (0, 1))
        median = float(np.median(ours))
        case = f"{readings // 1_000_000}M readings, 1 % missing"
        holds = None if options.quick else median < limit
        spread = (min(ours), max(ours))
        rows.append(
            Row(case, metric, unit, median, float(np.median(rival)), "list all keys", spread, f"< {limit:g}", holds)
        )
    return rows


if __name__ == "__main__":
    run("planning", measure)
