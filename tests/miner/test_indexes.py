"""One contract for every kind of index, on a real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from miner.errors import NotFound
from miner.indexes import Index
from miner.indexes.flat import ROWS, FlatIndex
from miner.schema import embeddings_schema
from miner.store import Store

TABLE, DIM = "embeddings/hashing", 24
KINDS = [FlatIndex]


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
    """A lake with 50 vectors in two commits, versions 2 and 3 of their table."""
    store = Store.create(str(tmp_path / "lake"))
    store.ensure(TABLE, embeddings_schema("hashing", "1", DIM))
    vectors = unit(50)
    store.append(TABLE, rows_of(vectors[:30]))
    store.append(TABLE, rows_of(vectors[30:], first=30))
    return store


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind: Any, store: Store) -> None:
    index, queries = kind.load(store, TABLE), unit(3, seed=1)
    assert isinstance(index, Index)
    assert (index.table, index.table_version, index.dim) == (TABLE, store.version(TABLE), DIM)
    assert (index.encoder, index.encoder_version) == ("hashing", "1")
    assert index.rows.column_names == ROWS and len(index.rows) == 50
    stored = store.scan(TABLE)
    by_id = dict(zip(stored["embedding_id"].to_pylist(), np.array(stored["vector"].to_pylist()), strict=True))
    names = np.array(index.rows["embedding_id"].to_pylist())
    np.testing.assert_array_equal(index.vectors(np.arange(50)), np.array([by_id[name] for name in names], np.float32))

    found, scores = index.search(queries, 7)
    assert found.shape == scores.shape == (3, 7) and found.dtype == np.int64 and scores.dtype == np.float32
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores[0], index.vectors(found[0]) @ queries[0], atol=1e-6)
    again = kind.load(store, TABLE).search(queries, 7)
    assert np.array_equal(found, again[0]) and np.array_equal(scores, again[1])

    mask = np.arange(50) % 5 == 0
    masked, _ = index.search(queries, 20, mask)
    assert masked.shape == (3, 10) and mask[masked].all()
    assert index.search(queries, 3, np.zeros(50, np.bool_))[0].shape == (3, 0)
    assert index.search(queries[:0], 3)[0].shape == (0, 3)
    few = np.array([3, 8, 21, 40])
    scanned, exact = index.scan(queries, 3, few)
    np.testing.assert_array_equal(scanned, index.search(queries, 3, np.isin(np.arange(50), few))[0])
    np.testing.assert_allclose(exact[0], index.vectors(scanned[0]) @ queries[0], atol=1e-6)
    assert index.estimate(7, 50).cpu_ms > index.estimate(7, 5).cpu_ms > 0 and index.scan_ms(50) > index.scan_ms(5) > 0
    if index.exact:
        expected = np.argsort(-(queries.astype(float) @ index.vectors(np.arange(50)).T.astype(float)), axis=1)
        assert np.array_equal(found, expected[:, :7])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", ["k", "dim", "nan"])
def test_refuses(kind: Any, bad: str, store: Store) -> None:
    queries = unit(1)[:, :-1] if bad == "dim" else unit(1) * (np.nan if bad == "nan" else 1)
    with pytest.raises(ValueError):
        kind.load(store, TABLE).search(queries, 0 if bad == "k" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_for_a_version(kind: Any, store: Store) -> None:
    older = kind.load(store, TABLE, store.version(TABLE) - 1)
    assert len(older.rows) == 30 and older.table_version == store.version(TABLE) - 1
    assert set(older.rows["embedding_id"].to_pylist()) == {f"e{i}" for i in range(30)}


@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_missing(kind: Any, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    with pytest.raises(NotFound):
        kind.load(store, TABLE)
    store.ensure(TABLE, embeddings_schema("hashing", "1", DIM))
    index = kind.load(store, TABLE)
    assert index.dim == DIM and index.search(unit(2), 5)[0].shape == (2, 0)
