"""Rare events of a small lake: what is told, kept, and relative to what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.errors import NotFound, UsageError
from miner.facts import clip_facts
from miner.hits import Hits
from miner.ids import make_id
from miner.lake import Lake
from miner.mining import clips_of_version
from miner.rarity import EventsReduction, RarityReduction, Relative, scorer_name
from miner.schema import ANNOTATIONS, CLIP_FACTS, CLIPS, SAMPLE_DATA, SCENES, check, embeddings_schema, schema_of
from miner.store import Store

DIM, CLIP_NS = 16, 10
SCENES_MADE, CLIPS_EACH, FRAMES_EACH = 8, 3, 4
ODD = 5  # the scene that looks like no other


def made(seed: int = 0, centres: Any = None) -> dict[str, list[dict[str, Any]]]:
    """Scenes of three clips of four frames with a tile each; one scene points another way, one has an animal.

    With `centres` (n, dim) there are as many scenes, each around its own.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("scenes", "sample_data", "clips", "vectors", "annotations")
    }
    usual, other = rng.normal(size=(2, DIM))
    dim = DIM if centres is None else centres.shape[1]
    for number in range(SCENES_MADE if centres is None else len(centres)):
        scene = make_id("scene", number)
        end = CLIPS_EACH * CLIP_NS
        rows["scenes"].append({"scene_id": scene, "dataset": "d", "log_id": "l", "name": f"drive {number}"})
        rows["scenes"][-1] |= {"start_ns": 0, "end_ns": end}
        centre = (other if number == ODD else usual) + 0.3 * rng.normal(size=DIM)
        centre = centre if centres is None else centres[number]
        for start in range(0, end, CLIP_NS):
            clip = {"clip_id": make_id("clip", scene, start), "scene_id": scene, "recipe": "r"}
            rows["clips"].append(clip | {"start_ns": start, "end_ns": start + CLIP_NS})
            for frame in range(FRAMES_EACH):
                key = make_id("sample_data", scene, start, frame)
                reading = {"sample_data_id": key, "scene_id": scene, "channel": "CAM", "timestamp_ns": start + frame}
                file = {"modality": "camera", "is_key_frame": True, "uri": f"/data/{key}.jpg", "fileformat": "jpg"}
                rows["sample_data"].append(reading | file)
                for part, region in enumerate([None, {"x0": 0.0, "y0": 0.0, "x1": 0.5, "y1": 1.0}]):
                    vector = centre + 0.1 * rng.normal(size=dim) if part == 0 else rng.normal(size=dim)
                    row = {"embedding_id": make_id("e", key, part), "part": part, "region": region}
                    row["vector"] = np.float32(vector / np.linalg.norm(vector)).tolist()
                    rows["vectors"].append(reading | row)
        note = {"annotation_id": make_id("note", scene), "scene_id": scene, "source": "t", "version": "1"}
        note |= {"timestamp_ns": 0, "attributes": "{}", "size_lwh": [1.0, 1.0, 1.0]}
        rows["annotations"].append(note | {"category": "animal" if number == ODD else "car"})
    return rows


def lake_of(folder: Path, rows: dict[str, list[dict[str, Any]]], encoder: str = "x") -> Store:
    store = Store.create(str(folder))
    tables = {"scenes": SCENES, "sample_data": SAMPLE_DATA, "clips": CLIPS, "annotations": ANNOTATIONS}
    arrow = {name: check(pa.Table.from_pylist(rows[name], schema), schema) for name, schema in tables.items()}
    schema = embeddings_schema(encoder, "1", len(rows["vectors"][0]["vector"]))
    arrow[f"embeddings/{encoder}"] = pa.Table.from_pylist(rows["vectors"], schema)
    facts = clip_facts(arrow["scenes"], arrow["sample_data"], arrow["annotations"], arrow["clips"])
    for name, table in (arrow | {"clip_facts": check(facts, CLIP_FACTS)}).items():
        store.ensure(name, table.schema)
        store.append(name, table)
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return lake_of(tmp_path_factory.mktemp("rare") / "lake", ROWS)


ROWS = made()


def mined(store: Store, **asked: Any) -> Hits:
    return Lake(store).rare(**({"by": "clip"} | asked))


def test_the_odd_scene_comes_first_and_says_why(store: Store) -> None:
    hits = mined(store, k=3)
    assert {hit.scene for hit in hits} == {f"drive {ODD}"}
    first = next(hit for hit in hits if hit.start_ns == 0)
    assert "times the usual distance" in first.why and "animal in 1 of" in first.why and "nearest: drive" in first.why
    assert hits[0].evidence["low"] <= hits[0].score <= hits[0].evidence["high"]
    assert first.start_ns is not None and first.end_ns is not None
    assert first.start_ns <= first.timestamp_ns < first.end_ns and first.region is None
    assert [hit.rank for hit in hits] == [1, 2, 3]


