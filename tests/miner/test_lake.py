"""The lake of a notebook: open and create, sources, the whole way, and what the lake remembers between searches."""

from __future__ import annotations

from pathlib import Path

import pytest

from miner.errors import NotFound, UnknownName, UsageError
from miner.executor import LocalExecutor
from miner.lake import Lake, create, open, open_source
from tests.recordings import write_drives


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = create(tmp_path / "lake", LocalExecutor(threads=2))
    lake.ingest(write_drives(tmp_path / "source", scenes=2, frames=3))
    return lake


def test_open_needs_a_lake_and_create_makes_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no lake at .*\nMake one with: miner ingest"):
        open(tmp_path / "lake")
    assert list(tmp_path.iterdir()) == []
    made = create(tmp_path / "lake")
    assert open(tmp_path / "lake").uri == made.uri == str(tmp_path / "lake")
    assert create(tmp_path / "lake").describe() == made.describe(), "made once"


def test_the_whole_way_twice(lake: Lake, tmp_path: Path) -> None:
    def fill() -> list[bool]:
        reports = [lake.ingest(tmp_path / "source"), lake.cut(1), lake.embed(["hashing"]), *lake.index()]
        return [report.changed for report in reports]

    assert fill() == [False, True, True, True, True]
    versions = {table: lake.store.version(table) for table in lake.store.tables()}
    assert fill() == [False] * 5
    assert versions == {table: lake.store.version(table) for table in lake.store.tables()}
    assert all(check.ok for check in lake.verify())


def test_an_index_follows_its_table(lake: Lake, tmp_path: Path) -> None:
    lake.cut(1)
    lake.embed(["hashing"], views="whole")
    lake.index()
    lake.ingest(write_drives(tmp_path / "more", scenes=1, frames=2))
    lake.cut()
    lake.embed(["hashing"], views="whole")
    assert lake.search("a", k=1).index_id is None, "the manifest is of an older version"
    assert [report.changed for report in lake.index()] == [True, True]
    [manifest] = lake.store.scan("indexes").to_pylist()
    assert manifest["table_version"] == lake.store.version("embeddings/hashing")
    assert manifest["num_vectors"] == 8
    assert lake.search("a", k=1).index_id == manifest["index_id"]
    assert lake.store.count("clip_facts") == lake.store.count("clips") == 8


def test_a_search_sees_what_came_after_the_last(lake: Lake, tmp_path: Path) -> None:
    lake.embed(["hashing"], views="whole")
    assert len(lake.search("a", k=100, per="frame")) == 6
    lake.ingest(write_drives(tmp_path / "more", scenes=1, frames=2))
    lake.embed(["hashing"], views="whole")
    assert len(lake.search("a", k=100, per="frame")) == 8


def test_a_table_is_in_memory_once_however_it_is_asked_for(lake: Lake) -> None:
    lake.cut(1)
    lake.embed(["hashing"])
    lake.search("dusk", k=1)
    lake.search("dusk", k=1, encoder="hashing")
    lake.rare(1, encoder="hashing")
    lake.rare(1)
    assert list(lake._corpora) == ["embeddings/hashing"]


def test_a_lake_with_nothing_in_it_says_so(tmp_path: Path) -> None:
    empty = create(tmp_path / "empty")
    for ask in (empty.search, lambda text: empty.search(like=text), lambda text: empty.rare()):
        with pytest.raises(NotFound, match=r"no vectors(.|\n)*miner embed"):
            ask("a")


def test_one_text_or_several(lake: Lake) -> None:
    lake.embed(["hashing"])
    one, same = lake.search("red car", per="frame"), lake.search(["red car"], per="frame")
    assert [hit.sample_data_id for hit in one] == [hit.sample_data_id for hit in same]
    alike = lake.search(like=one[0].sample_data_id, per="frame")
    assert one[0].sample_data_id not in {hit.sample_data_id for hit in alike}


def test_a_lake_says_what_it_holds(lake: Lake) -> None:
    lake.embed(["hashing"], views="whole")
    text = repr(lake)
    assert "2 scenes" in text and "6 readings" in text and "sensors: CAM" in text and "hashing (6 vectors)" in text
    assert "0 scenes" in repr(create(Path(lake.uri).parent / "empty"))


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_drives(tmp_path / "source", scenes=1, frames=1)
    found = open_source(str(source), dataset="mine")
    assert (found.name, found.dataset, found.source) == ("images", "mine", str(source))
    monkeypatch.chdir(tmp_path)
    assert open_source("source", reader="images").source == str(source), "a relative path is made absolute"
    with pytest.raises(NotFound, match="no such source"):
        open_source("nowhere")
    with pytest.raises(UnknownName, match=r"unknown reader 'imges'\nDid you mean 'images'\? Known: .*nuscenes"):
        open_source("source", reader="imges")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no reader knows this format(?s:.)*images:(?s:.)*nuscenes:"):
        open_source("empty")
