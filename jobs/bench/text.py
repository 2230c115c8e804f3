"""Results of `miner bench` as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.text import joined

Document = Mapping[str, Any]


def result_text(document: Document) -> str:
    """A line a case: the median, and the quartiles of the repeats."""
    about = document["machine"]
    rows = [
        (row["group"], row["case"], f"{row['median']:,.4g}", row["unit"], f"{row['low']:,.4g} to {row['high']:,.4g}")
        for row in document["rows"]
    ]
    title = f"{about['cores']} cores of {about['cpu']}, load {document['load']:g} a core: median, half of the repeats"
    return joined([title, *_aligned(rows)])


def difference_text(document: Document) -> str:
    """What is faster or slower beyond the spread, and what is alike."""
    rows = [
        (row["verdict"], row["group"], row["case"], _number(row["old"]), _number(row["new"]), row["unit"], _times(row))
        for row in document["rows"]
    ]
    counts = {verdict: sum(row["verdict"] == verdict for row in document["rows"]) for verdict in ("faster", "slower")}
    told = f"{counts['faster']} faster, {counts['slower']} slower beyond the spread, of {len(rows)} cases"
    differs = [f"Note: measured elsewhere: {line}" for line in document["differs"]]
    return joined([f"{document['old']} to {document['new']}: {told}", *differs, *_aligned(rows)])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"


def _times(row: Mapping[str, Any]) -> str:
    return "" if row["ratio"] is None else f"x {row['ratio']:.2f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
