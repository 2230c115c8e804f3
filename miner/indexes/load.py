"""Which index of a table answers: the one that is built, if it holds, else the exact one."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from miner.errors import Damaged
from miner.indexes import Index
from miner.indexes.coded import FaissIndex
from miner.indexes.flat import FlatIndex
from miner.indexes.lance import LanceIndex
from miner.sound import Sound
from miner.store import Store
from miner.versions import manifests

_TRIES = 3


def load_index(store: Store, table: str, sound: Sound | None = None, version: int | None = None) -> Index:
    """The index of `embeddings/<slug>` for the table as it is now or was at `version`, without rows of damaged files.

    Files of an index that are not what was written are not asked: then all vectors are compared, which `notes` tell.
    Raises NotFound for no such table, Damaged for one that cannot be read.
    """
    sound, refused = sound or Sound(store), ""
    for _ in range(_TRIES):
        row = built_row(store, table)
        if row is None:
            break
        try:
            kind = FaissIndex if row["kind"].startswith("faiss:") else LanceIndex
            return kind.load(store, row, sound, version)
        except (Damaged, FileNotFoundError) as error:
            refused = error.message if isinstance(error, Damaged) else str(error)
            if built_row(store, table) == row:  # else it was built anew meanwhile
                break
    flat = FlatIndex.load(store, table, version, sound)
    if not refused:
        return flat
    told = f"the index of {table} is not asked, all its vectors are compared: {refused}"
    return replace(flat, notes=(*flat.notes, f"{told}; build it anew with: miner index {shlex.quote(store.uri)}"))


def built_row(store: Store, table: str) -> dict[str, Any] | None:
    """The row of `indexes` that names the index of a table that is built; None where there is none."""
    return next((row for row in manifests(store, table) if row["kind"] != FlatIndex.kind), None)
