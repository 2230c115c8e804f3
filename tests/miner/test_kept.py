"""What is kept stays within its bound, the least recently used goes first."""

from __future__ import annotations

import numpy as np

from miner.kept import Kept


def test_the_least_recently_used_goes_first() -> None:
    kept, made = Kept(limit=25), []

    def get(key: str, size: int = 10) -> None:
        kept.get(key, lambda: (made.append(key), np.zeros(size, np.uint8))[1])

    for key in "abacb":  # b went for c, as a was asked for after it
        get(key)
    assert made == ["a", "b", "c", "b"] and "a" not in kept and kept.nbytes <= 25
    get("huge", 100)
    assert "huge" in kept and "b" not in kept and kept.nbytes == 100
