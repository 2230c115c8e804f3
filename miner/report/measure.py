"""The numbers of a report: how varied a set is, how well it stands for the lake, what it covers, repeats and leaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.diversity import distances, distinct, energy_coefficient, vendi
from kernels.neighbors import radius_pairs
from miner.errors import NotFound, UsageError
from miner.report.intervals import Estimate, estimate
from miner.report.quality import quality
from miner.selection.axes import MAX_CELLS, Axes, Axis, Bools
from miner.selection.guard import near
from miner.selection.pick import lots
from miner.selection.pool import Pool
from miner.selection.spec import Guard, Spec
from miner.snapshot import Snapshot
from miner.store import Store
from miner.training_sets import Dataset, dataset

COPY_RADIUS = 0.02  # cosine distance of clips that show the same
COMPARED = 2048  # clips of a set and of the lake whose distances are all looked at
PAIRED = 20_000
DRAWN = 1200
BINS = 24
ODD = (("weather", "light"), ("weather",), ("light",), ("location",), ("class",))
COMPOSED = ("weather", "light", "class", "location", "split")
_VALUES = 30


@dataclass(frozen=True)
class Asked:
    """What a report is of: a dataset version (None: the whole lake), whose leakage `against` what (a filter or NAME@N)
    within a guard's limits, which axes span the table of conditions, whose vectors."""

    version: str | None = None
    against: str | None = None
    metres: float | None = 30.0
    seconds: float | None = 10.0
    radius: float | None = 0.02
    odd: tuple[str, ...] = ()
    encoder: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """The clips of a pool that a report is of (n,), and all of them; `version` is the dataset, None for the lake."""

    pool: Pool
    chosen: Bools
    version: Dataset | None

    @property
    def rows(self) -> NDArray[np.int64]:
        """Places of the chosen clips."""
        return np.flatnonzero(self.chosen)


def measure(store: Store, asked: Asked) -> dict[str, Any]:
    """The document of a report. Raises NotFound for a dataset or facts that are not there, UsageError for a filter."""
    subject = _subject(store, asked)
    version = subject.version
    if not len(subject.rows):
        raise NotFound(f"{store.uri} has no clips to report on", "Make them: miner cut LAKE && miner index LAKE")
    axes = Axes(subject.pool.facts)
    document: dict[str, Any] = {
        "lake": store.uri,
        "dataset": version.version_id if version else None,
        "note": version.row["note"] if version else None,
        "clips": len(subject.rows),
        "lake_clips": len(subject.chosen),
        "hours": float((_ints(subject, "end_ns") - _ints(subject, "start_ns")).sum() / 3.6e12),
        "scenes": len(pc.unique(subject.pool.facts["scene_id"].filter(pa.array(subject.chosen)))),
        "tables": dict(subject.pool.snapshot.versions),
        "composition": _composition(subject, axes),
        "coverage": _coverage(subject, axes, asked),
        "scarcity": _scarcity(subject),
        "leakage": _leakage(subject, asked),
        "quality": quality(subject.pool.snapshot, subject.pool.facts.filter(pa.array(subject.chosen))),
        "cells": version.report.get("cells", []) if version else [],
    }
    return {**document, **_by_vectors(subject, asked)}


def _subject(store: Store, asked: Asked) -> Subject:
    version = dataset(store, asked.version) if asked.version else None
    snapshot = version.snapshot if version else Snapshot.now(store)
    pool = Pool(snapshot, Spec(budget=1, encoder=asked.encoder))
    if version is None:
        return Subject(pool, np.ones(len(pool.facts), np.bool_), None)
    return Subject(pool, pool.named([version.version_id]), version)


