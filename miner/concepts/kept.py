"""Concepts in the lake: table `concepts`, one row for each name and encoder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from miner.concepts.calibration import Calibration, Method
from miner.concepts.fitting import Known, fitted
from miner.concepts.vocabulary import Definition
from miner.corpus import Corpus
from miner.encoders import get_encoder
from miner.query.vectors import encoder_of
from miner.schema import CONCEPTS, check
from miner.sound import Sound
from miner.stage import Output, Reduction
from miner.store import Store, one_of

TABLE = "concepts"


@dataclass(frozen=True)
class ConceptsReduction(Reduction):
    """Some concepts, fitted to the vectors of one table of cameras and the labels of the clips.

    `own` are those the lake has of its own, rather than the vocabulary.
    """

    table: str
    encoder: str
    definitions: tuple[Definition, ...]
    own: frozenset[str] = frozenset()
    name = "concepts"
    output = Output(TABLE, CONCEPTS, None)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.table, "clips", "clip_facts")

    @property
    def owned(self) -> str:  # type: ignore[override]
        names = one_of("name", sorted(each.name for each in self.definitions))
        return f"{one_of('encoder', [self.encoder])} AND {names}"

    @property
    def settings(self) -> str:  # type: ignore[override]
        return json.dumps([each.digest for each in self.definitions])

    def compute(self, store: Store) -> pa.Table:
        corpus = Corpus.of(store, self.table)
        index = corpus.index
        encoder = encoder_of(index, get_encoder(index.encoder, index.encoder_version))
        about: dict[str, Any] = {"encoder": index.encoder, "encoder_version": index.encoder_version}
        about["table_version"] = index.table_version
        rows = [_row(known) | about for known in fitted(store, corpus, encoder, self.definitions)]
        for row in rows:
            row["origin"] = "lake" if row["name"] in self.own else "vocabulary"
        return check(pa.Table.from_pylist(rows, CONCEPTS), CONCEPTS)


def kept_rows(sound: Sound, encoder: str) -> dict[str, dict[str, Any]]:
    """The concepts a lake keeps for an encoder, by name."""
    if not sound.has(TABLE):
        return {}
    rows = sound.scan(TABLE, CONCEPTS.names, one_of("encoder", [encoder])).to_pylist()
    return {row["name"]: row for row in sorted(rows, key=lambda row: str(row["name"]))}


def definition_of(row: Mapping[str, Any]) -> Definition:
    """What a kept concept means."""
    return Definition(str(row["name"]), *(tuple(row[key]) for key in ("prompts", "opposites", "labels")))


def known_of(row: Mapping[str, Any]) -> Known:
    """A kept concept, ready to be asked for."""
    numbers = {key: row[key] for key in ("slope", "offset", "positives", "negatives", "brier")}
    calibration = Calibration(method=cast(Method, row["method"]), **numbers)
    return Known(definition_of(row), np.asarray(row["direction"], np.float32), calibration)


def _row(known: Known) -> dict[str, Any]:
    definition, calibration = known.definition, known.calibration
    return {
        "name": definition.name,
        "prompts": list(definition.prompts),
        "opposites": list(definition.opposites),
        "labels": list(definition.labels),
        "direction": known.direction.tolist(),
        **vars(calibration),
    }
