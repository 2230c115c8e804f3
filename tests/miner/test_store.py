"""Tables of a lake: real Lance datasets in a temporary folder."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from miner.errors import Conflict, NotFound, SchemaError
from miner.failpoints import VARIABLE
from miner.key_indexes import index_keys
from miner.schema import TABLES, check, embeddings_schema, key_of
from miner.store import Store
from miner.transactions import RUN


def clips(first: int, last: int, recipe: str = "r") -> pa.Table:
    rows = [{"clip_id": f"c{n}", "scene_id": f"s{n // 3}", "start_ns": n, "end_ns": n + 1} for n in range(first, last)]
    return pa.Table.from_pylist([{**row, "recipe": recipe} for row in rows], schema=TABLES["clips"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("clips")
    return store


def test_open_needs_a_lake(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no lake at"):
        Store.open(str(tmp_path))
    Store.create(str(tmp_path))
    assert Store.open(str(tmp_path)).tables() == ["lineage"]


def test_any_lance_client_opens_a_table(store: Store) -> None:
    store.append("clips", clips(0, 5))
    dataset = lance.dataset(f"{store.uri}/clips.lance")
    assert dataset.count_rows() == 5
    assert dataset.has_stable_row_ids
    assert key_of(dataset.schema) == ["clip_id"]


def test_missing_table(store: Store) -> None:
    assert not store.exists("scenes")
    assert (store.version("scenes"), store.count("scenes")) == (0, 0)
    with pytest.raises(NotFound, match="has no table 'scenes'"):
        store.scan("scenes")


def test_written_rows_are_unseen_until_committed(store: Store) -> None:
    fragments = store.write("clips", clips(0, 4)) + store.write("clips", clips(4, 6))
    assert store.count("clips") == 0
    version = store.commit("clips", fragments, {RUN: "a", "miner.group": "0"}, store.version("clips"))
    assert (store.count("clips"), store.version("clips")) == (6, version)
    [commit] = store.commits("clips", version - 1)
    assert (commit.operation, commit.properties) == ("Append", {RUN: "a", "miner.group": "0"})


def test_commit_refuses_a_table_somebody_else_changed(store: Store) -> None:
    seen = store.version("clips")
    store.append("clips", clips(0, 3), {RUN: "other"})
    fragments = store.write("clips", clips(3, 6))
    with pytest.raises(Conflict, match="changed by another run"):
        store.commit("clips", fragments, {RUN: "mine"}, seen)
    assert store.count("clips") == 3


def test_commit_lets_indexes_and_compaction_pass(store: Store) -> None:
    seen = store.append("clips", clips(0, 3), {RUN: "mine"})
    store.append("clips", clips(3, 5), {RUN: "mine"})
    store.dataset("clips").optimize.compact_files()
    index_keys(store, "clips")
    store.commit("clips", store.write("clips", clips(5, 6)), {RUN: "mine"}, seen)
    assert store.count("clips") == 6


def test_replace_only_touches_owned_rows(store: Store) -> None:
    store.append("clips", clips(0, 3, "mine"))
    store.append("clips", clips(3, 6, "yours"))
    index_keys(store, "clips")
    store.replace("clips", clips(1, 3, "mine"), "recipe = 'mine'", {RUN: "a"})
    assert sorted(store.scan("clips")["clip_id"].to_pylist()) == ["c1", "c2", "c3", "c4", "c5"]
    assert store.commits("clips", store.version("clips") - 1)[0].properties == {RUN: "a"}


def test_a_commit_is_known_by_its_stamp_behind_a_fence(store: Store) -> None:
    since, stamp = store.version("clips"), {RUN: "a", "miner.owned": "true"}
    assert not store.has_commit("clips", stamp, since)
    store.replace("clips", clips(0, 4), "true", stamp, since)
    store.fence("clips")
    assert store.has_commit("clips", stamp, since) and not store.has_commit("clips", {**stamp, RUN: "b"}, since)
    assert not store.has_commit("clips", stamp, store.version("clips"))
    with pytest.raises(Conflict, match="taken over"):
        store.replace("clips", clips(0, 4), "true", stamp, since)  # one that was cut off
    assert store.count("clips") == 4


def test_key_indexes_follow_the_table(store: Store) -> None:
    store.append("clips", clips(0, 30))
    assert index_keys(store, "clips")
    assert not index_keys(store, "clips")
    store.append("clips", clips(30, 60))
    assert index_keys(store, "clips")
    assert store.count("clips", "scene_id = 's15'") == 3


def test_ensure_refuses_another_encoder_version(store: Store) -> None:
    store.ensure("embeddings/x", embeddings_schema("x", "1", 4))
    store.ensure("embeddings/x", embeddings_schema("x", "1", 4))
    with pytest.raises(SchemaError, match="another schema or encoder version"):
        store.ensure("embeddings/x", embeddings_schema("x", "2", 4))
    assert store.tables() == ["clips", "embeddings/x", "lineage"]


def test_tags_keep_a_version(store: Store) -> None:
    version = store.append("clips", clips(0, 2))
    store.tag("clips", "run-a", version)
    store.tag("clips", "run-a", version)
    store.append("clips", clips(2, 4))
    assert len(store.scan("clips", version=version)) == 2


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_can_be_made_empty(store: Store, name: str) -> None:
    store.ensure(name)
    assert store.schema(name).names == TABLES[name].names


def test_check_names_the_column() -> None:
    schema = TABLES["clips"]
    with pytest.raises(SchemaError, match="'recipe' is missing"):
        check(clips(0, 1).drop_columns("recipe"), schema)
    with pytest.raises(SchemaError, match="unknown columns: colour"):
        check(clips(0, 1).append_column("colour", pa.array(["red"])), schema)
    with pytest.raises(SchemaError, match="'start_ns' is string"):
        check(clips(0, 1).set_column(2, "start_ns", pa.array(["soon"])), schema)
    with pytest.raises(SchemaError, match="'scene_id' has 1 nulls"):
        check(clips(0, 1).set_column(1, "scene_id", pa.array([None], pa.string())), schema)


def test_check_fills_and_is_idempotent() -> None:
    schema = TABLES["sample_data"]
    row = {"sample_data_id": "a", "scene_id": "s", "channel": "C", "modality": "camera", "timestamp_ns": 0}
    once = check(pa.Table.from_pylist([{**row, "is_key_frame": True, "uri": "u", "fileformat": "jpg"}]), schema)
    assert once["ego_SE3_sensor"].null_count == 1
    assert check(once, schema).equals(once)
    assert check(pa.table({}), schema).schema.equals(schema)


def test_a_table_made_by_many_at_once_is_made_once(tmp_path: Path) -> None:
    """Whatever Lance says to those who come second: the table is there, so all go on."""
    store = Store.create(str(tmp_path / "lake"))
    for name in sorted(TABLES):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _, name=name: store.ensure(name), range(8))) == [None] * 8
    assert store.tables() == sorted(TABLES)
    assert {store.version(name) for name in TABLES} == {1}, "nobody made a table a second time"


def test_a_late_maker_empties_nothing(store: Store) -> None:
    """It saw no table, then another run made it and wrote rows: its own making must fail."""
    store.append("clips", clips(0, 5))
    with pytest.raises(OSError):
        store._at("clips").create(TABLES["clips"])
    assert store.count("clips") == 5


def test_a_run_that_stalls_between_check_and_commit_is_fenced_off(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fragments, seen = store.write("clips", clips(0, 3)), store.version("clips")
    monkeypatch.setenv(VARIABLE, "commit:checked=wait:1")
    with ThreadPoolExecutor(1) as pool:
        stalled = pool.submit(store.commit, "clips", fragments, {RUN: "stalled"}, seen)
        time.sleep(0.3)
        store.fence("clips")
        with pytest.raises(Conflict, match="taken over"):
            stalled.result()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(Conflict, match="changed by another run"):
        store.commit("clips", fragments, {RUN: "stalled"}, seen)
    assert store.count("clips") == 0
    store.commit("clips", fragments, {RUN: "next"}, store.version("clips"))
    assert store.count("clips") == 3
