"""Concepts fitted to the clips of a lake: a direction in the space of an encoder, and what a score in it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import Encoder
from kernels.spans import Ints
from miner.concepts.calibration import Calibration, by_contrast, by_labels
from miner.concepts.vocabulary import Definition
from miner.corpus import Corpus, Vector
from miner.query.counts import categories, is_labelled
from miner.query.scan import Direction, sampled, scan
from miner.query.vectors import text_vectors, unit
from miner.sound import Sound
from miner.store import Store

OPPOSED = 0.25  # how much of what is there instead is taken away from what is meant


@dataclass(frozen=True)
class Known:
    """A concept that can be asked for: near to `direction` (dim,) by as much as `calibration` says."""

    definition: Definition
    direction: Vector
    calibration: Calibration


def fitted(store: Store, corpus: Corpus, encoder: Encoder, definitions: Sequence[Definition]) -> list[Known]:
    """Each definition in the space of `encoder`, calibrated on the clips of `corpus` (on its frames, without clips).

    Labels count where the lake has enough of them (`miner.concepts.calibration`); a clip counts as not showing a
    concept if it has labels of the same kind and none of the concept's.
    """
    if not definitions:
        return []
    directions = directions_of(encoder, definitions)
    unit_of = corpus.clip if len(corpus.clips) else corpus.row
    units = int(unit_of.max(initial=-1)) + 1
    looked = scan(corpus, unit_of, sampled(corpus, unit_of), [Direction(each, "text") for each in directions])
    best = looked.best(units)
    labels = _Labels.of(store, corpus) if len(corpus.clips) else None
    known = []
    for definition, direction, scores in zip(definitions, directions, best.T, strict=True):
        known.append(Known(definition, direction, _calibrated(definition, scores, labels)))
    return known


def directions_of(encoder: Encoder, definitions: Sequence[Definition]) -> list[Vector]:
    """What is meant, less a quarter of what is there instead: one unit vector (dim,) for each definition."""
    texts = list(dict.fromkeys(text for each in definitions for text in (*each.prompts, *each.opposites)))
    vector_of = dict(zip(texts, text_vectors(encoder, texts), strict=True))

    def mean(said: tuple[str, ...]) -> Vector:
        return unit(np.mean([vector_of[text] for text in said], axis=0))

    return [unit(mean(each.prompts) - OPPOSED * mean(each.opposites)) for each in definitions]


def _calibrated(definition: Definition, scores: NDArray[np.float64], labels: _Labels | None) -> Calibration:
    """By labels where there are enough that agree with the scores, else by contrast."""
    seen = ~np.isnan(scores)
    if labels is not None and definition.labels:
        shown, judged = labels.of_concept(definition, len(scores))
        found = by_labels(scores[seen & judged], shown[seen & judged])
        if found is not None:
            return found
    return by_contrast(scores[seen])


@dataclass(frozen=True)
class _Labels:
    """What the clips of a corpus are labelled with: entry i says that clip `clip[i]` has the category `name[i]`."""

    clip: Ints
    name: NDArray[Any]

    @classmethod
    def of(cls, store: Store, corpus: Corpus) -> _Labels | None:
        """Those of `clip_facts`; None for a lake without."""
        sound = corpus.sound or Sound(store)
        if not sound.has("clip_facts"):
            return None
        facts = sound.scan("clip_facts", ["clip_id", "categories"])
        row, names, _ = categories(facts)
        place = {clip: number for number, clip in enumerate(corpus.clips["clip_id"].to_pylist())}
        clips = np.array([place.get(clip, -1) for clip in facts["clip_id"].to_pylist()], np.int64)
        known = clips[row] >= 0
        return cls(clips[row][known], np.asarray(names.to_pylist(), object)[known])

    def of_concept(self, definition: Definition, units: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which clips show the concept, and of which that is known either way, both (units,)."""
        distinct = sorted(set(self.name))
        meant = {name for name in distinct if is_labelled(definition, name)}
        kinds = {_kind(label) for label in definition.labels}
        of_kind = {name for name in distinct if _kind(name.lower()) in kinds}
        shown, judged = np.zeros(units, np.bool_), np.zeros(units, np.bool_)
        shown[self.clip[np.isin(self.name, list(meant))]] = True
        judged[self.clip[np.isin(self.name, list(of_kind))]] = True
        return shown, judged | shown


def _kind(label: str) -> str:
    """What a label is about: `weather` of `weather: rain`; the boxes of a clip are of one kind."""
    return label.partition(":")[0] if ":" in label else ""
