"""Hostile queries from the shell: exit 2 with what and where, never a trace, never more than was asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli import main
from miner.errors import UsageError
from miner.executor import LocalExecutor
from miner.lake import create
from miner.query.filters import parse_filter
from tests.faults.filters import HOSTILE
from tests.recordings import write_drives

HARMLESS = {"not not not num_frames = 1", "- - - 1 < num_frames", "num_frames in (1, 2,)", "num_frames = 1."}
HARMLESS |= {"num_frames = 1e-400", "num_frames = 1_000", "num_frames = 9223372036854775807"}
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    lake = create(folder / "lake", LocalExecutor(threads=1))
    lake.ingest(write_drives(folder / "drives", scenes=2, frames=2))
    lake.cut()
    lake.embed(["hashing"], "whole")
    lake.index()
    return folder / "lake"


@pytest.fixture
def miner(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def call(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["miner", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return call


def test_hostile_filters_end_with_two_and_a_caret(miner: Command, lake: Path) -> None:
    code, out, _ = miner("search", lake, "x", "--where", "scene = 'drive_00'", "--json")
    assert code == 0 and len(json.loads(out)["hits"]) == 1
    for text in HOSTILE[::4]:  # each of them is in the fuzzing, too
        code, out, err = miner("search", lake, "x", "--where", text, "--json")
        if text in HARMLESS:
            assert code == 0 and json.loads(out)["hits"] is not None, text
        else:
            assert code == 2 and out == "" and err.startswith("miner: filter") and err.count("\n") <= 5, text
            assert "^" in err and "Traceback" not in err, text


@pytest.mark.parametrize("verb", ["search", "rare"])
@pytest.mark.parametrize("k", ["0", "-1", "1000000000", "99999999999999999999"])
def test_k_out_of_limits(miner: Command, lake: Path, verb: str, k: str) -> None:
    text = ["x"] if verb == "search" else []
    code, out, err = miner(verb, lake, *text, "-k", k)
    assert code == 2 and out == "" and "k = " in err and "10,000" in err


@pytest.mark.parametrize("text", ["", " \t ", "x" * 10_000, "\udcff"])
def test_texts_out_of_limits(miner: Command, lake: Path, text: str) -> None:
    code, out, err = miner("search", lake, text)
    assert code == 2 and out == "" and "Traceback" not in err


@pytest.mark.parametrize("text", ["夜の雨", "\u202eevil", "e\u0301te\u0301", "🚲", "a\nb", "\x1b[31mred"])
def test_any_other_text_is_searched_for(miner: Command, lake: Path, text: str) -> None:
    code, out, _ = miner("search", lake, text)
    assert code == 0 and not set(out) & set("\x1b\u202e")


@pytest.mark.parametrize("text", ["x" * 99_000, "x" * 9000 + "(1)", "'a' = " + '"' + "y" * 9000 + '"'])
def test_a_long_word_is_not_said_back(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_filter(text)
    assert "..." in str(caught.value) and len(str(caught.value)) < 1000
