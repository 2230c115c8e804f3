"""How much of a set of directions lies around others: kernel density on the sphere, at several widths at once.

The kernel is exp(c (x . y - 1)), von Mises-Fisher's without its constant (Hall, Watson and Cabrera 1987, "Kernel
density estimation with spherical data"): 1 for equal directions, so that a sum of it counts how many are alike.
Products are in float64: sums then agree between any tilings and threads to 12 digits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_PRODUCTS_AT_ONCE = 4_000_000
_STEPS = 40
_AS_NEAR = 1e-9  # in x . y: more than tilings differ by


def kernel_sums(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    concentrations: Floats,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Floats:
    """Sums of the kernel over the references of other groups: (q, s) for `concentrations` (s,).

    queries (q, d) and references (r, d) are of unit length; `groups` are a number of each query (q,) and each reference
    (r,): equal ones never meet, such as those of one drive. Memory beyond the input: the references in float64, 200 MB.
    """
    sums = np.empty((len(queries), len(concentrations)))
    for rows, away, apart in _blocks(queries, references, groups):
        sums[rows] = _sums(away, apart, concentrations)
    return sums


def kernel_sums_and_medians(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    concentrations: Floats,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
    values: Floats,
    nearest: int,
) -> tuple[Floats, Floats]:
    """`kernel_sums`, and of each query (q,) the median of the `values` (r,) of its `nearest` references.

    Nearest are those of other groups, all where they are fewer, and all that are as near as the last one; NaN where
    there are none.
    """
    order = np.argsort(values, kind="stable")
    values, references, groups = values[order], references[order], (groups[0], groups[1][order])
    sums, medians = np.zeros((len(queries), len(concentrations))), np.full(len(queries), np.nan)
    if not len(references):
        return sums, medians
    for rows, away, apart in _blocks(queries, references, groups):
        sums[rows] = _sums(away, apart, concentrations)
        if nearest < len(references):
            ranked, place = np.where(apart, away, -np.inf), len(references) - nearest
            apart &= ranked >= np.partition(ranked, place, axis=1)[:, place, None] - _AS_NEAR
        numbered = np.cumsum(apart, axis=1, dtype=np.int32)
        count = numbered[:, -1:]
        found = (count > 0)[:, 0]
        middle = (np.argmax(numbered >= half, axis=1)[found] for half in ((count + 1) // 2, count // 2 + 1))
        medians[rows][found] = sum(values[each] for each in middle) / 2
    return sums, medians


def concentration_of(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
    shares: Floats,
) -> Floats:
    """For each of `shares` (s,) the concentration at which the median query has that share of the references around it.

    Shares are of the references of other groups. By bisection; the queries are a sample, a few hundred. A share that no
    concentration gives, as the references are too few or all alike, gets the nearest limit, 0.1 or 1e5.
    """
    away = queries.astype(np.float64) @ references.astype(np.float64).T - 1
    apart = groups[0][:, None] != groups[1][None, :]
    others = np.maximum(apart.sum(axis=1), 1)
    low, high = np.full(len(shares), np.log(0.1)), np.full(len(shares), np.log(1e5))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        around = [float(np.median((np.exp(np.exp(c) * away) * apart).sum(axis=1) / others)) for c in middle]
        wide = np.array(around) > shares
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    found: Floats = np.exp((low + high) / 2)
    return found


def _sums(away: Floats, apart: NDArray[np.bool_], concentrations: Floats) -> Floats:
    return np.stack([(np.exp(each * away) * apart).sum(axis=1) for each in concentrations], axis=1)


def _blocks(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Iterator[tuple[slice, Floats, NDArray[np.bool_]]]:
    """Some queries at a time: which, x . y - 1 of each and each reference, and whether they are of other groups."""
    wide = references.astype(np.float64).T
    step = max(1, _PRODUCTS_AT_ONCE // max(len(references), 1))
    for first in range(0, len(queries), step):
        rows = slice(first, min(first + step, len(queries)))
        yield rows, queries[rows].astype(np.float64) @ wide - 1, groups[0][rows, None] != groups[1]
