"""What the rule of SemDeDup would do to the same clips, to compare with: drop what is near any earlier item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.spans import Ints
from kernels.thinning import Edges, Space, near_of

_MOST = 20_000
_BLOCK = 1024


class SemDedup(NamedTuple):
    """Of `clips` it removes `removed`, of which `uncovered` have no kept duplicate. `clips` are a sample of many."""

    clips: int
    removed: int
    uncovered: int


def semdedup(spaces: Sequence[Space], edges: Edges, order: Ints) -> SemDedup:
    """Abbas et al. 2023, "SemDeDup: data-efficient learning at web-scale through semantic deduplication": within a
    cluster an item goes if its similarity to any earlier one, kept or not, is above the threshold.

    Here as if all were one cluster, the best case for it. Of more than 20,000 clips, of each n-th.
    """
    rows = order[:: max(1, -(-len(order) // _MOST))]
    place = {int(row): i for i, row in enumerate(rows)}
    dropped, covered = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    pairs = [
        (place[a], place[b]) for a, b in zip(*map(np.ndarray.tolist, edges), strict=True) if {a, b} <= place.keys()
    ]
    for first in range(0, len(rows), _BLOCK):
        some = slice(first, first + _BLOCK)
        earlier = np.tril(np.ones((len(rows[some]), len(rows)), np.bool_), first - 1)
        dropped[some] = (near_of(spaces, rows[some], rows) & earlier).any(axis=1)
    for one, other in pairs:
        dropped[max(one, other)] = True
    kept = rows[~dropped]
    for first in range(0, len(rows), _BLOCK):
        some = slice(first, first + _BLOCK)
        covered[some] = near_of(spaces, rows[some], kept).any(axis=1)
    for one, other in pairs:
        covered[one] |= not dropped[other]
        covered[other] |= not dropped[one]
    return SemDedup(len(rows), int(dropped.sum()), int((dropped & ~covered).sum()))
