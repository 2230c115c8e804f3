"""From how near a clip is to a concept to how likely it shows it: p = 1 / (1 + exp(-(slope * score + offset))).

A score is the difference to contrasting prompts. With labels the two numbers are fitted to them (Platt 1999, with his
smoothed targets). Without, nothing tells how many clips show a concept: a fixed share is assumed, and a clip is the
likelier to show it the farther its score stands out among those of the lake. (A mixture of two normal distributions,
fitted to the scores, was tried: on 110 labelled frames its Brier score is 0.19, that of this rule 0.15.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["labels", "contrast"]

ENOUGH = 5  # labelled clips on either side
_SLOPE, _EVEN = 1.2, 1.8  # per standard deviation: one clip of eight on average, where scores are normal


@dataclass(frozen=True)
class Calibration:
    """How a score becomes a probability, and how that is known. `brier` is the mean squared error on the labels."""

    slope: float
    offset: float
    method: Method
    positives: int = 0
    negatives: int = 0
    brier: float | None = None

    def probability(self, scores: NDArray[np.floating]) -> Floats:
        """Scores to probabilities, NaN to NaN."""
        return _sigmoid(self.slope * scores.astype(np.float64) + self.offset)

    @property
    def even(self) -> float:
        """The score at which a concept is as likely as not."""
        return -self.offset / self.slope


def by_labels(scores: Floats, shown: NDArray[np.bool_]) -> Calibration | None:
    """Platt scaling of scores (n,) against labels (n,); None where there are too few, or they contradict the scores."""
    from scipy.optimize import minimize

    positives, negatives = int(shown.sum()), int((~shown).sum())
    if min(positives, negatives) < ENOUGH:
        return None
    targets = np.where(shown, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, width = float(scores.mean()), float(scores.std()) or 1.0
    z = (scores - centre) / width

    def loss(ab: Floats) -> tuple[float, Floats]:
        margin = ab[0] * z + ab[1]
        error = _sigmoid(margin) - targets
        return float((np.logaddexp(0, margin) - targets * margin).sum()), np.array([error @ z, error.sum()])

    start = np.array([1.0, np.log((positives + 1) / (negatives + 1))])
    slope, offset = minimize(loss, start, jac=True, method="L-BFGS-B").x
    if slope <= 0:
        return None
    fitted = Calibration(slope / width, offset - slope * centre / width, "labels", positives, negatives)
    brier = float(((fitted.probability(scores) - shown) ** 2).mean())
    return Calibration(fitted.slope, fitted.offset, "labels", positives, negatives, brier)


def by_contrast(scores: Floats) -> Calibration:
    """What scores (n,) say by themselves: as likely as not `_EVEN` standard deviations above their mean."""
    centre, width = (float(scores.mean()), float(scores.std())) if len(scores) else (0.0, 0.0)
    scale = width if width > 1e-9 else 1.0
    return Calibration(_SLOPE / scale, -_SLOPE * (centre / scale + _EVEN), "contrast")


def _sigmoid(margin: NDArray[np.floating]) -> Floats:
    from scipy.special import expit

    probability: Floats = expit(margin)
    return probability
