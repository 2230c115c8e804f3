"""Single bits flipped anywhere in a lake: `verify --deep` explains every answer that changes, search says so itself.

Answers are those of the real commands, each time in a process that may panic or die. The seed is printed.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults.asking import Asker, Command, Said, asker
from tests.recordings import write_drives

pytestmark = pytest.mark.fault

KINDS = {
    "data": "data/*.lance",
    "manifest": "_versions/*.manifest",
    "transaction": "_transactions/*.txn",
    "index": "_indices/*/*.lance",
    "other": "*/**/*.json",  # the hint of the latest version, tags
    "digests": "*/*.*",
}
TABLES = ("*.lance", "embeddings/*.lance")


@pytest.fixture(scope="module")
def asking() -> Iterator[Asker]:
    with asker() as each:
        yield each


def ingest(asking: Asker, source: Path, lake: Path) -> None:
    options = ["--encoder", "hashing", "--executor", "local", "--clip-seconds", "2", "--max-bad", "1"]
    [done] = asking.ask([["ingest", str(source), "--lake", str(lake), *options]])
    assert done.code == 0, done.err


@pytest.fixture(scope="module")
def lake(asking: Asker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes from two runs, a label, a frame in quarantine."""
    folder = tmp_path_factory.mktemp("flips")
    source = write_drives(folder / "source", scenes=2, frames=6)
    (source / "drive_01" / "frame_000002.jpg").write_bytes(b"")
    (source / "labels").mkdir()
    (source / "labels" / "boxes.json").write_text(
        '[{"name": "frame_000000.jpg", "labels": [{"category": "car", "box2d": {"x1": 1, "y1": 1, "x2": 9, "y2": 9}}]}]'
    )
    ingest(asking, source, folder / "lake")
    write_drives(source, scenes=4, frames=6)
    (source / "drive_01" / "frame_000002.jpg").write_bytes(b"")
    ingest(asking, source, folder / "lake")
    return folder / "lake"


@pytest.fixture(scope="module")
def commands(lake: Path) -> dict[str, Command]:
    """The questions, by name. Those that search must say themselves when damage changes what they answer."""
    import lance

    def first(table: str, column: str) -> str:
        rows = lance.dataset(f"{lake}/{table}.lance").to_table([column])[column].to_pylist()
        return str(sorted(rows)[0])

    place, clip, reading = str(lake), first("clips", "clip_id"), first("sample_data", "sample_data_id")
    where = "count('car') > 0 or num_frames > 1"
    return {
        "search": ["search", place, "a truck", "-k", "9", "--json"],
        "search --where": ["search", place, "at night", "-k", "9", "--where", where, "--json"],
        "search --like": ["search", place, "--like", reading, "--per", "frame", "-k", "40", "--json"],
        "rare": ["rare", place, "-k", "5", "--json"],
        "ls": ["ls", place, "--json"],
        "show scene": ["show", place, "drive_00", "--json"],
        "show clip": ["show", place, clip, "--json"],
        "show reading": ["show", place, reading, "--json"],
    }


@pytest.fixture(scope="module")
def undisturbed(asking: Asker, commands: dict[str, Command], lake: Path) -> dict[str, Any]:
    found = asking.ask([*commands.values(), ["verify", str(lake), "--deep", "--json"]])
    assert all(said.code == 0 for said in found), [said.err for said in found if said.code]
    return {name: content(said) for name, said in zip(commands, found, strict=False)}


def content(said: Said) -> Any:
    """What a command answered, without what differs from call to call; its text for one that failed."""
    if said.code:
        return said.code, said.err
    document = json.loads(said.out)
    return {name: value for name, value in document.items() if name not in ("elapsed_ms", "notes")}


class Flip(NamedTuple):
    """A bit of a file of one kind."""

    kind: str
    file: Path
    bit: int

    def turn(self) -> None:
        """Flip it; twice is as before."""
        data = bytearray(self.file.read_bytes())
        data[self.bit // 8] ^= 1 << self.bit % 8
        self.file.write_bytes(data)


def flips(lake: Path, count: int, seed: int) -> Iterator[Flip]:
    """Bits of a copy of a lake: every kind of file as often as another, of every table as often."""
    chance = random.Random(seed)
    tables = [path for pattern in TABLES for path in sorted(lake.glob(pattern)) if path.name != "embeddings"]
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        among = [[*path.glob(KINDS[kind])] for path in tables if kind != "digests" or path.name == "digests.lance"]
        file = chance.choice(sorted(chance.choice([files for files in among if files])))
        yield Flip(kind, file, chance.randrange(8 * file.stat().st_size))


def silent(name: str, said: Said) -> bool:
    """Whether an answer that is not the undisturbed lake's hides it: search has to say so, other commands may not."""
    if said.code:
        return "miner: " not in said.err
    return name.startswith(("search", "rare")) and not json.loads(said.out)["notes"]


def judge(flip: Flip, asking: Asker, commands: dict[str, Command], undisturbed: dict[str, Any], lake: Path) -> str:
    """`same`, or `named` for answers that changed and were explained. Raises AssertionError for what was hidden."""
    answers = dict(zip(commands, asking.ask([*commands.values()]), strict=True))
    changed = {name: said for name, said in answers.items() if content(said) != undisturbed[name]}
    [verdict] = asking.ask([["verify", str(lake), "--deep", "--json"]]) if changed else [Said(0, "", "")]
    for said in (*answers.values(), verdict):
        assert said.code >= 0, f"{flip}: the process ended by {said.code}"
        assert "Traceback" not in said.err, f"{flip}: {said.err}"
    if not changed:
        return "same"
    hidden = [name for name, said in changed.items() if silent(name, said)]
    assert not hidden, f"{flip}: {hidden} differ and do not say so"
    assert verdict.code == 1, f"{flip}: {sorted(changed)} differ, verify --deep names nothing: {verdict}"
    assert any(not check["ok"] and check["detail"] for check in json.loads(verdict.out)["checks"])
    return "named"


def run(
    count: int, tmp_path: Path, lake: Path, asking: Asker, commands: dict[str, Command], undisturbed: dict[str, Any]
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    kept = tmp_path / "kept"
    shutil.copytree(lake, kept)
    results: Counter[tuple[str, str]] = Counter()
    for flip in flips(lake, count, seed):
        flip.turn()
        try:
            results[flip.kind, judge(flip, asking, commands, undisturbed, lake)] += 1
        finally:
            flip.turn()
    print(dict(sorted(results.items())))
    for file in kept.rglob("*.*"):
        assert file.is_dir() or file.read_bytes() == (lake / file.relative_to(kept)).read_bytes()


def test_a_few_flips(
    tmp_path: Path, lake: Path, asking: Asker, commands: dict[str, Command], undisturbed: dict[str, Any]
) -> None:
    run(6, tmp_path, lake, asking, commands, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_flips(
    tmp_path: Path, lake: Path, asking: Asker, commands: dict[str, Command], undisturbed: dict[str, Any]
) -> None:
    run(200, tmp_path, lake, asking, commands, undisturbed)
