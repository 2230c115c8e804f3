"""Concepts from the vocabulary into the lake and back into queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from miner.concepts.fitting import fitted
from miner.concepts.verbs import listing, show, to_fit
from miner.concepts.vocabulary import load_vocabulary, named_by_user
from miner.corpus import Corpus
from miner.errors import UnknownName, UsageError
from miner.ids import make_id
from miner.lake import Lake
from miner.query.counts import is_labelled
from miner.query.text import parse_query
from miner.query.tree import RESERVED, Concept
from miner.schema import embeddings_schema
from miner.store import Store
from tests.miner.test_search import ENCODER, ROWS, lake_of, unit


def test_the_vocabulary_is_sound() -> None:
    vocabulary = load_vocabulary()
    assert {"truck", "night", "rain", "pedestrian", "fog", "traffic_cone"} <= set(vocabulary)
    for name, each in vocabulary.items():
        assert parse_query(name) == Concept(name) and name not in RESERVED
        assert each.prompts and each.opposites and not set(each.prompts) & set(each.opposites), name
        assert all("{}" not in text for text in each.prompts + each.opposites)
        assert all(label == label.lower() for label in each.labels)
    assert any("daylight" in text for text in vocabulary["night"].opposites), "one light of three is true"
    assert not any("rain" in text for text in vocabulary["night"].opposites)


@pytest.mark.parametrize(
    ("name", "category", "whether"),
    [
        ("truck", "vehicle.truck", True),
        ("truck", "Truck", True),
        ("truck", "vehicle.car", False),
        ("bus", "vehicle.bus.rigid", True),
        ("pedestrian", "human.pedestrian.adult", True),
        ("night", "timeofday: night", True),
        ("rain", "weather: rainy", True),
        ("rain", "weather: clear", False),
        ("traffic_cone", "movable_object.trafficcone", True),
        ("car", "cargo", False),
    ],
)
def test_labels_of_datasets(name: str, category: str, whether: bool) -> None:
    assert is_labelled(load_vocabulary()[name], category) == whether


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Forty clips of a frame each; trucks, annotated, lie where the encoder has the word for them."""
    rows: dict[str, list[dict[str, Any]]] = {key: [] for key in ROWS}
    truck = ENCODER.encode_text(list(load_vocabulary()["truck"].prompts)).mean(axis=0)  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    for number in range(40):
        scene = make_id("scene", number)
        key, span = make_id("sample_data", number), {"scene_id": scene, "start_ns": 0, "end_ns": 10}
        rows["scenes"].append(span | {"dataset": "d", "log_id": "l", "name": f"s{number}", "location": None})
        rows["clips"].append({"clip_id": f"clip{number:02}", "recipe": "r", **span})
        reading = {"sample_data_id": key, "scene_id": scene, "channel": "CAM", "timestamp_ns": 5}
        file = {"modality": "camera", "is_key_frame": True, "uri": "f", "fileformat": "jpg"}
        rows["sample_data"].append(reading | file)
        note = {"annotation_id": make_id("note", number), "scene_id": scene, "source": "t", "timestamp_ns": 5}
        note |= {"attributes": "{}", "version": "1", "bbox_xyxy": [0.0, 0.0, 1.0, 1.0]}
        rows["annotations"].append(note | {"category": "vehicle.truck" if number % 4 == 0 else "vehicle.car"})
        vector = unit(rng.normal(size=ENCODER.dim) + (14 * truck if number % 4 == 0 else 0))
        view = {"embedding_id": f"{key}-0", "part": 0, "region": None, "vector": vector.tolist()}
        rows["vectors"].append(reading | view)
    return Lake(lake_of(tmp_path, rows))


def test_labels_count_where_there_are_enough(lake: Lake) -> None:
    hits = lake.search(query="truck", k=40)
    assert {hit.clip_id for hit in hits[:10]} == {f"clip{number:02}" for number in range(0, 40, 4)}
    assert hits[9].score > 0.5 > hits[10].score
    assert hits.notes[0].startswith("truck: probability by 40 labelled clips (Brier 0.0")
    away = lake.search(query="NOT truck", k=40)
    assert not {hit.clip_id for hit in hits[:10]} & {hit.clip_id for hit in away[:30]}


