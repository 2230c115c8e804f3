"""Mine driving data: `miner.open(lake).search("a cyclist at night")`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import embeddings  # noqa: F401  makes sure that `kernels` resolves to our folder

if TYPE_CHECKING:
    from miner.errors import BadInput, Conflict, MinerError, NotFound, SchemaError, UnknownName, UsageError
    from miner.executor import Executor, LocalExecutor
    from miner.hits import Hit, Hits
    from miner.lake import Lake, create, open
    from miner.reporting import Report

__version__ = "2026.11.0"

_HOMES = {
    "miner.errors": ("BadInput", "Conflict", "MinerError", "NotFound", "SchemaError", "UnknownName", "UsageError"),
    "miner.executor": ("Executor", "LocalExecutor"),
    "miner.reporting": ("Report",),
    "miner.hits": ("Hit", "Hits"),
    "miner.lake": ("Lake", "create", "open"),
}

__all__ = [
    "BadInput",
    "Conflict",
    "Executor",
    "Hit",
    "Hits",
    "Lake",
    "LocalExecutor",
    "MinerError",
    "NotFound",
    "Report",
    "SchemaError",
    "UnknownName",
    "UsageError",
    "create",
    "open",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when first used: `miner --help` needs no Lance, and nothing here needs torch or Ray."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'miner' has no attribute {name!r}")
