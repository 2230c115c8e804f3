"""Going on from what was found: within a filter, with some hits accepted."""

from __future__ import annotations

import pytest

from miner.errors import UsageError
from miner.hits import Hits
from miner.lake import Lake
from tests.miner.test_hits import hit, hits_of
from tests.miner.test_search import ROWS, lake_of


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(lake_of(tmp_path_factory.mktemp("feedback"), ROWS))


def ids(hits: Hits) -> list[str | None]:
    return [hit.clip_id for hit in hits]


def test_where_asks_the_same_question_of_fewer(lake: Lake) -> None:
    hits = lake.search("night", 20, where="channel = 'CAM_BACK'")
    within = hits.where("dataset = 'd0'")
    both = lake.search("night", 20, where="channel = 'CAM_BACK' and dataset = 'd0'")
    assert 0 < len(within) < len(hits) and ids(within) == ids(both)
    assert ids(within.where("count('car') > 0")) == ids(both.where("count('car') > 0"))


def test_where_binds_tighter_than_or(lake: Lake) -> None:
    hits = lake.search("night", 20, where="dataset = 'd0' or dataset = 'd1'").where("location = 'a' or location = 'b'")
    assert {hit.scene for hit in hits} == {"drive 1", "drive 2"}


def test_where_on_rare_clips(lake: Lake) -> None:
    rare = lake.rare(9, by="clip")
    assert {hit.scene for hit in rare.where("scene = 'drive 1'")} == {"drive 1"} < {hit.scene for hit in rare}


@pytest.mark.parametrize("expression", ["dataset = 'd0') or (dataset = 'd1'", "colour = 'red'", ""])
def test_where_refuses_what_search_refuses(lake: Lake, expression: str) -> None:
    with pytest.raises(UsageError):
        lake.search("night").where(expression)


def test_examples_join_the_question(lake: Lake) -> None:
    hits = lake.search("night", 6, where="dataset = 'd0'")
    examples, others = [hits[1].sample_data_id, hits[3].sample_data_id], [hits[5].sample_data_id]
    told = hits.more_like([3, 1], not_like=[5])
    asked = lake.search("night", 6, like=examples, not_like=others, where="dataset = 'd0'")
    assert told.to_arrow() == asked.to_arrow() and told.query["like"] == examples
    assert {hits[1].clip_id, hits[3].clip_id}.isdisjoint(ids(told))
    again = told.not_like([0])
    assert again.query["not_like"] == [*others, told[0].sample_data_id] and again.query["like"] == examples


def test_examples_of_rare_clips_are_the_question(lake: Lake) -> None:
    rare = lake.rare(4, where="dataset = 'd0'")
    told = rare.more_like([2])
    asked = lake.search(like=rare[2].sample_data_id, k=4, where="dataset = 'd0'")
    assert told.to_arrow() == asked.to_arrow()


def test_accepted_clips_know_where_they_come_from(lake: Lake) -> None:
    hits = lake.search("night", 6, where="dataset = 'd0'")
    chosen = hits.accept([4, 0, -6])
    assert list(chosen) == [hits[0].clip_id, hits[4].clip_id] and chosen[1] == hits[4].clip_id and len(chosen) == 2
    assert chosen.provenance()["query"]["texts"] == ["night"] and chosen.table_version == hits.table_version
    rows = chosen.to_arrow().to_pylist()
    assert [row["scene_id"] for row in rows] == [hits[0].scene_id, hits[4].scene_id]
    assert rows[0]["score"] == pytest.approx(hits[0].score) and chosen.opened is lake
    assert repr(chosen).startswith("2 clips accepted (hashing")


def test_of_the_frames_of_a_clip_it_is_accepted_once(lake: Lake) -> None:
    frames = lake.search("night", 24, per="frame", where="not clip_id is null")
    chosen = frames.accept(range(len(frames)))
    best: dict[str | None, float] = {}
    for frame in frames:
        best.setdefault(frame.clip_id, frame.score)
    assert len(best) < len(frames) and dict(zip(chosen, chosen.scores, strict=True)) == best


@pytest.mark.parametrize("places", [[6], [-7], [True], ["0"]])
def test_accept_refuses_what_is_no_place(lake: Lake, places: list[int]) -> None:
    with pytest.raises(UsageError, match="no hit"):
        lake.search("night", 6).accept(places)


def test_a_frame_in_no_clip_cannot_be_accepted() -> None:
    with pytest.raises(UsageError, match="in no clip"):
        hits_of(hit(1, "a.png"), hit(2, "b.png", clip_id=None)).accept([0, 1])


def test_hits_of_no_lake_say_so() -> None:
    with pytest.raises(UsageError, match="no lake that is open"):
        hits_of(hit(1, "a.png")).where("dataset = 'd'")
