"""Scenarios named by concepts: what stands out in one of them against all others, where pictures and texts compare.

The score of an event for a concept is the cosine to the concept's direction (what is meant, less a part of what is
there instead: `miner.concepts.fitting`). The mean score of a scenario is compared with those of the others, as a new
draw from their normal distribution would be: Student's t with their number less one degrees of freedom, told as the
standard score z of the same chance. A scenario is called by the concept of its highest z, if so high a one would come
by chance in one of 20 taxonomies with as many scenarios and concepts (Bonferroni). Families compare with families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy import stats

from kernels.spans import Ints
from miner.concepts.fitting import directions_of
from miner.concepts.kept import definition_of, kept_rows, known_of
from miner.concepts.vocabulary import Definition, load_vocabulary
from miner.corpus import Corpus, Vector
from miner.encoders import get_encoder
from miner.errors import MinerError
from miner.footage import Floats
from miner.indexes import Index
from miner.query.vectors import encoder_of
from miner.rare import read_events
from miner.rarity import whole_footage
from miner.schema import CLUSTER_NAMES
from miner.sound import Sound
from miner.stage import Output, Reduction
from miner.store import Store

CHANCE = 0.05  # that any scenario of a taxonomy gets a name though nothing stands out
_FEWEST = 3  # others to stand out against


class Named(NamedTuple):
    """What a scenario is called, and by how many standard deviations that stands out."""

    concept: str
    z: float


@dataclass(frozen=True)
class NamesReduction(Reduction):
    """`cluster_names`: the concept that stands out in each scenario and family, by the encoder of the cameras' `table`.

    Raises MinerError in `compute` where that encoder cannot be had or knows no text, and the lake keeps no concepts.
    """

    tables: tuple[str, ...]
    table: str
    name = "names"
    output = Output("cluster_names", CLUSTER_NAMES, None)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.tables, "clips", "events", "members", "clusters", "concepts")

    @property
    def settings(self) -> str:  # type: ignore[override]
        return f"{self.table} {[each.digest for each in load_vocabulary().values()]}"

    def compute(self, store: Store) -> pa.Table:
        sound = Sound(store)
        corpus = Corpus.of(store, self.table)
        directions = concept_directions(sound, corpus.index)
        footage = whole_footage(store, self.tables)
        events = footage.take(np.unique(read_events(sound, footage)))
        seen = np.flatnonzero(events.has(corpus.index.encoder))
        scores = events.vectors[corpus.index.encoder][seen].astype(np.float64) @ np.array([*directions.values()]).T
        member = {row["clip_id"]: row["cluster_id"] for row in store.scan("members").to_pylist()}
        family = {row["cluster_id"]: row["parent_id"] for row in store.scan("clusters").to_pylist()}
        scenario = [member.get(name) for name in events.clip_ids.take(pa.array(seen)).to_pylist()]
        found = names(scores, scenario, [*directions])
        found |= names(scores, [family.get(each or "") for each in scenario], [*directions])
        rows = [{"cluster_id": name, **each._asdict()} for name, each in sorted(found.items())]
        return pa.Table.from_pylist(rows, schema=CLUSTER_NAMES)


def names(scores: Floats, clusters: Sequence[str | None], concepts: Sequence[str]) -> dict[str, Named]:
    """What each cluster is called, if anything stands out, from the `scores` (n, concepts) of its members."""
    there = np.array([each is not None for each in clusters], np.bool_)
    known, label = np.unique([each for each in clusters if each is not None], return_inverse=True)
    z = standing_out(scores[there], label, len(known))
    if not z.size:
        return {}
    least = float(stats.norm.isf(CHANCE / z.size))
    best = z.argmax(axis=1)
    return {
        str(name): Named(concepts[column], round(float(z[row, column]), 6))
        for row, (name, column) in enumerate(zip(known, best, strict=True))
        if z[row, column] >= least
    }


def standing_out(scores: Floats, label: Ints, count: int) -> Floats:
    """z (count, c) of each cluster's mean of the `scores` (n, c) among those of the others; empty for too few."""
    others = count - 1
    if others < _FEWEST:
        return np.empty((0, scores.shape[1]))
    size = np.bincount(label, minlength=count)[:, None]
    mean = np.array([scores[label == each].mean(axis=0) for each in range(count)])
    within = ((scores - mean[label]) ** 2).sum(axis=0) / max(len(scores) - count, 1)
    elsewhere = (mean.sum(axis=0) - mean) / others
    squares = (mean**2).sum(axis=0) - mean**2 - others * elsewhere**2
    between = squares.clip(0) / (others - 1) * (1 + 1 / others)
    t = (mean - elsewhere) / np.sqrt(between + within / size + 1e-18)
    z: Floats = stats.norm.isf(stats.t.sf(t, others - 1).clip(1e-300))
    return z


def concept_directions(sound: Sound, index: Index) -> dict[str, Vector]:
    """The directions (dim,) of the vocabulary and of the lake's own concepts, by name: those kept, else made now.

    Where the encoder cannot be had those kept are all. Raises MinerError for none.
    """
    kept = kept_rows(sound, index.encoder)
    own = {name: definition_of(row) for name, row in kept.items() if row["origin"] == "lake"}
    wanted: Mapping[str, Definition] = {**load_vocabulary(), **own}
    found = {
        name: known_of(row).direction
        for name, row in kept.items()
        if row["encoder_version"] == index.encoder_version and wanted.get(name) == definition_of(row)
    }
    missing = [definition for name, definition in wanted.items() if name not in found]
    try:
        encoder = encoder_of(index, get_encoder(index.encoder, index.encoder_version))
        made = directions_of(encoder, missing)
    except MinerError:
        if not found:
            raise
    else:
        found |= {each.name: direction for each, direction in zip(missing, made, strict=True)}
    return dict(sorted(found.items()))
