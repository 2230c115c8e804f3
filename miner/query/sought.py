"""The parts of a query that look for something like them, as one vector per sensor.

Within one sensor the parts are vectors of one space and are added up: what is sought, minus half of what is not
(Rocchio 1971). Texts and pictures lie in cones of their own (Liang et al. 2022, "Mind the gap"): beside a text, the
vector of a picture or an example is its difference to the mean of all pictures, or the text would hardly count. Across
sensors vectors do not compare; there scores are added (`miner.query.compose`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from miner.corpus import Corpus, Vector
from miner.errors import NotFound
from miner.indexes import QueryKind
from miner.query.sources import Sources
from miner.query.tree import Image, Lidar, Like, Text, Weighted
from miner.query.vectors import example, image_vector, pairs_of, sweep_vector, text_vectors, unit

NOT_WEIGHT = 0.5  # what is to be avoided counts less than what is sought
_SAMPLE = 4_096


@dataclass(frozen=True)
class Sought:
    """What is sought among the readings of one sensor: a unit vector (dim,), and how much it counts beside others.

    The weight is below zero where all is to be avoided. `kinds` are the directions behind it by kind of part (text,
    image, lidar, not_text, ...); `asks` tells whether the vector lies beside the distribution of readings.
    """

    sensor: str
    vector: Vector
    weight: float
    kinds: Mapping[str, Vector]
    asks: QueryKind


class _Part(NamedTuple):
    kind: str
    vector: Vector
    weight: float


def seek(sources: Sources, parts: Sequence[Weighted], sensors: Sequence[str]) -> list[Sought]:
    """One vector for each of the sensors that the parts are about, in their order; `sensors` are of the whole query.

    Raises as the encoders do, NotFound for an unknown id, UsageError where the parts cancel each other out.
    """
    of: dict[str, list[_Part]] = defaultdict(list)
    texts = [part for part in parts if isinstance(part.part, Text)]
    if texts:
        said = [part.part.text for part in texts if isinstance(part.part, Text)]
        vectors = text_vectors(sources.encoder("camera"), said)
        of["camera"] += [_Part("text", vector, part.weight) for vector, part in zip(vectors, texts, strict=True)]
    for part in parts:
        if isinstance(part.part, Image):
            vector = image_vector(sources.encoder("camera"), part.part.uri)
            of["camera"].append(_Part("image", vector, part.weight))
        elif isinstance(part.part, Lidar):
            of["lidar"].append(_Part("lidar", sweep_vector(sources.encoder("lidar"), part.part.uri), part.weight))
        elif isinstance(part.part, Like):
            for sensor, vector in _alike(sources, part.part, sensors):
                of[sensor].append(_Part("lidar" if sensor == "lidar" else "image", vector, part.weight))
    return [_added(sources.corpus(sensor), of[sensor]) for sensor in sensors if of.get(sensor)]


def _alike(sources: Sources, like: Like, sensors: Sequence[str]) -> list[tuple[str, Vector]]:
    """The vectors of an example: of its sensor, else of each sensor of the query that knows the id."""
    if like.sensor is not None:
        return [(like.sensor, example(sources.corpus(like.sensor), like.id).vector)]
    if len(sensors) == 1:
        return [(sensors[0], example(sources.corpus(sensors[0]), like.id).vector)]
    known = [sensor for sensor in sensors if len(pairs_of(sources.corpus(sensor), like.id)[0])]
    if not known:
        hint = "Ids are in the answers of search --json."
        raise NotFound(f"no reading or clip with vectors has the id {like.id!r}", hint)
    return [(sensor, example(sources.corpus(sensor), like.id).vector) for sensor in known]


def _added(corpus: Corpus, parts: list[_Part]) -> Sought:
    """The parts of one sensor as one vector."""
    sought = [part for part in parts if part.weight > 0]
    added = _on_one_footing(corpus, parts)
    total = _sum([part for part in added if part.weight > 0] or added)
    if sought and len(sought) < len(parts):
        total = total - NOT_WEIGHT * _sum([part for part in added if part.weight < 0])
    weight = sum(part.weight for part in sought) if sought else NOT_WEIGHT * sum(part.weight for part in parts)
    names = dict.fromkeys(_name(part) for part in parts)
    kinds = {name: unit(_sum([part for part in parts if _name(part) == name])) for name in names}
    asks: QueryKind = "text" if any(part.kind == "text" for part in parts) else "image"
    return Sought(corpus.index.modality, unit(total), weight, kinds, asks)


def _on_one_footing(corpus: Corpus, parts: list[_Part]) -> list[_Part]:
    """The parts as they can be added: beside a text, pictures and examples by how they differ from the usual one."""
    if len({part.kind == "text" for part in parts}) == 1:
        return parts
    usual = usual_vector(corpus)
    return [part if part.kind == "text" else part._replace(vector=unit(part.vector - usual)) for part in parts]


def usual_vector(corpus: Corpus) -> Vector:
    """The mean (dim,) of the vectors of a corpus, of an evenly spaced sample where there are many."""
    step = max(len(corpus.index.rows) // _SAMPLE, 1)
    rows = np.arange(0, len(corpus.index.rows), step)
    mean: Vector = corpus.kept.get("usual vector", lambda: corpus.index.vectors(rows).mean(axis=0))
    return mean


def _name(part: _Part) -> str:
    return part.kind if part.weight > 0 else f"not_{part.kind}"


def _sum(parts: Sequence[_Part]) -> Vector:
    total: Vector = np.sum(np.stack([abs(part.weight) * part.vector for part in parts]), axis=0)
    return total
