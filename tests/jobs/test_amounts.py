"""Amounts as people read them."""

from __future__ import annotations

import pytest

from jobs.amounts import shown_bytes, shown_s, three_digits


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (125.4, "2 min 5 s"),
        (3600, "1 h"),
        (12_059, "3 h 20 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert shown_s(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (256_000, "256 kB"), (2.564e13, "25.6 TB"), (4e15, "4,000 TB")],
)
def test_bytes(count: float, text: str) -> None:
    assert shown_bytes(count) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.05871, "0.0587"), (16.32, "16.3"), (999.6, "1,000"), (12_528_000, "12,500,000")]
)
def test_numbers_have_no_exponent(value: float, text: str) -> None:
    assert three_digits(value) == text
