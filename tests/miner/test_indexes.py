"""One contract for every kind of index, on a real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from miner.errors import NotFound
from miner.indexes import Ask, Index
from miner.indexes.choose import FILES, FLAT, TABLES
from miner.indexes.flat import FlatIndex
from miner.indexes.load import load_index
from miner.indexes.snapshot import ROWS
from miner.lake import Lake
from miner.schema import embeddings_schema
from miner.store import Store

TABLE, DIM, ROWS_THERE = "embeddings/hashing", 24, 300
KINDS = [FLAT, *FILES, TABLES[0], pytest.param(TABLES[1], marks=pytest.mark.slow), TABLES[2]]


def rows_of(vectors: NDArray[np.float32], first: int = 0) -> pa.Table:
    """An embeddings table; every third row is of a region."""
    region = {"x0": 0.25, "y0": 0.0, "x1": 0.75, "y1": 1.0}
    rows: list[dict[str, Any]] = [
        {
            "embedding_id": f"e{i}",
            "sample_data_id": f"r{i}",
            "scene_id": "s",
            "channel": "CAM",
            "timestamp_ns": i,
            "part": 0,
            "region": region if i % 3 == 0 else None,
            "vector": vector,
        }
        for i, vector in enumerate(vectors.tolist(), first)
    ]
    return pa.Table.from_pylist(rows, embeddings_schema("hashing", "1", vectors.shape[1]))


def unit(rows: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A lake with 300 vectors in two commits, versions 2 and 3 of their table."""
    store = Store.create(str(tmp_path / "lake"))
    store.ensure(TABLE, embeddings_schema("hashing", "1", DIM))
    vectors = unit(ROWS_THERE)
    store.append(TABLE, rows_of(vectors[:280]))
    store.append(TABLE, rows_of(vectors[280:], first=280))
    return store


def loaded(kind: str, store: Store) -> Index:
    """The table's index of a kind, built if it is not there; `flat` is never built."""
    if kind != FLAT and store.exists(TABLE):
        Lake(store).index(kind)
    index = load_index(store, TABLE)
    assert isinstance(index, Index) and index.kind == kind and not index.notes
    return index


def exhaustive(index: Any, queries: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None = None) -> Any:
    """A search that an index of any kind makes without leaving anything out."""
    return index.search(queries, k, mask) if index.exact else index.exhaustive(queries, k, mask)


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind: str, store: Store) -> None:
    index, queries = loaded(kind, store), unit(3, seed=1)
    assert (index.table, index.table_version, index.dim) == (TABLE, store.version(TABLE), DIM)
    assert (index.encoder, index.encoder_version) == ("hashing", "1")
    assert index.rows.column_names == ROWS and len(index.rows) == ROWS_THERE
    stored = store.scan(TABLE)
    by_id = dict(zip(stored["embedding_id"].to_pylist(), np.array(stored["vector"].to_pylist()), strict=True))
    names = np.array(index.rows["embedding_id"].to_pylist())
    np.testing.assert_array_equal(
        index.vectors(np.arange(ROWS_THERE)), np.array([by_id[name] for name in names], np.float32)
    )

    found, scores = index.search(queries, 7)
    assert found.shape == scores.shape == (3, 7) and found.dtype == np.int64 and scores.dtype == np.float32
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores[0], index.vectors(found[0]) @ queries[0], atol=1e-6)
    again = load_index(store, TABLE).search(queries, 7)
    assert np.array_equal(found, again[0]) and np.array_equal(scores, again[1])

    mask = np.arange(ROWS_THERE) % 5 == 0
    masked, _ = index.search(queries, 20, mask)
    assert masked.shape == (3, 20) and mask[masked].all()
    assert index.search(queries, 3, np.zeros(ROWS_THERE, np.bool_))[0].shape == (3, 0)
    assert index.search(queries[:0], 3)[0].shape == (0, 3)
    few = np.array([3, 8, 21, 40])
    scanned, exact = index.scan(queries, 3, few)
    np.testing.assert_array_equal(scanned, exhaustive(index, queries, 3, np.isin(np.arange(ROWS_THERE), few))[0])
    np.testing.assert_allclose(exact[0], index.vectors(scanned[0]) @ queries[0], atol=1e-6)
    assert index.estimate(7, ROWS_THERE, Ask("text", 0.9)).cpu_ms > 0 and index.scan_ms(50) > index.scan_ms(5) > 0
    expected = np.argsort(-(queries.astype(float) @ index.vectors(np.arange(ROWS_THERE)).T.astype(float)), axis=1)
    assert index.exact == (kind == FLAT) and np.array_equal(exhaustive(index, queries, 7)[0], expected[:, :7])


@pytest.mark.parametrize("kind", [FLAT, FILES[0]])
def test_refuses(kind: str, store: Store) -> None:
    index, good = loaded(kind, store), unit(1)
    for queries, k in ((good[:, :-1], 1), (good * np.nan, 1), (good, 0), (good[0], 1)):
        with pytest.raises(ValueError):
            index.search(queries, k)
    with pytest.raises(ValueError):
        index.search(good, 1, np.ones(3, np.bool_))


@pytest.mark.parametrize("kind", [FLAT, FILES[2]])
def test_answers_for_a_version(kind: str, store: Store) -> None:
    loaded(kind, store)
    older = load_index(store, TABLE, version=2)
    assert older.kind == kind and len(older.rows) == 280 and older.table_version == 2
    assert set(older.rows["embedding_id"].to_pylist()) == {f"e{i}" for i in range(280)}
    flat = FlatIndex.load(store, TABLE, older.table_version)
    for mask in (None, np.arange(280) % 3 > 0):
        found, expected = exhaustive(older, unit(4, 2), 9, mask), flat.search(unit(4, 2), 9, mask)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_missing(kind: str, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    with pytest.raises(NotFound):
        load_index(store, TABLE)
    store.ensure(TABLE, embeddings_schema("hashing", "1", DIM))
    Lake(store).index(kind)
    index = load_index(store, TABLE)
    assert index.dim == DIM and index.search(unit(2), 5)[0].shape == (2, 0)
