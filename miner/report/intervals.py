"""How sure a number of a set is: the interval that other sets of the same size and source would mostly fall in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from miner.selection.pick import lots

Rows = NDArray[np.int64]
REPEATS = 100
MOST = 2048  # rows of a repeat at most
__all__ = ["Estimate", "estimate", "lots"]


class Estimate(NamedTuple):
    """A number with its 90 % interval."""

    value: float
    low: float
    high: float

    def rounded(self) -> dict[str, float]:
        """As JSON values of five digits."""
        return {name: float(f"{value:.5g}") for name, value in self._asdict().items()}


def estimate(statistic: Callable[[Rows], float], n: int, seed: int = 0) -> Estimate:
    """The value of a statistic of rows 0 to n, and its interval by repeated halves without replacement (Politis, Romano
    and Wolf 1999, Subsampling): copies of a row, which the plain bootstrap makes, would change what diversity says.

    Deviations of the halves from their own mean are scaled to sets of n; the interval stands around the value. Fewer
    than four rows tell nothing of it: it is without limits.
    """
    rows = np.arange(n)
    value = statistic(rows)
    size = min(n // 2, MOST)
    if size < 2:
        return Estimate(value, -np.inf, np.inf)
    rng = np.random.default_rng(seed)
    found = np.array([statistic(np.sort(rng.choice(n, size, replace=False))) for _ in range(REPEATS)])
    away = (found - found.mean()) * np.sqrt(size / (n - size))
    low, high = np.quantile(away, [0.05, 0.95])
    return Estimate(value, value + float(low), value + float(high))
