"""A pinned lake: what it says does not change with the lake, and following it reads no more than it must."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from miner.errors import NotFound
from miner.lake import Lake, create
from miner.pinned import PinnedStore
from tests.miner.test_search import ROWS, lake_of
from tests.recordings import write_drives


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
