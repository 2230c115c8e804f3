"""A pinned lake: what it says does not change with the lake, and following it reads no more than it must."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from miner.errors import NotFound
from miner.lake import Lake, create
from miner.pinned import PinnedStore
from miner.schema import embeddings_schema
from tests.miner.test_search import ROWS, lake_of
from tests.recordings import write_drives, write_frames


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = create(tmp_path / "lake")
    made.ingest(write_drives(tmp_path / "source", scenes=2, frames=3))
    made.cut(1)
    made.embed(["hashing"], views="whole")
    made.index()
    return made


def grown(lake: Lake, folder: Path) -> None:
    lake.ingest(write_drives(folder, scenes=1, frames=3))
    lake.cut()
    lake.embed(["hashing"], views="whole")
    lake.index()


def test_answers_as_the_lake_does(lake: Lake) -> None:
    pinned, query = lake.pinned(), {"where": "count('car') >= 0", "per": "frame"}
    assert pinned.search("a", 3, **query).to_arrow() == lake.search("a", 3, **query).to_arrow()
    assert pinned.describe() == lake.describe() and pinned.store.tables() == lake.store.tables()


def test_stays_as_it_was(lake: Lake, tmp_path: Path) -> None:
    pinned = lake.pinned()
    before = pinned.search("a", 100, per="frame"), pinned.describe()
    grown(lake, tmp_path / "more")
    assert pinned.search("a", 100, per="frame").to_arrow() == before[0].to_arrow() and pinned.describe() == before[1]
    followed = lake.pinned(pinned)
    assert len(followed.search("a", 100, per="frame")) == len(before[0]) + 3
    assert followed.search("a", 1).table_version > before[0].table_version


def test_is_the_same_while_nothing_changes(lake: Lake) -> None:
    pinned = lake.pinned()
    assert lake.pinned(pinned) is pinned


def test_takes_over_what_was_loaded(lake: Lake, tmp_path: Path) -> None:
    said: list[str] = []
    lake.executor.notify = said.append
    pinned = lake.pinned()
    pinned.search("a", 1)
    corpus = pinned._loaded("embeddings/hashing")
    said.clear()
    lake.ingest(write_drives(tmp_path / "more", scenes=1, frames=1))  # no new vectors, but new rows beside them
    followed = lake.pinned(pinned)
    assert followed is not pinned and followed._loaded("embeddings/hashing").index is corpus.index
    lake.embed(["hashing"], views="whole")
    again = lake.pinned(followed)
    assert len(again._corpora["embeddings/hashing"][1].index.rows) == 7, "loaded now, not with the next question"
    assert len(again.search("a", 9, per="frame")) == 7 and not said, "the encoder stays"


def test_a_lake_made_again_is_another(lake: Lake, tmp_path: Path) -> None:
    """Its tables count their versions anew: the same numbers name other rows."""
    pinned = lake.pinned()
    present = PinnedStore.of(lake.store).present
    assert {hit.scene for hit in pinned.search("a", 9, per="frame")} == {"drive_00", "drive_01"}
    shutil.rmtree(lake.uri)
    again = create(lake.uri)
    for scene in range(2):
        write_frames(tmp_path / "other" / f"elsewhere_{scene}", 3, seed=10 + scene)
    again.ingest(tmp_path / "other")
    again.cut(1)
    again.embed(["hashing"], views="whole")
    again.index()
    followed = lake.pinned(pinned)
    assert PinnedStore.of(again.store).present == present, "or this tests nothing"
    assert {hit.scene for hit in followed.search("a", 9, per="frame")} == {"elsewhere_0", "elsewhere_1"}


def test_an_index_that_was_built_is_taken(tmp_path: Path) -> None:
    """Its files change no version of the vectors."""
    rows = {**ROWS, "vectors": []}
    lake = Lake(lake_of(tmp_path, rows))
    rng, schema = np.random.default_rng(0), embeddings_schema("mine", "imported", 8)
    vectors = rng.normal(size=(300, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    base = {"scene_id": ROWS["scenes"][0]["scene_id"], "channel": "CAMERA", "part": 0}
    table = [
        base | {"embedding_id": f"{i}", "sample_data_id": f"r{i}", "timestamp_ns": i, "vector": vector}
        for i, vector in enumerate(vectors.tolist())
    ]
    lake.store.ensure("embeddings/mine", schema)
    lake.store.append("embeddings/mine", pa.Table.from_pylist(table, schema))
    lake.index(kind="flat")  # indexes of keys are versions of the table
    pinned = lake.pinned()
    for each in (lake, pinned):
        assert each._loaded("embeddings/mine").index.kind == "flat"
    lake.index(kind="faiss:IVF-Flat")
    for each in (lake, lake.pinned(pinned)):
        assert each._loaded("embeddings/mine").index.kind == "faiss:IVF-Flat"


def test_new_facts_reach_filters(lake: Lake, tmp_path: Path) -> None:
    pinned = lake.pinned()
    assert len(pinned.search("a", 9, where="num_frames > 0"))
    lake.store.delete("clip_facts", "true")
    assert not len(lake.pinned(pinned).search("a", 9, where="num_frames > 0"))
    assert len(pinned.search("a", 9, where="num_frames > 0"))


def test_a_table_that_came_later_is_not_there(tmp_path: Path) -> None:
    store = lake_of(tmp_path, {**ROWS, "vectors": []})
    pinned = PinnedStore.of(store)
    store.ensure("quarantine")
    assert not pinned.exists("quarantine") and pinned.version("quarantine") == 0
    with pytest.raises(NotFound):
        pinned.dataset("quarantine")


def test_many_threads_get_what_one_gets(tmp_path: Path) -> None:
    pinned = Lake(lake_of(tmp_path, ROWS)).pinned()
    texts = [f"text {number % 7}" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: pinned.search(text, 5, where="dataset = 'd0'").to_arrow(), texts))
    alone = Lake(lake_of(tmp_path / "again", ROWS))
    for text, rows in zip(texts, found, strict=True):
        assert rows.select(["clip_id"]) == alone.search(text, 5, where="dataset = 'd0'").to_arrow().select(["clip_id"])
