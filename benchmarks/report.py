"""What a benchmark hands back: rows of ours beside a rival, with the machine and the commit they were measured on.

`python -m benchmarks.<claim> [--quick] [--json] [--save]` of every claim ends in `run`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
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
        row["holds"] = None if self.holds is None else bool(self.holds)  # NumPy's own is no JSON
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
    print(json.dumps(result, indent=1) if options.json else table(result))
    if options.save:
        save(result)


Parts = dict[str, Callable[[], list[Row]]]
PartsOf = Callable[[argparse.Namespace], Parts]


def run_parts(name: str, parts_of: PartsOf) -> None:
    """As `run`, part by part: `--only NAME ...` measures some of them, and each is kept as soon as it is done.

    A document with parts says of each how many rows, in order, are of it, at which commit and in what time; parts that
    were not measured now stay as they are. Progress goes to stderr.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="the small cases only, within 60 s on 2 cores")
    parser.add_argument("--only", nargs="+", metavar="PART", help="measure these parts only; a wrong name lists all")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--save", action="store_true", help=f"keep each part in benchmarks/results/{name}.json")
    options = parser.parse_args()
    parts = parts_of(options)
    if unknown := set(options.only or ()) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    chosen = {part: measure for part, measure in parts.items() if part in (options.only or parts)}
    result = document(name, [])
    for part, measure in chosen.items():
        print(f"{name}: {part} ...", file=sys.stderr, flush=True)
        wall, cpu = time.perf_counter(), time.process_time()
        rows = [row.as_dict() for row in measure()]
        about = {"part": part, "rows": len(rows), "commit": result["commit"]}
        about |= {"wall_s": _rounded(time.perf_counter() - wall), "cpu_s": _rounded(time.process_time() - cpu)}
        result = with_part(result, about, rows, list(parts))
        if options.save:
            save(with_part(kept(name) or result, about, rows, list(parts)) | _head(result))
        print(f"{name}: {part}: {about['wall_s']:.0f} s ({about['cpu_s']:.0f} s of CPU)", file=sys.stderr, flush=True)
    print(json.dumps(result, indent=1) if options.json else table(result))


def with_part(result: dict[str, Any], about: dict[str, Any], rows: list[Any], order: list[str]) -> dict[str, Any]:
    """A document with the rows of a part, in place of those it had of that part. Rows of no known part go."""
    found: dict[str, tuple[dict[str, Any], list[Any]]] = {}
    first = 0
    for each in result.get("parts", []):
        found[each["part"]] = each, result["rows"][first : first + each["rows"]]
        first += each["rows"]
    found[about["part"]] = about, rows
    kept_parts = [found[part] for part in order if part in found]
    return result | {
        "parts": [each for each, _ in kept_parts],
        "rows": [row for _, own in kept_parts for row in own],
    }


def kept(name: str) -> dict[str, Any] | None:
    """The document that is kept of a benchmark, if one is."""
    path = Path(__file__).resolve().parent / "results" / f"{name}.json"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def _head(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("name", "command", "commit", "machine")}


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
