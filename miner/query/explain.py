"""What a search did, step by step: rows as they were expected and as they came, and how long each step took."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


class Option(Protocol):
    """A way that was weighed."""

    @property
    def name(self) -> str: ...

    @property
    def cpu_ms(self) -> float: ...

    @property
    def recall(self) -> float: ...


@dataclass(frozen=True)
class Step:
    """One step: what was expected of it, and what it gave of how many (`of`; 0 where that says nothing).

    `expected_rows` and `expected_ms` are None where nobody estimates them; `note` says what else there is to know.
    """

    step: str
    what: str
    expected_rows: int | None
    rows: int
    expected_ms: float | None
    ms: float
    of: int = 0
    note: str = ""

    @property
    def expected_share(self) -> float:
        """The share of rows that was expected, of the actual one where nobody said."""
        rows = self.rows if self.expected_rows is None else self.expected_rows
        return rows / self.of if self.of else 1.0


@dataclass
class Plan:
    """Notes of one search, taken while it runs: `steps` in order."""

    steps: list[Step] = field(default_factory=list)

    def add(
        self,
        step: str,
        what: str,
        rows: tuple[int | None, int],
        started: float,
        expected_ms: float | None = None,
        **more: Any,
    ) -> None:
        """A step that began at `started` (perf_counter) and ends now; `rows` as expected and as they came."""
        ms = round((time.perf_counter() - started) * 1e3, 3)
        expected = None if expected_ms is None else round(expected_ms, 3)
        self.steps.append(Step(step, what, rows[0], rows[1], expected, ms, **more))

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {"steps": [asdict(step) for step in self.steps]}


def weighed(options: Iterable[Option]) -> str:
    """The ways that were weighed, with what each was expected to cost and to find."""
    return "weighed: " + ", ".join(f"{each.name} {each.cpu_ms:.2f} ms at recall {each.recall:.3f}" for each in options)


def plan_text(document: Mapping[str, Any]) -> str:
    """A plan, as JSON values, as a table with its notes below the steps."""
    head = ("step", "rows expected", "rows", "ms expected", "ms", "what")
    cells = [head]
    for step in document["steps"]:
        rows = "-" if step["expected_rows"] is None else f"{step['expected_rows']:,}"
        ms = "-" if step["expected_ms"] is None else f"{step['expected_ms']:.2f}"
        cells.append((step["step"], rows, f"{step['rows']:,}", ms, f"{step['ms']:.2f}", step["what"]))
    widths = [max(len(line[place]) for line in cells) for place in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    for place, step in reversed(list(enumerate(document["steps"], 1))):
        if step["note"]:
            lines.insert(place + 1, f"  {step['note']}")
    return "\n".join(lines)
