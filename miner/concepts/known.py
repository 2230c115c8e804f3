"""The concepts a query can name: those kept in the lake, else those of the vocabulary, calibrated on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from miner.concepts.calibration import Calibration
from miner.concepts.fitting import Known, fitted
from miner.concepts.kept import definition_of, kept_rows, known_of
from miner.concepts.vocabulary import Definition, load_vocabulary, without_name
from miner.errors import UnknownName
from miner.query.sources import Sources
from miner.query.tree import Concept, Text
from miner.sound import Sound


class Concepts:
    """The concepts of one query. What it names is known after `known`; `notes` say what was not kept in the lake."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._known: dict[Concept | Text, Known] = {}
        self._anew: list[str] = []

    def known(self, leaves: Sequence[Concept | Text]) -> list[Known]:
        """Each as a direction with a calibration. Raises UnknownName, and as the encoder does."""
        definitions = {leaf: self._defined(leaf) for leaf in leaves}
        self._known |= {leaf: kept for leaf, each in definitions.items() if (kept := self._kept(each)) is not None}
        missing = [leaf for leaf in leaves if leaf not in self._known]
        if missing:
            self._anew += [leaf.name for leaf in missing if isinstance(leaf, Concept)]
            corpus, encoder = self._sources.corpus("camera"), self._sources.encoder("camera")
            new = fitted(self._sources.store, corpus, encoder, [definitions[leaf] for leaf in missing])
            self._known |= dict(zip(missing, new, strict=True))
        return [self._known[leaf] for leaf in leaves]

    def definition(self, name: str) -> Definition:
        """What a name means. Raises UnknownName with the nearest names."""
        own = self._rows.get(name)
        if own is not None and own["origin"] == "lake":
            return definition_of(own)
        vocabulary = load_vocabulary()
        if name not in vocabulary:
            known = {*vocabulary, *(each for each, row in self._rows.items() if row["origin"] == "lake")}
            error = UnknownName.of("concept", name, known)
            raise UnknownName(error.message, f"{error.hint}. Any other text stands in double quotes.")
        return vocabulary[name]

    def calibration(self, leaf: Concept | Text) -> Calibration:
        """How the scores of a known concept become probabilities."""
        return self._known[leaf].calibration

    def method(self, leaf: Concept | Text) -> str:
        """How the calibration of a known concept came about."""
        calibration = self._known[leaf].calibration
        if calibration.method == "contrast":
            return "from how its scores spread against contrasting prompts; no labels"
        return f"by {calibration.positives + calibration.negatives:,} labelled clips (Brier {calibration.brier:.3f})"

    @property
    def sound(self) -> Sound:
        """The tables of the lake."""
        return self._sources.corpus(None).sound or Sound(self._sources.store)

    @property
    def notes(self) -> tuple[str, ...]:
        """How probabilities came about, for whoever reads the answer."""
        notes = [f"{name_of(leaf)}: probability {self.method(leaf)}" for leaf in self._known]
        if self._anew:
            notes.append(f"calibrated for this query only: {', '.join(self._anew)}; kept by: miner concepts fit LAKE")
        return tuple(notes)

    def _defined(self, leaf: Concept | Text) -> Definition:
        return self.definition(leaf.name) if isinstance(leaf, Concept) else without_name(leaf.text)

    def _kept(self, definition: Definition) -> Known | None:
        """The concept as the lake keeps it, if that was fitted to the same words in the same vector space."""
        row = self._rows.get(definition.name)
        index = self._sources.corpus("camera").index
        if row is None or row["encoder_version"] != index.encoder_version or definition_of(row) != definition:
            return None
        return known_of(row)

    @cached_property
    def _rows(self) -> dict[str, dict[str, object]]:
        index = self._sources.corpus(None).index
        return kept_rows(self.sound, index.encoder) if index.modality == "camera" else {}


def name_of(leaf: Concept | Text) -> str:
    """A concept as it is called in an answer."""
    return leaf.name if isinstance(leaf, Concept) else leaf.text
