"""A good lake passes every check; each kind of damage, made with plain Lance, is found by the check that is for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from miner.executor import LocalExecutor
from miner.lake import Lake, create, open
from miner.schema import TABLES
from miner.verify import verify, verify_deep
from tests.recordings import write_drives

UNWRITTEN = TABLES.keys() - {  # by ingest and index
    *("annotations", "assets", "clip_facts", "clips", "digests"),
    *("indexes", "leases", "lineage", "quarantine", "sample_data", "scenes"),
}
VECTORS = "embeddings/hashing"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two scenes with labels, one frame in quarantine, cut, embedded and indexed."""
    folder = tmp_path_factory.mktemp("verify")
    source = write_drives(folder / "source", scenes=2, frames=4)
    (source / "drive_01" / "frame_000002.jpg").write_bytes(b"")
    (source / "labels").mkdir()
    (source / "labels" / "boxes.json").write_text(
        '[{"name": "frame_000000.jpg", "labels": [{"category": "car", "box2d": {"x1": 1, "y1": 1, "x2": 9, "y2": 9}}]}]'
    )
    lake = create(folder / "lake", LocalExecutor(threads=2))
    lake.ingest(source)
    lake.cut(2)
    lake.embed(["hashing"])
    lake.index()
    return lake


@pytest.fixture
def lake(good: Lake, tmp_path: Path) -> Lake:
    """A copy to damage."""
    shutil.copytree(good.uri, tmp_path / "copy")
    return open(tmp_path / "copy")


def dataset(lake: Lake, table: str) -> lance.LanceDataset:
    return lance.dataset(f"{lake.uri}/{table}.lance")


def append(lake: Lake, table: str, rows: pa.Table) -> None:
    lance.write_dataset(rows, f"{lake.uri}/{table}.lance", mode="append")


def first(lake: Lake, table: str, **changes: object) -> pa.Table:
    """The first row of a table with some values changed."""
    rows = dataset(lake, table).to_table(limit=1)
    return pa.Table.from_pylist([rows.to_pylist()[0] | changes], rows.schema)


def failed(lake: Lake) -> dict[str, str]:
    return {check.name: check.detail for check in verify(lake.store) if not check.ok}


def test_a_good_lake_passes(good: Lake) -> None:
    checks = verify(good.store)
    assert [check for check in checks if not check.ok] == []
    rows = {check.name: check.rows for check in checks}
    assert rows["sample_data: each key once"] == 8
    assert rows["annotations: sample_data_id is in sample_data"] == 2
    assert rows[f"{VECTORS}: vectors of unit length"] == 7 * 3
    assert rows[f"{VECTORS}: has all of sample_data"] == 8
    assert rows["quarantine: each key once"] == 1
    assert rows["lineage: outputs are there"] >= 7
    versions = {table: good.store.version(table) for table in good.store.tables()}
    verify(good.store)
    assert versions == {table: good.store.version(table) for table in good.store.tables()}


def test_an_empty_lake_passes(tmp_path: Path) -> None:
    assert all(check.ok for check in create(tmp_path / "lake").verify())


@pytest.mark.parametrize("table", ["scenes", "sample_data", "clips", "assets", "quarantine", "clip_facts", VECTORS])
def test_a_double_key_is_found(lake: Lake, table: str) -> None:
    row = first(lake, table)
    append(lake, table, row)
    key = {"quarantine": "key", VECTORS: "embedding_id"}.get(table) or row.schema.names[0]
    assert failed(lake)[f"{table}: each key once"] == f"1 not so: {row[key][0].as_py()}"


def test_the_same_unit_may_fail_in_two_stages(lake: Lake) -> None:
    append(lake, "quarantine", first(lake, "quarantine", stage="cut"))
    assert failed(lake) == {}


