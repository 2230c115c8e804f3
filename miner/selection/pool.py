"""The candidates of a selection: the clips of a snapshot, what is known of each, and which steps leave which out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.independent_set import independent_set
from kernels.neighbors import Pairs, radius_pairs
from miner.corpus import choose_table
from miner.errors import NotFound, UnknownName, UsageError
from miner.query.filters import parse_filter
from miner.rarity import RARITY
from miner.selection.axes import Bools
from miner.selection.concepts import concept_probability
from miner.selection.guard import near
from miner.selection.spec import ConceptIs, Condition, Spec
from miner.selection.vectors import Vectors, clip_vectors, nearest_similarity
from miner.snapshot import Snapshot
from miner.store import one_of

Floats = NDArray[np.float64]


@dataclass
class Pool:
    """The clips of a snapshot by clip_id: `facts` rows, and what a spec asks of each, worked out when asked.

    `notes` are what a step could not do, as far as `steps` went.
    """

    snapshot: Snapshot
    spec: Spec
    facts: pa.Table = field(init=False)
    notes: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if not self.snapshot.has("clip_facts"):
            raise NotFound(f"{self.snapshot.store.uri} has no clip_facts to choose from", "Make them: miner index LAKE")
        facts = self.snapshot.scan("clip_facts")
        there = pc.is_in(facts["clip_id"], self.snapshot.scan("clips", ["clip_id"])["clip_id"].combine_chunks())
        self.facts = facts.filter(there).sort_by("clip_id")  # a scene that is being replaced is gone from `clips`

    @cached_property
    def vectors(self) -> Vectors:
        """Unit vectors f32 (n, dim) of the clips, zeros where there are none."""
        return clip_vectors(self.snapshot, self.table, self.facts)

    @cached_property
    def table(self) -> str:
        """The table of the vectors. Raises NotFound and UsageError as `choose_table`."""
        return choose_table(self.snapshot.store, self.spec.encoder)

    @cached_property
    def matching(self) -> Bools:
        """The clips that match the spec's `from`."""
        if self.spec.from_ is None:
            return np.ones(len(self.facts), np.bool_)
        return self.matches(self.spec.from_)

    @cached_property
    def scarcity(self) -> Floats:
        """Scores (n,) of the spec's scorer, NaN for a clip without one. Raises NotFound, UnknownName, UsageError."""
        return self.scores(self.spec.scarcity.scorer if self.spec.scarcity else None)

    def scores(self, scorer: str | None) -> Floats:
        """Scores (n,) of a scorer, or of the only one; NaN for a clip without one."""
        if not self.snapshot.has("scores"):
            raise NotFound(f"{self.snapshot.store.uri} has no scores", "Make them with: miner rare LAKE")
        rows = self.snapshot.scan("scores", ["clip_id", "scorer", "value"])
        known = sorted(set(rows["scorer"].to_pylist()))
        if scorer is None and RARITY in known:
            scorer = RARITY
        if scorer is None and len(known) != 1:
            raise UsageError(f"several scorers have scores: {', '.join(known)}", "Name one: scarcity: {scorer: NAME}")
        if scorer is not None and scorer not in known:
            raise UnknownName.of("scorer", scorer, known)
        rows = rows.filter(pc.equal(rows["scorer"], scorer or known[0]))
        place = pc.index_in(self.facts["clip_id"], rows["clip_id"].combine_chunks())
        values = rows["value"].cast(pa.float64()).take(place)
        found: Floats = pc.fill_null(values, float("nan")).to_numpy().astype(np.float64)
        return found

    @cached_property
    def likeness(self) -> Floats:
        """Cosine (n,) to the nearest of the spec's `like` clips."""
        if self.spec.like is None:
            raise UsageError("the spec names no clips to be like")
        examples = self.named(self.spec.like.clips)
        return nearest_similarity(self.vectors, self.vectors[examples])

    @property
    def value(self) -> Floats:
        """How much each clip (n,) is preferred: weighted sum of scarcity and likeness, each brought to 0..1."""
        total = np.zeros(len(self.facts))
        if self.spec.scarcity is not None:
            total += self.spec.scarcity.weight * _unit(np.nan_to_num(self.scarcity, nan=np.nanmin(self.scarcity)))
        if self.spec.like is not None:
            total += self.spec.like.weight * _unit(self.likeness)
        scaled: Floats = total / max(float(total.max(initial=0.0)), 1.0)
        return scaled

    def matches(self, condition: Condition) -> Bools:
        """The clips (n,) that match a filter, or show a concept. Raises UsageError, NotFound and UnknownName."""
        if isinstance(condition, ConceptIs):
            likely = concept_probability(self.snapshot, self.table, self.facts, condition.concept)
            found: Bools = likely >= condition.at_least
            return found
        where = parse_filter(condition)
        if foreign := set(where.columns) - set(self.facts.column_names):
            what = f"{', '.join(sorted(foreign))} is no column of a clip"
            raise UsageError(f"filter {condition!r}: {what}", "Choose clips, not readings.")
        columns = where.clip_columns(self.facts)
        for number, scorer in enumerate(where.scores):
            columns = columns.append_column(f"score_{number}", pa.array(self.scores(scorer), from_pandas=True))
        return where.mask(columns)

    def named(self, names: Sequence[str]) -> Bools:
        """The clips (n,) of ids or datasets NAME@N. Raises NotFound for one that the lake does not have."""
        wanted = {clip for name in names for clip in self._ids(name)}
        mask = pc.is_in(self.facts["clip_id"], pa.array(sorted(wanted), pa.string()))
        found: Bools = mask.to_numpy(zero_copy_only=False).astype(np.bool_)
        if int(found.sum()) < len(wanted):
            lost = sorted(wanted - set(self.facts["clip_id"].to_pylist()))
            raise NotFound(f"{len(lost)} of the named clips are not in the lake, e.g. {lost[0]}")
        return found

    def evaluation(self) -> Bools:
        """The evaluation set (n,) of the spec's guard."""
        assert self.spec.guard is not None
        against = self.spec.guard.against
        if isinstance(against, str) and not is_dataset(against):
            return self.matches(against)
        return self.named((against,) if isinstance(against, str) else against)

    def steps(self) -> Iterable[tuple[str, Bools]]:
        """What leaves clips out, in order: a name and who is left (n,). Copies are judged among those left."""
        spec, left = self.spec, self.matching.copy()
        yield "from", left.copy()
        if spec.scarcity is not None and spec.scarcity.at_least is not None:
            left &= np.nan_to_num(self.scarcity, nan=-np.inf) >= spec.scarcity.at_least
            yield "scarcity", left.copy()
        if spec.needs_vectors:
            left &= self.vectors.any(axis=1)
            yield "no vectors", left.copy()
        if spec.like is not None and spec.like.at_least is not None:
            left &= self.likeness >= spec.like.at_least
            yield "like", left.copy()
        if spec.guard is not None:
            close = near(spec.guard, self.snapshot, self.facts, self.evaluation(), lambda: self.vectors)
            if close.blind:
                raise NotFound("; ".join(close.blind), "Leave the rule out, or use another: scenes, seconds, ...")
            self.notes += close.notes(left)
            left &= ~close.any
            yield "guard", left.copy()
        if spec.dedup is not None:
            rows = np.flatnonzero(left)
            left[rows[~self._kept(rows, spec.dedup.radius)]] = False
            yield "dedup", left.copy()

    def _kept(self, rows: NDArray[np.int64], radius: float) -> Bools:
        """Which of some clips to keep so that no two are within `radius` and each is within it of a kept one."""
        found = [*radius_pairs(self.vectors[rows], 1 - radius)]
        sides = (np.concatenate([np.empty(0, kind), *(part[side] for part in found)])
                 for side, kind in enumerate((np.int64, np.int64, np.float32)))  # fmt: skip
        kept: Bools = independent_set(Pairs(*sides), len(rows), self.value[rows]).kept
        return kept

    def _ids(self, name: str) -> list[str]:
        if not is_dataset(name):
            return [name]
        rows = self.snapshot.store.scan("selections", ["clip_id"], one_of("version_id", [name]))
        if not len(rows):
            raise NotFound(
                f"{self.snapshot.store.uri} has no dataset {name!r}", "They are listed by: miner dataset ls LAKE"
            )
        found: list[str] = rows["clip_id"].to_pylist()
        return found


def is_dataset(name: str) -> bool:
    """Whether a name is that of a dataset version: NAME@N."""
    head, at, number = name.rpartition("@")
    return bool(head) and at == "@" and number.isdigit()


def _unit(values: Floats) -> Floats:
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    return (values - low) / (high - low) if high > low else np.zeros(len(values))
