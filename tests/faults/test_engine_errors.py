"""Errors nobody foresaw, and units that take too long, as the command line tells them: never a trace."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.cli import main
from miner.readers import SceneRef, SceneTables
from miner.readers.images import ImagesReader
from tests.recordings import write_drives
from tests.tables import count, read

Miner = Callable[..., tuple[int, str]]


@pytest.fixture
def miner(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Miner:
    """Runs a command in this process; gives its exit code and what it said on stderr."""

    def call(*args: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["miner", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, capfd.readouterr().err

    return call


class Raising(ImagesReader):
    """A user's own reader with a mistake in it."""

    def scenes(self) -> Iterator[SceneRef]:
        raise KeyError("poses.json")


class Hanging(ImagesReader):
    """A user's own reader that does not come to an end on one scene."""

    def read(self, scene: str) -> SceneTables:
        while scene == "drive_01":
            pass
        return super().read(scene)


@pytest.fixture
def ingest(tmp_path: Path) -> list[str | Path]:
    source = write_drives(tmp_path / "drives", scenes=3, frames=4)
    return ["ingest", source, "--lake", tmp_path / "lake", "--encoder", "hashing", "--executor", "local"]


def test_a_mistake_of_a_plugin_is_a_line_and_a_log(miner: Miner, ingest: list[str | Path], tmp_path: Path) -> None:
    code, said = miner(*ingest, "--reader", f"{__name__}:Raising")
    assert code == 1 and "Traceback" not in said
    said_log = re.search(r"^miner: stage ingest: KeyError: 'poses\.json'\nFull trace: (.*)\n", said, re.MULTILINE)
    assert said_log
    log = Path(said_log[1])
    assert log.parent == tmp_path / "lake" / "_logs" and "in scenes" in log.read_text()
    assert miner(*ingest)[0] == 0


def test_what_fails_outside_a_run_is_a_line_and_a_log(
    miner: Miner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, said = miner("ingest", tmp_path, "--lake", tmp_path / "lake", "--reader", "json:loads")
    [log] = tmp_path.glob("miner-*.log")
    assert code == 1 and re.fullmatch(rf"miner: TypeError: .*\nFull trace: {log}\n", said)
    assert log.read_text().startswith("Traceback") and log.stat().st_mode & 0o777 == 0o600


def test_a_scene_over_its_limit_is_quarantined(miner: Miner, ingest: list[str | Path], tmp_path: Path) -> None:
    code, said = miner(*ingest, "--reader", f"{__name__}:Hanging", "--unit-timeout", "0.5", "--max-bad", "0.5")
    assert code == 0, said
    [row] = read(tmp_path / "lake", "quarantine").to_pylist()
    assert (row["stage"], row["reason"]) == ("ingest", "timed-out")
    assert row["detail"] == "scene drive_01: not done after 0.5 s"
    assert (count(tmp_path / "lake", "scenes"), count(tmp_path / "lake", "assets")) == (2, 8)
