"""Clips that a person took from what was found, and where they come from: what a dataset version is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa

if TYPE_CHECKING:
    from miner.lake import Lake
    from miner.training_sets import Dataset

SCHEMA = pa.schema([("clip_id", pa.string()), ("scene_id", pa.string()), ("score", pa.float32())])


@dataclass(frozen=True)
class Accepted(Sequence[str]):
    """Ids of clips in the order they were found, each once; `scores` and `scene_ids` are theirs.

    `query` is what was asked of `encoder` at `table_version` of its vectors in `lake`: kept with whatever is made of
    the clips. `opened` is that lake.
    """

    lake: str
    clip_ids: tuple[str, ...]
    scene_ids: tuple[str, ...]
    scores: tuple[float, ...]
    query: Mapping[str, Any]
    encoder: str
    table_version: int
    opened: Lake | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.clip_ids)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...

    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        return self.clip_ids[place]

    def __repr__(self) -> str:
        clips = "1 clip" if len(self) == 1 else f"{len(self):,} clips"
        return f"{clips} accepted ({self.encoder}, table version {self.table_version})"

    def diversify(self, n: int, strategy: str = "k_center", seed: int = 0) -> Accepted:
        """At most `n` of them, the most varied. Raises UnknownName for no such strategy, NotFound without vectors."""
        from miner.selection.accept import diversified

        return diversified(self, n, strategy, seed)

    def freeze(self, name: str, note: str | None = None) -> Dataset:
        """Keep them as the next version of a dataset; the same again is the same version."""
        from miner.selection.accept import frozen

        return frozen(self, name, note)

    def to_arrow(self) -> pa.Table:
        """One row a clip, with the columns of SCHEMA."""
        columns = [self.clip_ids, self.scene_ids, self.scores]
        arrays = [pa.array(values, each.type) for values, each in zip(columns, SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)

    def provenance(self) -> dict[str, Any]:
        """Where the clips come from, as JSON values."""
        return {"query": dict(self.query), "encoder": self.encoder, "table_version": self.table_version}
