"""Queries that are more than one vector: concepts joined by AND, OR, NOT, and sums over several sensors.

Every clip gets a score. A logical query's is its probability, its parts taken as independent. A sum's is the weighted
mean of its parts' scores, each in standard deviations above its mean over the lake (CombSUM of Fox and Shaw 1994 over
scores of zero mean and unit variance, Montague and Aslam 2001): cosines of texts, pictures and sweeps, and
probabilities, lie on one scale then. A part of which a clip has no reading counts as usual: 0.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernels.spans import Ints
from miner.concepts.known import Concepts, name_of
from miner.corpus import Corpus
from miner.errors import UsageError
from miner.query.counts import compared, object_counts
from miner.query.disagree import disagreement
from miner.query.explain import Plan
from miner.query.logic import required
from miner.query.look import Look
from miner.query.matching import Matches
from miner.query.outline import outline
from miner.query.scan import Floats, Mask, candidates, sampled, spread, standardised
from miner.query.sources import Sources
from miner.query.terms import Terms
from miner.query.text import query_text
from miner.query.tree import LOGICAL, Concept, Count, Disagree, Frames, Node, Text, leaves
from miner.query.units import Units, clip_units, frame_units

_DECIMALS = 6  # of a score: what differs by less ties, and goes by id


@dataclass(frozen=True)
class Asked:
    """A tree for the k best clips or frames; `matches` is what may be found of each sensor, `plan` takes notes."""

    sources: Sources
    tree: Node
    k: int
    per: str
    matches: Mapping[str, Matches]
    plan: Plan | None = None


class Placed(NamedTuple):
    """A clip or frame that was found: its best row in the corpus of `sensor` and the clip there, -1 for none; its
    score, and what that is made of."""

    sensor: str
    row: int
    clip: int
    score: float
    evidence: dict[str, float]


class Composed(NamedTuple):
    """What was found, and what whoever reads it should know."""

    placed: list[Placed]
    notes: tuple[str, ...]


def composed(asked: Asked) -> Composed:
    """The best clips or frames, by score descending, then id. Raises UsageError, NotFound as encoders and concepts."""
    started = time.perf_counter()
    corpora = {sensor: matches.corpus for sensor, matches in asked.matches.items()}
    units = _units(asked, corpora)
    terms = Terms.of(asked.sources, asked.tree, tuple(corpora))
    counts = {count: _objects(terms.concepts, count, corpora) for count in _counts(asked.tree)}
    allowed = {sensor: _allowed(matches, units.of_pair[sensor]) for sensor, matches in asked.matches.items()}
    for count in required(asked.tree):
        holds = np.append(compared(counts[count], count.comparison, count.number), False)
        allowed = {sensor: mask & holds[units.of_pair[sensor]] for sensor, mask in allowed.items()}
    pairs = _candidates(terms, corpora, units, allowed, asked.k)
    look = Look.at(terms, corpora, units, pairs, counts)
    apart = _apart(terms, corpora, units)
    if isinstance(asked.tree, LOGICAL):
        score = np.where(look.seen, look.of(asked.tree), np.nan)
        score[score == 0] = np.nan  # not true, rather than least likely
    else:
        usual = Look.at(terms, corpora, units, _sample(corpora, units), counts)
        score = _sum(terms, look, usual, apart)
    score = np.round(score, _DECIMALS)
    found = np.flatnonzero(~np.isnan(score))
    best = found[np.lexsort((units.rank[found], -score[found]))][: asked.k]
    if asked.plan is not None:
        outline(asked.plan, asked.tree, look, apart, started)
    placed = [_placed(corpora, units, look, apart, int(unit), float(score[unit])) for unit in best]
    return Composed(placed, terms.concepts.notes)


def _units(asked: Asked, corpora: Mapping[str, Corpus]) -> Units:
    if asked.per == "clip":
        return clip_units(corpora)
    if of_clips := [leaf for leaf in leaves(asked.tree) if isinstance(leaf, Count | Frames)]:
        raise UsageError(f"{query_text(of_clips[0])} is of a clip, not of a frame", "Search per clip.")
    return frame_units(*next(iter(corpora.items())))


def _allowed(matches: Matches, unit: Ints) -> Mask:
    """The pairs of a corpus that may be found, of those that are of a unit."""
    allowed = unit >= 0 if matches.passing.pairs is None else matches.passing.pairs & (unit >= 0)
    allowed[matches.left_out] = False
    return allowed


def _counts(tree: Node) -> list[Count]:
    return list(dict.fromkeys(leaf for leaf in leaves(tree) if isinstance(leaf, Count)))


def _objects(concepts: Concepts, count: Count, corpora: Mapping[str, Corpus]) -> Ints:
    """Annotated objects of a count's concept in each clip."""
    corpus = next(iter(corpora.values()))
    return object_counts(concepts.sound, concepts.definition(count.concept), corpus.clips["clip_id"])


