"""`miner demo`: simulated drives become a lake, a few searches and a page, to see the whole product in two minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs import ingest
from jobs.run import Listener
from miner.executor import Progress
from miner.hits import Hits, page
from miner.lake import open
from miner.simulation import Spec, record

QUERIES = (
    ("dark street with lights at night", None),
    ("winter", None),
    ("houses and trees", None),
    ("traffic jam", None),
    ("an animal on the road", None),
    ("a truck", "count('weather: rain') > 0"),
    ("road works", "count('event: closed_road') > 0 or count('event: tipped_vehicle') > 0"),
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
    record(spec, folder / "drives", lambda n, of: listener.on_progress(Progress("simulate", n, of, 0)), threads=2)
    job = ingest.IngestConfig(
        source=str(folder / "drives"),
        lake=str(folder / "lake"),
        encoder=(config.encoder,),
        dataset="demo",
        clip_seconds=4.0,
        executor=config.executor,
    )
    result = ingest.run(job, listener)
    lake = open(folder / "lake")
    answers = [lake.search(text, _HITS, where=where) for text, where in QUERIES]
    (folder / "hits.html").write_text(page(answers, "scene-miner demo"), encoding="utf-8")
    scenes = lake.store.scan("scenes", ["scene_id", "description"]).to_pylist()
    descriptions = {scene["scene_id"]: scene["description"] for scene in scenes}
    return {
        "lake": lake.uri,
        "page": str(folder / "hits.html"),
        "seconds": round(time.perf_counter() - started, 1),
        "contents": lake.describe(),
        "changed": result.changed,
        "searches": [_answer(hits, descriptions) for hits in answers],
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
            f'           miner search {lake} "a pedestrian on the road" --html found.html',
            "           miner ingest YOUR_RECORDINGS --lake YOUR_LAKE",
        ]
    )


def _answer(hits: Hits, descriptions: dict[str, str]) -> dict[str, Any]:
    found = [
        {"score": hit.score, "channel": hit.channel, "scene": hit.scene, "is": descriptions.get(hit.scene_id, "")}
        for hit in hits
    ]
    return {"text": hits.query["texts"][0], "where": hits.query["where"], "hits": found}