@pytest.mark.parametrize(
    ("table", "key", "column", "parent"),
    [
        ("sample_data", "sample_data_id", "scene_id", "scenes"),
        ("annotations", "annotation_id", "scene_id", "scenes"),
        ("annotations", "annotation_id", "sample_data_id", "sample_data"),
        ("clips", "clip_id", "scene_id", "scenes"),
        ("clip_facts", "clip_id", "clip_id", "clips"),
        ("assets", "sample_data_id", "sample_data_id", "sample_data"),
        (VECTORS, "embedding_id", "sample_data_id", "sample_data"),
    ],
)
def test_a_dangling_reference_is_found(lake: Lake, table: str, key: str, column: str, parent: str) -> None:
    append(lake, table, first(lake, table, **{key: "made up", column: "nowhere"}))
    assert failed(lake)[f"{table}: {column} is in {parent}"] == "1 not so: nowhere"


def test_lost_scenes_are_found(lake: Lake) -> None:
    dataset(lake, "scenes").delete("true")
    names = {"sample_data", "annotations", "clips"}
    assert {f"{table}: scene_id is in scenes" for table in names} <= failed(lake).keys()


@pytest.mark.parametrize("factor", [2.0, 0.0, np.nan, 1.01])
def test_a_vector_of_another_length_is_found(lake: Lake, factor: float) -> None:
    row = first(lake, VECTORS)
    vector = np.array(row["vector"][0].as_py(), np.float32) * np.float32(factor)
    dataset(lake, VECTORS).delete(f"embedding_id = '{row['embedding_id'][0].as_py()}'")
    append(lake, VECTORS, pa.Table.from_pylist([row.to_pylist()[0] | {"vector": vector.tolist()}], row.schema))
    assert failed(lake) == {f"{VECTORS}: vectors of unit length": f"1 not so: {row['embedding_id'][0].as_py()}"}


def test_a_lost_vector_is_found(lake: Lake) -> None:
    victim = first(lake, VECTORS)["sample_data_id"][0].as_py()
    dataset(lake, VECTORS).delete(f"sample_data_id = '{victim}'")
    assert failed(lake) == {f"{VECTORS}: has all of sample_data": f"1 not so: {victim}"}


def test_a_lost_quarantine_record_is_found(lake: Lake) -> None:
    victim = first(lake, "quarantine")["key"][0].as_py()
    dataset(lake, "quarantine").delete("true")
    assert failed(lake) == {f"{VECTORS}: has all of sample_data": f"1 not so: {victim}"}


def test_a_lost_reading_is_found(lake: Lake) -> None:
    victim = first(lake, VECTORS)["sample_data_id"][0].as_py()
    dataset(lake, "sample_data").delete(f"sample_data_id = '{victim}'")
    assert failed(lake)[f"{VECTORS}: sample_data_id is in sample_data"] == f"1 not so: {victim}"
    assert "assets: sample_data_id is in sample_data" in failed(lake)


@pytest.mark.parametrize(
    ("table", "last"), [("clips", 999), ("embeddings/gone", 1)], ids=["a version to come", "no table"]
)
def test_lineage_of_a_version_that_is_not_there_is_found(lake: Lake, table: str, last: int) -> None:
    span = {"table": table, "first": 1, "last": last}
    append(lake, "lineage", first(lake, "lineage", event_id="made up", outputs=[span]))
    assert failed(lake) == {"lineage: outputs are there": f"1 not so: {table}@{last}"}


def test_much_damage_is_summed_up(lake: Lake) -> None:
    dataset(lake, VECTORS).delete("true")
    detail = failed(lake)[f"{VECTORS}: has all of sample_data"]
    assert detail.startswith("7 not so: ") and detail.endswith(", ...") and detail.count(",") == 5


def test_damage_is_mended_by_running_again(lake: Lake, good: Lake) -> None:
    repair: list[tuple[str, Callable[[], object]]] = [
        (VECTORS, lambda: lake.embed(["hashing"])),
        ("clips", lambda: lake.cut(2)),
    ]
    for table, run in repair:
        dataset(lake, table).delete("true")
        run()
        assert lake.store.count(table) == good.store.count(table)
    assert failed(lake) == {}


