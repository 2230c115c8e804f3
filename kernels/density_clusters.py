"""Clusters of any size and density from a neighbour graph: HDBSCAN (Campello, Moulavi and Sander 2013, "Density-based
clustering based on hierarchical density estimates"), with the excess-of-mass choice of Campello et al. 2015.

The spanning tree is that of the neighbour graph, not of all pairs; parts that no edge joins meet at the root.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
_FAR = 4.0  # above every cosine distance
_SMALLEST = 1e-9
_LOOSE = 0.5


class _Merges(NamedTuple):
    """A dendrogram: node n + i joins nodes `left[i]` and `right[i]` at distance `at[i]` into one of `size[i]` rows."""

    left: Rows
    right: Rows
    at: Floats
    size: Rows


class _Condensed(NamedTuple):
    """Clusters of at least the least size: `parent` (c,) of each, -1 for the root; `stability` (c,); `of` (n,): the
    smallest cluster a row was ever in, and up to which `density` (n,)."""

    parent: list[int]
    stability: list[float]
    of: Rows
    density: Floats


def density_clusters(neighbours: Rows, distances: Floats, min_size: int) -> Rows:
    """The cluster of each row (n,), numbered from 0 by their lowest rows, -1 for rows that are in none.

    `neighbours` (n, k) int64, nearest first, -1 where there are no more, and their cosine `distances` (n, k); a cluster
    has at least `min_size` >= 2 rows. O(n k log(n k)).
    """
    count = len(neighbours)
    if min_size < 2:
        raise ValueError(f"min_size must be at least 2, got {min_size}")
    if count < 2 * min_size or not neighbours.shape[1]:
        return np.full(count, -1, np.int64)
    merges = _dendrogram(_spanning_tree(neighbours, distances, min_size), count)
    condensed = _condense(merges, count, min_size)
    chosen = _excess_of_mass(condensed)
    home = _homes(condensed, chosen)
    labels = _without_loose(home[condensed.of], condensed.density)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    names = np.unique(labels)
    order = np.argsort(np.where(names < 0, count, first), kind="stable")
    number = np.empty(len(names), np.int64)
    number[order] = np.arange(len(names))
    number[names < 0] = -1
    return number[inverse]


def _without_loose(labels: Rows, density: Floats) -> Rows:
    """`labels` without the rows that are far more thinly spread than the others of their cluster."""
    kept = labels.copy()
    for label in np.unique(labels[labels >= 0]):
        own = labels == label
        kept[own & (density < _LOOSE * np.median(density[own]))] = -1
    return kept


def _spanning_tree(neighbours: Rows, distances: Floats, min_size: int) -> tuple[Rows, Rows, Floats]:
    """Edges of the minimum spanning tree by mutual reachability: a distance is at least both ends' to their
    (min_size - 1)-th neighbour."""
    count, k = neighbours.shape
    reach = np.where(neighbours >= 0, distances, _FAR)[:, min(min_size - 1, k) - 1]
    own = np.repeat(np.arange(count), k)
    other = neighbours.ravel()
    known = other >= 0
    own, other, away = own[known], other[known], distances.ravel()[known]
    weight = np.maximum(np.maximum(reach[own], reach[other]), away) + _SMALLEST
    low, high = np.minimum(own, other), np.maximum(own, other)
    order = np.lexsort((weight, high, low))
    low, high, weight = low[order], high[order], weight[order]
    new = np.ones(len(low), np.bool_)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    graph = csr_array((weight[new], (low[new], high[new])), shape=(count, count))
    tree = minimum_spanning_tree(graph).tocoo()
    order = np.lexsort((tree.col, tree.row, tree.data))
    return tree.row[order].astype(np.int64), tree.col[order].astype(np.int64), tree.data[order].astype(np.float64)


def _dendrogram(edges: tuple[Rows, Rows, Floats], count: int) -> _Merges:
    """Single linkage along the edges in their order; what they leave apart is joined last, by lowest row."""
    root = list(range(2 * count - 1))
    size = [1] * count
    left, right, at = [], [], []

    def top(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    def join(one: int, other: int, distance: float) -> None:
        if one != other:
            root[one] = root[other] = len(size)
            size.append(size[one] + size[other])
            left.append(one)
            right.append(other)
            at.append(distance)

    for one, other, distance in zip(*(each.tolist() for each in edges), strict=True):
        join(top(one), top(other), distance)
    for row in range(1, count):
        join(top(0), top(row), _FAR)
    return _Merges(np.array(left), np.array(right), np.array(at), np.array(size[count:]))


def _condense(merges: _Merges, count: int, min_size: int) -> _Condensed:
    """The dendrogram from its root: a split into two parts of at least `min_size` makes two clusters, else rows fall
    out of the one there is."""
    parent, stability, birth = [-1], [0.0], [0.0]
    of, left_at = np.zeros(count, np.int64), np.zeros(count)
    waiting = [(len(merges.at) - 1 + count, 0)]
    while waiting:
        node, cluster = waiting.pop()
        if node < count:
            of[node] = cluster
            continue
        density = 1 / merges.at[node - count]
        parts = (int(merges.left[node - count]), int(merges.right[node - count]))
        sizes = [1 if part < count else int(merges.size[part - count]) for part in parts]
        if min(sizes) >= min_size:
            stability[cluster] += sum(sizes) * (density - birth[cluster])
            for part in parts:
                parent.append(cluster)
                stability.append(0.0)
                birth.append(density)
                waiting.append((part, len(parent) - 1))
            continue
        for part, size in zip(parts, sizes, strict=True):
            if size < min_size:
                stability[cluster] += size * (density - birth[cluster])
                fallen = _rows_below(merges, part, count)
                of[fallen], left_at[fallen] = cluster, density
            else:
                waiting.append((part, cluster))
    return _Condensed(parent, stability, of, left_at)


def _rows_below(merges: _Merges, node: int, count: int) -> list[int]:
    rows, waiting = [], [node]
    while waiting:
        each = waiting.pop()
        if each < count:
            rows.append(each)
        else:
            waiting += [int(merges.left[each - count]), int(merges.right[each - count])]
    return rows


def _excess_of_mass(condensed: _Condensed) -> set[int]:
    """The clusters, none within another and without the root, of the greatest total stability."""
    best = list(condensed.stability)
    below = [0.0] * len(best)
    chosen: set[int] = set()
    for cluster in range(len(best) - 1, 0, -1):  # children have higher numbers
        if condensed.stability[cluster] >= below[cluster]:
            chosen.add(cluster)
        else:
            best[cluster] = below[cluster]
        below[condensed.parent[cluster]] += best[cluster]
    return {cluster for cluster in chosen if not _has_ancestor(condensed, cluster, chosen)}


def _has_ancestor(condensed: _Condensed, cluster: int, chosen: set[int]) -> bool:
    above = condensed.parent[cluster]
    while above > 0:
        if above in chosen:
            return True
        above = condensed.parent[above]
    return False


def _homes(condensed: _Condensed, chosen: set[int]) -> Rows:
    """For each cluster the chosen one it is in, -1 for none."""
    home = np.full(len(condensed.parent), -1, np.int64)
    for cluster in range(1, len(home)):
        home[cluster] = cluster if cluster in chosen else home[condensed.parent[cluster]]
    return home
