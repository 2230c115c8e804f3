"""Measuring: the same work again and again, and what the times say together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

REPEATS = 9
_FEWEST = 5
_MOST_S = 6.0  # of one case
_DIGITS = 5


@dataclass(frozen=True)
class Measured:
    """Values of one case, one a repeat. `more_is_better`: rates; otherwise times."""

    case: str
    unit: str
    values: Sequence[float]
    more_is_better: bool = True

    def to_dict(self) -> dict[str, Any]:
        """With the median and the quartiles that stand for the spread."""
        low, _, high = quartiles(self.values)
        facts = {"median": statistics.median(self.values), "low": low, "high": high}
        rounded = {name: float(f"{value:.{_DIGITS}g}") for name, value in facts.items()}
        values = [float(f"{value:.{_DIGITS}g}") for value in self.values]
        about = {"case": self.case, "unit": self.unit, "more_is_better": self.more_is_better}
        return {**about, **rounded, "values": values}


Cases = Iterator[Measured]


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """How long the work takes, a value a repeat, after one that compiles and fills caches. Slow work is repeated less,
    but five times at least: of fewer values a rank test cannot tell."""
    work()
    found: list[float] = []
    began_s = time.perf_counter()
    while len(found) < repeats and (len(found) < _FEWEST or time.perf_counter() - began_s < _MOST_S):
        started_s = time.perf_counter()
        work()
        found.append(time.perf_counter() - started_s)
    return found


def per_second(case: str, unit: str, count: int, work: Callable[[], object]) -> Measured:
    """A rate: `count` of something in each call."""
    return Measured(case, f"{unit}/s", [count / each for each in seconds(work)])


def ns_each(case: str, unit: str, count: int, work: Callable[[], object]) -> Measured:
    """Nanoseconds for each of `count` things in a call."""
    return Measured(case, f"ns/{unit}", [1e9 * each / count for each in seconds(work)], more_is_better=False)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
