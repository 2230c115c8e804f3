"""A disk that is full and files one has no right to: what the user is told, what is kept, and that it goes on after."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.cli import main
from tests.faults.commands import Ingest
from tests.recordings import write_drives
from tests.tables import Damage, contents, count, damage, tables

pytestmark = pytest.mark.fault

SIZE = 4 << 20
# root may do everything: without these capabilities it is asked for permission like anybody else
NO_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drives(tmp_path_factory.mktemp("source"), scenes=4, frames=20)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    Ingest(source, lake).finish()
    return lake


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB of its own; skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a disk here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def miner(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[Ingest], tuple[int, str]]:
    """Runs a command in this process; gives its exit code and what it said."""

    def call(ingest: Ingest) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["miner", *ingest.command[3:]])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, capfd.readouterr().err

    return call


@pytest.mark.slow
@pytest.mark.parametrize("room_kb", [24, 150, 300, 450])
def test_a_full_disk_is_told_and_the_run_goes_on_with_room(
    miner: Callable[[Ingest], tuple[int, str]], source: Path, undisturbed: Path, small_disk: Path, room_kb: int
) -> None:
    ingest = Ingest(source, small_disk / "lake")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(SIZE - (room_kb << 10)))
    code, said = miner(ingest)
    assert (code, "Traceback" in said, "same command again goes on" in said) == (1, False, True)
    assert f"no space left for {ingest.lake} (" in said and "MB free of 4.2 MB on the disk of" in said
    kept = {table: count(ingest.lake, table) for table in tables(ingest.lake)}
    filler.unlink()
    assert miner(ingest)[0] == 0
    assert all(count(ingest.lake, table) >= rows for table, rows in kept.items() if table != "leases")
    assert damage(ingest.lake, undisturbed) == Damage()
    assert miner(ingest)[0] == 0 and damage(ingest.lake, undisturbed) == Damage()


def as_plain_user() -> list[str]:
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root, and no setpriv to be less")
    return NO_ROOT


def test_a_file_one_may_not_read_is_quarantined(source: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "source"))
    denied = copy / "drive_01" / "frame_000003.jpg"
    denied.chmod(0)
    ingest = Ingest(copy, tmp_path / "lake")
    done = subprocess.run(
        [*as_plain_user(), *ingest.command, "--max-bad", "0.5"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    [row] = contents(ingest.lake)["quarantine"]
    assert row["reason"] == "unreadable"
    assert row["detail"].startswith(f"{denied}: ") and "ermission denied" in row["detail"]
    assert count(ingest.lake, "assets") == 79


def test_a_table_one_may_not_write_is_told_with_path_and_user(
    miner: Callable[[Ingest], tuple[int, str]], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "mary")
    ingest = Ingest(source, tmp_path / "lake")
    assert miner(Ingest(write_drives(tmp_path / "drives", scenes=1, frames=2), ingest.lake))[0] == 0
    for folder in (ingest.lake / "sample_data.lance").rglob("*/"):
        folder.chmod(0o555)
    done = subprocess.run([*as_plain_user(), *ingest.command], capture_output=True, text=True, timeout=120)
    said = done.stderr
    assert (done.returncode, "Traceback" in said, "same command again goes on" in said) == (1, False, True)
    assert f"{ingest.lake}/sample_data.lance" in said and "permission denied (this is user mary)" in said
    for folder in (ingest.lake / "sample_data.lance").rglob("*/"):
        folder.chmod(0o755)
    assert miner(ingest)[0] == 0
    assert count(ingest.lake, "assets") == 82
