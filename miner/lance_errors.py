"""What Lance's errors mean, which come as OSError, ValueError or a panic with a text; and trying again after some."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from lance.commit import CommitConflictError

_TRIES = 10
_FIRST_PAUSE_S = 0.02
T = TypeVar("T")


def is_gone(error: BaseException) -> bool:
    """Whether a file that a version of a table consists of is not there (any more)."""
    return re.search(r"(?i)not found|no such file", str(error)) is not None


def is_damage(error: BaseException) -> bool:
    """Whether Lance could not make sense of a manifest. It panics over some, which is no Exception."""
    nonsense = r"Protobuf|file size is too small|Invalid range|unknown cookie|fill whole buffer|LanceError\(Schema\)"
    panicked = type(error).__name__ == "PanicException"
    return panicked or (isinstance(error, ValueError) and re.search(nonsense, str(error)) is not None)


def retried(change: Callable[[], T]) -> T:
    """The result of a change that is begun anew when another one came first: with growing, random pauses, not for ever.

    Only for changes that do not depend on what was read before.
    """
    for attempt in range(_TRIES):
        try:
            return change()
        except OSError as error:
            if not is_retryable(error) or attempt == _TRIES - 1:
                raise
            time.sleep(_FIRST_PAUSE_S * 2 ** min(attempt, 6) * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


def is_retryable(error: OSError) -> bool:
    """Whether another transaction came first, and this one still makes sense after it."""
    if isinstance(error, CommitConflictError):
        return bool(error.retryable)
    return is_gone(error) or re.search("Too many concurrent writ|Retryable commit conflict", str(error)) is not None
