"""What a benchmark hands back: rows of ours beside a rival, with the machine and the commit they were measured on.

`python -m benchmarks.<claim> [--quick] [--json] [--save]` of every claim ends in `run`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.bench.machine import machine


@dataclass(frozen=True)
class Row:
    """One measured number. `rival` is None where the rival is not installed or there is none; then nothing is judged.

    `spread`: lowest and highest of the repeats (or of the parts a mean was taken of). `holds`: whether `target` is met.
    """

    case: str
    metric: str
    unit: str
    ours: float
    rival: float | None = None
    rival_name: str | None = None
    spread: tuple[float, float] | None = None
    target: str | None = None
    holds: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON, with `ratio` = ours / rival. Five significant digits."""
        row = asdict(self) | {"ratio": self.ours / self.rival if self.rival else None}
        keys = ["case", "metric", "unit", "ours", "rival", "rival_name", "ratio", "spread", "target", "holds"]
        return {key: _rounded(row[key]) for key in keys}


def run(
    name: str,
    measure: Callable[[argparse.Namespace], list[Row]],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Parse the command line, measure, print the document as a table or as JSON, and with --save keep it."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="the small cases only, within 60 s on 2 cores")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--save", action="store_true", help=f"keep the document in benchmarks/results/{name}.json")
    add_options(parser)
    options = parser.parse_args()
    result = document(name, measure(options))
    if options.save:
        save(result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def document(name: str, rows: list[Row]) -> dict[str, Any]:
    """The document of one benchmark run."""
    command = " ".join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]])
    return {
        "name": name,
        "command": portable(command),
        "commit": commit(),
        "machine": machine(),
        "rows": [row.as_dict() for row in rows],
    }


def save(result: dict[str, Any]) -> Path:
    """Write the document to `benchmarks/results/<name>.json`, one row a line."""
    path = Path(__file__).resolve().parent / "results" / f"{result['name']}.json"
    path.parent.mkdir(exist_ok=True)
    head = json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1)
    rows = ",\n".join(f"  {json.dumps(row)}" for row in result["rows"])
    path.write_text(f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n')
    return path


def table(result: dict[str, Any]) -> str:
    """The document as an aligned text table."""
    columns = ["case", "metric", "unit", "ours", "rival", "rival_name", "ratio", "target", "holds"]
    cells = [columns, *([_cell(row[column]) for column in columns] for row in result["rows"])]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    about = result["machine"]
    title = f"{result['name']}, commit {result['commit']}, {about['cores']} cores of {about['cpu']}"
    return "\n".join([title, "", *lines])


def commit() -> str | None:
    """The short commit of the checkout, `-dirty` when files differ from it; None where there is no git."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def portable(text: str) -> str:
    """`text` with absolute paths cut to their last part: a document names no folder of the machine it was made on."""
    return re.sub(r"(?<![\w.])/(?:[^\s/:]+/)*(?=[^\s/])", "", text)


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
