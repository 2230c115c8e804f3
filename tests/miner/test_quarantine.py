"""Units that failed: found by any choice of filters, tried again exactly once, accepted as lost and back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from miner.errors import BadInput, Conflict, NotFound, UnknownName, UsageError
from miner.executor import LocalExecutor
from miner.failpoints import VARIABLE
from miner.lake import Lake, create, open
from miner.lease import lease
from miner.lineage import Run
from miner.quarantine import Chosen, changeable, drop, groups, listing, records, retry, show, since_ns
from miner.readers import SceneTables
from miner.readers.images import ImagesReader
from miner.replacement import MARK
from miner.runlog import RunLog
from miner.schema import QUARANTINE, SCENES, check
from miner.store import Store
from tests.recordings import write_drives, write_frames
from tests.tables import contents, damage

NOW = 1_795_400_000 * 10**9
HOUR = 3600 * 10**9


class Sealed(ImagesReader):
    """Pictures of which drive_02 is under lock as long as the source has a file `lock`."""

    def read(self, scene: str) -> SceneTables:
        if scene == "drive_02" and Path(self.source, "lock").exists():
            raise BadInput("sealed", f"{self.source}/{scene}: is under lock")
        return super().read(scene)


def fill(lake: Lake, source: Path) -> None:
    lake.ingest(Sealed(str(source), "drives"))
    lake.cut(2)
    lake.embed(["hashing"])
    lake.index()


def broken(root: Path) -> Path:
    """Three drives of four frames: two empty frames, one page, one drive under lock."""
    source = write_drives(root / "drives", scenes=3, frames=4)
    (source / "drive_00" / "frame_000001.jpg").write_bytes(b"")
    (source / "drive_01" / "frame_000001.jpg").write_bytes(b"")
    (source / "drive_01" / "frame_000002.jpg").write_bytes(b"<html>")
    (source / "lock").write_text("")
    return source


def mend(source: Path) -> None:
    (source / "lock").unlink(missing_ok=True)
    for scene in range(3):
        write_frames(source / f"drive_{scene:02d}", 4, seed=scene)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the broken `drives` and the `lake` of them."""
    root = tmp_path_factory.mktemp("quarantine")
    fill(create(root / "lake", LocalExecutor(threads=2)), broken(root))
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """The same at the same path for readings, so that a lake made anew is equal: the drives are put back after."""
    shutil.copytree(made / "lake", tmp_path / "lake")
    return tmp_path


@pytest.fixture
def source(made: Path) -> Iterator[Path]:
    yield made / "drives"
    broken(made)


@pytest.fixture
def lake(root: Path) -> Lake:
    return open(root / "lake", LocalExecutor(threads=2))


def keys(rows: pa.Table) -> set[str]:
    return {*rows["key"].to_pylist()}


# -- choosing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({}, 4),
        ({"reason": "empty-file"}, 2),
        ({"stage": "embed"}, 3),
        ({"stage": "ingest"}, 1),
        ({"scene": "drive_01"}, 2),
        ({"scene": "drive_01", "reason": "empty-file"}, 1),
        ({"reader": "images"}, 4),
        ({"since": "1h"}, 4),
        ({"since": "2100-01-01"}, 0),
        ({"reason": "empty-file", "stage": "ingest"}, 0),
        ({"reader": "mcap"}, 0),
        ({"reason": "dropped"}, 0),
    ],
    ids=str,
)
def test_filters_combine(lake: Lake, chosen: dict[str, str], count: int) -> None:
    assert len(lake.quarantine(**chosen)) == count


def test_what_cannot_be_chosen_by_is_told(lake: Lake) -> None:
    with pytest.raises(UnknownName, match="unknown choice 'raeson'\nDid you mean 'reason'"):
        lake.quarantine(raeson="empty-file")


