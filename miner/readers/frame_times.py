"""When a picture was taken, as far as its file name tells; else nominal times that keep the order of the names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

_EPOCH_NS = {19: 1, 16: 1_000, 13: 1_000_000, 10: 1_000_000_000}  # digits of an epoch time: nanoseconds per unit
_EARLIEST_NS, _LATEST_NS = 946_684_800 * 10**9, 2_524_608_000 * 10**9  # years 2000 to 2050
_FRAME_NS, _JUMP_NS = 1_000_000_000, 60_000_000_000

_DIGITS = re.compile(r"\d+")
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
# A zone needs its colon after a minus: `...-45-0100` is rather a frame number than a zone.
_DATE_TIME = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[T_ -]?(\d\d)[-_:.]?(\d\d)[-_:.]?(\d\d)(?:[.,](\d{1,9}))?(?!\d)"
    r"(Z|\+\d\d:?\d\d|-\d\d:\d\d)?"
)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key: numbers by value, so that frame 2 comes before frame 10; equal values by their text."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts if part]


def frame_times(names: Sequence[tuple[str, str]]) -> list[int]:
    """A time in nanoseconds for each (channel, stem of the file name) of one scene; distinct within a channel.

    Absolute where each channel has a kind of time (epoch ns, us, ms, s, else a date-time, UTC without a zone) that all
    its names hold and that is not one constant, as the start of the log would be. Else nominal from 0: names that
    differ in their last number only are 1 s apart, other neighbours 60 s, so that unrelated pictures share no clip; a
    stem that several channels have (their own names set aside) has one time. Frames of a channel that still share a
    time are moved apart by 1 ns in natural order of their names.
    """
    by_channel: dict[str, list[str]] = {}
    for channel, stem in names:
        by_channel.setdefault(channel, []).append(stem)
    found = {channel: _absolute_times(stems) for channel, stems in by_channel.items()}
    if all(found.values()):
        times = {(channel, stem): time_ns for channel, times in found.items() for stem, time_ns in times.items()}
    else:
        nominal = _nominal_times(_bare(channel, stem) for channel, stem in names)
        times = {(channel, stem): nominal[_bare(channel, stem)] for channel, stem in names}
    return _distinct(names, [times[name] for name in names])


def _absolute_times(stems: list[str]) -> dict[str, int]:
    """By stem the time of the most precise kind that all stems hold; empty where there is none."""
    for digits in (*_EPOCH_NS, None):
        times = {stem: _epoch_ns(stem, digits) if digits else _date_time_ns(stem) for stem in stems}
        known = {stem: time_ns for stem, time_ns in times.items() if time_ns is not None}
        if len(known) == len(times) and (len(times) == 1 or len(set(known.values())) > 1):
            return known
    return {}


def _epoch_ns(stem: str, digits: int) -> int | None:
    for number in reversed(_DIGITS.findall(stem)):
        time_ns = int(number) * _EPOCH_NS[digits] if len(number) == digits else 0
        if _EARLIEST_NS <= time_ns < _LATEST_NS:
            return time_ns
    return None


def _date_time_ns(stem: str) -> int | None:
    for match in _DATE_TIME.finditer(stem):
        *numbers, fraction, zone = match.groups()
        try:
            moment = datetime(*map(int, numbers), tzinfo=_zone(zone))  # type: ignore[arg-type, misc]
        except ValueError:
            continue  # a month 13 is no date
        time_ns = int(moment.timestamp()) * 10**9 + int((fraction or "").ljust(9, "0"))
        if _EARLIEST_NS <= time_ns < _LATEST_NS:
            return time_ns
    return None


def _zone(text: str | None) -> timezone:
    if text is None or text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _bare(channel: str, stem: str) -> str:
    return stem.replace(channel, "")


def _nominal_times(stems: Iterable[str]) -> dict[str, int]:
    ordered = sorted(set(stems), key=natural)
    times = dict.fromkeys(ordered[:1], 0)
    for before, stem in pairwise(ordered):
        same_run = _LAST_NUMBER.sub("#", before) == _LAST_NUMBER.sub("#", stem)
        times[stem] = times[before] + (_FRAME_NS if same_run else _JUMP_NS)
    return times


def _distinct(names: Sequence[tuple[str, str]], times: list[int]) -> list[int]:
    last: dict[str, int] = {}
    for index in sorted(range(len(names)), key=lambda i: (times[i], natural(names[i][1]))):
        channel = names[index][0]
        times[index] = max(times[index], last.get(channel, times[index] - 1) + 1)
        last[channel] = times[index]
    return times
