"""README's commands exist and its tables are those of the results."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from benchmarks.readme import filled
from tests.jobs.command import Miner, miner  # noqa: F401  a fixture

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("miner ")
]


def test_the_two_commands_stand_as_written() -> None:
    assert "\npip install -e '.[all]' && miner demo\n" in README
    assert "\npip install -e '.[dev]' && pytest\n" in README
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"all", "dev"} <= set(project["optional-dependencies"])
    assert project["scripts"]["miner"] == "jobs.entry:main"


def test_tables_are_generated() -> None:
    assert filled(README) == README, "run: python -m benchmarks.readme"


def test_commands_run_as_written(tmp_path: Path, miner: Miner, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Every `miner` line of README on a lake made from simulated drives under the names README uses."""
    from miner.lake import create
    from miner.simulation import Spec, record

    drives = tmp_path / "drives"
    record(Spec(scenes=2, seconds=2.0, width=64, height=36, beams=8, azimuths=90, lidar_hz=1.0, camera_hz=1.0), drives)
    lake = create(tmp_path / "lake")
    lake.ingest(drives)
    lake.cut()
    lake.embed(["lite", "descriptor"], "whole")
    lake.index()
    [spec] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    for words, here in (("500", "1"), ("100", "0"), ("dataset = 'nuscenes'", "num_frames > 0"), (", radius: 0.02", "")):
        assert words in spec
        spec = spec.replace(words, here, 1)
    (tmp_path / "spec.yaml").write_text(spec)  # as written, for a lake of two clips
    clip = lake.store.scan("clips")["clip_id"][0].as_py()
    scene = lake.store.scan("scenes")["name"][0].as_py()
    sweep = next(drives.rglob("*.bin"))
    assert len(COMMANDS) >= 9
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        words = shlex.split(command.replace("CLIP_ID", clip).replace("scene-0061", scene))
        places = {"/data/nuscenes": str(drives), "sweep.bin": str(sweep)}
        words = [places.get(word, word) for word in words]
        if words[1] == "ingest":
            words.append("--dry-run")  # README's default executor starts Ray: the engine's tests do
        done = miner(*words[1:])
        examined = words[1] == "doctor" and done.code == 1  # it found something to mend on this machine
        assert done.code == 0 or examined, f"{command}\n{done.err}"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_documents_exist(name: str) -> None:
    assert (ROOT / name).stat().st_size > 500
