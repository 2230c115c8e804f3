"""Which clips of each type are taken, in which order, with what each adds."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.plugins import UnknownPlugin, plugin_names
from kernels.candidates import Candidates
from miner.errors import UnknownName
from miner.selection.program import Floats, Plan
from miner.selection.vectors import Vectors
from miner.strategies import Strategy, load_strategy

Ints = NDArray[np.int64]


class Picked(NamedTuple):
    """Rows taken (b,), in order, and the gain of each (b,). `covers`: that of `kernels.candidates.Picked` for each type
    of which some are taken and some not, where the strategy tells."""

    rows: Ints
    gains: NDArray[np.float64]
    covers: Sequence[tuple[float, float]] = ()


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


def load(name: str) -> Strategy:
    """The strategy of a name. Raises UnknownName listing the known ones."""
    try:
        return load_strategy(name)
    except UnknownPlugin as error:
        raise UnknownName.of("strategy", name, plugin_names("miner.strategies")) from error


def diverse(
    strategy: Strategy, plan: Plan, vectors: Vectors, start: Vectors, weights: Floats | None, seed: int
) -> Picked:
    """What `strategy` takes of each type's `vectors` (n, d), type by type: far from those taken before and `start`.

    Types of which all are taken come first, as nothing is to choose there; then the smaller ones.
    """
    sizes = np.bincount(plan.type_of, minlength=len(plan.take))
    order = np.lexsort((np.arange(len(sizes)), sizes, sizes != plan.take))
    known, rows, gains = [start], [np.empty(0, np.int64)], [np.empty(0)]
    covers: list[tuple[float, float]] = []
    members = np.argsort(plan.type_of, kind="stable")
    ends = np.cumsum(sizes)
    for each in order[plan.take[order] > 0]:
        own = members[ends[each] - sizes[each] : ends[each]]
        before = np.concatenate(known)
        asked = Candidates(
            mask=np.arange(len(own) + len(before)) < len(own),
            weights=None if weights is None else np.concatenate([weights[own], np.zeros(len(before))]),
            preselected=np.arange(len(own), len(own) + len(before)),
        )
        found = strategy.select(asked, np.concatenate([vectors[own], before]), int(plan.take[each]), seed)
        if found.cover is not None and len(found.rows) < len(own):
            covers.append(found.cover)
        rows.append(own[found.rows])
        gains.append(found.gains.astype(np.float64))
        known.append(vectors[own[found.rows]])
    return Picked(np.concatenate(rows), np.concatenate(gains), covers)
