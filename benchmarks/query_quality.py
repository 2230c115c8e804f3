"""What queries find among judged real frames: every kind of query, sums of several, X but not Y, sweeps of a drive.

Asked through `miner.search` of a lake of the frames (`benchmarks.judged_lake`), none of it labelled. A query's rival is
what it has to beat: chance for one text; the better single part for a sum; the sentence "X but not Y" for a logical
query, and X less half of Y as vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.judged_lake import Item, camera_views, judged_lake, kept, lidar_views, load_judged
from benchmarks.ranking import METRICS, average_precision, by_chance, precision_at, recall_at, relevance
from benchmarks.report import Row, portable, run
from benchmarks.search_quality import Query as Judged
from benchmarks.search_quality import by_kind, load_queries, tag_queries
from embeddings.encoder import Encoder, TextEncoder, load_encoder
from miner.concepts.vocabulary import load_vocabulary
from miner.corpus import Corpus, choose_table
from miner.errors import UsageError
from miner.lake import Lake
from miner.query.sources import Sources
from miner.search import Query, search
from miner.store import Store

LIDAR_ENCODER = "descriptor"
FEWEST = 3  # clips with X and Y, and with X and not Y
OF_TAG = {"truck": "large_truck"}
Ranking = list[str]


def options(parser: argparse.ArgumentParser) -> None:
    example = "e.g. lite lite:linear openclip:local-dir:FOLDER"
    parser.add_argument("--encoders", nargs="+", default=["lite"], help=example)
    parser.add_argument("--keep", type=Path, help="folder to keep vectors in for the next run")


def measure(chosen: argparse.Namespace) -> list[Row]:
    """All rows, an encoder after the other."""
    if "MINER_TEST_DATA" not in os.environ:
        raise UsageError("MINER_TEST_DATA is not set", "Point it to a folder with queries.json and ground_truth.jsonl.")
    root = Path(os.environ["MINER_TEST_DATA"])
    items = load_judged(root)
    if chosen.quick:
        items = [item for item in items if item.lidar or item.tags & {"night", "construction", "traffic_cone"}]
    lidar = load_encoder(LIDAR_ENCODER)
    sweeps = kept(chosen.keep, lidar, items, lidar_views)
    rows: list[Row] = []
    for name in chosen.encoders:
        print(f"{portable(name)}: {len(items)} items", file=sys.stderr)
        camera = load_encoder(name)
        with tempfile.TemporaryDirectory() as folder:
            views = kept(chosen.keep, camera, items, camera_views)
            store = judged_lake(Path(folder), items, [(camera, views), (lidar, sweeps)])
            Lake(store).fit_concepts(encoder=name)
            asker = Asker.of(store, {"camera": Remembering(camera), "lidar": lidar})
            rows += text_rows(portable(name), asker, items, root)
            rows += example_rows(portable(name), asker, items, root)
            rows += sensor_rows(portable(name), asker, items)
            rows += logic_rows(portable(name), asker, items)
            drives = drive_rows(asker, items)
    return rows + drives


class Remembering:
    """An encoder that embeds each text once."""

    def __init__(self, encoder: Encoder) -> None:
        self.name, self.version, self.dim, self.input = encoder.name, encoder.version, encoder.dim, encoder.input
        self._encoder, self._known = encoder, dict[str, NDArray[np.float32]]()

    def encode(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """As the encoder."""
        return self._encoder.encode(batch)

    def encode_text(self, texts: list[str]) -> NDArray[np.float32]:
        """As the encoder."""
        assert isinstance(self._encoder, TextEncoder)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(new, self._encoder.encode_text(new), strict=True)) if new else {}
        return np.stack([self._known[text] for text in texts])


@dataclass(frozen=True)
class Asker:
    """Asks one lake many queries."""

    store: Store
    sources: Sources

    @classmethod
    def of(cls, store: Store, encoders: dict[str, Encoder]) -> Asker:
        return cls(
            store,
            Sources(
                store,
                lambda sensor: Corpus.of(store, choose_table(store, None, sensor)),
                lambda index: encoders[index.modality],
            ),
        )

    def ranking(self, query: str) -> Ranking:
        """The ids of all items that a query ranks, best first."""
        return [str(hit.clip_id) for hit in search(self.store, Query(query=query, k=1000), sources=self.sources)]


# -- one text ----------------------------------------------------------------------------------------------------------


def text_rows(name: str, asker: Asker, items: list[Item], root: Path) -> Iterator[Row]:
    """Every metric of every kind of query, beside a random order."""
    queries = _queries(items, root)
    seen = frozenset(item.id for item in items if item.cameras)
    found = [relevance(asker.ranking(json.dumps(each.text)), each.relevant, each.ignore) for each in queries]
    for kind, chosen in by_kind(queries).items():
        for metric, of in METRICS.items():
            ours = [of(found[i]) for i in chosen]
            chance = [by_chance(of, len(seen - queries[i].ignore), len(seen & queries[i].relevant)) for i in chosen]
            mean, rival = float(np.mean(ours)), float(np.mean(chance))
            target = "above chance" if kind == "all" else None
            holds = mean > rival if target else None
            spread = (min(ours), max(ours))
            yield Row(f"{name}, text, {kind}", metric, "1", mean, rival, "random order", spread, target, holds)


def _queries(items: list[Item], root: Path) -> list[Judged]:
    tags = {item.id: sorted(item.tags) for item in items if item.cameras}
    found = [*load_queries(root), *tag_queries(tags)]
    return [each for each in found if each.relevant & tags.keys()]


# -- sums --------------------------------------------------------------------------------------------------------------


def example_rows(name: str, asker: Asker, items: list[Item], root: Path) -> Iterator[Row]:
    """A text and one of the frames it means, to find the others: mAP over all such examples."""
    seen = {item.id for item in items if item.cameras}
    asked = [each for each in _queries(items, root) if each.kind != "tag" and len(each.relevant & seen) > 1]
    parts: dict[str, list[float]] = {"text": [], "image": [], "both": [], "rank": []}
    for each in asked:
        text, scores = asker.ranking(json.dumps(each.text)), {key: [] for key in parts}  # type: ignore[var-annotated]
        for example in sorted(each.relevant & seen):
            like = f"like({json.dumps(example)}, camera)"
            image, both = asker.ranking(like), asker.ranking(f"{json.dumps(each.text)} + {like}")
            said = [item for item in text if item != example]
            for key, ranking in {"text": said, "image": image, "both": both, "rank": rrf([said, image])}.items():
                scores[key].append(average_precision(relevance(ranking, each.relevant, each.ignore)))
        for key, values in scores.items():
            parts[key].append(float(np.mean(values)))
    yield _sum_row(f"{name}, text + picture, {len(asked)} queries", parts)
    yield _rank_row(f"{name}, text + picture, {len(asked)} queries", parts)


def sensor_rows(name: str, asker: Asker, items: list[Item]) -> Iterator[Row]:
    """A clip by camera and LiDAR, to find the others of its drive: mAP over clips that have both."""
    both = [item for item in items if item.cameras and item.lidar]
    drives = {item.id: frozenset(each.id for each in both if each.drive == item.drive) for item in both}
    asked = [item for item in both if len(drives[item.id]) > 1]
    parts: dict[str, list[float]] = {"camera": [], "lidar": [], "both": [], "rank": []}
    lidar_alone = frozenset(item.id for item in items) - frozenset(drives)
    for item in asked:
        camera, lidar = (f"like({json.dumps(item.id)}, {sensor})" for sensor in ("camera", "lidar"))
        rankings = {"camera": asker.ranking(camera), "lidar": asker.ranking(lidar)}
        rankings |= {"both": asker.ranking(f"{camera} + {lidar}"), "rank": rrf([*rankings.values()])}
        for key, ranking in rankings.items():
            parts[key].append(average_precision(relevance(ranking, drives[item.id], lidar_alone)))
    yield _sum_row(f"{name}, camera + LiDAR, {len(asked)} clips", parts)
    yield _rank_row(f"{name}, camera + LiDAR, {len(asked)} clips", parts)


def _sum_row(case: str, parts: dict[str, list[float]]) -> Row:
    means = {key: float(np.mean(values)) for key, values in parts.items()}
    single = max((key for key in means if key not in ("both", "rank")), key=lambda key: means[key])
    holds, spread = means["both"] >= means[single], (min(parts["both"]), max(parts["both"]))
    return Row(case, "mAP", "1", means["both"], means[single], f"{single} alone", spread, ">= the better part", holds)


def _rank_row(case: str, parts: dict[str, list[float]]) -> Row:
    return Row(case, "mAP", "1", float(np.mean(parts["both"])), float(np.mean(parts["rank"])), "reciprocal rank fusion")


def rrf(rankings: Sequence[Ranking], k: int = 60) -> Ranking:
    """Reciprocal rank fusion (Cormack, Clarke and Buettcher 2009)."""
    score: dict[str, float] = {}
    for ranking in rankings:
        for place, item in enumerate(ranking, 1):
            score[item] = score.get(item, 0) + 1 / (k + place)
    return sorted(score, key=lambda item: (-score[item], item))


# -- X but not Y -------------------------------------------------------------------------------------------------------


def logic_rows(name: str, asker: Asker, items: list[Item]) -> Iterator[Row]:
    """Precision@10 of `x AND NOT y` for all pairs of concepts that the tags know and that occur both ways."""
    vocabulary = load_vocabulary()
    tagged = {item.id: item.tags for item in items if item.cameras}
    of = {name: frozenset(id for id, tags in tagged.items() if OF_TAG.get(name, name) in tags) for name in vocabulary}
    pairs = [
        (x, y)
        for x in vocabulary
        for y in vocabulary
        if x != y and len(of[x] & of[y]) >= FEWEST and len(of[x] - of[y]) >= FEWEST
    ]

    def said(concept: str) -> str:
        return vocabulary[concept].prompts[0].removeprefix("a photo of ")

    ways: dict[str, Callable[[str, str], str]] = {
        "concepts": lambda x, y: f"{x} AND NOT {y}",
        "one sentence": lambda x, y: json.dumps(f"{said(x)} but not {said(y)}"),
        "text less text": lambda x, y: f"{json.dumps(said(x))} - {json.dumps(said(y))}",
    }

    score = {
        way: [precision_at(10)(relevance(asker.ranking(query(x, y)), of[x] - of[y])) for x, y in pairs]
        for way, query in ways.items()
    }
    ours, spread = float(np.mean(score["concepts"])), (min(score["concepts"]), max(score["concepts"]))
    chance = float(np.mean([len(of[x] - of[y]) / len(tagged) for x, y in pairs]))
    case = f"{name}, X AND NOT Y, {len(pairs)} pairs"
    for rival in ("one sentence", "text less text"):
        other = float(np.mean(score[rival]))
        target = f"> {rival}" if rival == "one sentence" else None
        yield Row(case, "precision@10", "1", ours, other, rival, spread, target, ours > other if target else None)
    yield Row(case, "precision@10", "1", ours, chance, "random order")


# -- sweeps ------------------------------------------------------------------------------------------------------------


def drive_rows(asker: Asker, items: list[Item]) -> list[Row]:
    """LiDAR alone: how often the nearest sweep is of the same drive, and how much of its drive is in the first 10."""
    swept = {item.id: item for item in items if item.lidar}
    first, recall, chance = [], [], []
    for item in swept.values():
        own = frozenset(each.id for each in swept.values() if each.drive == item.drive and each.id != item.id)
        if not own:
            continue
        found = relevance(asker.ranking(f"like({json.dumps(item.id)}, lidar)"), own)
        first.append(float(found[0]))
        recall.append(recall_at(10)(found))
        chance.append(found.mean())
    case, usual = f"{LIDAR_ENCODER}, a sweep, {len(first)} clips", float(np.mean(chance))
    ours = float(np.mean(first))
    return [
        Row(case, "own drive first", "1", ours, usual, "random order", target="all", holds=ours == 1),
        Row(case, "recall@10 of its drive", "1", float(np.mean(recall)), usual, "random order"),
    ]


if __name__ == "__main__":
    run("query_quality", measure, options)