def _ints(subject: Subject, name: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = subject.pool.facts[name].to_numpy().astype(np.int64)[subject.chosen]
    return found


def _by_vectors(subject: Subject, asked: Asked) -> dict[str, Any]:
    """What needs vectors; nulls where the lake has none of them."""
    empty = {"encoder": None, "diversity": None, "representativeness": None, "duplicates": None, "map": None}
    try:
        vectors = subject.pool.vectors
    except NotFound:
        return empty
    there = vectors.any(axis=1)
    if not (there & subject.chosen).any():
        return empty
    lot = lots(subject.pool.facts["clip_id"], asked.seed)
    ours, all_rows = np.flatnonzero(there & subject.chosen), np.flatnonzero(there)
    return {
        "encoder": subject.pool.table.removeprefix("embeddings/"),
        "diversity": _diversity(vectors[ours], vectors[all_rows], asked.seed),
        "representativeness": _representativeness(subject, vectors, _few(ours, lot), _few(all_rows, lot), asked.seed),
        "duplicates": _duplicates(vectors[_few(ours, lot, PAIRED)], len(ours)),
        "map": _map(vectors, _few(ours, lot, DRAWN), _few(all_rows, lot, DRAWN)),
    }


def _few(rows: NDArray[np.int64], lot: NDArray[np.int64], most: int = COMPARED) -> NDArray[np.int64]:
    """At most so many rows, by lot: of equal sets the same ones."""
    return rows if len(rows) <= most else np.sort(rows[np.argsort(lot[rows], kind="stable")[:most]])


def _diversity(ours: NDArray[np.float32], lake: NDArray[np.float32], seed: int) -> dict[str, Any]:
    found = estimate(lambda rows: vendi(ours[rows]), len(ours), seed)
    different = len(distinct(ours))
    bound = min(different, ours.shape[1])
    low, high = max(found.low, 1.0), min(found.high, float(bound))
    effective = Estimate(found.value, min(low, found.value), max(high, found.value)).rounded()
    return {"effective": effective, "distinct": different, "most": bound, "lake": float(f"{vendi(lake):.5g}")}


def _representativeness(
    subject: Subject, vectors: NDArray[np.float32], ours: NDArray[np.int64], lake: NDArray[np.int64], seed: int
) -> dict[str, Any] | None:
    if subject.version is None:
        return None
    if np.array_equal(ours, lake):
        exact = 1 - energy_coefficient(vectors[ours], vectors[lake])
        return {"value": exact, "low": exact, "high": exact, "compared": [len(ours), len(lake)]}
    away = distances(vectors[ours], vectors[lake])
    found = estimate(lambda rows: 1 - away.coefficient(rows), len(ours), seed)
    clipped = Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))
    return {**clipped.rounded(), "compared": [len(ours), len(lake)]}


def _duplicates(vectors: NDArray[np.float32], total: int) -> dict[str, Any]:
    """Clips that have a near copy among the others."""
    copied, pairs = np.zeros(len(vectors), np.bool_), 0
    for found in radius_pairs(vectors, 1 - COPY_RADIUS):
        copied[found.left] = copied[found.right] = True
        pairs += len(found.left)
    share = float(copied.mean()) if len(vectors) else 0.0
    exact = len(vectors) - len(distinct(vectors))
    return {"radius": COPY_RADIUS, "pairs": pairs, "clips": int(copied.sum()), "share": round(share, 5),
            "equal": exact, "looked_at": len(vectors), "of": total}  # fmt: skip


def _map(vectors: NDArray[np.float32], ours: NDArray[np.int64], lake: NDArray[np.int64]) -> dict[str, Any]:
    """The two main directions of the lake's vectors, and where clips lie along them, -1 to 1."""
    centre = vectors[lake].mean(axis=0)
    _, _, axes = np.linalg.svd(vectors[lake] - centre, full_matrices=False)
    flat = [((vectors[rows] - centre) @ axes[:2].T).astype(np.float64) for rows in (lake, ours)]
    flat = [np.pad(each, ((0, 0), (0, 2 - each.shape[1]))) for each in flat]
    reach = max(float(np.abs(each).max(initial=0)) for each in flat) or 1.0
    scaled = [(each / reach).round(3).tolist() for each in flat]
    return {"lake": scaled[0], "set": scaled[1]}


def _composition(subject: Subject, axes: Axes) -> list[dict[str, Any]]:
    """Per axis the share of clips with each value, here and in the lake, the most frequent values of the lake first."""
    found = []
    known = set(axes.names())
    for name in (name for name in COMPOSED if name in known):
        axis = _shown(axes, name)
        if axis is None:
            continue
        here, lake = axis.members[subject.chosen].sum(axis=0), axis.members.sum(axis=0)
        order = np.argsort(-lake, kind="stable")[:_VALUES]
        values = [
            {
                "value": axis.values[place],
                "clips": int(here[place]),
                "share": float(here[place]) / len(subject.rows),
                "lake_clips": int(lake[place]),
                "lake_share": float(lake[place]) / len(subject.chosen),
            }
            for place in order
        ]
        found.append({"axis": name, "values": values, "more": len(axis.values) - len(values)})
    return found


def _shown(axes: Axes, name: str) -> Axis | None:
    """An axis; None for one without values, or with too many to show."""
    try:
        axis = axes.axis(name)
    except UsageError:
        return None
    return axis if axis.values else None


