"""How well text finds frames: mean average precision on judged road frames, by encoder and by view of the frame.

The folder MINER_TEST_DATA points to holds `ground_truth.jsonl` (items with their camera frames and hand-set tags) and
`queries.json` (text, kind, relevant ids, ids to ignore). A frame's score is that of its best row, an item's that of
its best camera. Centre crop is what open_clip's own preprocessing does, hence the rival of all other views. Tags are a
second set of queries ("traffic cone"), larger and judged less carefully; `all` is over queries.json alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row, portable, run
from embeddings.encoder import Encoder, TextEncoder, encode_all, load_encoder
from miner.decode.files import read_bytes
from miner.decode.image import decode_image
from miner.decode.views import Region, crop_views, min_side_for, regions
from miner.errors import UsageError

VIEWS = {
    "centre-crop": ("centre-crop",),
    "letterbox": ("letterbox",),
    "whole": ("whole",),
    "tiles": ("tiles",),
    "whole+tiles": ("whole", "tiles"),
}
QUICK_VIEWS = ("centre-crop", "whole")
DEFAULT_VIEWS = "whole+tiles"
RIVAL = "centre-crop"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Query:
    """A text with the items it should find and those that are not judged for it."""

    text: str
    kind: str
    relevant: frozenset[str]
    ignore: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scores:
    """Best score of each item for each query, float32 (items, queries), by piece of the frame."""

    pieces: dict[str, NDArray[np.float32]]
    rates: list[float]  # images per CPU second, one a repeat


def options(parser: argparse.ArgumentParser) -> None:
    example = "e.g. lite lite:linear openclip:local-dir:FOLDER"
    parser.add_argument("--encoders", nargs="+", default=["lite"], help=example)


def measure(chosen: argparse.Namespace) -> list[Row]:
    """All rows: mAP by encoder, views and kind; chance by kind; images per CPU second by encoder."""
    if "MINER_TEST_DATA" not in os.environ:
        raise UsageError("MINER_TEST_DATA is not set", "Point it to a folder with queries.json and ground_truth.jsonl.")
    root = Path(os.environ["MINER_TEST_DATA"])
    items, tags, left_out = load_items(root)
    queries = load_queries(root) + tag_queries(tags)
    views = {name: VIEWS[name] for name in QUICK_VIEWS} if chosen.quick else VIEWS
    pieces = sorted({piece for parts in views.values() for piece in parts})
    rows = [Row("items", "searched, of those with pictures", "1", len(items)), Row("items", "left out", "1", left_out)]
    rows += chance_rows(list(items), queries)
    rates: dict[str, list[float]] = {}
    for name in chosen.encoders:
        print(f"{portable(name)}: {len(items)} items", file=sys.stderr)
        scores = score(name, items, queries, pieces)
        rates[portable(name)] = scores.rates
        rows += quality_rows(portable(name), list(items), queries, views, scores)
    return rows + rate_rows(rates)


def load_items(root: Path) -> tuple[dict[str, list[Path]], dict[str, list[str]], int]:
    """Item id to its pictures, item id to its tags, and how many items have none (videos, records, LiDAR alone)."""
    pictures, tags, left_out = {}, {}, 0
    for line in (root / "ground_truth.jsonl").read_text().splitlines():
        item = json.loads(line)
        paths = [root / path for path in item["cameras"] if path.endswith((".jpg", ".png"))]
        if paths:
            pictures[item["id"]], tags[item["id"]] = paths, item.get("tags", [])
        left_out += not paths
    return pictures, tags, left_out


def load_queries(root: Path) -> list[Query]:
    found = json.loads((root / "queries.json").read_text())["queries"]
    return [Query(q["query"], q["kind"], frozenset(q["relevant"]), frozenset(q["ignore"])) for q in found]


def tag_queries(tags: dict[str, list[str]]) -> list[Query]:
    """Every hand-set tag of at most two thirds of the items as a query."""
    counts = Counter(tag for words in tags.values() for tag in words)
    chosen = [tag for tag, count in counts.items() if 3 * count <= 2 * len(tags)]
    return [
        Query(tag.replace("_", " "), "tag", frozenset(id for id, words in tags.items() if tag in words))
        for tag in chosen
    ]


def score(name: str, items: dict[str, list[Path]], queries: list[Query], pieces: list[str]) -> Scores:
    """Embed every piece of every picture and keep each item's best cosine for each query."""
    encoder = load_encoder(name)
    if not isinstance(encoder, TextEncoder):
        raise UsageError(f"{name} has no texts")
    size = encoder.input.size
    texts = encoder.encode_text([query.text for query in queries])
    best = {piece: np.full((len(items), len(queries)), -1.0, np.float32) for piece in pieces}
    for row, paths in enumerate(items.values()):
        for path in paths:
            frame = decode_image(read_bytes(str(path)), path.suffix, str(path), min_side_for(size))
            cuts = {piece: cut(frame, piece, size) for piece in pieces}
            vectors = encode_all(encoder, np.concatenate(list(cuts.values())))
            ends = np.cumsum([len(frames) for frames in cuts.values()])
            for piece, part in zip(cuts, np.split(vectors, ends[:-1]), strict=True):
                best[piece][row] = np.maximum(best[piece][row], (part @ texts.T).max(axis=0))
    return Scores(best, measure_rates(encoder))


