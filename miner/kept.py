"""What is worth keeping for the next question: values by key, the least recently used forgotten above a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")
LIMIT_BYTES = 512 * 1024 * 1024


class Kept:
    """Values with an `nbytes` by key, at most `limit` bytes of them. For several threads at once."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit, self._values = limit, OrderedDict[Hashable, tuple[Any, int]]()
        self._lock = Lock()
        self.nbytes = 0  # is kept

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made where it is not there (by two threads at once, where both lack it)."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                found: T = self._values[key][0]
                return found
        made = make()
        size = int(made.nbytes)  # type: ignore[attr-defined]
        with self._lock:
            self.nbytes += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = made, size
            while len(self._values) > 1 and self.nbytes > self._limit:
                self.nbytes -= self._values.popitem(last=False)[1][1]
        return made

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values
