"""Duplicates of large lakes, shard by shard: the greedy set of `kernels.thinning`, row for row, by many workers.

Clips lie in files in the order in which they are taken, so many to a shard. In a round one shard is settled: its clips
that no earlier one stands for yet. Then every later shard, anywhere, looks for what those that were kept stand for. So
nothing is compared that one worker alone would not compare, and a part needs the memory of two shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.independent_set import Kept
from kernels.spans import Ints
from kernels.thinning import Edges, Neighbours, Space, covered, settle
from miner.scratch import Scratch
from miner.stage import Part


class Asked(NamedTuple):
    """Clips (n,) with the scene of each; duplicates are near in the `spaces`, or `same`: of equal bytes, or pictures.

    Of duplicates the first in `order` (n,) is kept.
    """

    ids: NDArray[Any]
    scenes: NDArray[Any]
    spaces: Sequence[Space]
    same: tuple[Edges, Edges]
    order: Ints


@dataclass(frozen=True)
class Work:
    """What is asked, in files: `count` clips, `shards` of them, of which `settled` are done. Small and picklable."""

    scratch: Scratch
    min_scores: tuple[float, ...]
    count: int
    shards: int
    settled: int = 0

    @classmethod
    def begun(cls, scratch: Scratch, asked: Asked, shard: int) -> Work:
        """Lay out what is asked."""
        exact, near = (np.stack(edges) for edges in asked.same)
        scratch.write("asked", ids=asked.ids, scenes=asked.scenes, order=asked.order, exact=exact, near=near)
        starts = range(0, len(asked.order), shard)
        for number, first in enumerate(starts):
            rows = asked.order[first : first + shard]
            vectors = {f"vectors_{at}": space.vectors[rows] for at, space in enumerate(asked.spaces)}
            scratch.write(f"shard-{number}", rows=rows, **vectors)
        return cls(scratch, tuple(space.min_score for space in asked.spaces), len(asked.order), len(starts))

    def next(self) -> tuple[Work, Sequence[Part]]:
        """Settle the next shard; what the later ones have to look for."""
        number = self.settled
        rows, vectors = self._shard(number)
        keeper, kept = self._covered(number, len(rows)), self._kept()
        places = settle(self._spaces(vectors), (rows, keeper, kept), self._neighbours, np.arange(len(rows)))
        self.scratch.write(f"settled-{number}", keeper=keeper)
        self.scratch.write(f"taken-{number}", kept=np.packbits(kept))
        own = {f"vectors_{at}": each[places] for at, each in enumerate(vectors)}
        self.scratch.write(f"kept-{number}", rows=rows[places], **own)
        later = [partial(self.cover, other) for other in range(number + 1, self.shards)]
        return replace(self, settled=number + 1), later

    def cover(self, number: int) -> None:
        """Look in a later shard for clips that those kept in this round stand for."""
        (rows, vectors), kept = self._shard(number), self.scratch.read(f"kept-{self.settled}")
        keeper = self._covered(number, len(rows))
        both = [np.concatenate([each, kept[f"vectors_{at}"]]) for at, each in enumerate(vectors)]
        left = np.flatnonzero(keeper < 0)
        place = covered(self._spaces(both), left, len(rows) + np.arange(len(kept["rows"])))
        keeper[left[place >= 0]] = kept["rows"][place[place >= 0]]
        self.scratch.write(f"covered-{self.settled}-{number}", keeper=keeper)

    def merged(self) -> tuple[Asked, Kept]:
        """What was asked, and the answer."""
        found = self.scratch.read("asked")
        parts = [self._shard(number)[1] for number in range(self.shards)]
        place = np.argsort(found["order"], kind="stable")
        vectors = [np.concatenate([part[at] for part in parts])[place] for at in range(len(self.min_scores))]
        same = Edges(*found["exact"]), Edges(*found["near"])
        asked = Asked(found["ids"], found["scenes"], self._spaces(vectors), same, found["order"])
        settled = [self.scratch.read(f"settled-{number}") for number in range(self.shards)]
        keeper = np.concatenate([part["keeper"] for part in settled])[place]
        return asked, Kept(keeper == np.arange(self.count), keeper)

    def _shard(self, number: int) -> tuple[Ints, list[NDArray[np.float32]]]:
        read = self.scratch.read(f"shard-{number}")
        return read["rows"], [read[f"vectors_{at}"] for at in range(len(self.min_scores))]

    def _spaces(self, vectors: Sequence[NDArray[np.float32]]) -> list[Space]:
        return [Space(*each) for each in zip(vectors, self.min_scores, strict=True)]

    def _covered(self, number: int, count: int) -> Ints:
        """By which clips of earlier rounds those of a shard are stood for; -1 for by none so far."""
        if self.settled == 0:
            return np.full(count, -1, np.int64)
        return self.scratch.read(f"covered-{self.settled - 1}-{number}")["keeper"]

    def _kept(self) -> NDArray[np.bool_]:
        """Which of all clips are kept so far."""
        if self.settled == 0:
            return np.zeros(self.count, np.bool_)
        packed = self.scratch.read(f"taken-{self.settled - 1}")["kept"]
        return np.unpackbits(packed, count=self.count).astype(np.bool_)

    @property
    def _neighbours(self) -> Neighbours:
        read = self.scratch.read("asked")
        return Neighbours.of(Edges(*np.concatenate([read["exact"], read["near"]], axis=1)), self.count)
