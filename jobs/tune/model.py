"""What trials say of settings that were not tried: a bottleneck model.

By the utilization law (Denning and Buzen 1978) a stage that is busy for a share of the time at some rate could do that
rate divided by the share. So one trial measures the capacity of every stage, not only of the one that limits it. How
capacities go with the knobs is fitted (a quadratic in the logarithms of the knobs, by ridge regression), and a pipeline
is as fast as its slowest stage, times what it loses between them, which is fitted too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.tune.space import Setting, Space
from miner.bottleneck import limiting, loads

Floats = NDArray[np.float64]
_RIDGE = (0.01, 0.3)  # on linear and quadratic terms: effects are taken for log-linear until trials say otherwise
_LEAST_BUSY = 1e-3
_LEAST_STEADY = 0.3  # in a trial of two or three blocks a server of many is busy for so long
HAND_OVER = "hand-over"


@dataclass(frozen=True)
class Outcome:
    """What a trial measured: units per second, and by stage the share of the time that it was at work, 0 to 1.

    `pools` names for a stage the servers it shares with others, who do their stages one after the other. `failed` says
    why there is no rate, such as memory that did not suffice.
    """

    setting: Setting
    units: int
    rate: float
    busy: Mapping[str, float]
    seconds: float
    failed: str = ""
    pools: Mapping[str, str] = field(default_factory=dict)

    @property
    def limit(self) -> str:
        """The stage that limits, or HAND_OVER where none is busy and each waits for the others."""
        return limiting(self.busy, self.pools) or HAND_OVER

    @property
    def steady_rate(self) -> float:
        """What the busiest servers could do if they never waited, as they hardly do in a run much longer than a
        trial."""
        return self.rate / max([*loads(self.busy, self.pools).values(), _LEAST_STEADY])


def predicted(space: Space, outcomes: Sequence[Outcome], settings: Sequence[Setting]) -> Floats:
    """The rate of each setting, units per second, as far as the trials tell."""
    good = [outcome for outcome in outcomes if not outcome.failed]
    tried, wanted = space.places([outcome.setting for outcome in good]), space.places(settings)
    stages = sorted({stage for outcome in good for stage in outcome.busy})
    rates = np.log([outcome.rate for outcome in good])
    busy = np.log([[max(outcome.busy.get(stage, 0.0), _LEAST_BUSY) for stage in stages] for outcome in good])
    capacities = rates[:, None] - busy  # what each stage could do, by the utilization law
    told = np.array([_fitted(tried, own, wanted) for own in capacities.T]).T
    slowest, expected = (_slowest(dict(zip(stages, each.T, strict=True)), good[0].pools) for each in (capacities, told))
    lost = _fitted(tried, rates - slowest, wanted)
    rate: Floats = np.exp(expected + np.minimum(lost, 0.0))
    return rate


def _slowest(capacities: Mapping[str, Floats], pools: Mapping[str, str]) -> Floats:
    """The logarithm of the least capacity of any pool, from those of stages, (settings,) each."""
    seconds = {stage: np.exp(-capacity) for stage, capacity in capacities.items()}
    slowest: Floats = -np.log(np.max(list(loads(seconds, pools).values()), axis=0))
    return slowest


def _fitted(tried: Floats, measured: Floats, wanted: Floats) -> Floats:
    """Ridge regression of what was measured at some places, told at others. The mean is not shrunk."""
    terms, knobs = _terms(tried), tried.shape[1]
    penalty = np.diag(np.repeat(_RIDGE, knobs))
    middle, mean = terms.mean(axis=0), measured.mean()
    centred = terms - middle
    slopes = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (measured - mean))
    told: Floats = mean + (_terms(wanted) - middle) @ slopes
    return told


def _terms(places: Floats) -> Floats:
    return np.concatenate([places, places**2], axis=1)