def test_what_is_fitted_stays_in_the_lake(lake: Lake) -> None:
    before = lake.search(query="truck NOT night", k=5)
    assert any("miner concepts fit LAKE" in note for note in before.notes)
    report = lake.fit_concepts()
    assert report.changed and report.rows == {"concepts": len(load_vocabulary())}
    assert not lake.fit_concepts().changed
    after = lake.search(query="truck NOT night", k=5)
    assert [(hit.clip_id, hit.score) for hit in after] == [(hit.clip_id, hit.score) for hit in before]
    assert not any("miner concepts fit LAKE" in note for note in after.notes)
    about = {each["name"]: each for each in lake.concepts()}
    assert about["truck"]["fitted"][0]["method"] == "labels" and about["truck"]["fitted"][0]["positives"] == 10
    assert about["night"]["fitted"][0]["method"] == "contrast" and not about["night"]["fitted"][0]["stale"]
    assert show(lake.store, "truck") == about["truck"]
    assert [event["job"] for event in lake.store.scan("lineage").to_pylist()] == ["concepts"]


def test_a_concept_of_ones_own(lake: Lake) -> None:
    with pytest.raises(UnknownName, match="unknown concept 'lorry'"):
        lake.search(query="lorry")
    own = {"prompts": ["a truck", "a lorry"], "labels": ["vehicle.truck"]}
    assert lake.fit_concepts("lorry", **own).changed and not lake.fit_concepts("lorry", **own).changed
    assert lake.search(query="count(lorry) > 0", k=40).notes == ()
    assert len(lake.search(query="count(lorry) > 0", k=40)) == 10
    assert {each["name"]: each["origin"] for each in lake.concepts()}["lorry"] == "lake"
    assert lake.fit_concepts("lorry", prompts=["a big lorry"]).changed, "other words, another fit"
    assert any("a photo of a big lorry" in each["prompts"] for each in lake.concepts())
    assert lake.fit_concepts().rows["concepts"] == len(load_vocabulary()) + 1


def test_a_fit_to_other_vectors_is_not_used(lake: Lake) -> None:
    lake.fit_concepts("truck")
    row = lake.store.scan("concepts").to_pylist()[0] | {"encoder_version": "0"}
    lake.store.upsert("concepts", pa.Table.from_pylist([row], lake.store.schema("concepts")))
    assert any("for this query only: truck" in note for note in lake.search(query="truck").notes)


def test_refusals(lake: Lake, tmp_path: Path) -> None:
    for names, words in {(): ["x"], ("a", "b"): ["x"]}.items():
        with pytest.raises(UsageError, match="prompts are of one concept"):
            lake.fit_concepts(*names, prompts=words)
    with pytest.raises(UsageError, match="needs a prompt"):
        lake.fit_concepts("mine", labels=["x"])
    with pytest.raises(UnknownName, match="Did you mean 'truck'"):
        lake.fit_concepts("trucks")
    for name in ("and", "Two words", "1a", "", "count"):
        with pytest.raises(UsageError):
            named_by_user(name, ("x",))
    with pytest.raises(UsageError, match="at most 50"):
        named_by_user("mine", ("x",) * 51)
    assert to_fit(lake.store, ["truck"]).encoder == "hashing" and len(listing(lake.store)) == len(load_vocabulary())


def test_an_empty_lake_has_its_say(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    schema = embeddings_schema("hashing", ENCODER.version, ENCODER.dim)
    store.ensure("embeddings/hashing", schema)
    store.append("embeddings/hashing", pa.Table.from_pylist(ROWS["vectors"], schema))
    [known] = fitted(store, Corpus.load(store), ENCODER, [load_vocabulary()["truck"]])
    assert known.calibration.method == "contrast", "by frames, where there are no clips"
