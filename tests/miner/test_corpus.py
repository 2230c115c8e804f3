"""The best of each clip or frame when one clip holds most of the best rows, and many rows tie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.corpus import Corpus
from miner.indexes.flat import FlatIndex
from miner.query.matching import Matches, Passing
from miner.query.plan import best
from miner.schema import REGION, check, embeddings_schema
from miner.store import Store


def corpus_of(seed: int, rows: int, clips: int, distinct: int) -> Corpus:
    """Rows in random clips (few clips hold most) or in none, with `distinct` different vectors of two numbers.

    Names are in random order, so that the order of rows is not that of ids.
    """
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, np.pi, distinct)[rng.integers(0, distinct, rows)]
    matrix = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    names = [f"r{number:04d}" for number in rng.permutation(rows)]
    facts = {"embedding_id": names, "sample_data_id": names, "scene_id": ["s"] * rows, "channel": ["CAM"] * rows}
    table = pa.table({**facts, "timestamp_ns": np.arange(rows), "region": pa.array([None] * rows, REGION)})
    windows = {"clip_id": [f"c{number:04d}" for number in rng.permutation(clips)], "scene_id": ["s"] * clips}
    spans = pa.table({**windows, "start_ns": np.zeros(clips, np.int64), "end_ns": np.zeros(clips, np.int64)})
    clip = (clips * rng.random(rows) ** 4).astype(np.int64) - (rng.random(rows) < 0.05)
    index = FlatIndex("embeddings/x", 1, "x", "1", "camera", table, matrix)
    return Corpus(index, spans, np.arange(rows), clip)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 700),
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(1, 60),
    st.sampled_from(["clip", "frame"]),
)
def test_best_is_exact(seed: int, rows: int, clips: int, distinct: int, k: int, per: str) -> None:
    corpus = corpus_of(seed, rows, clips, distinct)
    passing = (corpus.clip >= 0) & (np.arange(rows) % 7 > 0)
    left_out = np.arange(0, rows, 11)
    matches = Matches(Passing(corpus, passing), per).without(left_out)
    got = best(matches, np.array([1, 0], np.float32), k)
    allowed = np.setdiff1d(np.flatnonzero(passing), left_out)

    names = corpus.index.rows["sample_data_id"].to_pylist()
    clip_names = corpus.clips["clip_id"].to_pylist()
    expected: dict[str, tuple[float, str]] = {}
    for row in allowed.tolist():
        group = names[row] if per == "frame" else clip_names[corpus.clip[row]]
        mine = (-float(corpus.index.vectors(np.array([row]))[0, 0]), names[row])
        expected[group] = min(mine, expected.get(group, mine))
    ranked = sorted(expected.items(), key=lambda each: (each[1][0], each[0]))[:k]
    assert [names[row] for row in got.row] == [name for _, (_, name) in ranked]
    assert [-float(score) for score in got.score] == [score for _, (score, _) in ranked]
    assert np.array_equal(got.clip, corpus.clip[got.row])


def test_loading_many_vectors_says_so(tmp_path: Path) -> None:
    store, count = Store.create(str(tmp_path / "lake")), 100_000
    schema = embeddings_schema("x", "1", 2)
    store.ensure("embeddings/x", schema)
    names = pa.array([f"r{number}" for number in range(count)])
    text = {"embedding_id": names, "sample_data_id": names, "scene_id": names, "channel": names}
    numbers = {"timestamp_ns": np.zeros(count, np.int64), "part": np.zeros(count, np.int16)}
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.tile(np.float32([1, 0]), count)), 2)
    store.append("embeddings/x", check(pa.table({**text, **numbers, "vector": vectors}), schema))
    said: list[str] = []
    assert len(Corpus.of(store, "embeddings/x", said.append).row) == count
    assert said == ["loading 100,000 vectors of embeddings/x (0.0 GB), once for all searches"]
