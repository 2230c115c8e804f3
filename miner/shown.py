"""How times are written for people."""

from __future__ import annotations

from datetime import UTC, datetime

_YEAR_2000_NS = 946_684_800 * 10**9


def shown_time(time_ns: int) -> str:
    """UTC for an absolute time, else seconds since the recording's own zero."""
    if time_ns < _YEAR_2000_NS:
        return f"{time_ns / 1e9:.3f} s"
    return (
        datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{time_ns // 10**6 % 1000:03d}"
    )
