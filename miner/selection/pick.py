"""Which clips of each type are taken, in which order, with what each adds."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miner.selection.program import Plan

Ints = NDArray[np.int64]


class Picked(NamedTuple):
    """Rows taken (b,), in order, and the gain of each (b,)."""

    rows: Ints
    gains: NDArray[np.float64]


def lots(clip_ids: pa.ChunkedArray, seed: int) -> Ints:
    """A number per clip that looks random and depends on seed and clip alone: decides between equals."""
    head = seed.to_bytes(8, "big")
    drawn = (blake2b(head + name.encode(), digest_size=8).digest() for name in clip_ids.to_pylist())
    return np.frombuffer(b"".join(drawn), ">u8").astype(np.uint64).view(np.int64)


def by_value(plan: Plan, value: NDArray[np.float64], lot: Ints) -> Picked:
    """The best of each type by value (n,), then by lot; all of them in that order. The gain is the value."""
    order = np.lexsort((lot, -value, plan.type_of))
    starts = np.searchsorted(plan.type_of[order], np.arange(len(plan.take)))
    place = np.arange(len(order)) - starts[plan.type_of[order]]
    taken = order[place < plan.take[plan.type_of[order]]]
    rows = taken[np.lexsort((lot[taken], -value[taken]))]
    return Picked(rows, value[rows])
