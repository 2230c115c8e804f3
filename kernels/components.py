"""Connected components by union-find, for edges that come in pieces: a stream of pairs, or the answers of shards."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

Labels = NDArray[np.int64]


def components(left: NDArray[np.integer], right: NDArray[np.integer], n: int) -> Labels:
    """The component of each of `n` rows, named by its lowest row, for edges `left[i]` to `right[i]`, (e,) each.

    Labels int64 (n,), the same for any order and repetition of edges. Shards merge by their answers: the edges
    (row, its label) of all shards have the components of all their edges. Raises ValueError for rows outside 0 to n.
    """
    roots = np.arange(n, dtype=np.int64)
    join(roots, left, right)
    return settled(roots)


def join(roots: Labels, left: NDArray[np.integer], right: NDArray[np.integer]) -> None:
    """Add edges to a forest, in place: `roots` (n,) int64 starts as `np.arange(n)` and ends in `settled`.

    So edges need not be in memory together. Raises ValueError for ends of another length, or rows outside 0 to n.
    """
    left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(f"ends of edges must be (e,) each, got {left.shape} and {right.shape}")
    for ends in (left, right):
        if len(ends) and not 0 <= ends.min() <= ends.max() < len(roots):
            raise ValueError(f"edges must join rows 0 to {len(roots) - 1}, got {ends.min()} to {ends.max()}")
    _join(roots, left, right)


def settled(roots: Labels) -> Labels:
    """The lowest row of each row's tree, (n,) int64."""
    labels = roots.copy()
    _settle(labels)
    return labels


@jit
def _root(roots: NDArray[Any], row: int) -> int:
    """The root of a row's tree; rows on the way are hung higher (path halving, Tarjan and van Leeuwen 1984)."""
    while roots[row] != row:
        roots[row] = roots[roots[row]]
        row = roots[row]
    return row


@jit
def _join(roots: NDArray[Any], left: NDArray[Any], right: NDArray[Any]) -> None:
    for i in range(len(left)):
        a, b = _root(roots, left[i]), _root(roots, right[i])
        roots[max(a, b)] = min(a, b)


@jit
def _settle(labels: NDArray[Any]) -> None:
    for row in range(len(labels)):  # parents are lower rows: theirs are final
        labels[row] = labels[labels[row]]
