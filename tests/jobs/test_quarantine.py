"""`miner quarantine` and `miner migrate` from the shell: what is printed, written and ended with."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from jobs.ingest import IngestConfig, run
from jobs.run import Listener
from jobs.upkeep import quarantine
from miner.failpoints import VARIABLE
from miner.store import Store
from tests.jobs.command import Miner
from tests.recordings import write_drives, write_frames

LOCAL = ["--executor", "local", "--encoder", "hashing", "--clip-seconds", "2"]
COMMANDS: dict[str, Any] = typer.main.get_command(quarantine).commands  # type: ignore[attr-defined]
ROOT = Path(__file__).resolve().parents[2]
OLD = ROOT / "tests" / "lakes" / "schema-1.tar.xz"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `my drives`, two of four frames, one of them empty, and `my lake` of them."""
    root = tmp_path_factory.mktemp("quarantine")
    drives = write_drives(root / "my drives", scenes=2, frames=4)
    (drives / "drive_01" / "frame_000002.jpg").write_bytes(b"")
    given: dict[str, Any] = {"executor": "local", "encoder": "hashing", "clip_seconds": 2}
    run(IngestConfig(source=str(drives), lake=str(root / "my lake"), **given), Listener())
    return root


@pytest.fixture
def source(made: Path) -> Iterator[Path]:
    yield made / "my drives"
    (made / "my drives" / "drive_01" / "frame_000002.jpg").write_bytes(b"")


@pytest.fixture
def lake(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "my lake", tmp_path / "my lake"))


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_has_an_example_that_parses(miner: Miner, verb: str) -> None:
    [example] = re.findall(r"Example: \*\*miner quarantine (.*)\*\*", COMMANDS[verb].epilog)
    name, *args = shlex.split(example)
    assert name == verb and miner("quarantine", verb, "--help").code == 0
    COMMANDS[verb].make_context(verb, args)
    assert "--json" in {option for each in COMMANDS[verb].params for option in each.opts}


def test_a_job_says_what_failed_and_why_it_ends_with_three(miner: Miner, source: Path, lake: Path) -> None:
    shutil.rmtree(lake)
    done = miner("ingest", source, "--lake", lake, *LOCAL)
    assert done.code == 3
    assert f"1 in quarantine: miner quarantine ls '{lake}' tells which and why" in done.out
    assert "Ends with 3: 1 of the 8 units of embed (12.5%) are in quarantine, more than --max-bad 0.01" in done.out
    shutil.rmtree(lake / "embeddings")
    shutil.rmtree(lake / "assets.lance")
    shutil.rmtree(lake / "quarantine.lance")
    done = miner("embed", lake, *LOCAL[:4], "--max-bad", "0.125", "--json")
    assert (done.code, done.document["exit_code"], done.document["max_bad"]) == (0, 0, 0.125)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("window", "allowed", "code"), [("quarantine:before", "0.125", 0), ("index:between-tables", "0.01", 3)]
)
def test_a_run_that_goes_on_ends_as_one_that_was_not_killed(
    miner: Miner, source: Path, tmp_path: Path, window: str, allowed: str, code: int
) -> None:
    """The second has one unit left of eight, the bad one, or none at all."""
    ingest = ["ingest", str(source), "--lake", str(tmp_path / "lake"), *LOCAL, "--max-bad", allowed]
    killed = {**os.environ, VARIABLE: f"{window}=kill"}
    first = subprocess.run([sys.executable, "-m", "jobs.cli", *ingest], env=killed, cwd=ROOT, capture_output=True)
    assert first.returncode == -signal.SIGKILL
    assert [miner(*ingest).code for _ in range(2)] == [code, 0]
    calm = [*ingest[:3], str(tmp_path / "calm"), *ingest[4:]]
    assert miner(*calm).code == code


