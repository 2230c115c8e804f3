"""Indexes that are built: they answer for the table as it is, whatever happened to it since, and only if they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.errors import UnknownName, UsageError
from miner.fragments import merge_fragments
from miner.indexes import Ask
from miner.indexes.choose import AUTO, FILES, SMALL, Wanted
from miner.indexes.coded import FaissIndex
from miner.indexes.curve import REFINES, Curve, K
from miner.indexes.files import FOLDER
from miner.indexes.flat import FlatIndex
from miner.indexes.load import load_index
from miner.indexes.probes import MADE_UP, PROMPTS, Probes
from miner.lake import Lake
from miner.schema import IMPORTED, embeddings_schema
from miner.store import Store
from tests.miner.test_indexes import DIM, TABLE, exhaustive, loaded, rows_of, unit

RABITQ = "faiss:IVF-RaBitQ"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with 400 vectors."""
    store = Store.create(str(tmp_path / "lake"))
    store.ensure(TABLE, embeddings_schema("hashing", "1", DIM))
    store.append(TABLE, rows_of(unit(400)))
    return Lake(store)


def assert_as_brute_force(store: Store) -> None:
    """The index, asked to leave nothing out, and the table itself give the same rows and scores in the same order."""
    index, flat = load_index(store, TABLE), FlatIndex.load(store, TABLE)
    assert index.rows.equals(flat.rows) and index.table_version == flat.table_version
    for mask in (None, np.random.default_rng(0).random(len(flat.rows)) < 0.4):
        found, expected = exhaustive(index, unit(3, 7), 12, mask), flat.search(unit(3, 7), 12, mask)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(index.vectors(np.arange(len(flat.rows))), flat.matrix)


def changed(store: Store, what: str, seed: int) -> None:
    """One change of the table."""
    rng = np.random.default_rng(seed)
    if what == "append":
        store.append(TABLE, rows_of(unit(40, seed), first=1000 + 100 * seed))
    elif what == "update":
        store.upsert(TABLE, rows_of(unit(25, seed + 100), first=int(rng.integers(0, 300))))
    elif what == "delete":
        first = int(rng.integers(0, 300))
        store.delete(TABLE, f"timestamp_ns >= {first} AND timestamp_ns < {first + 30}")
    elif what == "compact":
        merge_fragments(store, TABLE, 10_000)
    elif what == "restore":
        versions = store.versions(TABLE)
        store.restore(TABLE, versions[int(rng.integers(1, len(versions)))], {})
    else:
        Lake(store).index()


@pytest.mark.parametrize("kind", ["faiss:IVF-PQ", "faiss:HNSW", "lance:IVF_PQ"])
def test_what_happened_since_is_answered_exactly(kind: str, lake: Lake) -> None:
    lake.index(kind)
    for seed, what in enumerate(["append", "update", "delete", "compact", "index", "update", "restore", "append"], 1):
        changed(lake.store, what, seed)
        assert_as_brute_force(lake.store)
    index = load_index(lake.store, TABLE)
    assert index.kind == kind and (kind.startswith("lance") or "newer than the index" in " ".join(index.notes))


CHANGES = st.sampled_from(["append", "update", "delete", "compact", "restore", "index"])


@settings(max_examples=4, deadline=None)
@given(st.lists(CHANGES, min_size=2, max_size=5), st.integers(0, 1000))
def test_any_history_is_answered_exactly(
    tmp_path_factory: pytest.TempPathFactory, history: list[str], seed: int
) -> None:
    store = Store.create(str(tmp_path_factory.mktemp("history") / "lake"))
    store.ensure(TABLE, embeddings_schema("hashing", "1", DIM))
    store.append(TABLE, rows_of(unit(300)))
    Lake(store).index(RABITQ)
    for number, what in enumerate(history):
        changed(store, what, seed + 10 * number)
        assert_as_brute_force(store)


