"""Rows of long JSON lists. Malformed files are tested through the reader, in test_nuscenes."""

from __future__ import annotations

import json
from pathlib import Path

from miner.readers.json_rows import RowIndex, iter_rows


def test_long_tables_are_found_row_by_row(tmp_path: Path) -> None:
    """More than one window of text, with letters of several bytes, so that characters are not bytes."""
    rows = [{"key": f"k{i % 50}", "n": i, "text": "straße {[,]} 雨 " * (i % 110)} for i in range(6_000)]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(rows, indent=0, ensure_ascii=False), "utf-8")
    assert len(path.read_text("utf-8")) > 1 << 22
    index = RowIndex(path, "key")
    assert index.rows({"k7", "k49", "none"}) == [row for row in rows if row["key"] in ("k7", "k49")]
    assert index.rows(set()) == []
    assert [row for _, _, row in iter_rows(path)] == rows


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    assert RowIndex(path, "key").rows({"a"}) == []
    for text in ("[]", " [\n ] \n"):
        path.write_text(text)
        assert list(iter_rows(path)) == [] and RowIndex(path, "key").rows({"a"}) == []
