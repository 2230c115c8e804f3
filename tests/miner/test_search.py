"""Search on a real store against a plain ranking of all frames, and everything that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embeddings.encoder import encode_all, load_encoder
from miner.corpus import Corpus
from miner.errors import NotFound, UsageError
from miner.facts import clip_facts
from miner.ids import make_id
from miner.query.sought import NOT_WEIGHT
from miner.schema import ANNOTATIONS, CLIP_FACTS, CLIPS, SAMPLE_DATA, SCENES, check, embeddings_schema
from miner.search import Query, search
from miner.store import Store

ENCODER = load_encoder("hashing")
DIM = ENCODER.dim
SCENE_NS, CLIP_NS, STEP_NS = 40, 10, 4
CAMERAS = ("CAM_FRONT", "CAM_BACK")


def unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def rows_of_lake(seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Three scenes of two cameras; clips cover the first 30 of 40 ns; each frame has a whole view and two tiles.

    Vectors repeat, so that scores tie between frames and clips.
    """
    rng = np.random.default_rng(seed)
    distinct = [unit(vector) for vector in rng.normal(size=(20, DIM))]
    names = ("scenes", "sample_data", "clips", "vectors", "annotations")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(3):
        scene = make_id("scene", number)
        named = {"scene_id": scene, "dataset": f"d{number % 2}", "log_id": "l", "name": f"drive {number}"}
        rows["scenes"].append(named | {"start_ns": 0, "end_ns": SCENE_NS, "location": [None, "a", "b"][number]})
        for start in range(0, 30, CLIP_NS):
            span = {"clip_id": make_id("clip", scene, start), "scene_id": scene, "recipe": "r"}
            rows["clips"].append(span | {"start_ns": start, "end_ns": start + CLIP_NS})
            note = {"annotation_id": make_id("note", scene, start), "scene_id": scene, "category": "car", "source": "t"}
            note |= {"timestamp_ns": start, "attributes": "{}", "version": "1", "bbox_xyxy": [0.0, 0.0, 1.0, 1.0]}
            rows["annotations"] += [note] if (start + number) % 20 else []
        for time in range(0, SCENE_NS, STEP_NS):
            for channel in CAMERAS:
                key = make_id("sample_data", scene, channel, time)
                reading = {"sample_data_id": key, "scene_id": scene, "channel": channel, "timestamp_ns": time}
                file = {"modality": "camera", "is_key_frame": True, "uri": f"/data/{key}.jpg", "fileformat": "jpg"}
                rows["sample_data"].append(reading | file)
                for part, region in enumerate([None, (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]):
                    edges = None if region is None else dict(zip(("x0", "y0", "x1", "y1"), region, strict=True))
                    vector = distinct[rng.integers(len(distinct))].tolist()
                    view = {"embedding_id": make_id("embedding", key, part), "part": part, "region": edges}
                    rows["vectors"].append(reading | view | {"vector": vector})
    return rows


def lake_of(folder: Path, rows: dict[str, list[dict[str, Any]]], shuffle: int | None = None) -> Store:
    """A lake of these rows; `shuffle` seeds another order of them."""
    store = Store.create(str(folder / "lake"))
    vectors = embeddings_schema(ENCODER.name, ENCODER.version, DIM)
    schemas = {"scenes": SCENES, "sample_data": SAMPLE_DATA, "annotations": ANNOTATIONS, "clips": CLIPS}
    tables = {}
    for name, schema in {**schemas, "vectors": vectors}.items():
        table = check(pa.Table.from_pylist(rows[name], schema), schema)
        order = np.arange(len(table)) if shuffle is None else np.random.default_rng(shuffle).permutation(len(table))
        tables[name] = table.take(order)
        target = "embeddings/hashing" if name == "vectors" else name
        store.ensure(target, schema)
        store.append(target, tables[name])
    store.ensure("clip_facts", CLIP_FACTS)
    facts = [tables[name] for name in ("scenes", "sample_data", "annotations", "clips")]
    store.append("clip_facts", clip_facts(*facts))
    return store


ROWS = rows_of_lake()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return lake_of(tmp_path_factory.mktemp("search"), ROWS)


@pytest.fixture(scope="module")
def corpus(store: Store) -> Corpus:
    return Corpus.load(store)


def oracle(vector: NDArray[Any], k: int, per: str, passes: Any = lambda row: True) -> list[tuple[str, float]]:
    """Score every row, keep the best of each group, sort by (-score, id)."""
    clips = {(clip["scene_id"], start): clip for clip in ROWS["clips"] for start in [clip["start_ns"]]}
    best: dict[str, float] = {}
    for row in ROWS["vectors"]:
        clip = clips.get((row["scene_id"], row["timestamp_ns"] // CLIP_NS * CLIP_NS))
        name = row["sample_data_id"] if per == "frame" else clip and clip["clip_id"]
        if name is None or not passes({**row, "clip": clip}):
            continue
        score = float(np.float32(np.dot(np.array(row["vector"], np.float32).astype(float), vector.astype(float))))
        best[name] = max(score, best.get(name, -2.0))
    return sorted(best.items(), key=lambda each: (-each[1], each[0]))[:k]


def found(store: Store, query: Query, corpus: Corpus | None = None) -> list[tuple[str, float]]:
    hits = search(store, query, ENCODER, corpus)
    return [(hit.sample_data_id if query.per == "frame" else str(hit.clip_id), hit.score) for hit in hits]


def assert_same(got: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [name for name, _ in got] == [name for name, _ in expected]
    np.testing.assert_allclose([score for _, score in got], [score for _, score in expected], atol=2e-7)


def text_vector(*texts: str) -> NDArray[np.float32]:
    return ENCODER.encode_text(list(texts)).sum(axis=0)  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("per", ["clip", "frame"])
@pytest.mark.parametrize("k", [1, 3, 9, 60, 10_000])
@pytest.mark.parametrize("text", ["night", "a truck in the rain", "دراجة 🚲 nochi"])
def test_ranks_as_the_oracle(store: Store, corpus: Corpus, text: str, k: int, per: str) -> None:
    assert_same(found(store, Query(texts=(text,), k=k, per=per), corpus), oracle(unit(text_vector(text)), k, per))


WHERE = {
    "channel = 'CAM_BACK'": lambda row: row["channel"] == "CAM_BACK",
    "location = 'a'": lambda row: row["clip"] and row["scene_id"] == make_id("scene", 1),
    "location is null": lambda row: row["clip"] is None or row["scene_id"] == make_id("scene", 0),
    "not dataset = 'd0'": lambda row: row["clip"] and row["scene_id"] == make_id("scene", 1),
    "count('car') > 0 and timestamp_ns >= 8": lambda row: (
        row["clip"] and row["timestamp_ns"] >= 8 and (row["clip"]["start_ns"] + ROW_NUMBER[row["scene_id"]]) % 20
    ),
    f"scene_id = '{make_id('scene', 2)}'": lambda row: row["scene_id"] == make_id("scene", 2),
    "timestamp_ns < 0": lambda row: False,
    "clip_id is null or start_ns = 10": lambda row: row["clip"] is None or row["clip"]["start_ns"] == 10,
}
ROW_NUMBER = {make_id("scene", number): number for number in range(3)}


@pytest.mark.parametrize("per", ["clip", "frame"])
@pytest.mark.parametrize("where", WHERE)
def test_filters_before_ranking(store: Store, corpus: Corpus, where: str, per: str) -> None:
    query = Query(texts=("night",), k=5, per=per, where=where)
    assert_same(found(store, query, corpus), oracle(unit(text_vector("night")), 5, per, WHERE[where]))


def test_not_text_pushes_away(store: Store, corpus: Corpus) -> None:
    vector = unit(text_vector("night", "rain") - NOT_WEIGHT * text_vector("truck"))
    query = Query(texts=("night", "rain"), not_texts=("truck",), k=4)
    assert_same(found(store, query, corpus), oracle(vector, 4, "clip"))


@pytest.mark.parametrize("per", ["clip", "frame"])
def test_like_a_reading_leaves_its_clip_out(store: Store, corpus: Corpus, per: str) -> None:
    reading = ROWS["sample_data"][7]
    start = reading["timestamp_ns"] // CLIP_NS * CLIP_NS

    def other(row: dict[str, Any]) -> bool:
        clip = row["clip"]
        return clip is None or (clip["scene_id"], clip["start_ns"]) != (reading["scene_id"], start)

    whole = next(row["vector"] for row in ROWS["vectors"] if row["sample_data_id"] == reading["sample_data_id"])
    expected = oracle(unit(np.array(whole)), 6, per, other)
    assert_same(found(store, Query(like=(reading["sample_data_id"],), k=6, per=per), corpus), expected)


def test_like_a_clip_is_its_mean_and_fuses_with_text(store: Store, corpus: Corpus) -> None:
    clip = ROWS["clips"][4]
    inside = [
        row["vector"]
        for row in ROWS["vectors"]
        if row["scene_id"] == clip["scene_id"]
        and clip["start_ns"] <= row["timestamp_ns"] < clip["end_ns"]
        and row["region"] is None
    ]
    usual = np.mean([row["vector"] for row in ROWS["vectors"]], axis=0)
    vector = unit(unit(unit(np.sum(inside, axis=0)) - usual) + text_vector("night"))
    expected = oracle(vector, 8, "clip", lambda row: row["clip"] and row["clip"]["clip_id"] != clip["clip_id"])
    assert_same(found(store, Query(texts=("night",), like=(clip["clip_id"],), k=8), corpus), expected)


def test_like_a_frame_in_no_clip_leaves_that_frame_out(store: Store, corpus: Corpus) -> None:
    frame = next(row for row in ROWS["sample_data"] if row["timestamp_ns"] >= 30)["sample_data_id"]
    hits = search(store, Query(like=(frame,), per="frame", k=100), corpus=corpus)
    assert len(hits) == len(ROWS["sample_data"]) - 1 and frame not in [hit.sample_data_id for hit in hits]
    assert any(hit.clip_id is None for hit in hits)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_row_order_in_the_tables_changes_nothing(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    shuffled = lake_of(tmp_path_factory.mktemp("shuffled"), ROWS, shuffle=seed)
    for per in ("clip", "frame"):
        hits = search(shuffled, Query(texts=("night",), k=7, per=per), ENCODER)
        assert_same([((hit.sample_data_id if per == "frame" else str(hit.clip_id)), hit.score) for hit in hits],
                    oracle(unit(text_vector("night")), 7, per))  # fmt: skip


def test_a_frame_counts_for_every_clip_it_is_in(tmp_path: Path) -> None:
    rows = rows_of_lake()
    for clip in list(rows["clips"]):
        start = clip["start_ns"] + 5
        rows["clips"].append(
            clip | {"clip_id": f"late-{clip['clip_id']}", "start_ns": start, "end_ns": start + CLIP_NS}
        )
    store, vector = lake_of(tmp_path, rows), unit(text_vector("night"))
    best = {}
    for clip in rows["clips"]:
        inside = [
            np.array(row["vector"], np.float32).astype(float) @ vector.astype(float)
            for row in rows["vectors"]
            if row["scene_id"] == clip["scene_id"] and clip["start_ns"] <= row["timestamp_ns"] < clip["end_ns"]
        ]
        best[clip["clip_id"]] = float(np.float32(max(inside)))
    expected = sorted(best.items(), key=lambda each: (-each[1], each[0]))
    assert_same(found(store, Query(texts=("night",), k=100)), expected)
    frames = [name for name, _ in found(store, Query(texts=("night",), k=100, per="frame"))]
    assert len(frames) == len(set(frames)) == len(rows["sample_data"])


def test_the_answer_says_what_it_is_of(store: Store, corpus: Corpus) -> None:
    query = Query(texts=("night",), k=2, where="channel = 'CAM_FRONT'")
    hits = search(store, query, ENCODER, corpus)
    document = json.loads(json.dumps(hits.to_dict()))
    assert list(document) == ["lake", "query", "encoder", "index_id", "table_version", "elapsed_ms", "notes", "hits"]
    assert document["notes"] == []
    assert document["query"] == {
        "texts": ["night"], "not_texts": [], "images": [], "lidar": [], "like": [], "not_like": [],
        "query": None, "k": 2, "per": "clip",
        "where": "channel = 'CAM_FRONT'", "encoder": None,
    }  # fmt: skip
    assert (document["encoder"], document["table_version"]) == ("hashing", store.version("embeddings/hashing"))
    first = document["hits"][0]
    keys = "rank score clip_id scene_id sample_data_id channel timestamp_ns start_ns end_ns uri evidence why"
    assert list(first) == keys.split()
    assert first["uri"] == f"/data/{first['sample_data_id']}.jpg" and first["channel"] == "CAM_FRONT"
    assert first["start_ns"] <= first["timestamp_ns"] < first["end_ns"]
    assert first["evidence"] == {"text": first["score"]} and first["rank"] == 1
    assert hits[0].scene.startswith("drive ")


def test_an_image_finds_itself(tmp_path: Path) -> None:
    from PIL import Image

    rng, rows = np.random.default_rng(0), rows_of_lake()
    frames = rng.integers(0, 255, (6, 32, 32, 3)).astype(np.uint8)
    vectors = encode_all(ENCODER, frames)
    rows["vectors"] = [row | {"region": None} for row in rows["vectors"] if row["part"] == 0][:6]
    for row, vector in zip(rows["vectors"], vectors.tolist(), strict=True):
        row["vector"] = vector
    store = lake_of(tmp_path, rows)
    Image.fromarray(frames[4]).save(tmp_path / "query (1).png")
    hits = search(store, Query(images=(str(tmp_path / "query (1).png"),), per="frame"), ENCODER)
    assert hits[0].sample_data_id == rows["vectors"][4]["sample_data_id"] and hits[0].score > 0.999


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"texts": ["a"], "k": 0},
        {"texts": ["a"], "k": -1},
        {"texts": ["a"], "k": 10**9},
        {"texts": ["a"], "k": float("nan")},
        {"texts": ["a"], "k": 2.0},
        {"texts": ["a"], "k": True},
        {"texts": ["a"], "per": "scene"},
        {"texts": ["a"], "where": "nonsense"},
        {"texts": "a text and no list"},
        {"texts": [""]},
        {"texts": ["  \n"]},
        {"texts": ["x" * 10_000]},
        {"texts": ["\ud800"]},
        {"texts": [3]},
        {"texts": None},
        {"texts": ["a"] * 101},
        {"not_texts": ["only what is not sought"]},
        {"texts": ["a"], "not_texts": [""]},
    ],
)
def test_queries_out_of_limits(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Query(**arguments)


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=1200), st.one_of(st.integers(), st.floats(), st.none()))
def test_any_query_is_refused_or_answered(store: Store, corpus: Corpus, text: str, k: Any) -> None:
    try:
        query = Query(texts=(text,), k=k)
    except UsageError:
        return
    assert 0 < len(search(store, query, ENCODER, corpus)) <= min(k, len(ROWS["clips"]))


def test_unknown_ids_and_files(store: Store, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no reading or clip"):
        search(store, Query(like=("nobody",)), corpus=corpus)
    with pytest.raises(NotFound, match=r"gone.jpg"):
        search(store, Query(images=(str(tmp_path / "gone.jpg"),)), ENCODER, corpus)
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(UsageError, match=r"page.jpg"):
        search(store, Query(images=(str(tmp_path / "page.jpg"),)), ENCODER, corpus)


def test_another_encoder_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has hashing 1 \(64\), query uses hashing:32 1 \(32\)"):
        search(store, Query(texts=("a",)), load_encoder("hashing:32"))
    newer = Store.create(str(tmp_path / "newer"))
    newer.ensure("embeddings/hashing", embeddings_schema("hashing", "2", DIM))
    rows = [row for row in ROWS["vectors"] if row["part"] == 0]
    newer.append("embeddings/hashing", pa.Table.from_pylist(rows, embeddings_schema("hashing", "2", DIM)))
    with pytest.raises(UsageError, match=r"has hashing 2"):
        search(newer, Query(texts=("a",), per="frame"))
    newer.ensure("embeddings/mine", embeddings_schema("mine", "1", DIM))
    newer.append("embeddings/mine", pa.Table.from_pylist(rows, embeddings_schema("mine", "1", DIM)))
    with pytest.raises(UsageError, match=r"several camera encoders: hashing, mine"):
        search(newer, Query(texts=("a",)))
    with pytest.raises(UsageError, match=r"'mine'.*unknown encoder"):
        search(newer, Query(texts=("a",), per="frame", encoder="mine"))
    reading = rows[0]["sample_data_id"]
    assert len(search(newer, Query(like=(reading,), per="frame", encoder="mine", k=5))) == 5


def test_what_cancels_out_is_refused(store: Store, corpus: Corpus) -> None:
    with pytest.raises(UsageError, match=r"cancel"):
        search(store, Query(texts=("a",), not_texts=("a", "a")), ENCODER, corpus)


def test_examples_are_of_one_sensor_that_has_vectors(tmp_path: Path) -> None:
    readings = {each: dict(ROWS["sample_data"][0], sample_data_id=each, modality=each) for each in ("lidar", "radar")}
    store = lake_of(tmp_path, ROWS | {"sample_data": [*ROWS["sample_data"], *readings.values()]})
    camera = ROWS["sample_data"][1]["sample_data_id"]
    mixed = ({"like": (camera, "lidar")}, {"like": ("lidar",), "texts": ("a",)}, {"like": (camera,), "lidar": ("x",)})
    for parts in mixed:
        with pytest.raises(UsageError, match="of camera and lidar readings: their vectors do not compare"):
            search(store, Query(**parts, per="frame"), ENCODER)
    with pytest.raises(NotFound, match="no encoder takes radar readings"):
        search(store, Query(like=("radar",)))
    with pytest.raises(NotFound, match=r"no vectors of lidar readings yet(.|\n)*miner embed LAKE"):
        search(store, Query(like=("lidar",)))
    assert search(store, Query(like=(camera,), k=1), ENCODER).hits


def test_a_lake_of_another_sensor_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match=r"has no lidar readings(.|\n)*miner ls"):
        search(store, Query(lidar=("sweep.bin",)))


def test_says_what_to_run_first(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    with pytest.raises(NotFound, match=r"no vectors of camera readings yet(.|\n)*miner embed"):
        search(store, Query(texts=("a",)))
    store.ensure("embeddings/hashing", embeddings_schema("hashing", "1", DIM))
    with pytest.raises(NotFound, match=r"no vectors(.|\n)*miner embed LAKE --encoder hashing"):
        search(store, Query(texts=("a",)))
    with pytest.raises(NotFound, match=r"no vectors of encoder 'lite'(.|\n)*hashing"):
        search(store, Query(texts=("a",), encoder="lite"))
    store.append("embeddings/hashing", pa.Table.from_pylist(ROWS["vectors"], embeddings_schema("hashing", "1", DIM)))
    with pytest.raises(NotFound, match=r"no clips(.|\n)*miner cut"):
        search(store, Query(texts=("a",)))
    hits = search(store, Query(texts=("a",), per="frame"))
    assert len(hits) == 10 and hits[0].uri is None and hits[0].clip_id is None
    with pytest.raises(NotFound, match=r"clip_facts(.|\n)*miner index"):
        search(store, Query(texts=("a",), per="frame", where="location = 'a'"))
