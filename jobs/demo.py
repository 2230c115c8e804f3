"""`miner demo`: simulated drives become a lake, a few searches and a page, to see the whole product in two minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs import ingest
from jobs.demo_page import Found, render
from jobs.run import Listener
from miner.hits import Hit, Hits
from miner.lake import Lake, open
from miner.reporting import Progress
from miner.simulation import Spec, record
from miner.store import one_of

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
SWEEP_ENCODER = "descriptor"


class DemoConfig(BaseModel):
    """How much to simulate, and where: `scenes` drives of `seconds` each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    scenes: int = Field(12, ge=1, le=1000)
    seconds: float = Field(8.0, ge=1.0, le=3600.0)
    seed: int = Field(0, ge=0)
    encoder: str = "lite"
    executor: Literal["ray", "local"] = "ray"


def run(config: DemoConfig, listener: Listener) -> dict[str, Any]:
    """Simulate, ingest, search; the same call again only searches."""
    started = time.perf_counter()
    folder = config.folder.absolute()
    simulated_s = _simulate(config, folder / "drives", listener)
    job = ingest.IngestConfig(
        source=str(folder / "drives"),
        lake=str(folder / "lake"),
        encoder=(config.encoder, SWEEP_ENCODER),
        dataset="demo",
        clip_seconds=4.0,
        executor=config.executor,
    )
    result = ingest.run(job, listener)
    lake = open(folder / "lake")
    found = Found([lake.search(text, _HITS, where=where) for text, where in QUERIES], _alike(lake), _rare(lake))
    page = folder / "demo.html"
    page.write_text(render(lake, found, simulated_s), encoding="utf-8")
    scenes = lake.store.scan("scenes", ["scene_id", "description"]).to_pylist()
    descriptions = {scene["scene_id"]: scene["description"] for scene in scenes}
    return {
        "lake": lake.uri,
        "page": str(page),
        "seconds": round(time.perf_counter() - started, 1),
        "contents": lake.describe(),
        "changed": result.changed,
        "searches": [_answer(hits, descriptions) for hits in found.searches],
        "rare": [_told(hit, descriptions) for hit in found.rare or ()],
    }


def _simulate(config: DemoConfig, folder: Path, listener: Listener) -> float:
    """Record the drives; the seconds it took, 0 if they were there."""
    started = time.perf_counter()
    spec = Spec(config.scenes, config.seconds, camera_hz=1.0, lidar_hz=1.0, seed=config.seed, rare_rate=0.4)
    listener.notify(f"simulating {spec.scenes} drives into {folder}")
    files = record(spec, folder, lambda n, of: listener.on_progress(Progress("simulate", n, of, 0)), threads=2)
    return time.perf_counter() - started if files else 0.0


def _alike(lake: Lake) -> Hits | None:
    """Sweeps of other drives that look like the middle one of the first drive; None for a single drive."""
    [scene, *others] = lake.store.scan("scenes", ["scene_id", "name"]).sort_by("name").to_pylist()
    sweeps = lake.store.scan("sample_data", ["sample_data_id", "timestamp_ns"], _of_lidar(scene["scene_id"]))
    if not others or not len(sweeps):
        return None
    ids = sweeps.sort_by("timestamp_ns")["sample_data_id"].to_pylist()
    return lake.search(like=ids[len(ids) // 2], k=_HITS, where=f"scene != '{scene['name']}'", encoder=SWEEP_ENCODER)


def _of_lidar(scene_id: str) -> str:
    return f"{one_of('scene_id', [scene_id])} AND modality = 'lidar'"


def _rare(lake: Lake) -> Hits | None:
    """The rarest clips; None for a single drive."""
    return lake.rare(_HITS) if lake.store.count("scenes") > 1 else None


def text(document: dict[str, Any]) -> str:
    """The searches with what the simulator says of each hit, and what to do next."""
    lines = []
    for search in document["searches"]:
        where = f"   [where {search['where']}]" if search["where"] else ""
        lines += [f'"{search["text"]}"{where}']
        lines += [f"  {hit['score']:.3f}  {hit['channel']:<16} {hit['scene']}  {hit['is']}" for hit in search["hits"]]
    lines += ["", "rare:"] if document["rare"] else []
    lines += [f"  {hit['scene']}  {hit['is']}  ({hit['why']})" for hit in document["rare"]]
    found, lake = document["contents"], document["lake"]
    return "\n".join(
        [
            *lines,
            "",
            f"{found['scenes']} drives, {found['readings']:,} readings, {found['clips']} clips, "
            f"{found['annotations']:,} boxes and labels in {document['seconds']:.0f} s",
            f"Pictures:  {document['page']}",
            f"Next:      miner ls {lake}",
            f"           miner rare {lake} -k 10",
            f'           miner search {lake} "a pedestrian on the road" --html found.html',
            "           miner ingest YOUR_RECORDINGS --lake YOUR_LAKE",
        ]
    )


def _answer(hits: Hits, descriptions: dict[str, str]) -> dict[str, Any]:
    found = [_told(hit, descriptions) for hit in hits]
    return {"text": hits.query["texts"][0], "where": hits.query["where"], "hits": found}


def _told(hit: Hit, descriptions: dict[str, str]) -> dict[str, Any]:
    told = {"score": hit.score, "channel": hit.channel, "scene": hit.scene, "is": descriptions.get(hit.scene_id, "")}
    return told | ({"why": hit.why} if hit.why else {})