def _coverage(subject: Subject, axes: Axes, asked: Asked) -> dict[str, Any] | None:
    """The table of operating conditions: for each combination of values how many clips there are, here and in all."""
    known = set(axes.names())
    names = asked.odd or next((each for each in ODD if all(name in known and _shown(axes, name) for name in each)), ())
    if not names:
        return None
    along = [axes.axis(name) for name in names]
    if (count := math.prod(len(axis.values) for axis in along)) > MAX_CELLS:
        what = f"{' x '.join(names)} make {count:,} cells, at most {MAX_CELLS:,} are shown"
        raise UsageError(what, "Name fewer axes.")
    paths: list[tuple[str, ...]] = [()]
    masks = [np.ones(len(subject.chosen), np.bool_)]
    for axis in along:
        paths, masks = (
            [(*path, value) for path in paths for value in axis.values],
            [mask & axis.of(value) for mask in masks for value in axis.values],
        )
    members = np.column_stack(masks)[subject.chosen]
    share = estimate(lambda rows: float(members[rows].any(axis=0).mean()), len(members), asked.seed)
    counts, all_counts = members.sum(axis=0), [int(mask.sum()) for mask in masks]
    cells = [
        {"cell": list(path), "clips": int(count), "lake_clips": total}
        for path, count, total in zip(paths, counts, all_counts, strict=True)
    ]
    clipped = Estimate(share.value, max(share.low, 0.0), min(share.high, 1.0))
    return {"axes": list(names), "covered": int((counts > 0).sum()), "share": clipped.rounded(), "cells": cells}


def _scarcity(subject: Subject) -> list[dict[str, Any]]:
    """Per scorer how the scores of the set lie against those of the lake."""
    snapshot = subject.pool.snapshot
    if not snapshot.has("scores"):
        return []
    rows = snapshot.scan("scores", ["clip_id", "scorer", "value"])
    ours = subject.pool.facts["clip_id"].filter(pa.array(subject.chosen)).combine_chunks()
    found = []
    for scorer in sorted(set(rows["scorer"].to_pylist())):
        own = rows.filter(pc.equal(rows["scorer"], scorer))
        values = own["value"].to_numpy().astype(np.float64)
        mine = values[pc.is_in(own["clip_id"], ours).to_numpy()]
        if len(mine) and np.isfinite(values).all():
            median = float(np.median(mine))
            ranks = np.searchsorted(np.sort(values), mine) / len(values)
            found.append({"scorer": scorer, "median": median, "lake_median": float(np.median(values)),
                          "mean_rank": round(float(ranks.mean()), 5), **histograms(mine, values)})  # fmt: skip
    return found


def histograms(ours: NDArray[np.float64], lake: NDArray[np.float64]) -> dict[str, Any]:
    """Shares by equal bins of the range of both, but for its outermost thousandths."""
    low, high = np.quantile(np.concatenate([ours, lake]), [0.001, 0.999]) if len(lake) else (0.0, 1.0)
    edges = np.linspace(*((low, high) if high > low else (low - 0.5, low + 0.5)), BINS + 1)
    counts = [np.histogram(each.clip(edges[0], edges[-1]), edges)[0] / max(len(each), 1) for each in (ours, lake)]
    return {"edges": edges.round(6).tolist(), "set": counts[0].round(5).tolist(), "lake": counts[1].round(5).tolist()}


def _leakage(subject: Subject, asked: Asked) -> dict[str, Any] | None:
    """Clips of the set that are of, or near, an evaluation set, by each rule."""
    if asked.against is None:
        return None
    vectors = asked.radius is not None
    try:
        vectors = vectors and bool(subject.pool.vectors.any())
    except NotFound:
        vectors = False
    guard = Guard(
        against=asked.against,
        metres=asked.metres,
        seconds=asked.seconds,
        radius=asked.radius if vectors else None,
    )
    spec = subject.pool.spec.model_copy(update={"guard": guard})
    evaluation = Pool(subject.pool.snapshot, spec).evaluation()
    found = near(guard, subject.pool.snapshot, subject.pool.facts, evaluation, lambda: subject.pool.vectors)
    by = {name: int((mask & subject.chosen).sum()) for name, mask in found.by.items()}
    limits = {name: getattr(guard, name) for name in ("metres", "seconds", "radius")}
    leaking = int((found.any & subject.chosen).sum())
    head = {"against": asked.against, "evaluation_clips": int(evaluation.sum()), "clips": leaking}
    return {**head, "by": by, "limits": limits, "notes": found.blind or found.notes(subject.chosen)}
