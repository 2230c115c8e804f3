"""`miner demo`: simulated drives become a lake, a few searches and a page, to see the whole product in two minutes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs import ingest
from jobs.run import Listener
from miner.executor import Progress
from miner.hits import Hits, page
from miner.lake import open
from miner.simulation import Spec, record_scene, scene_names, write_spec

QUERIES = (
    ("a street at night", None),
    ("dense fog", None),
    ("snow on the road", None),
    ("a truck", None),
    ("an overturned car", None),
    ("road closed by barriers", None),
    ("a car in front", "count('weather: rain') > 0"),
)
_HITS = 4


class DemoConfig(BaseModel):
    """How much to simulate, and where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    scenes: int = Field(12, ge=1, le=1000)
    seed: int = Field(0, ge=0)
    encoder: str = "lite"
    executor: Literal["ray", "local"] = "ray"


def run(config: DemoConfig, listener: Listener) -> dict[str, Any]:
    """Simulate, ingest, search; the same call again only searches."""
    started = time.perf_counter()
    folder = config.folder.absolute()
    spec = Spec(scenes=config.scenes, seed=config.seed, camera_hz=1.0, lidar_hz=1.0, rare_rate=0.4)
    listener.notify(f"simulating {spec.scenes} drives into {folder / 'drives'}")
    _simulate(spec, folder / "drives", listener)
    settings = {"source": str(folder / "drives"), "lake": str(folder / "lake"), "executor": config.executor}
    result = ingest.run(ingest.IngestConfig(**settings, encoder=(config.encoder,), dataset="demo"), listener)
    lake = open(folder / "lake")
    answers = [lake.search(text, _HITS, where=where) for text, where in QUERIES]
    (folder / "hits.html").write_text(page(answers, "scene-miner demo"), encoding="utf-8")
    return {
        "lake": lake.uri,
        "page": str(folder / "hits.html"),
        "seconds": round(time.perf_counter() - started, 1),
        "contents": lake.describe(),
        "changed": result.changed,
        "searches": [_answer(lake.describe_scenes(), hits) for hits in answers],
    }


def text(document: dict[str, Any]) -> str:
    """The searches with what the simulator says of each hit, and what to do next."""
    lines = []
    for search in document["searches"]:
        where = f"   [where {search['where']}]" if search["where"] else ""
        lines += [f'"{search["text"]}"{where}']
        lines += [f"  {hit['score']:.3f}  {hit['channel']:<16} {hit['scene']}  {hit['is']}" for hit in search["hits"]]
    found, lake = document["contents"], document["lake"]
    return "\n".join(
        [
            *lines,
            "",
            f"{found['scenes']} drives, {found['readings']:,} readings, {found['clips']} clips, "
            f"{found['annotations']:,} boxes and labels in {document['seconds']:.0f} s",
            f"Pictures:  {document['page']}",
            f"Next:      miner ls {lake}",
            f"           miner search {lake} \"a pedestrian on the road\" --where \"split is null\" --html found.html",
            "           miner ingest YOUR_RECORDINGS --lake YOUR_LAKE",
        ]
    )


def _simulate(spec: Spec, folder: Path, listener: Listener) -> None:
    """Record all scenes, two at a time: the renderer releases the interpreter lock."""
    write_spec(spec, folder)
    names = list(scene_names(spec))
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda name: record_scene(spec, name, folder), names)
        for number, _ in enumerate(done, 1):
            listener.on_progress(Progress("simulate", number, len(names), 0))


def _answer(descriptions: dict[str, str], hits: Hits) -> dict[str, Any]:
    found = [
        {"score": hit.score, "channel": hit.channel, "scene": hit.scene, "is": descriptions.get(hit.scene_id, "")}
        for hit in hits
    ]
    return {"text": hits.query["texts"][0], "where": hits.query["where"], "hits": found}