def test_scores_are_kept_and_read(store: Store) -> None:
    hits = mined(store, k=100)
    kept = {row["clip_id"]: row for row in store.scan("scores", filter="scorer = 'rarity'").to_pylist()}
    assert len(kept) == len(hits) == len(ROWS["clips"])
    assert all(kept[hit.clip_id]["value"] == hit.score and 0 <= hit.score <= 1 for hit in hits)
    assert all(row["low"] <= row["value"] <= row["high"] for row in kept.values())
    version = store.version("scores")
    assert mined(store, k=100).hits == hits.hits and store.version("scores") == version


def test_a_reduce_run_again_writes_the_same_rows(store: Store) -> None:
    mined(store)
    for table, reduction in (
        ("events", EventsReduction(("embeddings/x",))),
        ("scores", RarityReduction(("embeddings/x",))),
    ):
        kept = store.scan(table).sort_by("clip_id")
        assert reduction.compute(store).sort_by("clip_id").equals(kept.select(reduction.output.schema.names))


def test_one_hit_an_event(store: Store) -> None:
    clips, events = mined(store, k=100), mined(store, k=100, by="event")
    of = {row["clip_id"]: row["event_id"] for row in store.scan("events").to_pylist()}
    assert len(events) == len(set(of.values())) <= len(clips) == len(of)
    assert {of[hit.clip_id or ""] for hit in events} == set(of.values())
    assert [hit.score for hit in events] == sorted((hit.score for hit in events), reverse=True)


def test_clips_of_tiles_alone_count_by_their_tiles(tmp_path: Path) -> None:
    """As a lake has them that was embedded with views `tiles`; here in all scenes but one."""
    kept = ROWS["scenes"][0]["scene_id"]
    vectors = [row for row in ROWS["vectors"] if (row["scene_id"] == kept) == (row["region"] is None)]
    store = lake_of(tmp_path / "lake", ROWS | {"vectors": vectors})
    same = lake_of(tmp_path / "same", ROWS | {"vectors": [row | {"region": None} for row in vectors]})
    told = [{hit.clip_id: hit.score for hit in mined(each, k=100)} for each in (store, same)]
    assert len(told[0]) == len(ROWS["clips"]) and told[0] == told[1]
    assert {hit.region is None for hit in mined(store, k=100)} == {True, False}


def test_a_stored_reference_gives_the_same_scores_elsewhere(store: Store, tmp_path: Path) -> None:
    lake = Lake(store)
    assert lake.fix_reference("then").rows == {"references": store.count("references")}
    assert lake.fix_reference("then").rows == {}
    own = {hit.clip_id: hit.score for hit in mined(store, k=100)}
    assert {hit.clip_id: hit.score for hit in mined(store, k=100, reference="then")} == own
    scene = ROWS["scenes"][ODD]["scene_id"]
    few = {name: [row for row in rows if row["scene_id"] == scene] for name, rows in ROWS.items()}
    other = lake_of(tmp_path / "other", few)
    told = {hit.clip_id: hit.score for hit in mined(other, k=100, reference=f"{store.uri}#then")}
    assert told and told.items() <= own.items()
    with pytest.raises(NotFound, match="no reference 'never'"):
        mined(store, reference="never")


def test_versus_leaves_what_a_dataset_version_has(store: Store) -> None:
    odd = [clip["clip_id"] for clip in ROWS["clips"] if clip["scene_id"] == ROWS["scenes"][ODD]["scene_id"]]
    relative = Relative(versus="v@1", without=(odd[0],))
    reduction = RarityReduction(("embeddings/x",), scorer_name((), relative), relative)
    rows = {row["clip_id"]: row["value"] for row in reduction.compute(store).to_pylist()}
    before = {hit.clip_id: hit.score for hit in mined(store, k=100)}
    assert rows[odd[0]] < 0.5 * before[odd[0]], "what the version has is not what it lacks"
    others = [name for name in rows if name not in odd]
    assert all(rows[name] == pytest.approx(before[name], rel=0.2) for name in others)
    with pytest.raises(NotFound, match="no dataset version"):
        mined(store, versus="never")


def test_a_filter_limits_what_is_told_not_what_is_compared(store: Store) -> None:
    everything = {hit.clip_id: hit.score for hit in mined(store, k=100)}
    some = mined(store, k=100, where="scene = 'drive 2' or scene = 'drive 3'")
    assert len(some) == 2 * CLIPS_EACH and {hit.scene for hit in some} == {"drive 2", "drive 3"}
    assert {hit.clip_id: hit.score for hit in some}.items() <= everything.items()
    assert not mined(store, where="scene = 'nowhere'")