def test_ls_and_show(miner: Miner, source: Path, lake: Path) -> None:
    document = miner("quarantine", "ls", lake, "--json").document
    [row] = document["records"]
    assert document["groups"] == [{"stage": "embed", "reason": "empty-file", "units": 1, "newest_ns": row["time_ns"]}]
    assert (row["scene"], row["file"]) == ("drive_01", str(source / "drive_01" / "frame_000002.jpg"))
    said = miner("quarantine", "ls", lake, "--reader", "images", "--since", "1h", "--scene", "drive_01").out
    assert "1 in quarantine" in said and f"key {row['key']}" in said and "frame_000002.jpg: 0 bytes" in said
    shown = miner("quarantine", "show", lake, row["key"])
    assert (shown.code, "empty-file in stage embed" in shown.out) == (0, True)
    assert f"miner quarantine retry '{lake}' --key {row['key']}" in shown.out


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (
            "quarantine ls LAKE --reason nope",
            4,
            "nothing in quarantine with reason nope\nThere are: 1 empty-file (embed)",
        ),
        ("quarantine ls LAKE --since 2x", 2, "since '2x': no time or age"),
        ("quarantine ls LAKE --limit 0", 2, "limit = 0"),
        ("quarantine ls NOWHERE", 4, "no lake at"),
        ("quarantine show LAKE nobody", 4, "no unit 'nobody' in quarantine"),
        ("quarantine retry LAKE --stage cut", 4, "nothing in quarantine with stage cut"),
        ("quarantine drop LAKE --reason empty-file", 2, "1 unit of LAKE would be accepted as lost\nAdd --yes"),
        ("quarantine drop LAKE --reason nope --yes", 4, "There are: 1 empty-file (embed)"),
        ("migrate NOWHERE", 4, "no lake at"),
    ],
)
def test_errors_say_what_and_change_nothing(miner: Miner, lake: Path, command: str, code: int, says: str) -> None:
    before = files(lake)
    named = {"LAKE": str(lake), "NOWHERE": str(lake.parent / "nowhere")}
    done = miner(*(named.get(arg, arg) for arg in command.split()))
    assert (done.code, done.out) == (code, "")
    assert says.replace("LAKE", str(lake)) in done.err and "Traceback" not in done.err
    assert files(lake) == before


def test_retry_embeds_what_can_be_read_now(miner: Miner, source: Path, lake: Path) -> None:
    before = files(lake)
    done = miner("quarantine", "retry", lake, "--dry-run", "--json")
    then = [f"miner embed '{lake}' --encoder hashing --executor local"]
    assert (done.document["units"], done.document["commands"], done.document["runs"]) == (1, then, [])
    assert files(lake) == before
    again = miner("quarantine", "retry", lake)
    assert again.code == 3 and "quarantined: 1 empty-file" in again.out, "it was tried, and is as bad as before"
    write_frames(source / "drive_01", 4, seed=1)
    mended = miner("quarantine", "retry", lake, "--json")
    assert mended.code == 0
    assert (mended.document["runs"][0]["stages"][0]["written"], mended.document["commands"]) == (1, [])
    store = Store.open(str(lake))
    assert (store.count("assets"), store.count("quarantine")) == (8, 0)
    assert miner("verify", lake).code == 0


def test_retry_tells_the_command_that_goes_on(miner: Miner, source: Path, lake: Path) -> None:
    done = miner("quarantine", "retry", lake, "--no-run")
    write_frames(source / "drive_01", 4, seed=1)
    [command] = re.findall(r"^Next: miner (.*)$", done.out, re.MULTILINE)
    assert miner(*shlex.split(command)).code == 0
    assert Store.open(str(lake)).count("assets") == 8


def test_drop_and_back(miner: Miner, source: Path, lake: Path) -> None:
    before = files(lake)
    assert miner("quarantine", "drop", lake, "--dry-run", "--json").document["units"] == 1
    assert files(lake) == before
    dropped = miner("quarantine", "drop", lake, "--yes")
    assert (dropped.code, "1 unit accepted as lost" in dropped.out) == (0, True)
    assert "nothing in quarantine; 1 dropped" in miner("quarantine", "ls", lake).out
    again = miner("ingest", source, "--lake", lake, *LOCAL, "--retry-quarantined")
    assert "Nothing to do" in again.out and "in quarantine" not in again.out
    [undo] = re.findall(r"^Undo: miner (.*)$", dropped.out, re.MULTILINE)
    write_frames(source / "drive_01", 4, seed=1)
    assert miner(*shlex.split(undo)).code == 0
    assert Store.open(str(lake)).count("assets") == 8


def test_migrate(miner: Miner, source: Path, tmp_path: Path) -> None:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    old = tmp_path / "lake-schema-1"
    before = files(old)
    assert miner("ls", old).code == miner("quarantine", "ls", old).code == miner("verify", old).code == 0
    for command in (["ingest", source, "--lake", old, *LOCAL], ["quarantine", "drop", old, "--yes"]):
        refused = miner(*command)
        assert refused.code == 2 and f"miner migrate {old} --dry-run" in refused.err
    assert "Dry run: nothing is written." in miner("migrate", old, "--dry-run").out
    assert files(old) == before
    done = miner("migrate", old)
    assert done.code == 0 and "schema version 1 to 2" in done.out and "tagged schema-1" in done.out
    assert miner("migrate", old).out.startswith("Nothing to do")
    assert miner("migrate", old, "--json").document["needed"] is False
    assert "2026-11-22" in miner("quarantine", "ls", old, "--since", "2026-11-22", "--reader", "images").out
