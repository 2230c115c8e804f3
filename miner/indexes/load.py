"""Which index of a table answers: the best that is built and holds, else the exact one."""

from __future__ import annotations

from miner.indexes import Index
from miner.indexes.flat import FlatIndex
from miner.sound import Sound
from miner.store import Store


def load_index(store: Store, table: str, sound: Sound | None = None) -> Index:
    """The index of `embeddings/<slug>` for the table as it is now, without the rows of damaged files.

    Raises NotFound for no such table, Damaged for one that cannot be read.
    """
    return FlatIndex.load(store, table, sound=sound)