def test_shows_itself_like_any_answer(store: Store) -> None:
    hits = mined(store, k=2)
    document = hits.to_dict()
    assert document["query"]["verb"] == "rare" and document["encoder"] == "x" and document["hits"][0]["why"]
    assert "rare" in hits.headline and hits[0].why in repr(hits)
    assert hits.to_arrow()["why"].to_pylist() == [hit.why for hit in hits]
    assert "times the usual" in hits._repr_html_()


@pytest.mark.parametrize("limits", [{"k": 0}, {"k": 10**9}, {"k": True}, {"by": "frame"}])
def test_limits(store: Store, limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        mined(store, **limits)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    one = {name: list(rows) for name, rows in ROWS.items()}
    scene = one["scenes"][0]["scene_id"]
    lone = {name: [row for row in rows if row["scene_id"] == scene] for name, rows in one.items()}
    with pytest.raises(NotFound, match="fewer than two"):
        mined(lake_of(tmp_path / "one", lone))
    uncut = lake_of(tmp_path / "uncut", one | {"clips": []})
    with pytest.raises(NotFound, match="no clip has vectors"):
        mined(uncut)


def test_order_of_rows_changes_nothing(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shuffled = {name: [rows[i] for i in rng.permutation(len(rows))] for name, rows in ROWS.items()}
    again = lake_of(tmp_path / "again", shuffled)
    told = [[(hit.clip_id, round(hit.score, 6)) for hit in mined(each, k=100)] for each in (store, again)]
    assert told[0] == told[1]


def test_nothing_is_kept_where_nothing_may_be(store: Store) -> None:
    """A lake of an older release is read as it is; the answer is the same, and says so."""
    old = Lake(replace(store, schema_version=1))
    before = store.version("scores")
    hits = old.rare(100, by="clip")
    assert any("older release" in note for note in hits.notes) and store.version("scores") == before
    assert [hit.score for hit in hits] == [hit.score for hit in mined(store, k=100)]


def test_clips_of_a_version_are_those_of_its_newest_number(tmp_path: Path) -> None:
    store = lake_of(tmp_path / "lake", ROWS)
    for number, clips in ((1, ["a", "b"]), (2, ["c", "a"])):
        version = {"version_id": f"night@{number}", "name": "night", "number": number, "tables": [], "num_clips": 2}
        version |= {"spec": "{}", "digest": "", "report": "{}", "run_id": "", "code_version": "", "created_ns": 0}
        rows = [
            {"version_id": f"night@{number}", "clip_id": clip, "rank": 1, "strategy": "", "reason": "", "gain": 0.0}
            for clip in clips
        ]
        for table, made in (("versions", [version]), ("selections", rows)):
            store.ensure(table)
            store.append(table, pa.Table.from_pylist(made, schema_of(table)))
    assert clips_of_version(store, "night") == ("night@2", ("a", "c"))
    assert clips_of_version(store, "night@1") == ("night@1", ("a", "b"))


@settings(max_examples=3, deadline=None)
@given(st.lists(st.sampled_from(["vectors", "clips", "rare", "reduce", "compact"]), min_size=3, max_size=6))
def test_no_reader_sees_scores_of_two_runs(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """Whatever is written in whatever order: each version of `scores` has the rows of one run, and all of them."""
    store = lake_of(tmp_path_factory.mktemp("mixed") / "lake", ROWS)
    lake, left = Lake(store), [row["clip_id"] for row in ROWS["clips"]]
    runs: list[dict[str, float]] = []

    def reduced() -> None:
        lake.rare(1)
        rows = store.scan("scores", filter="scorer = 'rarity'").to_pylist()
        runs.append({row["clip_id"]: row["value"] for row in rows})

    reduced()
    for number, step in enumerate(steps):
        if step == "vectors":  # other vectors of one scene
            store.delete("embeddings/x", f"scene_id = '{ROWS['scenes'][number % 8]['scene_id']}' AND part = 1")
        elif step == "clips":
            store.delete("clips", f"clip_id = '{left.pop()}'")
        elif step == "compact":
            lake.compact(0, "scores")
        else:
            reduced()
    reduced()
    seen = []
    for version in store.versions("scores"):
        rows = store.scan("scores", ["clip_id", "value"], "scorer = 'rarity'", version).to_pylist()
        seen.append({row["clip_id"]: row["value"] for row in rows})
        assert len(rows) == len(seen[-1]) and (not rows or seen[-1] in runs)
    assert seen[-1] == runs[-1]
