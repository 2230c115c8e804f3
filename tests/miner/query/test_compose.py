"""Queries over several sensors and of concepts, on a real store, against a plain loop over all rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from embeddings.encoder import encode_sweeps, load_encoder
from miner.concepts.fitting import fitted
from miner.concepts.vocabulary import load_vocabulary, without_name
from miner.corpus import Corpus
from miner.errors import NotFound, UnknownName, UsageError
from miner.hits import Hits
from miner.ids import make_id
from miner.query.explain import Plan
from miner.query.scan import SCANNED
from miner.query.sought import NOT_WEIGHT
from miner.query.sources import sources_of
from miner.schema import embeddings_schema
from miner.search import Query, search
from miner.store import Store
from tests.miner.test_search import CLIP_NS, ENCODER, ROWS, lake_of, text_vector, unit

LIDAR_DIM = 16


def sweep_rows() -> list[dict[str, Any]]:
    """Every 4 ns a sweep of each scene but the last, whose vectors are of few kinds."""
    rng = np.random.default_rng(3)
    distinct = [unit(vector) for vector in rng.normal(size=(9, LIDAR_DIM))]
    rows = []
    for scene in (make_id("scene", number) for number in range(2)):
        for time in range(1, 40, 4):
            key = make_id("sample_data", scene, "LIDAR", time)
            reading = {"sample_data_id": key, "scene_id": scene, "channel": "LIDAR", "timestamp_ns": time}
            vector = distinct[rng.integers(len(distinct))].tolist()
            rows.append(reading | {"embedding_id": make_id("embedding", key), "part": 0, "vector": vector})
    return rows


LIDAR = sweep_rows()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    readings = [
        {key: row[key] for key in ("sample_data_id", "scene_id", "channel", "timestamp_ns")}
        | {"modality": "lidar", "is_key_frame": True, "uri": "s.bin", "fileformat": "kitti_bin"}
        for row in LIDAR
    ]
    rows = ROWS | {"sample_data": [*ROWS["sample_data"], *readings]}
    store = lake_of(tmp_path_factory.mktemp("compose"), rows)
    schema = embeddings_schema("mine", "imported", LIDAR_DIM, modality="lidar")
    store.ensure("embeddings/mine", schema)
    store.append("embeddings/mine", pa.Table.from_pylist(LIDAR, schema))
    return store


def clip_of(row: dict[str, Any]) -> str | None:
    for clip in ROWS["clips"]:
        if clip["scene_id"] == row["scene_id"] and clip["start_ns"] <= row["timestamp_ns"] < clip["end_ns"]:
            return str(clip["clip_id"])
    return None


def best(rows: list[dict[str, Any]], vector: NDArray[Any]) -> dict[str, float]:
    """The best cosine of each clip."""
    found: dict[str, float] = {}
    for row in rows:
        clip = clip_of(row)
        if clip is not None:
            found[clip] = max(found.get(clip, -2), float(np.array(row["vector"], np.float64) @ vector))
    return found


def z(scores: dict[str, float]) -> dict[str, float]:
    values = np.array(list(scores.values()))
    return {clip: (score - values.mean()) / values.std() for clip, score in scores.items()}


def mean_of(rows: list[dict[str, Any]], clip: str) -> NDArray[Any]:
    inside = [np.array(row["vector"]) for row in rows if clip_of(row) == clip and row.get("region") is None]
    return unit(np.sum(inside, axis=0))


def assert_ranked(hits: Hits, expected: dict[str, float]) -> None:
    order = sorted(expected.items(), key=lambda each: (-round(each[1], 6), each[0]))
    assert [hit.clip_id for hit in hits] == [clip for clip, _ in order][: len(hits)]
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in order][: len(hits)], atol=2e-5)


CLIP = ROWS["clips"][1]["clip_id"]


def test_sensors_are_added_in_standard_deviations(store: Store) -> None:
    camera, lidar = best(ROWS["vectors"], mean_of(ROWS["vectors"], CLIP)), best(LIDAR, mean_of(LIDAR, CLIP))
    a, b = z(camera), z(lidar)
    expected = {clip: (a[clip] + 2 * b.get(clip, 0)) / 3 for clip in a if clip != CLIP}
    hits = search(store, Query(query=f'like("{CLIP}", camera) + like("{CLIP}", lidar)^2', k=20), ENCODER)
    assert_ranked(hits, expected)
    assert len(hits) == len(ROWS["clips"]) - 1
    for hit in hits:
        wanted = {"image": camera[str(hit.clip_id)]}
        wanted |= {"lidar": lidar[str(hit.clip_id)]} if hit.clip_id in lidar else {}
        assert hit.evidence == pytest.approx(wanted, abs=2e-6)
        assert hit.channel.startswith("CAM") and hit.start_ns == hit.timestamp_ns // CLIP_NS * CLIP_NS


def test_alike_by_one_sensor_and_unlike_by_the_other(store: Store) -> None:
    a = z(best(ROWS["vectors"], mean_of(ROWS["vectors"], CLIP)))
    b = z(best(LIDAR, mean_of(LIDAR, CLIP)))
    weight = 1 + NOT_WEIGHT
    expected = {clip: (a[clip] - NOT_WEIGHT * b.get(clip, 0)) / weight for clip in a if clip != CLIP}
    assert_ranked(search(store, Query(query=f'like("{CLIP}", camera) - like("{CLIP}", lidar)', k=5), ENCODER), expected)


def test_texts_and_a_sweep(store: Store, tmp_path: Path) -> None:
    """Lists of the old kind, across sensors, with a LiDAR encoder that is really asked."""
    encoder = load_encoder("descriptor")
    points = np.random.default_rng(0).uniform(-20, 20, (4000, 4)).astype(np.float32) * np.float32((1, 1, 0.1, 0))
    points.tofile(tmp_path / "sweep.bin")
    vectors = encode_sweeps(encoder, [points, points + np.float32((3, 9, 1, 0))])
    rows = [row | {"vector": vectors[place // 3 % 2].tolist()} for place, row in enumerate(LIDAR)]
    lake = lake_of(tmp_path, ROWS)
    schema = embeddings_schema("descriptor", encoder.version, encoder.dim, modality="lidar")
    lake.ensure("embeddings/descriptor", schema)
    lake.append("embeddings/descriptor", pa.Table.from_pylist(rows, schema))
    a, b = z(best(ROWS["vectors"], unit(text_vector("night")))), z(best(rows, vectors[0]))
    hits = search(lake, Query(texts=("night",), lidar=(str(tmp_path / "sweep.bin"),), k=9), ENCODER)
    assert_ranked(hits, {clip: (a[clip] + b.get(clip, 0)) / 2 for clip in a})
    assert set(hits[0].evidence) == {"text", "lidar"} and "lidar" in hits[0].why
    assert any("lidar: descriptor" in note for note in hits.notes)
    with pytest.raises(UsageError, match="vectors do not compare"):
        search(lake, Query(texts=("a",), lidar=("x.bin",), per="frame"), ENCODER)


def test_logic_joins_the_probabilities_of_its_parts(store: Store) -> None:
    def each(query: str) -> dict[str, float]:
        return {str(hit.clip_id): hit.score for hit in search(store, Query(query=query, k=20), ENCODER)}

    a, b = each('NOT NOT "a truck"'), each('NOT NOT "rain"')
    assert len(a) == len(ROWS["clips"]) and all(0 < p < 1 for p in a.values())
    for query, joined in {
        '"a truck" AND "rain"': lambda p, q: p * q,
        '"a truck" OR "rain"': lambda p, q: 1 - (1 - p) * (1 - q),
        '"a truck" NOT "rain"': lambda p, q: p * (1 - q),
    }.items():
        found = search(store, Query(query=query, k=20), ENCODER)
        assert_ranked(found, {clip: joined(a[clip], b[clip]) for clip in a})
        assert found[0].evidence == pytest.approx(
            {"a truck": a[str(found[0].clip_id)], "rain": b[str(found[0].clip_id)]}, abs=1e-5
        )
    frames = search(store, Query(query='"a truck" AND NOT "rain"', k=500, per="frame"), ENCODER)
    assert len(frames) == len(ROWS["sample_data"])


def test_a_concept_is_its_direction_and_calibration(store: Store) -> None:
    [known] = fitted(store, Corpus.load(store), ENCODER, [load_vocabulary()["night"]])
    scores = best(ROWS["vectors"], known.direction.astype(np.float64))
    expected = {clip: float(known.calibration.probability(np.array(score))) for clip, score in scores.items()}
    hits = search(store, Query(query="night", k=20), ENCODER)
    assert_ranked(hits, expected)
    assert hits.notes[0].startswith("night: probability from how its scores spread")
    assert "miner concepts fit LAKE" in hits.notes[1]
    shown = max(expected, key=lambda clip: expected[clip])
    assert hits[0].clip_id == shown
    row = next(row for row in ROWS["vectors"] if row["sample_data_id"] == hits[0].sample_data_id)
    near = [np.array(each["vector"]) @ known.direction for each in ROWS["vectors"] if clip_of(each) == shown]
    assert max(near) == pytest.approx(
        max(
            np.array(each["vector"]) @ known.direction
            for each in ROWS["vectors"]
            if each["sample_data_id"] == row["sample_data_id"]
        ),
        abs=1e-6,
    )


def test_counts(store: Store) -> None:
    with_cars = {note["scene_id"] + str(note["timestamp_ns"]) for note in ROWS["annotations"]}
    wanted = {clip["clip_id"] for clip in ROWS["clips"] if clip["scene_id"] + str(clip["start_ns"]) in with_cars}
    hits = search(store, Query(query="count(car) >= 1", k=50), ENCODER)
    assert {hit.clip_id for hit in hits} == wanted and {hit.score for hit in hits} == {1.0}
    assert hits[0].evidence == {"count(car)": 1.0}
    assert [hit.clip_id for hit in hits] == sorted(wanted)
    none = search(store, Query(query="NOT count(car) >= 1", k=50), ENCODER)
    assert {hit.clip_id for hit in none} == {clip["clip_id"] for clip in ROWS["clips"]} - wanted
    both = search(store, Query(query='"night" AND count(car) >= 1', k=50), ENCODER)
    assert {hit.clip_id for hit in both} == wanted
    with pytest.raises(NotFound, match=r"no annotation of the lake is of 'bus'(.|\n)*frames\(bus\)"):
        search(store, Query(query="count(bus) > 0"), ENCODER)
    with pytest.raises(UsageError, match="of a clip, not of a frame"):
        search(store, Query(query="count(car) > 0", per="frame"), ENCODER)


def test_frames(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miner.concepts.calibration._EVEN", -0.5)  # so that there is something to count

    def counted(text: str) -> dict[str, int]:
        [known] = fitted(store, Corpus.load(store), ENCODER, [without_name(text)])
        number: dict[str, set[str]] = {clip["clip_id"]: set() for clip in ROWS["clips"]}
        for row in ROWS["vectors"]:
            clip = clip_of(row)
            score = np.round(np.float32(np.array(row["vector"]) @ known.direction), 6)
            if clip and score >= known.calibration.even:
                number[clip].add(row["sample_data_id"])
        return {clip: len(readings) for clip, readings in number.items()}

    text, number = next((each, found) for each in "abcdefghijkl" if len(set((found := counted(each)).values())) > 2)
    for least in (1, 2):
        hits = search(store, Query(query=f'frames("{text}") >= {least}', k=50), ENCODER)
        assert {hit.clip_id for hit in hits} == {clip for clip, seen in number.items() if seen >= least}
        assert all(hit.evidence == {f"frames({text})": number[str(hit.clip_id)]} for hit in hits)


def test_filters_and_examples_leave_out(store: Store) -> None:
    scene = ROWS["scenes"][0]["scene_id"]
    hits = search(store, Query(query='"night" AND NOT "rain"', where="scene = 'drive 0'", k=50), ENCODER)
    assert len(hits) == 3 and {hit.scene_id for hit in hits} == {scene}
    mixed = search(store, Query(query=f'like("{CLIP}") + ("a" AND "b")', where="dataset = 'd0'", k=50), ENCODER)
    assert CLIP not in {hit.clip_id for hit in mixed} and len(mixed) == 5


def test_scores_do_not_depend_on_the_filter(store: Store) -> None:
    for query in (f'like("{CLIP}", camera) + like("{CLIP}", lidar)', '"a" AND "b"', '"a" + ("b" AND "c")'):
        everywhere = {hit.clip_id: hit.score for hit in search(store, Query(query=query, k=50), ENCODER)}
        for hit in search(store, Query(query=query, k=50, where="scene = 'drive 1'"), ENCODER):
            assert hit.score == pytest.approx(everywhere[hit.clip_id], abs=1e-6)


def test_sensors_that_disagree_are_found(tmp_path: Path) -> None:
    """Two streets, alike by both sensors within a street; one clip has the sweeps of the other street."""
    rng = np.random.default_rng(0)
    streets = {"camera": rng.normal(size=(2, 64)), "lidar": rng.normal(size=(2, LIDAR_DIM))}
    rows: dict[str, list[dict[str, Any]]]
    rows = {key: [] for key in ("scenes", "sample_data", "clips", "annotations", "vectors")}
    sweeps = []
    for number in range(12):
        scene = make_id("scene", number)
        span = {"scene_id": scene, "start_ns": 0, "end_ns": 10}
        named = {"dataset": "d", "log_id": "l", "name": f"drive {number}", "location": None}
        rows["scenes"].append(span | named)
        rows["clips"].append(
            {"clip_id": f"clip{number:02}", "scene_id": scene, "start_ns": 0, "end_ns": 10, "recipe": "r"}
        )
        for sensor in streets:
            key = make_id("sample_data", scene, sensor)
            reading = {"sample_data_id": key, "scene_id": scene, "channel": sensor.upper(), "timestamp_ns": 5}
            file = {"modality": sensor, "is_key_frame": True, "uri": "f", "fileformat": "jpg"}
            rows["sample_data"].append(reading | file)
            street = (number % 2) ^ (sensor == "lidar" and number == 7)
            vector = unit(streets[sensor][street] + 0.1 * rng.normal(size=streets[sensor].shape[1])).tolist()
            view = reading | {"embedding_id": f"{key}-0", "part": 0, "region": None, "vector": vector}
            (rows["vectors"] if sensor == "camera" else sweeps).append(view)
    store = lake_of(tmp_path, rows)
    schema = embeddings_schema("mine", "imported", LIDAR_DIM, modality="lidar")
    store.ensure("embeddings/mine", schema)
    store.append("embeddings/mine", pa.Table.from_pylist(sweeps, schema))
    hits = search(store, Query(query="disagree(camera, lidar)", k=3), ENCODER)
    assert hits[0].clip_id == "clip07" and hits[0].score > hits[1].score + 1 and hits[0].channel == "CAMERA"
    assert set(hits[0].evidence) == {"disagree(camera, lidar)"}
    other = search(store, Query(query="disagree(lidar, camera)", k=1), ENCODER)
    assert other[0].clip_id == "clip07" and other[0].channel == "LIDAR"
    assert search(store, Query(query='disagree(camera, lidar) + "night"', k=1), ENCODER).hits


def test_a_large_lake_compares_what_its_index_finds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = ('"a" AND NOT "b"', f'like("{CLIP}", camera) + like("{CLIP}", lidar)^2', 'NOT NOT "c"', "count(car) >= 1")
    exact = {query: search(store, Query(query=query, k=3), ENCODER) for query in queries}
    assert len(ROWS["vectors"]) < SCANNED
    monkeypatch.setattr("miner.query.scan.SCANNED", 100)
    monkeypatch.setattr("miner.query.scan.FETCHED", 60)
    for query, hits in exact.items():
        again = search(store, Query(query=query, k=3), ENCODER)
        assert again[0].clip_id == hits[0].clip_id, query


def test_a_large_lake_finds_what_a_query_is_about_and_as_much_as_is_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is far from what NOT denies; what a count makes true; k clips, however many rows each of them has."""
    far = ('NOT "c"', '"a" OR NOT "b"', 'NOT ("a" OR "b")', '"a" OR count(car) >= 1', 'NOT count(car) >= 1 OR "b"')
    exact = {query: search(store, Query(query=query, k=50), ENCODER) for query in far}
    monkeypatch.setattr("miner.query.scan.SCANNED", 100)
    monkeypatch.setattr("miner.query.scan.FETCHED", 8)
    for query, hits in exact.items():
        one = search(store, Query(query=query, k=1), ENCODER)
        assert one[0].clip_id == hits[0].clip_id, query
        every = search(store, Query(query=query, k=50), ENCODER)
        assert [hit.clip_id for hit in every] == [hit.clip_id for hit in hits], query


