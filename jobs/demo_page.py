"""The page `miner demo` ends in: one HTML file that needs nothing from outside."""

from __future__ import annotations

import base64
import json
import os
import platform
import shlex
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jobs.demo_cards import Cards
from miner.decode import Recordings
from miner.errors import UsageError
from miner.hits import Hits
from miner.lake import Lake
from miner.moment import moment
from miner.show import colour_of, figure_png

Row = dict[str, Any]

_DOES = {
    "ingest": "reads metadata: scenes, readings, poses, boxes",
    "cut": "cuts drives into clips",
    "embed": "decodes each file once, makes the vectors",
    "index": "facts for filters, indexes for search",
    "rare": "clips to events, and how scarce each is",
}


@dataclass(frozen=True)
class Found:
    """What the demo asked and got: searches by text, one by sweep (its query's reading first), rare clips."""

    searches: Sequence[Hits]
    sweep: Hits | None
    rare: Hits | None


def render(lake: Lake, found: Found, simulated_s: float = 0.0) -> str:
    """The whole page. Times and rates are those of the runs that made the lake, from its lineage.

    `simulated_s` are the seconds it took to make the drives, 0 if they were there.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("jobs"), autoescape=True, undefined=StrictUndefined)
    pages.filters["count"] = lambda number: f"{number:,}"
    contents, steps = lake.describe(), _steps(lake)
    scenes = sorted(lake.store.scan("scenes").to_pylist(), key=lambda row: str(row["name"]))
    with Recordings() as recordings:
        cards = Cards(lake, recordings, {row["scene_id"]: row["description"] or "" for row in scenes})
        pictures = {
            "drives": [cards.drive(row) for row in scenes],
            "searches": [_answer(hits, cards) for hits in found.searches],
            "sweep": _answer(found.sweep, cards) if found.sweep else None,
            "rare": _answer(found.rare, cards) if found.rare else None,
        }
    return pages.get_template("demo.html.j2").render(
        **pictures,
        rarest=_figure(lake, found.rare),
        contents=contents,
        encoder=found.searches[0].encoder,
        objects=_objects(contents["categories"]),
        conditions=_conditions(lake),
        numbers=_numbers(contents, steps, found),
        steps=steps,
        simulated_s=simulated_s,
        machine=f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        commands=_next(shlex.quote(lake.uri), scenes[0]["name"]),
    )


def command(hits: Hits) -> str:
    """The command line that finds the same hits again."""
    query = hits.query
    words = ["miner", query.get("verb", "search"), hits.lake, *query.get("texts", ()), "-k", str(query["k"])]
    words += [word for example in query.get("like", ()) for word in ("--like", example, "--encoder", hits.encoder)]
    words += ["--by", query["by"]] if query.get("by", "event") != "event" else []
    words += ["--where", query["where"]] if query["where"] else []
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word for a POSIX shell; easier to read than `shlex.quote` where single quotes are in it, as in filters."""
    return f'"{word}"' if "'" in word and not set('"$`\\!') & set(word.replace("!=", "")) else shlex.quote(word)


def _answer(hits: Hits, cards: Cards) -> Row:
    """A search as the page shows it: title, filter, time, command, cards."""
    return {
        "text": ", ".join(hits.query.get("texts", ())),
        "where": hits.query["where"] or "",
        "ms": hits.elapsed_ms,
        "command": command(hits),
        "cards": cards.sweeps(hits) if hits.query.get("like") else cards.hits(hits),
    }


def _figure(lake: Lake, rare: Hits | None) -> str:
    """The first of the rare clips as `miner show` draws it; empty where matplotlib is not installed."""
    with suppress(UsageError):
        png = figure_png(moment(lake.store, rare[0].sample_data_id)) if rare else b""
        return f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else ""
    return ""


def _steps(lake: Lake) -> list[Row]:
    """The runs that made the lake, one row per verb: units, rows by table, seconds and units per second."""
    steps: dict[str, Row] = {}
    seen = set()
    for event in lake.store.scan("lineage").sort_by("event_time_ns").to_pylist():
        step = steps.setdefault(event["job"], {"job": event["job"], "units": 0, "rows": Counter(), "seconds": 0.0})
        cost = json.loads(event["cost"])
        if event["run_id"] not in seen:
            step["units"] += cost.get("units", 0)
            step["rows"] += Counter(cost.get("rows", {}))
            step["seconds"] += cost.get("seconds", 0.0)
        seen.add(event["run_id"])
    for step in steps.values():
        step["rate"] = step["units"] / step["seconds"] if step["seconds"] else 0.0
        step["does"] = _DOES.get(step["job"], "")
    return list(steps.values())


def _objects(categories: Mapping[str, int]) -> list[Row]:
    """Boxes by category, the most first, with the colour they are drawn in and their share of the most."""
    boxes = {name: count for name, count in categories.items() if name not in ("weather", "light", "event")}
    most = max(boxes.values(), default=1)
    ranked = sorted(boxes.items(), key=lambda each: -each[1])
    return [
        {"name": name, "count": count, "colour": colour_of(name), "percent": f"{100 * count / most:.1f}"}
        for name, count in ranked
    ]


def _conditions(lake: Lake) -> list[tuple[str, list[tuple[str, int]]]]:
    """Labels with values (`weather: rain`), by kind, with the number of clips that have them."""
    count: Counter[str] = Counter()
    for row in lake.store.scan("clip_facts", ["categories"]).to_pylist():
        count.update(entry["name"] for entry in row["categories"] if ": " in entry["name"])
    kinds: dict[str, list[tuple[str, int]]] = {}
    for name, clips in sorted(count.items(), key=lambda each: (-each[1], each[0])):
        kind, _, value = name.partition(": ")
        kinds.setdefault(kind, []).append((value.replace("_", " "), clips))
    return sorted(kinds.items(), key=lambda each: len(each[1]))


def _numbers(contents: Row, steps: Sequence[Row], found: Found) -> list[tuple[str, str, str]]:
    """The figures on top: number, what it counts, what it means."""
    read = sum(each["readings"] for each in contents["encoders"])
    vectors = sum(each["vectors"] for each in contents["encoders"])
    rate = next((step["rate"] for step in steps if step["job"] == "embed"), 0.0)
    search_ms = statistics.median(hits.elapsed_ms for hits in found.searches)
    seconds = 3600 * contents["hours"]
    return [
        (f"{contents['scenes']:,}", "drives", f"{seconds:.0f} s of recording, {len(contents['channels'])} sensors"),
        (f"{contents['readings']:,}", "frames and sweeps", f"{read:,} embedded, each file read once"),
        (f"{contents['annotations']:,}", "boxes and labels", "for filters; no encoder saw them"),
        (f"{vectors:,}", "vectors", "of whole frames, parts of frames, sweeps"),
        (f"{rate:.1f}", "readings per second", "decoded and embedded on this machine"),
        (f"{search_ms:.0f} ms", "a search", "median of the searches below"),
    ]


def _next(lake: str, scene: str) -> list[tuple[str, str]]:
    """Command lines to go on with, and what each is for."""
    return [
        ("what is in the lake", f"miner ls {lake}"),
        ("ask something else, get a page", f'miner search {lake} "a pedestrian on the road" --html found.html'),
        ("more of what is rare", f"miner rare {lake} -k 10"),
        ("one drive: cameras with boxes, bird's-eye view", f"miner show {lake} {scene} --png scene.png"),
        ("your own recordings", "miner ingest YOUR_RECORDINGS --lake YOUR_LAKE"),
    ]
