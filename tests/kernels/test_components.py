"""Union-find against a flood fill, and its laws: order, repetition and shards of edges do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.components import components, join, settled

Edges = list[tuple[int, int]]


def flooded(edges: Edges, n: int) -> list[int]:
    """Lowest label of a row's neighbours, until nothing changes."""
    labels = list(range(n))
    for _ in range(n):
        for a, b in edges:
            labels[a] = labels[b] = min(labels[a], labels[b])
    return labels


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Edges, int]:
    n = draw(st.integers(1, 40))
    row = st.integers(0, n - 1)
    return draw(st.lists(st.tuples(row, row), max_size=60)), n


def ends(edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(edges, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


@settings(max_examples=200, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_equals_a_flood_fill_for_any_order_of_edges(graph, random) -> None:  # type: ignore[no-untyped-def]
    edges, n = graph
    labels = components(*ends(edges), n)
    assert labels.dtype == np.int64 and labels.tolist() == flooded(edges, n)
    again = [(b, a) for a, b in random.sample(edges, len(edges))] + edges[:3]
    assert components(*ends(again), n).tolist() == labels.tolist()


@settings(max_examples=100, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_shards_merge_by_their_labels(graph, shards: int) -> None:  # type: ignore[no-untyped-def]
    edges, n = graph
    answers = [components(*ends(edges[i::shards]), n) for i in range(shards)]
    merged = components(np.tile(np.arange(n), shards), np.concatenate(answers), n)
    assert merged.tolist() == flooded(edges, n)
    roots = np.arange(n)
    for i in range(shards):
        join(roots, *ends(edges[i::shards]))
    assert settled(roots).tolist() == merged.tolist()


def test_a_long_chain() -> None:
    rows = np.arange(100_000)
    assert not components(rows[:-1][::-1], rows[1:][::-1], len(rows)).any()
    assert not components(rows[:-1], rows[1:], len(rows)).any()


def test_nothing() -> None:
    none = np.empty(0, np.int64)
    assert components(none, none, 0).tolist() == [] and components(none, none, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("left", "right"), [([0], [3]), ([-1], [0]), ([0, 1], [1]), ([[0]], [[1]])])
def test_refuses(left, right) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        components(np.array(left), np.array(right), 3)
