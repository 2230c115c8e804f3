"""Times of the frames of a video from a file beside it, one for each frame in the order they are shown.

Beside `clip.mp4` that is `clip.timestamps.txt`, `.csv` or `.json`, or `clip.txt`, `.csv` or `.json` where it begins
like a list of times: other files may have that name too.
"""

from __future__ import annotations

import csv
import json
import logging
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from miner.errors import BadInput
from miner.readers.frame_times import frame_times
from miner.readers.places import AnyPath
from miner.readers.sources import read_text

_LOG = logging.getLogger(__name__)

_SUFFIXES = (".timestamps.txt", ".timestamps.csv", ".timestamps.json", ".txt", ".csv", ".json")
_UNITS_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_BY_DIGITS = {19: "ns", 16: "us", 13: "ms", 10: "s"}  # of an epoch time
_COLUMN = re.compile(r"(?:.*_)?(?:timestamps?|times?|ts)(?:[_ \[(]+(?P<unit>ns|us|ms|s)[\])]?)?", re.IGNORECASE)
_DATE_TIME = re.compile(r"20\d\d\D?\d\d\D?\d\d[T_ -].*")
_NUMBERED = re.compile(r"\d+ +[\d.]+")  # a line with the number of the frame before its time


class _Listed(NamedTuple):
    """Times as text, the unit that the file names, where it does, and how many columns the table has."""

    unit: str | None
    texts: list[str]
    columns: int = 1


def sidecar_times(video: AnyPath, root: AnyPath, num_frames: int) -> list[int] | None:
    """Nanoseconds for each of `num_frames` frames, never falling; None where no such file lies beside the video.

    Numbers are epoch times in s, ms, us or ns by their digits (10, 13, 16, 19), or of the unit in the name of their
    column (`timestamp_ms`); numbers below 10 digits with a decimal point are seconds. Date-times are UTC without a
    zone. Without `.timestamps` in its name a file that cannot be read, or a table with other columns and not one row a
    frame, is taken for something else, with a warning.

    Raises BadInput: `frame-count` (other than `num_frames`, both shown), `bad-times` (naming the line),
    `times-go-back`, or as `read_text` for a link out of `root` and for what is no text.
    """
    for suffix in _SUFFIXES:
        path = video.with_name(video.stem + suffix)
        if not path.is_file():
            continue
        named = suffix.startswith(".timestamps")
        try:
            found = _listed(path, root)
        except BadInput as bad:
            if named:
                raise
            _LOG.warning("%s: left out", bad)
            continue
        if not named and (not found.texts or _time_ns(found.texts[0], found.unit) is None):
            _LOG.info("%s: not a list of times, left out", path)
        elif not named and found.columns > 2 and len(found.texts) != num_frames:
            _LOG.warning("%s: %d rows for %d frames: a log, left out", path, len(found.texts), num_frames)
        else:
            return _times_ns(path, found, num_frames)
    return None


def _times_ns(path: AnyPath, found: _Listed, num_frames: int) -> list[int]:
    unit, texts, _ = found
    if len(texts) != num_frames:
        raise BadInput("frame-count", f"{path}: {len(texts)} times for {num_frames} frames of the video")
    times: list[int] = []
    for number, text in enumerate(texts, 1):
        time_ns = _time_ns(text, unit)
        if time_ns is None:
            raise BadInput("bad-times", f"{path}: time {number} of {num_frames} is {text[:40]!r}")
        if times and time_ns < times[-1]:
            raise BadInput("times-go-back", f"{path}: time {number} ({text}) is before time {number - 1}")
        times.append(time_ns)
    return times


def _time_ns(text: str, unit: str | None) -> int | None:
    """None where the text is no time of a known unit."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return (_DATE_TIME.fullmatch(text) and frame_times([("", text)])[0]) or None
    if not number.is_finite() or not 0 <= number < 10**20:
        return None
    if unit is None:
        relative = "." in text and number < 10**9
        unit = "s" if relative else _BY_DIGITS.get(len(str(int(number))))
    return None if unit is None else int(number * _UNITS_NS[unit])


def _listed(path: AnyPath, root: AnyPath) -> _Listed:
    text = read_text(path, root)
    try:
        return _listed_json(json.loads(text)) if path.suffix == ".json" else _listed_rows(text)
    except (ValueError, RecursionError, csv.Error) as error:
        raise BadInput("bad-times", f"{path}: {error}") from error


def _listed_json(data: Any) -> _Listed:
    """A list of times, or an object with one under a name like `timestamps_ns`."""
    unit = None
    if isinstance(data, dict):
        names = [name for name, value in data.items() if isinstance(value, list) and _COLUMN.fullmatch(name)]
        unit = _unit(names[0]) if names else None
        data = data[names[0]] if names else []
    values = data if isinstance(data, list) else []
    return _Listed(unit, [value if isinstance(value, str) else json.dumps(value) for value in values])


def _listed_rows(text: str) -> _Listed:
    """Lines of one time each, or a table whose header names a column of times; without one the last of two."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not any("," in line or ";" in line for line in lines[:1]):
        header = _COLUMN.fullmatch(lines[0].strip()) if lines else None
        cells = [line.strip() for line in (lines[1:] if header else lines)]
        times = [cell[cell.rindex(" ") + 1 :] if _NUMBERED.fullmatch(cell) else cell for cell in cells]
        return _Listed(_unit(lines[0]) if header else None, times)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=";" if ";" in lines[0] else ",")]
    column = next((n for n, name in enumerate(rows[0]) if _COLUMN.fullmatch(name)), None)
    if column is None:
        return _Listed(None, [row[-1] if len(row) <= 2 else ",".join(row) for row in rows])
    times = [row[column] if column < len(row) else "" for row in rows[1:]]
    return _Listed(_unit(rows[0][column]), times, len(rows[0]))


def _unit(name: str) -> str | None:
    match = _COLUMN.fullmatch(name.strip())
    return match["unit"].lower() if match and match["unit"] else None
