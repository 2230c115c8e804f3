"""Vectors from a file: the formats, what is refused before anything is written, and what goes to quarantine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from miner.errors import MinerError, NotFound, UsageError
from miner.executor import LocalExecutor
from miner.lake import Lake, create, open
from tests.recordings import write_drives
from tests.tables import contents

DIM, COUNT = 6, 8
TABLE = "embeddings/mine"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two scenes of four frames, cut and without vectors."""
    folder = tmp_path_factory.mktemp("imported")
    lake = create(folder / "lake", LocalExecutor(threads=2))
    lake.ingest(write_drives(folder / "source", scenes=2, frames=4))
    lake.cut(1)
    return lake


@pytest.fixture
def lake(template: Lake, tmp_path: Path) -> Lake:
    """A copy of its own for each test."""
    shutil.copytree(template.uri, tmp_path / "lake")
    return open(tmp_path / "lake", LocalExecutor(threads=2))


def readings(lake: Lake) -> list[dict[str, Any]]:
    """The lake's readings in the order an npy file has."""
    rows = lake.store.scan("sample_data").to_pylist()
    return sorted(rows, key=lambda r: (r["scene_id"], r["channel"], r["timestamp_ns"], r["sample_data_id"]))


def vectors(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(COUNT, DIM)).astype(np.float32) * 3


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True))


def parquet(path: Path, rows: NDArray[Any], **columns: list[str]) -> Path:
    pq.write_table(pa.table({**columns, "vector": pa.array([row.tolist() for row in rows])}), path)
    return path


def npy(path: Path, rows: NDArray[Any]) -> Path:
    np.save(path, rows)
    return path


def written(lake: Lake, table: str = TABLE) -> dict[str, list[float]]:
    rows = lake.store.scan(table).to_pylist()
    assert {(row["part"], row["region"]) for row in rows} <= {(0, None)}
    return {row["sample_data_id"]: row["vector"] for row in rows}


@pytest.mark.parametrize("by", ["npy", "sample_data_id", "uri"])
def test_each_vector_goes_to_its_reading(lake: Lake, tmp_path: Path, by: str) -> None:
    rows, expected = readings(lake), vectors()
    if by == "npy":
        file = npy(tmp_path / "v.npy", expected)
    else:
        order = np.random.default_rng(1).permutation(COUNT)
        file = parquet(tmp_path / "v.parquet", expected[order], **{by: [rows[n][by] for n in order]})
    report = lake.embed_from(file, "mine")
    assert (report.written, report.rows) == (COUNT, {TABLE: COUNT})
    found = written(lake)
    np.testing.assert_allclose([found[row["sample_data_id"]] for row in rows], unit(expected), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(list(found.values()), axis=1), 1, atol=1e-6)
    of_row = {row["sample_data_id"]: row for row in lake.store.scan(TABLE).to_pylist()}
    for row in rows:
        for column in ("scene_id", "channel", "timestamp_ns"):
            assert of_row[row["sample_data_id"]][column] == row[column]
    assert lake.store.schema(TABLE).metadata[b"version"] == b"imported"


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_kinds_of_floats(lake: Lake, tmp_path: Path, kind: Any) -> None:
    lake.embed_from(npy(tmp_path / "v.npy", vectors().astype(kind)), "mine")
    found = [written(lake)[row["sample_data_id"]] for row in readings(lake)]
    np.testing.assert_allclose(found, unit(vectors().astype(kind)), atol=1e-3)


def test_the_same_import_again_changes_nothing(lake: Lake, tmp_path: Path) -> None:
    file = npy(tmp_path / "v.npy", vectors())
    lake.embed_from(file, "mine")
    versions = {table: lake.store.version(table) for table in lake.store.tables()}
    report = lake.embed_from(file, "mine")
    assert (report.changed, report.done_before) == (False, COUNT)
    assert versions == {table: lake.store.version(table) for table in lake.store.tables()}


def test_part_of_the_readings_and_the_rest_later(lake: Lake, tmp_path: Path) -> None:
    ids = [row["sample_data_id"] for row in readings(lake)]
    lake.embed_from(parquet(tmp_path / "a.parquet", vectors()[:3], sample_data_id=ids[:3]), "mine")
    assert set(written(lake)) == set(ids[:3])
    assert all(check.ok for check in lake.verify()), "a file of some frames is no damage"
    report = lake.embed_from(parquet(tmp_path / "b.parquet", vectors(), sample_data_id=ids), "mine")
    assert (report.written, report.done_before, len(written(lake))) == (5, 3, COUNT)