# -- deep --------------------------------------------------------------------------------------------------------------

HOLDS_CLIPS = ["scenes", "sample_data", "annotations", "assets", "clips", "clip_facts", VECTORS]


def flip(path: Path, at: float = 0.5) -> None:
    """One bit, at a share of the file's length."""
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 4
    path.write_bytes(data)


def clips_with_rows_in(lake: Lake, table: str, path: Path) -> set[str]:
    """The clips of the rows in a data file, told by plain Lance before it is damaged."""
    [fragment] = [each for each in dataset(lake, table).get_fragments() if each.metadata.files[0].path == path.name]
    rows = fragment.to_table().to_pylist()
    readings = {row["sample_data_id"]: row for row in dataset(lake, "sample_data").to_table().to_pylist()}
    found = set()
    for clip in dataset(lake, "clips").to_table().to_pylist():
        for row in rows:
            reading = readings.get(row.get("sample_data_id"))
            if "clip_id" in row:
                hit = row["clip_id"] == clip["clip_id"]
            elif reading is not None and table != "annotations":
                inside = clip["start_ns"] <= reading["timestamp_ns"] < clip["end_ns"]
                hit = inside and reading["scene_id"] == clip["scene_id"]
            else:
                hit = row["scene_id"] == clip["scene_id"]
            found |= {clip["clip_id"]} if hit else set()
    return found


def test_a_good_lake_passes_a_deep_look(good: Lake) -> None:
    steps: list[tuple[str, int, int]] = []
    verdict = verify_deep(good.store, lambda what, done, total: steps.append((what, done, total)))
    assert verdict.ok and verdict.damage == ()
    rows = {check.name: check.rows for check in verdict.checks}
    assert rows["recordings: as embed read them"] == 7
    assert rows["files: as they were written"] == good.store.count("digests")
    assert ("recordings", 7, 7) in steps
    assert good.verify(deep=True) == list(verdict.checks)


@pytest.mark.parametrize(
    ("table", "how"), [*((table, "flip") for table in HOLDS_CLIPS), ("assets", "gone"), ("clips", "gone")]
)
def test_a_damaged_file_names_its_clips_and_the_way_back(lake: Lake, table: str, how: str) -> None:
    path = sorted(Path(lake.uri, f"{table}.lance", "data").iterdir())[0]
    expected = clips_with_rows_in(lake, table, path)
    assert expected
    if how == "flip":
        flip(path, 0.1)
    else:
        path.unlink()
    verdict = verify_deep(lake.store)
    [found] = verdict.damage
    assert not verdict.ok and found.current and found.file == f"{table}.lance/data/{path.name}"
    assert set(found.clips) == expected
    assert f"miner restore {lake.uri} --table {table} --version " in found.next_step
    version = int(found.next_step.split("--version ")[1].split(",")[0])
    dataset(lake, table).checkout_version(version).to_table()
    sound = [check.name for check in verdict.checks if check.ok]
    assert any(name.startswith("quarantine") for name in sound), "damage to one table must not hide the others"


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_a_recording_that_is_another_names_its_clip(lake: Lake, tmp_path: Path, how: str) -> None:
    row = dataset(lake, "assets").to_table(limit=1).to_pylist()[0]
    [reading] = [
        r for r in dataset(lake, "sample_data").to_table().to_pylist() if r["sample_data_id"] == row["sample_data_id"]
    ]
    kept = Path(reading["uri"]).read_bytes()
    try:
        if how == "flip":
            flip(Path(reading["uri"]), 0.9)
        elif how == "cut":
            Path(reading["uri"]).write_bytes(kept[:-9])
        else:
            Path(reading["uri"]).unlink()
        verdict = verify_deep(lake.store)
    finally:
        Path(reading["uri"]).write_bytes(kept)
    [found] = verdict.damage
    said = {"flip": "sha256", "cut": f"{len(kept) - 9:,} bytes", "gone": "missing-file"}
    assert found.file == reading["uri"] and said[how] in found.problem and row["sample_data_id"] in found.what
    clips = dataset(lake, "clips").to_table().to_pylist()
    inside = [
        c
        for c in clips
        if c["scene_id"] == reading["scene_id"] and c["start_ns"] <= reading["timestamp_ns"] < c["end_ns"]
    ]
    assert set(found.clips) == {clip["clip_id"] for clip in inside} and "--on-conflict replace" in found.next_step


