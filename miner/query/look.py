"""What a query sees of the clips it compares: similarities, probabilities, counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from kernels.spans import Ints
from miner.corpus import Corpus
from miner.query.counts import compared
from miner.query.logic import Truth, probability
from miner.query.scan import Floats, Mask, Scan, scan
from miner.query.terms import Key, Terms
from miner.query.tree import Concept, Count, Frames, Node, Text
from miner.query.units import Units


@dataclass(frozen=True)
class Look:
    """Units of which some pairs were compared: `best` (units, directions) of each sensor, NaN where it has no rows.

    `counts` are the annotated objects of each clip for every count of the query.
    """

    terms: Terms
    scans: Mapping[str, Scan]
    best: Mapping[str, Floats]
    counts: Mapping[Count, Ints]
    _reading: Mapping[str, Ints] = field(repr=False)

    @classmethod
    def at(
        cls,
        terms: Terms,
        corpora: Mapping[str, Corpus],
        units: Units,
        pairs: Mapping[str, Mask],
        counts: Mapping[Count, Ints],
    ) -> Look:
        """Compare the chosen pairs of each sensor with its directions."""
        scans = {
            sensor: scan(corpus, units.of_pair[sensor], pairs[sensor], terms.directions[sensor])
            for sensor, corpus in corpora.items()
        }
        best = {sensor: each.best(len(units)) for sensor, each in scans.items()}
        readings = {}
        for sensor, corpus in corpora.items():
            taken = corpus.index.rows["sample_data_id"].take(scans[sensor].rows).combine_chunks()
            readings[sensor] = taken.dictionary_encode().indices.to_numpy().astype(np.int64)
        return cls(terms, scans, best, counts, readings)

    @property
    def seen(self) -> Mask:
        """The units that were compared by any sensor."""
        seen = np.zeros(len(next(iter(self.best.values()))), np.bool_)
        for each in self.scans.values():
            seen[each.unit] = True
        return seen

    def column(self, key: Key) -> Floats:
        """The best similarity of each unit to one direction."""
        sensor, place = self.terms.column[key]
        return self.best[sensor][:, place]

    def of(self, node: Node) -> Floats:
        """The probability of a logical tree for each unit; NaN where a sensor it needs is lacking."""
        return probability(node, self._truth)

    def frames(self, leaf: Frames) -> Floats:
        """In how many frames of each unit a concept is likelier than not; NaN for units without a frame."""
        sensor, place = self.terms.column[leaf.of]
        even = self.terms.concepts.calibration(leaf.of).even
        units = len(self.best[sensor])
        number = self.scans[sensor].readings_above(place, even, self._reading[sensor], units)
        return np.where(np.isnan(self.column(leaf.of)), np.nan, number)

    def best_row(self, sensor: str, unit: int) -> int | None:
        """The row of a unit that shows best what is sought, or else least of what is not; None where it has none."""
        pairs = slice(*np.searchsorted(self.scans[sensor].unit, [unit, unit + 1]))
        places = self.scans[sensor].place[pairs]
        if not len(places):
            return None
        similar = self.scans[sensor].similarity[places].astype(np.float64)
        value = np.zeros(len(places))
        for each in self.terms.sought:
            if each.sensor == sensor:
                value += each.weight * similar[:, self.terms.column["vector", sensor][1]]
        for part in self.terms.logical if sensor == "camera" else ():
            value += part.weight * probability(part.part, lambda leaf: self._row_truth(leaf, similar))
        return int(self.scans[sensor].rows[places[np.argmax(np.round(value, 6))]])

    def _truth(self, leaf: Truth) -> Floats:
        if isinstance(leaf, Count):
            return compared(self.counts[leaf], leaf.comparison, leaf.number).astype(np.float64)
        if isinstance(leaf, Frames):
            number = self.frames(leaf)
            holds = compared(np.nan_to_num(number).astype(np.int64), leaf.comparison, leaf.number)
            return np.where(np.isnan(number), np.nan, holds)
        return self.terms.concepts.calibration(leaf).probability(self.column(leaf))

    def _row_truth(self, leaf: Truth, similar: Floats) -> Floats:
        """The same for single rows; what is counted of a clip says nothing of its rows."""
        if isinstance(leaf, Count):
            return np.ones(len(similar))
        concept: Concept | Text = leaf.of if isinstance(leaf, Frames) else leaf
        return self.terms.concepts.calibration(concept).probability(similar[:, self.terms.column[concept][1]])