def test_any_choice_is_what_a_plain_loop_finds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("scenes")
    store.ensure("quarantine")
    blank = {"dataset": "d", "log_id": "l", "start_ns": 0, "end_ns": 1}
    scenes = [
        {"scene_id": f"s{n}", "name": f"drive_{n}", "reader": [None, "images", "mcap"][n % 3], **blank}
        for n in range(6)
    ]
    store.append("scenes", check(pa.Table.from_pylist(scenes, SCENES), SCENES))
    rows = [
        {
            "stage": str(random.choice(["ingest", "embed", "cut"])),
            "key": f"k{number}",
            "scene_id": f"s{random.integers(0, 9)}",
            "reason": str(random.choice(["empty-file", "it's", "timed-out"])),
            "detail": "d",
            "attempts": 1,
            "run_id": "r",
            "reader": str(random.choice(["images", "video", ""])) or None,
            "time_ns": [None, NOW - int(random.integers(0, 50)) * HOUR][int(random.random() < 0.8)],
        }
        for number in range(200)
    ]
    store.append("quarantine", pa.Table.from_pylist(rows, QUARANTINE))
    known = {each["scene_id"]: each for each in scenes}

    def fits(row: dict[str, Any], chosen: Chosen) -> bool:
        scene: dict[str, Any] = known.get(row["scene_id"], {})
        return (
            chosen.reason in (None, row["reason"])
            and chosen.stage in (None, row["stage"])
            and chosen.reader in (None, row["reader"] or scene.get("reader"))
            and chosen.scene in (None, row["scene_id"], scene.get("name"))
            and (chosen.since_ns is None or (row["time_ns"] or 0) >= chosen.since_ns)
            and chosen.key in (None, row["key"])
        )

    options: dict[str, list[Any]] = {
        "reason": ["empty-file", "it's"],
        "stage": ["embed", "cut"],
        "reader": ["images", "mcap", "video"],
        "scene": ["drive_1", "s4", "s8"],
        "since_ns": [NOW - 20 * HOUR],
        "key": ["k7"],
    }
    for _ in range(60):
        picked = {name: random.choice(values) for name, values in options.items() if random.random() < 0.35}
        chosen = Chosen(**{name: value if name == "since_ns" else str(value) for name, value in picked.items()})
        found = records(store, chosen)
        assert keys(found) == {row["key"] for row in rows if fits(row, chosen)}, chosen
        times = found["time_ns"].to_pylist()
        assert times == sorted(times, key=lambda time: -(time or 0)), "newest first, unknown times last"
        counted = groups(found)
        assert sum(each["units"] for each in counted) == len(found)


def test_nothing_as_chosen_lists_what_there_is(lake: Lake) -> None:
    there = r"There are: 2 empty-file \(embed\), 1 not-an-image \(embed\), 1 sealed \(ingest\)"
    for look in (listing, lambda store, chosen, _: changeable(store, chosen, True)):
        with pytest.raises(NotFound, match=rf"nothing in quarantine with reason nope\n{there}"):
            look(lake.store, Chosen(reason="nope"), 10)
    with pytest.raises(NotFound, match=r"with reader mcap, since 2001-09-09 01:46 UTC(?s:.)*Readers: images"):
        listing(lake.store, Chosen(reader="mcap", since_ns=10**18), 10)
    with pytest.raises(NotFound, match=r"(?s)no unit 'nobody' in quarantine.*miner quarantine ls"):
        show(lake.store, "nobody")


