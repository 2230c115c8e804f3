"""Documents of benchmarks that are measured part by part."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.rare import parts_of as rare_parts
from benchmarks.report import Parts, Row, run_parts
from benchmarks.select import parts_of as select_parts


def test_parts_are_kept_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "__file__", str(tmp_path / "report.py"))
    measured = {"a": 1.0, "b": 2.0, "c": 3.0}

    def parts(options: argparse.Namespace) -> Parts:
        def fails() -> list[Row]:
            raise KeyboardInterrupt

        return {
            "a": lambda: [Row("one", "m", "u", measured["a"]), Row("two", "m", "u", 7.0)],
            "b": lambda: [Row("three", "m", "u", measured["b"])],
            "c": lambda: [Row("four", "m", "u", measured["c"])] if measured["c"] else fails(),
        }

    def kept(*words: str) -> dict[str, list[float]]:
        monkeypatch.setattr(sys, "argv", ["x", "--save", *words])
        try:
            run_parts("x", parts)
        except KeyboardInterrupt:
            pass
        found = json.loads((tmp_path / "results" / "x.json").read_text())
        assert [each["rows"] for each in found["parts"]] == [
            {"a": 2, "b": 1, "c": 1}[each["part"]] for each in found["parts"]
        ]
        return {row["case"]: row["ours"] for row in found["rows"]}

    assert kept("--only", "b") == {"three": 2.0}
    measured |= {"a": 10.0, "b": 20.0, "c": 0.0}
    assert kept() == {"one": 10.0, "two": 7.0, "three": 20.0}, "what is done stays, though the last did not end"
    measured |= {"c": 5.0}
    assert list(kept("--only", "c")) == ["one", "two", "three", "four"]
    assert "x: c ..." in capsys.readouterr().err
    with pytest.raises(SystemExit):
        kept("--only", "d")
    assert "there are a, b, c" in capsys.readouterr().err


@pytest.mark.parametrize("parts_of", [rare_parts, select_parts])
@pytest.mark.parametrize("quick", [True, False])
def test_quick_runs_are_part_of_whole_ones(parts_of: report.PartsOf, quick: bool) -> None:
    whole = parts_of(argparse.Namespace(quick=False))
    assert set(parts_of(argparse.Namespace(quick=quick))) <= set(whole) and len(whole) >= 7