def test_few_new_rows_leave_the_files_many_are_taken_in_most_build_anew(lake: Lake) -> None:
    def folders() -> set[str]:
        return {path.name for path in Path(lake.uri, FOLDER, TABLE).iterdir()}

    lake.index("faiss:IVF-SQ8")
    first = folders()
    lake.store.append(TABLE, rows_of(unit(3, 1), first=500))
    assert [report.changed for report in lake.index()][-1] and folders() == first
    assert not any(report.changed for report in lake.index())
    lake.store.append(TABLE, rows_of(unit(60, 2), first=600))
    lake.store.delete(TABLE, "timestamp_ns < 10")
    lake.index()
    index = load_index(lake.store, TABLE)
    assert isinstance(index, FaissIndex) and not index.notes and len(index.stored.codes) == 453
    assert len(folders()) == 1 and folders() != first, "what was replaced is gone"
    assert_as_brute_force(lake.store)
    lake.store.append(TABLE, rows_of(unit(900, 3), first=2000))
    lake.index()
    assert_as_brute_force(lake.store)
    assert lake.index("flat")[-1].changed and folders() == set()
    assert load_index(lake.store, TABLE).kind == "flat"


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "facts", "swapped"])
def test_files_that_do_not_hold_are_refused_and_built_anew(damage: str, lake: Lake) -> None:
    lake.index(RABITQ)
    [folder] = Path(lake.uri, FOLDER, TABLE).iterdir()
    codes = folder / "codes.faiss"
    whole = codes.read_bytes()
    if damage == "flip":
        codes.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
    elif damage == "cut":
        (folder / "vectors.f32").write_bytes((folder / "vectors.f32").read_bytes()[:-4])
    elif damage == "gone":
        codes.unlink()
    elif damage == "facts":
        (folder / "index.json").write_text((folder / "index.json").read_text().replace("RaBitQ", "SQ8"))
    else:
        _of_another_table(lake, folder)
    index = load_index(lake.store, TABLE)
    assert index.kind == "flat" and "is not asked" in index.notes[-1] and "miner index" in index.notes[-1]
    assert_as_brute_force(lake.store)
    assert [report.changed for report in lake.index()][-1]
    assert load_index(lake.store, TABLE).kind == RABITQ and not load_index(lake.store, TABLE).notes


