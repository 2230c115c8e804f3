"""The checklist names every case once, and only tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", (ROOT / "tests/faults/README.md").read_text(), re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_case_is_there_once() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 57))
    assert all(part.strip() for row in ROWS for part in row)


def test_every_named_test_exists() -> None:
    for number, _, _, shown_by in ROWS:
        named = NAMED.findall(shown_by)
        rest = NAMED.sub("", shown_by).replace(",", "").strip()
        assert (named and not rest) or rest == "?", f"case {number}: {shown_by}"
        for file, test in named:
            assert (ROOT / file).is_file() and test in names_in(ROOT / file), f"case {number}: {file}::{test}"
