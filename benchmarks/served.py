"""A large lake of synthetic vectors, the server of a lake as a process, and clients that keep asking it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from benchmarks.vectors import CLIP, embeddings
from miner.ids import make_id
from miner.lake import Lake, create
from miner.schema import embeddings_schema
from miner.simulation import Spec, record

ENCODER, DIM = "hashing:512", 512
WORDS = "truck night rain cyclist crossing animal snow tunnel bridge queue works bus".split()
_SCENE_CLIPS = 50
_FRAME_NS = 500_000_000
SMALL = Spec(scenes=2, seconds=2.0, width=64, height=36, beams=8, azimuths=90, lidar_hz=1.0, camera_hz=2.0)


def build(folder: Path, vectors: int) -> Lake:
    """A lake of two small real drives and `vectors` frames of one camera, in clips of 10 s and scenes of 50 clips."""
    lake = create(folder / "lake")
    record(SMALL, folder / "drives")
    lake.ingest(folder / "drives", dataset="first")
    lake.cut(CLIP * _FRAME_NS / 1e9)
    lake.embed([ENCODER], "whole")
    recipe = lake.store.scan("clips", ["recipe"])["recipe"][0].as_py()
    made = embeddings(vectors, DIM)
    step = CLIP * _SCENE_CLIPS
    for first in range(0, vectors, 20 * step):
        _append(lake, made[first : first + 20 * step], first // step, recipe)
    lake.index()
    return lake


def _append(lake: Lake, vectors: np.ndarray[Any, np.dtype[np.float32]], scene: int, recipe: str) -> None:
    """Scenes, clips, readings and vectors of some frames, from scene number `scene` on."""
    step = CLIP * _SCENE_CLIPS
    scenes = [make_id("scene", "large", number) for number in range(scene, scene + -(-len(vectors) // step))]
    ids = [make_id("sample_data", "large", scene * step + number) for number in range(len(vectors))]
    times = (np.arange(len(vectors)) % step) * _FRAME_NS
    of_scene = pa.array(scenes).take(pa.array(np.arange(len(vectors)) // step))
    same = {"is_key_frame": True, "modality": "camera", "fileformat": "jpg", "uri": "none.jpg", "channel": "CAM"}
    repeated = {name: pa.array([value]).take(pa.array(np.zeros(len(ids), int))) for name, value in same.items()}
    reading = {"sample_data_id": pa.array(ids), "scene_id": of_scene, "timestamp_ns": pa.array(times)}
    lake.store.append("scenes", pa.Table.from_pylist([
        {"scene_id": name, "dataset": "large", "log_id": "l", "name": f"large {name[:8]}", "start_ns": 0,
         "end_ns": step * _FRAME_NS} for name in scenes
    ]))  # fmt: skip
    lake.store.append("clips", pa.Table.from_pylist([
        {"clip_id": make_id("clip", name, start), "scene_id": name, "recipe": recipe,
         "start_ns": start * CLIP * _FRAME_NS, "end_ns": (start + 1) * CLIP * _FRAME_NS}
        for name in scenes for start in range(_SCENE_CLIPS)
    ]))  # fmt: skip
    lake.store.append("sample_data", pa.table({**reading, **repeated}))
    rows = {**reading, "channel": repeated["channel"], "embedding_id": pa.array([make_id("e", name) for name in ids])}
    unit = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    part = pa.array(np.zeros(len(ids), np.int16))
    said = {"sha256": reading["sample_data_id"], "modality": repeated["modality"], "num_bytes": pa.array(times)}
    said |= {"flags": pa.array([[]], pa.list_(pa.string())).take(pa.array(np.zeros(len(ids), int)))}
    named = {name: reading[name] for name in ("sample_data_id", "scene_id")}
    lake.store.append("assets", pa.table({**named, **said}))
    table, schema = f"embeddings/{ENCODER.replace(':', '-')}", embeddings_schema(ENCODER, "1", DIM, "whole", "camera")
    lake.store.ensure(table, schema)
    lake.store.append(table, pa.table({**rows, "part": part, "vector": unit}))


@dataclass(frozen=True)
class Served:
    """A server at work: its address, its process, the environment in which commands find it."""

    url: str
    process: subprocess.Popen[str]
    environment: dict[str, str]

    @property
    def rss_mb(self) -> float:
        """Resident memory of the server."""
        [line] = [each for each in Path(f"/proc/{self.process.pid}/status").read_text().splitlines() if "VmRSS" in each]
        return int(line.split()[1]) / 1e3


@contextmanager
def served(lake: str) -> Iterator[Served]:
    """`miner serve` of a lake, as a process."""
    with tempfile.TemporaryDirectory(prefix="m-") as runtime:
        environment = {**os.environ, "XDG_RUNTIME_DIR": runtime}
        command = [sys.executable, "-m", "jobs.cli", "serve", lake, "--port", "0", "--rate", "100000"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert process.stderr is not None
        try:
            line = ""
            while not line.startswith("serving"):
                line = process.stderr.readline()
                assert line or process.poll() is None, "the server ended"
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield Served(line.split()[3], process, environment)
        finally:
            process.terminate()
            process.wait(30)


class Asking:
    """One client that keeps its connection."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=120)

    def __call__(self, query: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and document of an answer."""
        self._connection.request("POST", "/search", json.dumps(query), {"content-type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())


@dataclass
class Crowd:
    """Clients that ask at the same time, each again and again, until told to stop; what they got."""

    url: str
    queries: Sequence[dict[str, Any]]
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    answers: list[tuple[int, int, tuple[str, ...], tuple[float, ...]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, clients: int, for_s: float) -> None:
        """Ask for some seconds."""
        threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        self.over.wait(for_s)
        self.over.set()
        for thread in threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        asking, rng = Asking(self.url), np.random.default_rng(seed)
        while not self.over.is_set():
            which = int(rng.integers(len(self.queries)))
            started = time.perf_counter()
            try:
                status, document = asking(self.queries[which])
            except OSError as error:
                self.failures.append(str(error))
                return
            self.seconds.append(time.perf_counter() - started)
            if status != 200:
                self.failures.append(str(document))
                continue
            ids = tuple(hit["sample_data_id"] for hit in document["hits"])
            scores = tuple(hit["score"] for hit in document["hits"])
            self.answers.append((document["table_version"], which, ids, scores))
