"""Half-open time spans `[start, end)`: which span a time falls in, the nearest time, all pairs of spans that overlap.

Times are int64 (nanoseconds in the tables, but any unit works). Spans may belong to groups (scenes as numbers): only
equal groups meet. A span that is empty or reversed contains nothing and overlaps nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Spans(NamedTuple):
    """`starts` and `ends` int64 (n,), half-open; `groups` int64 (n,), or None for one group."""

    starts: Ints
    ends: Ints
    groups: Ints | None = None


def instants(times: Ints, groups: Ints | None = None) -> Spans:
    """Times (n,) as the spans `[t, t + 1)`, so that readings can be joined with windows."""
    return Spans(times, times + 1, groups)


def nearest(times: Ints, queries: Ints, tolerance: int) -> Ints:
    """For each query (q,) the index of the nearest of `times` (n,), any order; -1 where none is within `tolerance`.

    The earlier of two that are equally near, the lower index of two equal times.
    """
    if not len(times):
        return np.full(len(queries), -1, np.int64)
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    after = np.searchsorted(ordered, queries, side="left").clip(max=len(times) - 1)
    before = np.searchsorted(ordered, ordered[(after - 1).clip(min=0)], side="left")
    closest = np.where(np.abs(ordered[before] - queries) <= np.abs(ordered[after] - queries), before, after)
    return np.where(np.abs(ordered[closest] - queries) <= tolerance, order[closest], -1)


def locate(spans: Spans, times: Ints, groups: Ints | None = None) -> Ints:
    """For each time (q,) of `groups` (q,) the index of the span it falls in, or -1.

    Spans of one group must not overlap, else ValueError: then a time has no one answer and `overlaps` is the tool.
    """
    found = np.full(len(times), -1, np.int64)
    span, instant = overlaps(spans, instants(times, groups))
    found[instant] = span
    if len(np.unique(instant)) < len(instant):
        raise ValueError("spans overlap: a time falls in more than one")
    return found


def overlaps(left: Spans, right: Spans) -> tuple[Ints, Ints]:
    """All pairs (i, j) of spans of one group that share a moment: two int64 arrays, sorted by i, then j.

    Of two spans that overlap one starts within the other. So two binary searches find every pair once: the right spans
    that start in [start, end) of a left one, and the left spans that start after the start of a right one and before
    its end. O((n + m) log(n + m) + pairs).
    """
    a, b = np.flatnonzero(left.starts < left.ends), np.flatnonzero(right.starts < right.ends)
    (a_start, a_end), (b_start, b_end) = _keys(_take(left, a), _take(right, b))
    i, j = _starting_in(b_start, a_start, a_end)
    m, n = _starting_in(a_start, b_start + 1, b_end)
    first, second = a[np.concatenate([i, n])], b[np.concatenate([j, m])]
    order = np.lexsort((second, first))
    return first[order], second[order]


def _take(spans: Spans, rows: Ints) -> tuple[Ints, Ints, Ints]:
    groups = np.zeros(len(rows), np.int64) if spans.groups is None else spans.groups[rows]
    return spans.starts[rows], spans.ends[rows], groups


def _keys(left: tuple[Ints, Ints, Ints], right: tuple[Ints, Ints, Ints]) -> list[tuple[Ints, Ints]]:
    """Starts and ends of both sides as numbers that order by (group, time), dense so that they cannot overflow."""
    times = np.concatenate([left[0], left[1], right[0], right[1]])
    groups = np.concatenate([left[2], left[2], right[2], right[2]])
    distinct, rank = np.unique(times, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    sizes = [len(left[0]), len(left[1]), len(right[0])]
    a_start, a_end, b_start, b_end = np.split(group * (len(distinct) + 1) + rank, np.cumsum(sizes))
    return [(a_start, a_end), (b_start, b_end)]


def _starting_in(starts: Ints, lows: Ints, highs: Ints) -> tuple[Ints, Ints]:
    """Pairs (w, s) where `lows[w] <= starts[s] < highs[w]`."""
    order = np.argsort(starts, kind="stable")
    ordered = starts[order]
    first = np.searchsorted(ordered, lows, side="left")
    counts = np.searchsorted(ordered, highs, side="left") - first
    window = np.repeat(np.arange(len(lows)), counts)
    offset = np.arange(len(window)) - np.repeat(np.cumsum(counts) - counts, counts)
    return window, order[first[window] + offset]
