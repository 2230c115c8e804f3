"""Rare clips against a plain computation of every distance, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from miner.corpus import Corpus
from miner.errors import NotFound, UsageError
from miner.facts import clip_facts
from miner.hits import Hits
from miner.ids import make_id
from miner.rare import rare
from miner.schema import ANNOTATIONS, CLIP_FACTS, CLIPS, SAMPLE_DATA, SCENES, check, embeddings_schema
from miner.store import Store

DIM, CLIP_NS = 16, 10
SCENES_MADE, CLIPS_EACH, FRAMES_EACH = 8, 3, 4
ODD = 5  # the scene that looks like no other


def made(seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Scenes of three clips of four frames with a tile each; one scene points another way, one has an animal."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("scenes", "sample_data", "clips", "vectors", "annotations")
    }
    usual, other = rng.normal(size=(2, DIM))
    for number in range(SCENES_MADE):
        scene = make_id("scene", number)
        end = CLIPS_EACH * CLIP_NS
        rows["scenes"].append({"scene_id": scene, "dataset": "d", "log_id": "l", "name": f"drive {number}"})
        rows["scenes"][-1] |= {"start_ns": 0, "end_ns": end}
        centre = (other if number == ODD else usual) + 0.3 * rng.normal(size=DIM)
        for start in range(0, end, CLIP_NS):
            clip = {"clip_id": make_id("clip", scene, start), "scene_id": scene, "recipe": "r"}
            rows["clips"].append(clip | {"start_ns": start, "end_ns": start + CLIP_NS})
            for frame in range(FRAMES_EACH):
                key = make_id("sample_data", scene, start, frame)
                reading = {"sample_data_id": key, "scene_id": scene, "channel": "CAM", "timestamp_ns": start + frame}
                file = {"modality": "camera", "is_key_frame": True, "uri": f"/data/{key}.jpg", "fileformat": "jpg"}
                rows["sample_data"].append(reading | file)
                for part, region in enumerate([None, {"x0": 0.0, "y0": 0.0, "x1": 0.5, "y1": 1.0}]):
                    vector = centre + 0.1 * rng.normal(size=DIM) if part == 0 else rng.normal(size=DIM)
                    row = {"embedding_id": make_id("e", key, part), "part": part, "region": region}
                    row["vector"] = np.float32(vector / np.linalg.norm(vector)).tolist()
                    rows["vectors"].append(reading | row)
        note = {"annotation_id": make_id("note", scene), "scene_id": scene, "source": "t", "version": "1"}
        note |= {"timestamp_ns": 0, "attributes": "{}", "size_lwh": [1.0, 1.0, 1.0]}
        rows["annotations"].append(note | {"category": "animal" if number == ODD else "car"})
    return rows


def lake_of(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> Store:
    store = Store.create(str(folder))
    tables = {"scenes": SCENES, "sample_data": SAMPLE_DATA, "clips": CLIPS, "annotations": ANNOTATIONS}
    arrow = {name: check(pa.Table.from_pylist(rows[name], schema), schema) for name, schema in tables.items()}
    arrow["embeddings/x"] = pa.Table.from_pylist(rows["vectors"], embeddings_schema("x", "1", DIM))
    facts = clip_facts(arrow["scenes"], arrow["sample_data"], arrow["annotations"], arrow["clips"])
    for name, table in (arrow | {"clip_facts": check(facts, CLIP_FACTS)}).items():
        store.ensure(name, table.schema)
        store.append(name, table)
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return lake_of(tmp_path_factory.mktemp("rare") / "lake", ROWS)


ROWS = made()


def oracle(neighbours: int) -> dict[str, float]:
    """By clip id the mean distance to the nearest clips of other scenes, each clip the mean of its whole frames."""
    vectors: dict[str, NDArray[np.float64]] = {}
    scene_of = {clip["clip_id"]: clip["scene_id"] for clip in ROWS["clips"]}
    for clip in ROWS["clips"]:
        own = [
            row["vector"]
            for row in ROWS["vectors"]
            if row["region"] is None
            and row["scene_id"] == clip["scene_id"]
            and clip["start_ns"] <= row["timestamp_ns"] < clip["end_ns"]
        ]
        mean = np.mean(own, axis=0)
        vectors[clip["clip_id"]] = mean / np.linalg.norm(mean)
    found = {}
    for name, vector in vectors.items():
        away = sorted(1 - vector @ other for key, other in vectors.items() if scene_of[key] != scene_of[name])
        found[name] = float(np.mean(away[:neighbours]))
    return found


@pytest.mark.parametrize("neighbours", [1, 5, 100])
def test_distances_are_those_of_the_oracle(store: Store, neighbours: int) -> None:
    expected = oracle(neighbours)
    hits = rare(store, k=100, neighbours=neighbours)
    assert {hit.clip_id: pytest.approx(hit.score, abs=1e-5) for hit in hits} == expected
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert [hit.rank for hit in hits] == list(range(1, len(expected) + 1))


def test_the_odd_scene_comes_first_and_says_why(store: Store) -> None:
    hits = rare(store, k=3)
    assert {hit.scene for hit in hits} == {f"drive {ODD}"}
    first = next(hit for hit in hits if hit.start_ns == 0)
    assert "times the usual" in first.why and f"animal in 1 of {len(ROWS['clips'])} clips" in first.why
    assert hits[0].evidence == {"knn_distance": hits[0].score}
    assert first.start_ns is not None and first.end_ns is not None
    assert first.start_ns <= first.timestamp_ns < first.end_ns and first.region is None


def test_clips_of_tiles_alone_count_by_their_tiles(tmp_path: Path) -> None:
    """As a lake has them that was embedded with views `tiles`; here in all scenes but one."""
    kept = ROWS["scenes"][0]["scene_id"]
    vectors = [row for row in ROWS["vectors"] if (row["scene_id"] == kept) == (row["region"] is None)]
    store = lake_of(tmp_path / "lake", ROWS | {"vectors": vectors})
    as_whole = [row | {"region": None} for row in vectors]
    same = lake_of(tmp_path / "same", ROWS | {"vectors": as_whole})
    told = [{hit.clip_id: hit.score for hit in rare(each, k=100)} for each in (store, same)]
    assert len(told[0]) == len(ROWS["clips"]) and told[0] == told[1]
    assert {hit.region is None for hit in rare(store, k=100)} == {True, False}


def test_a_filter_limits_what_is_told_not_what_is_compared(store: Store) -> None:
    everything = {hit.clip_id: hit.score for hit in rare(store, k=100)}
    some = rare(store, k=100, where="scene = 'drive 2' or scene = 'drive 3'")
    assert len(some) == 2 * CLIPS_EACH and {hit.scene for hit in some} == {"drive 2", "drive 3"}
    assert {hit.clip_id: hit.score for hit in some}.items() <= everything.items()
    assert not rare(store, where="scene = 'nowhere'")


def test_shows_itself_like_any_answer(store: Store) -> None:
    hits: Hits = rare(store, k=2)
    document = hits.to_dict()
    assert document["query"]["verb"] == "rare" and document["encoder"] == "x" and document["hits"][0]["why"]
    assert "rare" in hits.headline and hits[0].why in repr(hits)
    assert hits.to_arrow()["why"].to_pylist() == [hit.why for hit in hits]
    assert "times the usual" in hits._repr_html_()


@pytest.mark.parametrize("limits", [{"k": 0}, {"k": 10**9}, {"neighbours": 0}, {"neighbours": 101}])
def test_limits(store: Store, limits: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected 1 to"):
        rare(store, **limits)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    one = {name: list(rows) for name, rows in ROWS.items()}
    scene = one["scenes"][0]["scene_id"]
    lone = {name: [row for row in rows if row["scene_id"] == scene] for name, rows in one.items()}
    with pytest.raises(NotFound, match="fewer than two"):
        rare(lake_of(tmp_path / "one", lone))
    uncut = lake_of(tmp_path / "uncut", one | {"clips": []})
    with pytest.raises(NotFound, match="no clip has vectors"):
        rare(uncut)


def test_order_of_rows_changes_nothing(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shuffled = {name: [rows[i] for i in rng.permutation(len(rows))] for name, rows in ROWS.items()}
    again = lake_of(tmp_path / "again", shuffled)
    told = [[(hit.clip_id, round(hit.score, 6)) for hit in rare(each, k=100)] for each in (store, again)]
    assert told[0] == told[1]
    assert rare(store, corpus=Corpus.load(store)).hits == rare(store).hits
