"""How many annotated objects of a concept each clip has."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Ints
from miner.concepts.vocabulary import Definition
from miner.errors import NotFound
from miner.sound import Sound

_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip


def compared(values: Ints, comparison: str, number: int) -> NDArray[np.bool_]:
    """Whether each value compares as asked."""
    holds: NDArray[np.bool_] = _SIGNS[comparison](values, number)
    return holds


def object_counts(sound: Sound, definition: Definition, clip_ids: pa.ChunkedArray) -> Ints:
    """The objects of a concept in each clip (n,); 0 in a clip without facts.

    Raises NotFound where the lake has no facts, or no annotation goes by one of the concept's labels.
    """
    if not sound.has("clip_facts"):
        raise NotFound("counts come from clip_facts, which the lake does not have", "Make them with: miner index LAKE")
    facts = sound.scan("clip_facts", ["clip_id", "categories"])
    row, names, counts = categories(facts)
    known = names.unique().to_pylist()
    wanted = [name for name in known if is_labelled(definition, name)]
    if not wanted:
        hint = f"frames({definition.name}) counts camera frames that show one. Categories of a lake: miner ls LAKE"
        raise NotFound(f"no annotation of the lake is of {definition.name!r}", hint)
    chosen = pc.is_in(names, pa.array(wanted)).to_numpy(zero_copy_only=False).astype(np.bool_)
    total = np.bincount(row[chosen], counts[chosen], minlength=len(facts) + 1).astype(np.int64)
    place = pc.fill_null(pc.index_in(clip_ids, facts["clip_id"].combine_chunks()), len(facts))
    of_clips: Ints = total[place.to_numpy()]
    return of_clips


def categories(facts: pa.Table) -> tuple[Ints, pa.Array, Ints]:
    """The categories of rows of `clip_facts`, flat: the row, the name and the count of each entry."""
    lists = facts["categories"].combine_chunks()
    entries = pc.list_flatten(lists)
    rows: Ints = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
    return rows, entries.field("name"), entries.field("count").to_numpy().astype(np.int64)


def is_labelled(definition: Definition, category: str) -> bool:
    """Whether a category is one that a concept goes by."""
    return any(fnmatchcase(category.lower(), label) for label in definition.labels)