def measure_rates(encoder: Encoder, repeats: int = 9) -> list[float]:
    """Images per CPU second of each of `repeats` full batches of noise, the model loaded and warm."""
    spec = encoder.input
    batch = np.random.default_rng(0).integers(0, 256, (spec.batch, spec.size, spec.size, 3), dtype=np.uint8)
    rates = []
    for _ in range(repeats):
        start = time.process_time()
        encoder.encode(batch)
        rates.append(spec.batch / (time.process_time() - start))
    return rates


def cut(frame: Pixels, piece: str, size: int) -> Pixels:
    """One piece of a frame, uint8 (H, W, 3), as uint8 (n, size, size, 3)."""
    height, width = frame.shape[:2]
    if piece == "letterbox":
        side = max(height, width)
        canvas = np.zeros((side, side, 3), np.uint8)
        y, x = (side - height) // 2, (side - width) // 2
        canvas[y : y + height, x : x + width] = frame
        return crop_views(canvas, [None], size)
    if piece == "centre-crop":
        side = min(height, width)
        x0, y0 = (width - side) / 2 / width, (height - side) / 2 / height
        return crop_views(frame, [Region(x0, y0, 1 - x0, 1 - y0)], size)
    return crop_views(frame, regions(width, height, piece), size)


def quality_rows(
    name: str, items: list[str], queries: list[Query], views: dict[str, tuple[str, ...]], scores: Scores
) -> list[Row]:
    """mAP of each view and kind beside that of the centre crop."""
    precisions = {
        view: [
            average_precision(items, query, np.max([scores.pieces[piece][:, column] for piece in parts], axis=0))
            for column, query in enumerate(queries)
        ]
        for view, parts in views.items()
    }
    rows = []
    for view, values in precisions.items():
        for kind, chosen in by_kind(queries).items():
            part = [values[i] for i in chosen]
            ours, rival = float(np.mean(part)), float(np.mean([precisions[RIVAL][i] for i in chosen]))
            row = Row(f"{name}, {view}, {kind}", "mAP", "1", ours, spread=(min(part), max(part)))
            if view != RIVAL:
                row = replace(row, rival=rival, rival_name=f"{RIVAL}, {name}")
            if view == DEFAULT_VIEWS and kind == "all":
                row = replace(row, target="above centre crop", holds=ours > rival)
            rows.append(row)
    return rows


def chance_rows(items: list[str], queries: list[Query]) -> list[Row]:
    """The expected mAP of a random order, by kind."""
    expected = [
        expected_precision(len(set(items) - query.ignore), len(query.relevant & set(items))) for query in queries
    ]
    return [
        Row(f"random order, {kind}", "mAP", "1", float(np.mean([expected[i] for i in chosen])))
        for kind, chosen in by_kind(queries).items()
    ]


def rate_rows(rates: dict[str, list[float]]) -> list[Row]:
    """The median rate of each encoder, beside that of the first open_clip model."""
    rival = next((name for name in rates if name.startswith("openclip")), None)
    rows = []
    for name, values in rates.items():
        ours, spread = statistics.median(values), (min(values), max(values))
        row = Row(name, "encode on one thread", "images per CPU second", ours, spread=spread)
        if rival and rival != name:
            row = replace(row, rival=statistics.median(rates[rival]), rival_name=rival)
        rows.append(row)
    return rows


def by_kind(queries: list[Query]) -> dict[str, list[int]]:
    """Kind to the positions of its queries; `all` is every judged query, without the tags."""
    kinds: dict[str, list[int]] = {"all": [i for i, query in enumerate(queries) if query.kind != "tag"]}
    for position, query in enumerate(queries):
        kinds.setdefault(query.kind, []).append(position)
    return kinds


def average_precision(items: list[str], query: Query, scores: NDArray[np.float32]) -> float:
    """Mean over the relevant items of the precision at their rank; ignored items are left out. Ties: by id."""
    judged = [(-float(value), item) for value, item in zip(scores, items, strict=True) if item not in query.ignore]
    ranked = sorted(judged)
    ranks = [rank for rank, (_, item) in enumerate(ranked, start=1) if item in query.relevant]
    return sum(found / rank for found, rank in enumerate(ranks, start=1)) / len(ranks)


def expected_precision(total: int, relevant: int) -> float:
    """E[average precision] when `total` items, `relevant` of them relevant, come in random order.

    A relevant item at rank r (uniform) has (r - 1)(R - 1)/(N - 1) others above it on average, so the mean over r of
    (1 + (r - 1)(R - 1)/(N - 1)) / r; H is the harmonic number (Bestgen 2015, eq. 3).
    """
    if total == 1:
        return 1.0
    harmonic = sum(1 / rank for rank in range(1, total + 1))
    return (harmonic + (relevant - 1) / (total - 1) * (total - harmonic)) / total


if __name__ == "__main__":
    run("search_quality", measure, options)
