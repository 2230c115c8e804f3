"""Amounts as people read them: durations, bytes, numbers without exponents."""

from __future__ import annotations

_UNITS_S = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_UNITS_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def shown_s(seconds: float) -> str:
    """A duration in its two largest units: 45 s, 2 min 5 s, 3 h 20 min."""
    left, parts = max(round(seconds), 0), list[str]()
    for size, name in _UNITS_S:
        if left >= size or (name == "s" and not parts):
            parts.append(f"{left // size} {name}")
            left %= size
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def shown_bytes(count: float) -> str:
    """Bytes in three digits: 256 kB, 25.6 TB."""
    size, name = next((each for each in _UNITS_BYTES if count >= each[0]), (1.0, "bytes"))
    return f"{three_digits(count / size)} {name}"


def three_digits(value: float) -> str:
    """A number rounded to three digits, never with an exponent where it is large: 0.0587, 16.3, 12,500,000."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 1000 else f"{rounded:g}"
