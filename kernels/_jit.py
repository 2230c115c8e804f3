"""The one Numba decorator of the project: compiled once, cached on disk, without the GIL, with NumPy's error model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile `function` in nopython mode. No fast-math: results must not depend on the compiler's mood."""
    compiled: F = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled
