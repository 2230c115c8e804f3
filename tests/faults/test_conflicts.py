"""Cases 33 and 34: a scene that is in the lake comes again, with the same content or with other.

What `replace` leaves is compared with a lake that never had anything else.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from miner.executor import LocalExecutor
from miner.lake import Lake, create, open
from miner.lineage import Run
from miner.quarantine import Chosen, choose, drop, retry, show
from miner.replacement import MARK, IngestReport
from tests.recordings import write_drives, write_frames
from tests.tables import contents

POINTS = 8  # the tables that have rows of a scene, and once before the mark goes


def fill(lake: Lake, source: Path, on_conflict: Any = "keep", dataset: str | None = None) -> IngestReport:
    """As `miner ingest`; all invariants are looked at afterwards."""
    report = lake.ingest(source, dataset=dataset, on_conflict=on_conflict)
    lake.cut(2)
    lake.embed(["hashing"], views="whole")
    lake.index()
    assert [check for check in lake.verify() if not check.ok] == []
    assert report.units == report.done_before + report.written + report.quarantined + report.quarantined_before
    return report


def lake_of(folder: Path, source: Path, dataset: str | None = None) -> Lake:
    lake = create(folder, LocalExecutor(threads=2))
    fill(lake, source, dataset=dataset)
    return lake


def versions(lake: Lake) -> dict[str, int]:
    return {table: lake.store.version(table) for table in lake.store.tables() if table != "leases"}


def change(source: Path) -> None:
    """Scene 0 gets other bytes of the same size, scene 1 two more frames and another first one; scene 2 stays."""
    frame = source / "drive_00" / "frame_000003.jpg"
    data = bytearray(frame.read_bytes())
    data[-30] ^= 1
    frame.write_bytes(data)
    write_frames(source / "drive_01", 2, seed=77, first=6)
    write_frames(source / "drive_01", 1, seed=78)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source as it is now, and `lake` with what it was."""
    folder = tmp_path_factory.mktemp("before")
    source = write_drives(folder / "source", scenes=3, frames=6)
    (source / "drive_02" / "frame_000001.jpg").write_bytes(b"")
    lake_of(folder / "lake", source)
    change(source)
    return folder


