"""Every group measures what it says; small ones here, all of them by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.bench import decode, kernels, search, select
from jobs.bench.measure import Cases
from jobs.bench.run import GROUPS
from miner.simulation import Spec
from tests.jobs.command import Miner

SMALL = Spec(1, 1.0, 1.0, 1.0, ("CAM_FRONT",), 160, 90, 8, 90)


def sound(cases: Cases) -> list[str]:
    found = list(cases)
    for each in found:
        assert len(each.values) >= 5 and min(each.values) > 0
    return [each.case for each in found]


def test_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "SPEC", SMALL)
    monkeypatch.setattr(decode, "SPEC", SMALL)
    assert len(sound(kernels.cases())) == 5
    assert "JPEG of 160 x 90" in sound(decode.cases())[0]
    assert len(sound(select.cases(1000))) == 3
    assert "a small lake, by a known text" in sound(search.cases(1000, "hashing"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_groups_by_the_command(miner: Miner, tmp_path: Path) -> None:
    out, picture = tmp_path / "now.json", tmp_path / "now.png"
    done = miner("bench", "--out", out, "--plot", picture, "--json")
    assert done.code == 0, done.err
    assert json.loads(out.read_text()) == done.document
    assert {row["group"] for row in done.document["rows"]} == {*GROUPS}
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = miner("bench", "--compare", out, out)
    assert "0 faster, 0 slower" in told.out
