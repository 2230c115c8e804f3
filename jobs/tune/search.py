"""Successive halving on a bottleneck model: cheap trials where the model expects most, the best of them tried longer.

First every knob is turned alone, on a small sample, so that the model knows what it does. Then, again and again, what
relieves the stage that limits the fastest so far; where all that was tried, the setting the model expects most of. The
four best are tried on twice the sample, the two best of these on four times, and so is the start. (Jamieson and
Talwalkar 2016 for halving.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from jobs.tune.model import Outcome, predicted
from jobs.tune.space import Setting, Space

MOST_TRIALS = 28
GRID_SHARE = 0.15  # of the grid's settings: with many more trials one could try them all
FEWEST_TRIALS = 8  # of which a small grid may be more than its share
_FINALISTS = 4
_SURE = 0.02  # rates nearer than that are alike


@dataclass(frozen=True)
class Planned:
    """How many trials on how many units each, the finalists' last."""

    explored: int
    units: Sequence[int]
    finalists: Sequence[int]

    @property
    def trials(self) -> int:
        """All trials; with finalists the last is the start, on as many units as they had."""
        return self.explored + sum(self.finalists) + bool(self.finalists)

    @property
    def all_units(self) -> int:
        """The units of all trials."""
        later = sum(count * units for count, units in zip(self.finalists, self.units[1:], strict=True))
        return self.explored * self.units[0] + later + bool(self.finalists) * self.units[-1]


def planned(space: Space, units: int, most_trials: int = MOST_TRIALS) -> Planned:
    """The trials of a search whose last has `units` units."""
    trials = min(most_trials, max(int(space.size * GRID_SHARE), FEWEST_TRIALS), space.size)
    finalists = [_FINALISTS, _FINALISTS // 2] if trials >= 14 else [2] if trials >= 6 else []
    explored = min(trials - sum(finalists) - bool(finalists), space.size)
    halvings = len(finalists)
    return Planned(explored, [max(units >> (halvings - rung), 1) for rung in range(halvings + 1)], finalists)


@dataclass
class Search:
    """A search: its outcomes so far, which an interruption leaves as they are."""

    space: Space
    start: Setting
    plan: Planned
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self, trial: Callable[[Setting, int], Outcome]) -> Iterator[Outcome]:
        """Try settings, one after the other. `trial` measures one on so many units."""
        for setting in self._explored():
            yield self._tried(trial(setting, self.plan.units[0]))
        for count, units in zip(self.plan.finalists, self.plan.units[1:], strict=True):
            for setting in self._foremost(count):
                yield self._tried(trial(setting, units))
        if self._measured(self.start, self.plan.units[-1]) is None:
            yield self._tried(trial(self.start, self.plan.units[-1]))

    @property
    def gain(self) -> float | None:
        """How much faster the best is than the start, on the same units; None before both were tried on them."""
        best = self.best
        before = self._measured(self.start, best.units) if best else None
        return best.rate / before.rate if best and before else None

    @property
    def best(self) -> Outcome | None:
        """The fastest of those that were tried on most units; None where no trial went well."""
        good = [outcome for outcome in self.outcomes if not outcome.failed]
        longest = max((outcome.units for outcome in good), default=0)
        return max((each for each in good if each.units == longest), key=lambda each: each.rate, default=None)

    def _measured(self, setting: Setting, units: int) -> Outcome | None:
        good = (each for each in self.outcomes if not each.failed and each.units == units)
        return next((each for each in good if each.setting == setting), None)

    def _tried(self, outcome: Outcome) -> Outcome:
        self.outcomes.append(outcome)
        return outcome

    def _explored(self) -> Iterator[Setting]:
        probes = self.space.probes(self.start)[: self.plan.explored // 2 + 1]
        yield from probes
        for _ in range(self.plan.explored - len(probes)):
            left = self._left()
            if not left:
                return
            relieved = next((setting for setting in self._relieved() if setting in left), None)
            yield relieved or self._promising(left)

    def _left(self) -> list[Setting]:
        """What was not tried, nor takes more memory than what failed."""
        tried = [outcome.setting for outcome in self.outcomes]
        failed = [outcome.setting for outcome in self.outcomes if outcome.failed]
        return [
            setting
            for setting in self.space.settings()
            if setting not in tried and not any(self.space.strains_no_less(setting, worse) for worse in failed)
        ]

    def _relieved(self) -> Sequence[Setting]:
        best = self.best
        return self.space.relieved(best.setting, best.limit) if best else ()

    def _promising(self, left: Sequence[Setting]) -> Setting:
        """What the model expects most of; of settings alike, the one that is most unlike those tried."""
        if all(outcome.failed for outcome in self.outcomes):
            return left[0]
        tried = [outcome.setting for outcome in self.outcomes]
        rates = predicted(self.space, self.outcomes, left)
        alike = np.flatnonzero(rates >= rates.max() * (1 - _SURE))
        places = self.space.places(left)[alike]
        apart = np.abs(places[:, None] - self.space.places(tried)).sum(axis=2).min(axis=1)
        return left[int(alike[np.argmax(apart)])]

    def _foremost(self, count: int) -> list[Setting]:
        """Of those tried on most units, the fastest and those that would be in a long run, in turn: a short trial is
        unfair to large blocks."""
        good = [outcome for outcome in self.outcomes if not outcome.failed]
        longest = max((outcome.units for outcome in good), default=0)
        last = [outcome for outcome in good if outcome.units == longest]
        fastest = sorted(last, key=lambda each: -each.rate)
        steadiest = sorted(last, key=lambda each: -each.steady_rate)
        chosen: list[Setting] = []
        for outcome in chain.from_iterable(zip(fastest, steadiest, strict=True)):
            if outcome.setting not in chosen:
                chosen.append(outcome.setting)
        return chosen[:count]