def test_files_of_another_format_are_built_anew(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miner.indexes.files._FORMAT", 1)
    lake.index(RABITQ)
    monkeypatch.undo()
    index = load_index(lake.store, TABLE)
    assert index.kind == "flat" and "another version of this program" in index.notes[-1]
    assert [report.changed for report in lake.index()][-1] and not load_index(lake.store, TABLE).notes


def _of_another_table(lake: Lake, folder: Path) -> None:
    """Exchange the files of an index with those of another, whole ones, of another table of the same shape."""
    other = "embeddings/other"
    lake.store.ensure(other, embeddings_schema("other", "1", DIM))
    lake.store.append(other, rows_of(unit(400, 9)).replace_schema_metadata({}))
    lake.index(RABITQ)
    [theirs] = Path(lake.uri, FOLDER, other).iterdir()
    aside = folder.with_name("aside")
    folder.rename(aside)
    theirs.rename(folder)
    aside.rename(theirs)


def test_damage_in_the_table_is_left_out_of_the_index_too(lake: Lake) -> None:
    lake.store.append(TABLE, rows_of(unit(50, 3), first=700))
    lake.index(RABITQ)
    data = sorted(Path(lake.uri, f"{TABLE}.lance", "data").iterdir(), key=lambda path: path.stat().st_size)
    data[0].write_bytes(data[0].read_bytes()[:-8] + b"12345678")
    index = load_index(lake.store, TABLE)
    assert index.kind == RABITQ and len(index.rows) == 400 and "damaged" in index.notes[0]
    assert_as_brute_force(lake.store)


def test_what_is_wanted(lake: Lake) -> None:
    with pytest.raises(UnknownName, match="IVF-RaBitQ"):
        Wanted("faiss:IVF-RabitQ")
    with pytest.raises(UsageError, match="target recall"):
        Wanted(target_recall=1.5)
    assert Wanted().kind_for(lake.store, SMALL - 1, 512) == "flat"
    assert Wanted().kind_for(lake.store, SMALL, 512) == AUTO, "a trial decides"
    assert Wanted(memory_gb=0.001).kind_for(lake.store, SMALL, 512) == "lance:IVF_RQ"
    remote = Store("s3://bucket/lake")
    assert Wanted().kind_for(remote, SMALL, 512) == "lance:IVF_RQ"
    with pytest.raises(UsageError, match="needs a disk"):
        Wanted(FILES[0]).kind_for(remote, SMALL, 512)


def test_a_small_table_stays_flat(lake: Lake) -> None:
    reports = lake.index()
    assert [report.stage for report in reports] == ["facts", "flat"]
    assert not Path(lake.uri, FOLDER).exists() and load_index(lake.store, TABLE).kind == "flat"


def test_the_row_tells_how_it_was_measured(lake: Lake) -> None:
    lake.index("faiss:IVF-Flat", target_recall=0.9)
    [row] = [row for row in lake.store.scan("indexes").to_pylist() if row["kind"] != "flat"]
    said = json.loads(row["params"])
    assert (row["num_vectors"], row["metric"], row["table_version"]) == (400, "cosine", lake.store.version(TABLE))
    assert said["text_queries"] == MADE_UP and said["target_recall"] == 0.9 and said["lists"] == 16
    curve = Curve.from_dict(said["curve"])
    assert curve.reaches("image") == curve.reaches("text") == 1.0, "codes that are the vectors, and every list"


def test_texts_are_those_of_the_encoder_where_it_has_some() -> None:
    sample = np.eye(64, dtype=np.float32)
    probes = Probes.of(sample, "hashing", "1", "camera")
    assert probes.text_source == PROMPTS and probes.queries["text"].shape == (8, 64)
    assert Probes.of(sample, "nobody:knows", "1", "camera").text_source == MADE_UP
    assert Probes.of(sample, "hashing", IMPORTED, "camera").text_source == MADE_UP
    made_up = Probes.of(sample, "descriptor", "1", "lidar").queries["text"]
    np.testing.assert_allclose(np.linalg.norm(made_up, axis=1), 1, atol=1e-6)


def curve_of(image: list[list[float]], text: list[list[float]]) -> Curve:
    wide: Any = [[row + [row[-1]] * (len(REFINES) - len(row)) for row in rows] for rows in (image, text)]
    fifty = [[value / 2 for value in row] for row in wide[0]]
    return Curve([8, 64], {"image": [[wide[0], fifty]], "text": [[wide[1], fifty]]}, [[0.1, 1.0]], 0.001)


def test_a_setting_is_chosen_by_kind_and_recall() -> None:
    curve = curve_of([[0.5, 0.97], [0.6, 0.99]], [[0.3, 0.6], [0.5, 0.97]])
    image, estimate = curve.choose(K, 1.0, Ask("image", 0.95))
    assert (image.effort, image.candidates) == (8, 20) and estimate.recall == 0.97
    text, estimate = curve.choose(K, 1.0, Ask("text", 0.95))
    assert (text.effort, text.candidates) == (64, 20) and estimate.cpu_ms == pytest.approx(1.02)
    assert curve.choose(K, 1.0, Ask("image", 0.9999))[1].recall == 0.99, "the best there is"
    setting, estimate = curve.choose(1000, 1.0, Ask("image", 0.3))
    assert setting.candidates == 1100 and estimate.recall == 0.97 / 2, "measured with fifty"


def test_every_row_that_passes_is_found_where_few_do(lake: Lake) -> None:
    index = loaded(RABITQ, lake.store)
    mask = np.zeros(400, np.bool_)
    mask[[3, 77, 200, 399]] = True
    assert sorted(index.search(unit(1, 5), 10, mask)[0][0].tolist()) == [3, 77, 200, 399]
    found = index._found(unit(2, 5), 4, mask, (1, 4))  # type: ignore[attr-defined]
    assert all(sorted(rows) == [3, 77, 200, 399] for rows in found[0].tolist())