@pytest.fixture(scope="module")
def fresh(before: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What a lake holds that only ever saw the source as it is now."""
    lake = lake_of(tmp_path_factory.mktemp("fresh") / "lake", before / "source")
    return timeless(lake)


def timeless(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    """The tables, without when something came into quarantine."""
    tables = contents(lake.uri)
    for row in tables["quarantine"]:
        row.pop("time_ns", None)
    return tables


@pytest.fixture
def lake(before: Path, tmp_path: Path) -> Lake:
    shutil.copytree(before / "lake", tmp_path / "lake")
    return open(tmp_path / "lake", LocalExecutor(threads=2))


def test_the_same_again_is_skipped_and_counted(tmp_path: Path) -> None:
    source = write_drives(tmp_path / "source", scenes=3, frames=2)
    lake = lake_of(tmp_path / "lake", source)
    tables, was = contents(lake.uri), versions(lake)
    assert fill(lake, source).scenes["kept"] == 3
    for mode in ("check", "replace"):
        report = fill(lake, source, mode)
        assert (report.scenes["unchanged"], report.changed, report.quarantined) == (3, False, 0)
    assert contents(lake.uri) == tables and versions(lake) == was


def test_other_content_goes_to_quarantine_and_the_lake_stays(lake: Lake, before: Path) -> None:
    tables = contents(lake.uri)
    report = fill(lake, before / "source", "check")
    assert report.reasons == {"conflict": 2}
    assert {key: count for key, count in report.scenes.items() if count} == {"unchanged": 1, "differing": 2}
    after = contents(lake.uri)
    rows = {row["detail"].split("'")[1]: row for row in after["quarantine"] if row["stage"] == "ingest"}
    assert {name: row["reason"] for name, row in rows.items()} == {"drive_00": "conflict", "drive_01": "conflict"}
    sha256 = {row["sample_data_id"]: row["sha256"] for row in tables["assets"]}
    readings = {row["uri"]: row["sample_data_id"] for row in tables["sample_data"]}
    frame = str(before / "source" / "drive_00" / "frame_000003.jpg")
    assert f"sha256 {sha256[readings[frame]]} in the lake" in rows["drive_00"]["detail"]
    assert "1 with other bytes" in rows["drive_00"]["detail"] and "2 added since" in rows["drive_01"]["detail"]
    assert {**after, "quarantine": tables["quarantine"]} == tables

    was = versions(lake)
    again = fill(lake, before / "source", "check")
    assert (again.quarantined, again.quarantined_before, again.changed) == (0, 2, False) and versions(lake) == was
    drop(lake.store, choose(reason="conflict"), Run("quarantine"))
    assert not fill(lake, before / "source", "check").changed, "what was accepted does not come back"


def test_a_conflict_that_is_gone_leaves_quarantine(tmp_path: Path) -> None:
    source = write_drives(tmp_path / "source", scenes=3, frames=6)
    lake = lake_of(tmp_path / "lake", source)
    shutil.copytree(source, tmp_path / "kept")
    change(source)
    assert fill(lake, source, "check").quarantined == 2
    shutil.rmtree(source)
    shutil.move(tmp_path / "kept", source)
    assert fill(lake, source, "check").scenes["unchanged"] == 3
    assert lake.store.count("quarantine") == 0


def test_replaced_scenes_are_as_if_never_different(lake: Lake, before: Path, fresh: dict[str, Any]) -> None:
    fill(lake, before / "source", "check")  # what it put into quarantine goes too
    report = fill(lake, before / "source", "replace")
    assert {key: count for key, count in report.scenes.items() if count} == {"unchanged": 1, "replaced": 2}
    assert report.removed["embeddings/hashing"] == report.removed["assets"] == 12
    assert timeless(lake) == fresh
    was = versions(lake)
    assert not fill(lake, before / "source", "replace").changed and versions(lake) == was
    events = lake.store.scan("lineage", ["job", "outputs", "status", "cost"]).to_pylist()
    taken = {event["outputs"][0]["table"] for event in events if event["job"] == "replace"}
    assert {"scenes", "sample_data", "clips", "assets", "embeddings/hashing", "clip_facts"} <= taken
    assert {event["status"] for event in events} == {"complete"}


def test_two_folders_with_the_same_names(tmp_path: Path) -> None:
    first = write_drives(tmp_path / "a" / "drives", scenes=2, frames=3)
    second = tmp_path / "b" / "drives"
    for scene in range(2):
        write_frames(second / f"drive_{scene:02d}", 3, seed=50 + scene)
    lake = lake_of(tmp_path / "lake", first)
    tables = contents(lake.uri)
    kept = lake.ingest(second)
    assert kept.scenes["kept"] == 2 and "were not read again" in kept.notes[0] and contents(lake.uri) == tables
    assert lake.ingest(second, on_conflict="check").reasons == {"conflict": 2}
    assert lake.ingest(second, dataset="others").scenes["new"] == 2
    assert fill(lake, second, "replace").scenes["replaced"] == 2
    alone = create(tmp_path / "alone", LocalExecutor(threads=2))
    alone.ingest(second, dataset="others")
    fill(alone, second)
    assert contents(lake.uri) == contents(alone.uri)


REPLACE = "import sys, miner; miner.open(sys.argv[1]).ingest(sys.argv[2], on_conflict='replace')"


def killed(lake: Lake, source: Path, failpoint: str, action: str = "kill") -> None:
    environment = {**os.environ, "MINER_FAILPOINT": f"{failpoint}={action}"}
    command = [sys.executable, "-c", REPLACE, lake.uri, str(source)]
    assert subprocess.run(command, env=environment, timeout=120).returncode == -signal.SIGKILL


# The parent `scenes` goes last of the tables; at the last turn nothing is left but the mark.
QUICK = {("replace", 3), ("keep", POINTS)}
TURNS = [
    pytest.param(mode, turn, marks=() if (mode, turn) in QUICK else pytest.mark.slow)
    for mode in ("replace", "keep")
    for turn in range(1, POINTS + 1)
]


@pytest.mark.fault
@pytest.mark.parametrize(("mode", "turn"), TURNS)
def test_killed_between_two_tables(mode: str, turn: int, lake: Lake, before: Path, fresh: dict[str, Any]) -> None:
    """The next ingest of the source ends it, also one that was not told to replace, also after other verbs."""
    killed(lake, before / "source", "replace:between-tables", f"kill@{turn}")
    assert lake.store.count("quarantine", f"reason = '{MARK}'") == 2
    lake.cut(2)
    lake.embed(["hashing"], views="whole")
    report = fill(lake, before / "source", mode)
    assert report.scenes["replaced"] == 2
    assert timeless(lake) == fresh
    was = versions(lake)
    assert not fill(lake, before / "source", "replace").changed and versions(lake) == was


@pytest.mark.fault
@pytest.mark.parametrize("failpoint", ["commit:between-tables", pytest.param("lineage:before", marks=pytest.mark.slow)])
def test_killed_after_the_old_is_gone(failpoint: str, lake: Lake, before: Path, fresh: dict[str, Any]) -> None:
    """While the new content comes in, and between the deletes and the event that records them."""
    killed(lake, before / "source", failpoint)
    fill(lake, before / "source")
    assert timeless(lake) == fresh
    events = lake.store.scan("lineage", ["job", "status"]).to_pylist()
    assert {"job": "replace", "status": "interrupted" if failpoint == "lineage:before" else "complete"} in events


@pytest.mark.fault
@pytest.mark.slow
def test_two_replace_at_once(lake: Lake, before: Path, fresh: dict[str, Any]) -> None:
    command = [sys.executable, "-c", REPLACE, lake.uri, str(before / "source")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    fill(lake, before / "source")
    assert timeless(lake) == fresh


def test_the_command_line(
    lake: Lake, before: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def miner(*options: str) -> tuple[int, str, str]:
        own = ["--encoder", "hashing", "--executor", "local"]
        monkeypatch.setattr(
            sys, "argv", ["miner", "ingest", str(before / "source"), "--lake", lake.uri, *own, *options]
        )
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capfd.readouterr()

    def keys() -> list[str]:
        return sorted(lake.quarantine(reason="conflict")["key"].to_pylist())

    was = versions(lake)
    code, text, _ = miner("--on-conflict", "replace", "--dry-run")
    assert code == 0 and "1 there already, unchanged, 2 replaced" in text and "sha256 " in text
    code, text, _ = miner("--on-conflict", "check", "--dry-run")
    assert code == 0 and "1 there already, unchanged, 2 with other content" in text and "sha256 " in text
    assert versions(lake) == was
    code, text, _ = miner("--on-conflict", "check", "--json")
    assert code == 3 and json.loads(text)["stages"][0]["scenes"]["differing"] == 2
    code, text, _ = miner("--on-conflict", "check")
    assert code == 0, "what is in quarantine already is no news, as in every other stage"
    assert "2 with other content" in text and "--on-conflict replace" in text and "but for the other content" in text
    again = [row["again"] for row in map(lambda key: show(lake.store, key)["records"][0], keys())]
    assert all(commands[1].endswith("--on-conflict check --executor local") for commands in again)
    retry(lake.store, Chosen(reason="conflict"), Run("quarantine retry"))
    assert not keys()
    monkeypatch.setattr(sys, "argv", shlex.split(again[0][1]))
    with pytest.raises(SystemExit):
        main()
    assert len(keys()) == 2, "the command that retry names finds them again"
    code, _, errors = miner("--on-conflict", "always")
    assert code == 2 and "on_conflict = 'always'" in errors and "Traceback" not in errors