def _candidates(
    terms: Terms, corpora: Mapping[str, Corpus], units: Units, allowed: Mapping[str, Mask], k: int
) -> dict[str, Mask]:
    """The pairs to compare: of each sensor all rows of the clips that one of the sensors has near, if allowed; of all
    clips where nothing leads to those that are sought."""
    near, led = np.zeros(len(units) + 1, np.bool_), any(terms.leads.values())
    for sensor, corpus in corpora.items():
        if led and terms.directions[sensor] and not terms.leads[sensor]:
            continue  # it only says what to avoid
        near[candidates(corpus, units.of_pair[sensor], allowed[sensor], terms.leads[sensor], k)] = True
    return {sensor: mask & near[units.of_pair[sensor]] for sensor, mask in allowed.items()}


def _sum(terms: Terms, look: Look, usual: Look, apart: Mapping[Disagree, Floats]) -> Floats:
    """The weighted mean of the parts' scores in standard deviations; NaN for units that show nothing that is sought."""
    total = np.zeros(len(look.seen))
    known = np.zeros(len(total), np.bool_)
    weights = 0.0
    for weight, value, often in _valued(terms, look, usual, apart):
        total += weight * standardised(value, *spread(often))
        known |= ~np.isnan(value) & (weight > 0)
        weights += abs(weight)
    return np.where(known & look.seen, total / weights, np.nan)


def _valued(
    terms: Terms, look: Look, usual: Look, apart: Mapping[Disagree, Floats]
) -> Iterator[tuple[float, Floats, Floats]]:
    """Of each part of a sum the weight, the score of each unit compared, and that of each unit of the sample."""
    for each in terms.sought:
        key = "vector", each.sensor
        yield each.weight, look.column(key), usual.column(key)
    for part in terms.logical:
        yield part.weight, look.of(part.part), usual.of(part.part)
    for part in terms.disagree:
        if isinstance(part.part, Disagree):
            yield part.weight, apart[part.part], apart[part.part]


def _apart(terms: Terms, corpora: Mapping[str, Corpus], units: Units) -> dict[Disagree, Floats]:
    """How much the sensors disagree on each clip, for every such part."""
    asked = [part.part for part in terms.disagree if isinstance(part.part, Disagree)]
    of = {sensor: (corpus, units.of_pair[sensor]) for sensor, corpus in corpora.items()}
    return {each: disagreement(of[each.alike], of[each.unlike], len(units)) for each in dict.fromkeys(asked)}


def _sample(corpora: Mapping[str, Corpus], units: Units) -> dict[str, Mask]:
    return {sensor: sampled(corpus, units.of_pair[sensor]) for sensor, corpus in corpora.items()}


def _placed(
    corpora: Mapping[str, Corpus],
    units: Units,
    look: Look,
    apart: Mapping[Disagree, Floats],
    unit: int,
    score: float,
) -> Placed:
    """A unit with the row to show of it, of the sensor that looked for it first."""
    for sensor in _by_lead(look.terms, tuple(look.scans)):
        row = look.best_row(sensor, unit)
        if row is not None:
            _, pairs = corpora[sensor].pairs_of_rows(np.array([row]))
            clip = corpora[sensor].clip[pairs[units.of_pair[sensor][pairs] == unit][0]]
            return Placed(sensor, row, int(clip), score, _evidence(look.terms, look, apart, unit))
    raise AssertionError("a unit without a row was found")


def _by_lead(terms: Terms, sensors: tuple[str, ...]) -> list[str]:
    """The sensors, those first that something is sought of, and of these the camera."""
    leading = {each.sensor for each in terms.sought if each.weight > 0}
    leading |= {"camera"} if any(part.weight > 0 for part in terms.logical) else set()
    leading |= {part.part.alike for part in terms.disagree if isinstance(part.part, Disagree) and part.weight > 0}
    return sorted(sensors, key=lambda sensor: (sensor not in leading, sensor))


def _evidence(terms: Terms, look: Look, apart: Mapping[Disagree, Floats], unit: int) -> dict[str, float]:
    """What a unit's score is made of: similarities by kind of part, probabilities by concept, counts."""
    found = {kind: look.column((kind, each.sensor))[unit] for each in terms.sought for kind in each.kinds}
    for leaf in (leaf for part in terms.logical for leaf in leaves(part.part)):
        if isinstance(leaf, Count):
            found[f"count({leaf.concept})"] = float(look.counts[leaf][unit])
        elif isinstance(leaf, Frames):
            found[f"frames({name_of(leaf.of)})"] = look.frames(leaf)[unit]
        elif isinstance(leaf, Concept | Text):
            found[name_of(leaf)] = look.of(leaf)[unit]
    found |= {query_text(each): value[unit] for each, value in apart.items()}
    return {name: float(value) for name, value in found.items() if not np.isnan(value)}
