"""When a stage will be done: a line through how its units came in lately, that neither bursts nor stragglers bend.

Workers give back blocks in bursts and the first one late, so neither done / elapsed nor the last interval tells the
rate. The line is Theil and Sen's, the median of the slopes between all pairs of points; a burst is one point.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from statistics import median

_POINTS = 48  # even; where there are more, neighbours become one. What came in the later half of what is done counts
_FEW = 6  # points that are all used
_LINE = 2  # points that make a line
_BURST = 0.1  # of the time until the first block: what comes that close together is one burst
_TICK_S = 1e-3


@dataclass
class _Burst:
    """Blocks that came about the same time: sums over them."""

    first_s: float
    count: int
    sum_s: float
    sum_done: float

    @property
    def middle(self) -> tuple[float, float]:
        return self.sum_s / self.count, self.sum_done / self.count

    def joined(self, other: _Burst) -> _Burst:
        sums = (self.count + other.count, self.sum_s + other.sum_s, self.sum_done + other.sum_done)
        return _Burst(self.first_s, *sums)


class Eta:
    """Told how many of `total` units are done, and when (`now_s`, on any clock); the first time, what was done before.

    `rate` is units per second, `left_s` how many seconds are left; None while nothing is known.
    """

    def __init__(self, total: int, done: int, now_s: float) -> None:
        self._total, self._done = total, done
        self._begin = (now_s, done)
        self._last = self._begin
        self._bursts: list[_Burst] = []

    def continues(self, done: int, total: int) -> bool:
        """Whether that is said of the same stage, further on."""
        return total == self._total and done >= self._done

    def add(self, done: int, now_s: float) -> None:
        """So many units are done now; nothing new where there are no more than before."""
        if done <= self._done:
            return
        self._done, self._last = done, (now_s, done)
        block, bursts = _Burst(now_s, 1, now_s, done), self._bursts
        if bursts and now_s - bursts[-1].first_s <= _BURST * (bursts[0].first_s - self._begin[0]):
            bursts[-1] = bursts[-1].joined(block)
        else:
            bursts.append(block)
        if len(bursts) > _POINTS:
            self._bursts = _halved(bursts)

    @property
    def rate(self) -> float | None:
        """Units per second."""
        line = self._line()
        return line and line[0]

    def left_s(self, now_s: float) -> float | None:
        """Seconds from now until all are done; 0 where they should be by now."""
        if self._done >= self._total:
            return 0.0
        line = self._line()
        return None if line is None else max((self._total - line[1]) / line[0] - now_s, 0.0)

    def _line(self) -> tuple[float, float] | None:
        """Slope and intercept of units over time."""
        points = self._recent()
        slopes = [(n - m) / (t - s) for (s, m), (t, n) in combinations(points, 2) if t - s > _TICK_S]
        slope = median(slopes) if len(points) >= _LINE and slopes else 0.0
        if slope > 0:
            return slope, median(n - slope * t for t, n in points)
        return self._mean()

    def _mean(self) -> tuple[float, float] | None:
        """Since the beginning: with the first burst nothing better is known."""
        began_s, before = self._begin
        last_s, done = self._last
        if done == before or last_s - began_s < _TICK_S:
            return None
        slope = (done - before) / (last_s - began_s)
        return slope, done - slope * last_s

    def _recent(self) -> list[tuple[float, float]]:
        points = [burst.middle for burst in self._bursts]
        half = (self._begin[1] + self._done) / 2
        late = [point for point in points if point[1] >= half]
        return late if len(late) >= _FEW else points[-_FEW:]


def _halved(bursts: list[_Burst]) -> list[_Burst]:
    """Neighbours as one, but the last of them, which is not complete."""
    pairs = zip(bursts[:-1:2], bursts[1:-1:2], strict=True)
    return [*(one.joined(two) for one, two in pairs), bursts[-1]]
