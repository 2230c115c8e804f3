"""`miner bench`: groups of cases measured one after the other, and the document that comes of it."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import miner
from jobs.bench.compare import compared, elsewhere
from jobs.bench.machine import load, machine
from miner.errors import NotFound, UnknownName, UsageError

GROUPS = ("kernels", "decode", "encode", "pipeline", "search", "select")
_BUSY = 0.5  # processes a core
FORMAT = 1


def run(groups: Sequence[str], notify: Callable[[str], None]) -> dict[str, Any]:
    """Measure groups (all, if none is named). Raises UnknownName."""
    for group in groups:
        if group not in GROUPS:
            raise UnknownName.of("group", group, GROUPS)
    busy = load()
    if busy > _BUSY:
        notify(f"this machine is busy ({busy:.1f} processes a core): numbers will be low and vary")
    rows = []
    for group in groups or GROUPS:
        for found in importlib.import_module(f"jobs.bench.{group}").cases():
            rows.append({"group": group, **found.to_dict()})
            notify(f"{group}: {found.case}: {rows[-1]['median']:.4g} {found.unit}")
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    about = {"job": "bench", "format": FORMAT, "version": miner.__version__, "time": when, "load": round(busy, 2)}
    return {**about, "machine": machine(), "rows": rows}


def difference(old: Path, new: Path) -> dict[str, Any]:
    """Two results side by side. Raises NotFound and UsageError for files that are none."""
    first, second = read(old), read(new)
    head = {"job": "bench", "old": str(old), "new": str(new), "differs": elsewhere(first, second)}
    return {**head, "rows": compared(first, second)}


def read(file: Path) -> dict[str, Any]:
    """A result that `miner bench --out` wrote."""
    try:
        document = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {file}", "Write one with: miner bench --out FILE") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    found: dict[str, Any] = document if isinstance(document, dict) else {}
    if found.get("job") != "bench" or found.get("format") != FORMAT or not {"machine", "rows"} <= found.keys():
        raise UsageError(f"{file} is no result of miner bench", "Write one with: miner bench --out FILE")
    return found