def test_a_manifest_that_lies_keeps_its_table_shut(lake: Lake) -> None:
    path = min(Path(lake.uri, "clips.lance", "_versions").glob("*.manifest"))
    flip(path, 0.6)
    verdict = verify_deep(lake.store)
    assert {check.name: check.detail for check in verdict.checks if not check.ok}["clips: opens"].startswith(
        "clips.lance/_versions"
    )
    assert verdict.damage[0].what == "manifest of clips"
    clips = lance.dataset(f"{lake.uri}/clips.lance", version=2).to_table()["clip_id"]
    assert set(verdict.damage[0].clips) == set(clips.to_pylist())
    assert "clips: opens" in failed(lake)
    assert len(verdict.checks) > 15, "the other tables are looked at"


def test_the_newest_manifest_gone_is_found(lake: Lake) -> None:
    min(Path(lake.uri, "scenes.lance", "_versions").glob("*.manifest")).unlink()
    [found] = verify_deep(lake.store).damage
    assert (found.what, found.problem, found.current) == ("manifest of scenes", "is gone", True)


def test_what_only_earlier_versions_have_is_told_and_no_failure(lake: Lake) -> None:
    victim = first(lake, "clips")["clip_id"][0].as_py()
    lake.store.delete("clips", f"clip_id = '{victim}'")
    lake.cut(2)
    lake.index()
    path = max(Path(lake.uri, "clips.lance", "_versions").glob("*.manifest"))
    flip(path, 0.6)
    verdict = verify_deep(lake.store)
    [found] = verdict.damage
    assert verdict.ok and not found.current
    assert any("earlier versions" in check.name and check.detail for check in verdict.checks)


@pytest.mark.parametrize("table", sorted({*TABLES, VECTORS} - {"leases", *UNWRITTEN}))
def test_a_table_that_cannot_be_read_hides_no_other(lake: Lake, table: str) -> None:
    """Every file of a table cut short, which Lance refuses in its own ways."""
    for path in Path(lake.uri, f"{table}.lance").glob("*/*.[lm]*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    checks = verify(lake.store)
    assert any(check.name.startswith(table) and not check.ok for check in checks)
    others = [check for check in checks if table not in check.name]
    assert len(others) > 8 and all(check.ok or table in check.detail or "lineage" in check.name for check in others)


def test_recordings_that_nobody_has_read_are_looked_for(tmp_path: Path) -> None:
    source = write_drives(tmp_path / "source", scenes=2, frames=4)
    lake = create(tmp_path / "lake", LocalExecutor(threads=2))
    lake.ingest(source)
    lake.cut(2)
    looked = {check.name: check for check in verify_deep(lake.store).checks}
    assert looked["recordings: those not read yet are there"].rows == 8
    (source / "drive_00" / "frame_000001.jpg").unlink()
    cut = source / "drive_01" / "frame_000003.jpg"
    cut.write_bytes(cut.read_bytes()[:-1])
    verdict = verify_deep(lake.store)
    [check] = [check for check in verdict.checks if not check.ok]
    assert check.name == "recordings: those not read yet are there" and check.rows == 8
    gone, short = verdict.damage
    assert (gone.problem, gone.rows, len(gone.clips)) == ("is gone", 1, 1) and gone.file.endswith("frame_000001.jpg")
    assert short.problem == f"has {cut.stat().st_size:,} bytes, ingest found {cut.stat().st_size + 1:,}"
    lake.embed(["hashing"])
    assert [check.rows for check in verify_deep(lake.store).checks if "not read yet" in check.name] == []