def test_refusals(store: Store) -> None:
    with pytest.raises(UnknownName, match=r"unknown concept 'nigth'(.|\n)*Did you mean 'night'"):
        search(store, Query(query="nigth and rain"), ENCODER)
    with pytest.raises(NotFound, match="has the id 'nobody'"):
        search(store, Query(query='like("nobody") + lidar("x.bin")'), ENCODER)
    with pytest.raises(UsageError, match="query, column 3"):
        Query(query="a b")
    with pytest.raises(UsageError, match="nothing to search for"):
        Query(query="- a")
    hits = search(store, Query(query="night", texts=("a",), not_like=(CLIP,), k=2), ENCODER, sources=sources_of(store))
    assert set(hits[0].evidence) == {"night", "text", "not_image"} or set(hits[0].evidence) == {"night", "text"}


def test_explains_what_each_part_came_to(store: Store) -> None:
    plan = Plan()
    query = Query(query=f'("a" AND NOT "b")^2 + like("{CLIP}", lidar)', k=3, where="dataset = 'd0'")
    hits = search(store, query, ENCODER, plan=plan)
    assert hits.plan == plan.to_dict()
    parts = {step.what: step for step in plan.steps if step.step == "part"}
    assert list(parts) == ['"a" AND NOT "b"', '  "a"', '  NOT "b"', '    "b"', f'like("{CLIP}", lidar)']
    assert parts['"a" AND NOT "b"'].note == "weight 2" and "no labels" in parts['  "a"'].note
    compared = {step.what.split()[2]: step.rows for step in plan.steps if step.step == "compare"}
    inside = [row for row in ROWS["vectors"] if clip_of(row) and row["scene_id"] != make_id("scene", 1)]
    assert compared["camera"] == len([row for row in inside if clip_of(row) != CLIP])
    assert plan.steps[-1].step == "describe" and plan.steps[-1].rows == len(hits) == 3
    assert 'NOT "b"' in repr(hits)


def test_a_query_says_whether_it_reads_files() -> None:
    """Who serves strangers has to know: a path can stand in an expression, too."""
    assert Query(images=("a.jpg",)).reads_files and Query(lidar=("a.bin",)).reads_files
    assert Query(query='night + image("a.jpg")^2').reads_files and Query(query='"a" - lidar("a.bin")').reads_files
    assert not Query(query='night AND "image(x)"', like=("a",)).reads_files