def test_an_empty_quarantine_is_no_error(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    assert listing(store, Chosen(), 10)["total"] == 0
    assert len(retry(store, Chosen(), Run("quarantine retry"))) == 0
    with pytest.raises(NotFound, match="Its quarantine is empty"):
        listing(store, Chosen(stage="embed"), 10)


def test_the_newest_are_listed_with_file_and_scene(lake: Lake, made: Path) -> None:
    document = listing(lake.store, Chosen(reason="not-an-image"), 10)
    [row] = document["records"]
    assert (document["total"], document["groups"][0]["units"], row["scene"]) == (1, 1, "drive_01")
    assert row["file"] == str(made / "drives" / "drive_01" / "frame_000002.jpg")
    assert len(listing(lake.store, Chosen(), 2)["records"]) == 2
    with pytest.raises(UsageError, match="limit = 0"):
        listing(lake.store, Chosen(), 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2d", NOW - 48 * HOUR),
        ("90m", NOW - HOUR * 3 // 2),
        ("1 w", NOW - 7 * 24 * HOUR),
        ("45s", NOW - 45 * 10**9),
        ("2026-11-20", int(datetime(2026, 11, 20, tzinfo=UTC).timestamp()) * 10**9),
        ("2026-11-20T14:30", int(datetime(2026, 11, 20, 14, 30, tzinfo=UTC).timestamp()) * 10**9),
        ("2026-11-20T14:30+02:00", int(datetime(2026, 11, 20, 12, 30, tzinfo=UTC).timestamp()) * 10**9),
    ],
)
def test_times_and_ages(text: str, expected: int) -> None:
    assert since_ns(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "2x", "d", "-2d", "yesterday", "2026-13-01", "99999999999999d", "9999-01-01", "0001-01-01"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="no time or age\nExamples: 2d"):
        since_ns(text, NOW)


# -- one unit ----------------------------------------------------------------------------------------------------------


def test_show_knows_run_log_and_command(lake: Lake, made: Path) -> None:
    [frame] = lake.quarantine(reason="not-an-image").to_pylist()
    [row] = show(lake.store, frame["key"])["records"]
    assert (row["run"]["job"], row["run"]["config"]["encoders"], row["log"]) == ("embed", ["hashing"], None)
    assert row["again"] == [f"miner quarantine retry {lake.uri} --key {frame['key']} --stage embed"]
    where = RunLog(lake.store, frame["run_id"]).keep("unit", "Traceback ...")
    assert show(lake.store, frame["key"])["records"][0]["log"] in where
    [scene] = lake.quarantine(reason="sealed").to_pylist()
    [row] = show(lake.store, scene["key"])["records"]
    assert row["again"][1] == f"miner ingest {made / 'drives'} --lake {lake.uri} --reader images --dataset drives"


def test_a_run_that_only_failed_is_known_by_its_stamp(tmp_path: Path) -> None:
    """It wrote no table, so lineage has no event of it."""
    source = write_drives(tmp_path / "drives", scenes=2, frames=1)
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    lake.ingest(source)
    for file in source.rglob("*.jpg"):
        file.write_bytes(b"")
    lake.embed(["hashing"])
    assert "embed" not in lake.store.scan("lineage", ["job"])["job"].to_pylist()
    row = lake.quarantine().to_pylist()[0]
    assert show(lake.store, row["key"])["records"][0]["run"]["config"]["encoders"] == ["hashing"]


# -- trying again ------------------------------------------------------------------------------------------------------


def test_what_is_taken_out_is_tried_by_the_next_run(lake: Lake, source: Path, root: Path) -> None:
    (source / "lock").unlink()
    fresh = create(root / "fresh", LocalExecutor(threads=2))
    fresh.ingest(source)  # before they are mended: it notes how large the files are
    taken = retry(lake.store, Chosen(reason="empty-file"), Run("quarantine retry"))
    assert keys(taken) == keys(records(open(source.parent / "lake").store, Chosen(reason="empty-file")))
    assert lake.store.count("quarantine") == 2
    assert lake.embed(["hashing"]).reasons == {"empty-file": 2}, "tried, and as bad as before"
    mend(source)
    retry(lake.store, Chosen(), Run("quarantine retry"))
    fill(lake, source)
    fill(fresh, source)
    assert not damage(lake.uri, fresh.uri).details
    assert {table: rows for table, rows in contents(lake.uri).items() if rows} == {
        table: rows for table, rows in contents(fresh.uri).items() if rows
    }
    assert all(found.ok for found in lake.verify())


def test_retrying_leaves_the_rest_alone(lake: Lake) -> None:
    before = contents(lake.uri)
    [one] = keys(lake.quarantine(scene="drive_01", reason="empty-file"))
    retry(lake.store, Chosen(scene="drive_01", reason="empty-file"), Run("quarantine retry"))
    after = contents(lake.uri)
    before["quarantine"] = [row for row in before["quarantine"] if row["key"] != one]
    assert after == before


# -- accepting as lost -------------------------------------------------------------------------------------------------


def test_what_is_dropped_is_not_counted_and_not_tried(lake: Lake, source: Path) -> None:
    lost = drop(lake.store, Chosen(reason="empty-file"), Run("quarantine drop"))
    assert len(lost) == 2
    assert len(lake.quarantine()) == 2 and keys(lake.quarantine(reason="dropped")) == keys(lost)
    assert listing(lake.store, Chosen(), 10)["dropped"] == 2
    assert {row["detail"] for row in lake.quarantine(reason="dropped").to_pylist()} == {
        f"empty-file: {row['detail']}" for row in lost.to_pylist()
    }
    mend(source)
    lake.executor.retry_quarantined = True
    report = lake.embed(["hashing"])
    assert (report.written, report.quarantined, report.quarantined_before) == (1, 0, 0), "only the page was tried"
    lake.executor.retry_quarantined = False
    assert lake.embed(["hashing"]).changed is False
    assert keys(lake.quarantine(reason="dropped")) == keys(lost)
    assert all(found.ok for found in lake.verify()), "each reading is a row or accounted for"


def test_dropping_can_be_taken_back(lake: Lake, source: Path) -> None:
    drop(lake.store, Chosen(stage="embed"), Run("quarantine drop"))
    [first, *_] = lake.quarantine(reason="dropped").to_pylist()
    assert show(lake.store, first["key"])["records"][0]["again"][0].endswith("--stage embed --reason dropped")
    assert len(retry(lake.store, Chosen(stage="ingest"), Run("quarantine retry"))) == 1
    with pytest.raises(NotFound):
        retry(lake.store, Chosen(stage="embed"), Run("quarantine retry"))
    retry(lake.store, Chosen(reason="dropped"), Run("quarantine retry"))
    mend(source)
    assert lake.embed(["hashing"]).written == 3
    assert lake.store.count("quarantine") == 0


def test_a_scene_that_is_being_replaced_is_left_alone(lake: Lake) -> None:
    row = lake.quarantine(reason="sealed").select(QUARANTINE.names).to_pylist()[0]
    lake.store.append("quarantine", pa.Table.from_pylist([{**row, "key": "mark", "reason": MARK}], QUARANTINE))
    assert "mark" not in keys(retry(lake.store, Chosen(), Run("quarantine retry")))
    with pytest.raises(NotFound):
        drop(lake.store, Chosen(reason=MARK), Run("quarantine drop"))
    assert keys(lake.quarantine()) == {"mark"}
    assert show(lake.store, "mark")["records"][0]["again"][0].startswith("miner ingest")


# -- leases and lineage ------------------------------------------------------------------------------------------------


def test_changes_wait_for_the_runs_of_their_stage(lake: Lake) -> None:
    with lease(lake.store, ["assets"], "somebody"):
        for change in (retry, drop):
            with pytest.raises(Conflict, match="'assets' is held by run somebody"):
                change(lake.store, Chosen(stage="embed"), Run("x"), wait=False)
        assert len(retry(lake.store, Chosen(stage="ingest"), Run("quarantine retry"), wait=False)) == 1
    assert lake.store.count("quarantine") == 3


def test_each_change_has_its_event(lake: Lake) -> None:
    drop(lake.store, Chosen(reason="sealed"), Run("quarantine drop", {"chosen": "reason sealed"}))
    retry(lake.store, Chosen(stage="embed"), Run("quarantine retry"))
    events = lake.store.scan("lineage", filter="job LIKE 'quarantine %'").sort_by("event_time_ns").to_pylist()
    assert [event["job"] for event in events] == ["quarantine drop", "quarantine retry"]
    left = [len(lake.store.scan("quarantine", version=event["outputs"][0]["last"])) for event in events]
    assert left == [4, 1]


def test_a_command_that_died_before_its_event_gets_it_by_the_next(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "lineage:before=error")
    with pytest.raises(OSError, match="failpoint"):
        retry(lake.store, Chosen(reason="empty-file"), Run("quarantine retry", run_id="died"))
    monkeypatch.delenv(VARIABLE)
    assert lake.store.count("quarantine") == 2, "what was done stays done"
    drop(lake.store, Chosen(reason="sealed"), Run("quarantine drop", run_id="next"))
    found = lake.store.scan("lineage", ["run_id", "job"], "job LIKE 'quarantine %'").to_pylist()
    assert sorted(each["run_id"] for each in found) == ["died", "next"]
