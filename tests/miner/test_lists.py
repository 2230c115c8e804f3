"""Which lists of an index are read for a query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.embeddings_like import World
from kernels.neighbors import top_k
from miner.indexes.faiss import learned_lists
from miner.indexes.lists import Lists
from tests.miner.test_indexes import unit


def lists_of(vectors: NDArray[np.float32], count: int) -> tuple[Lists, NDArray[np.int64]]:
    """Lists of some vectors, and the list of each."""
    lists = learned_lists(vectors, count)
    return lists, ((vectors[:, None] - lists.centres) ** 2).sum(axis=2).argmin(axis=1)


def test_all_lists_with_the_scores_of_their_centres() -> None:
    lists, _ = lists_of(unit(400), 8)
    chosen = lists.best(unit(5, 7), 8, 50.0)
    np.testing.assert_array_equal(np.sort(chosen.numbers, axis=1), np.tile(np.arange(8), (5, 1)))
    scores = np.take_along_axis(unit(5, 7) @ lists.centres.T, chosen.numbers, axis=1)
    np.testing.assert_allclose(chosen.scores, scores, atol=1e-6)


def test_the_deviation_of_a_list_is_that_of_its_vectors() -> None:
    """Reach and shape against the plain formulas, each list taken by itself."""
    vectors = unit(4000, 3)
    lists, own = lists_of(vectors, 16)
    off = vectors - lists.centres[own]
    reach = np.array([np.sqrt((off[own == number] ** 2).sum(axis=1).mean()) for number in range(16)])
    np.testing.assert_allclose(lists.reach, reach, rtol=0.02)  # pulled towards the mean by one vector's weight
    scaled = off / lists.reach[own, None]
    np.testing.assert_allclose(lists.shape, scaled.T @ scaled / len(scaled), atol=1e-4)


def test_more_is_found_than_in_the_lists_of_the_nearest_centres() -> None:
    """Of queries of either kind, above all of texts, which lie off the frames."""
    drawn = World(dim=128, scenes=100).draw(8_000, 200)
    lists, own = lists_of(drawn.frames, 128)
    gained: dict[str, float] = {}
    for kind, queries in drawn.queries.items():
        true = own[top_k(queries, drawn.frames, 10)[0]]
        nearest = np.argsort(-(queries @ lists.centres.T), axis=1)[:, :12]
        ours = lists.best(queries, 12, len(drawn.frames) / len(lists)).numbers
        found = [np.mean([np.isin(*each).mean() for each in zip(true, rows, strict=True)]) for rows in (ours, nearest)]
        gained[kind] = found[0] - found[1]
    assert gained["text"] > 0.02 and gained["image"] >= 0, gained


def test_lists_of_equal_vectors_and_of_none() -> None:
    """Where k-means finds fewer groups than it is asked for."""
    lists, _ = lists_of(np.repeat(unit(2), 50, axis=0), 8)
    assert np.isfinite(lists.reach).all() and np.isfinite(lists.shape).all()
    assert np.isfinite(lists.best(unit(3, 7), 4, 12.0).scores).all()


def test_read_as_written(tmp_path: Path) -> None:
    lists, _ = lists_of(unit(400), 8)
    lists.write(tmp_path)
    for name, value in vars(Lists.read(tmp_path)).items():
        np.testing.assert_array_equal(value, getattr(lists, name))