def test_ids_the_lake_does_not_know_are_left_out(lake: Lake, tmp_path: Path) -> None:
    ids = [row["sample_data_id"] for row in readings(lake)]
    names = ["nobody", *ids[:2], "no one"]
    assert lake.embed_from(parquet(tmp_path / "v.parquet", vectors()[:4], sample_data_id=names), "mine").units == 2
    np.testing.assert_allclose(written(lake)[ids[0]], unit(vectors())[1], atol=1e-6)
    strangers = parquet(tmp_path / "w.parquet", vectors()[:2], sample_data_id=["x", "y"])
    with pytest.raises(UsageError, match="none of its 2 vectors is of a camera reading"):
        lake.embed_from(strangers, "other")
    assert not lake.store.exists("embeddings/other")


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
def test_an_array_of_another_length_is_refused(lake: Lake, tmp_path: Path, count: int) -> None:
    rows = np.ones((count, DIM), np.float32)
    with pytest.raises(UsageError, match=f"{count} rows for {COUNT} camera readings"):
        lake.embed_from(npy(tmp_path / "v.npy", rows), "mine")
    assert not lake.store.exists(TABLE), "the right file may have another dimension"


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_bad_vectors_are_quarantined(lake: Lake, tmp_path: Path, value: float) -> None:
    rows, good = vectors(), vectors()
    rows[5] = value
    file = npy(tmp_path / "v.npy", rows)
    report = lake.embed_from(file, "mine")
    assert (report.written, report.reasons) == (COUNT - 1, {"bad-vector": 1})
    [record] = lake.store.scan("quarantine").to_pylist()
    victim = readings(lake)[5]
    assert (record["key"], record["scene_id"]) == (victim["sample_data_id"], victim["scene_id"])
    assert str(file) in record["detail"] and victim["uri"] in record["detail"]
    assert lake.embed_from(file, "mine").changed is False
    other = lake.embed_from(npy(tmp_path / "w.npy", good), "other")
    assert (other.written, other.quarantined_before) == (COUNT, 0), "another encoder's vector may be good"
    assert all(check.ok for check in lake.verify())


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("none.npy", None, NotFound, "no such file"),
        ("v.csv", b"1,2,3", UsageError, r"expected \.npy or \.parquet"),
        ("v.npy", b"not numpy at all", UsageError, "not a NumPy array"),
        ("v.npy", b"", UsageError, "not a NumPy array"),
        ("v.npy", np.ones((COUNT, DIM), np.int32), UsageError, "expected floats of shape"),
        ("v.npy", np.ones(COUNT), UsageError, "expected floats of shape"),
        ("v.npy", np.ones((COUNT, 0)), UsageError, "expected floats of shape"),
        ("v.npy", np.array([{"a": 1}], object), UsageError, "not a NumPy array of numbers"),
        ("v.parquet", pa.table({"vector": [[1.0, 2.0], [1.0]], "uri": ["a", "b"]}), UsageError, "several lengths"),
        ("v.parquet", pa.table({"vector": [[1.0]], "frame": ["a"]}), UsageError, "no column sample_data_id or uri"),
        ("v.parquet", pa.table({"values": [[1.0]], "uri": ["a"]}), UsageError, "no column vector"),
        ("v.parquet", pa.table({"vector": ["1,2"], "uri": ["a"]}), UsageError, "vector is string, expected lists"),
        ("none.parquet", None, NotFound, "no such file"),
        ("v.parquet", b"PAR1 and no more", UsageError, "not a Parquet file"),
    ],
)
def test_files_that_are_refused(
    lake: Lake, tmp_path: Path, name: str, content: Any, error: type[MinerError], match: str
) -> None:
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, pa.Table):
        pq.write_table(content, file)
    elif content is not None:
        np.save(file, content, allow_pickle=True)
    tables = lake.store.tables()
    with pytest.raises(error, match=match) as raised:
        lake.embed_from(file, "mine")
    assert str(file) in str(raised.value)
    assert lake.store.tables() == tables


def test_another_dimension_on_the_same_table_is_refused(lake: Lake, tmp_path: Path) -> None:
    lake.embed_from(npy(tmp_path / "v.npy", vectors()), "mine")
    with pytest.raises(UsageError, match="holds vectors of"):
        lake.embed_from(npy(tmp_path / "w.npy", vectors()[:, :3]), "mine")


def test_vectors_do_not_mix_with_those_of_the_real_encoder(lake: Lake, tmp_path: Path) -> None:
    lake.embed(["hashing"], views="whole")
    before = contents(lake.uri)
    with pytest.raises(UsageError, match="holds vectors of"):
        lake.embed_from(npy(tmp_path / "v.npy", vectors()), "hashing")
    assert contents(lake.uri) == before


def test_imported_vectors_answer_by_example(lake: Lake, tmp_path: Path) -> None:
    lake.embed_from(npy(tmp_path / "v.npy", vectors()), "mine")
    rows = readings(lake)
    hits = lake.search(like=rows[2]["sample_data_id"], k=COUNT, per="frame", encoder="mine")
    scores = unit(vectors()) @ unit(vectors())[2]
    expected = [n for n in np.argsort(-scores, kind="stable") if n != 2]
    assert [hit.sample_data_id for hit in hits] == [rows[n]["sample_data_id"] for n in expected]
    np.testing.assert_allclose([hit.score for hit in hits], scores[expected], atol=1e-5)
    with pytest.raises(UsageError, match="unknown encoder 'mine'"):
        lake.search("a truck", encoder="mine")
