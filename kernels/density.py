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
_PRODUCTS_AT_ONCE = 8_000_000
_STEPS = 40


def kernel_sums(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    concentrations: Floats,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Floats:
    """Sums of the kernel over the references of other groups: (q, s) for `concentrations` (s,).

    queries (q, d) and references (r, d) are of unit length; `groups` are a number of each query (q,) and each reference
    (r,): equal ones never meet, such as those of one drive. Memory beyond the input is about 100 MB.
    """
    wide = references.astype(np.float64)
    sums = np.empty((len(queries), len(concentrations)))
    for rows in _blocks(len(queries), len(references)):
        away = queries[rows].astype(np.float64) @ wide.T - 1
        apart = groups[0][rows, None] != groups[1][None, :]
        for place, concentration in enumerate(concentrations):
            sums[rows, place] = (np.exp(concentration * away) * apart).sum(axis=1)
    return sums


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


def _blocks(queries: int, references: int) -> Iterator[slice]:
    step = max(1, _PRODUCTS_AT_ONCE // max(references, 1))
    return (slice(first, min(first + step, queries)) for first in range(0, queries, step))
