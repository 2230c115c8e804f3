"""What a query ranks, clips or frames, across the corpora of several sensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from kernels.spans import Ints
from miner.corpus import Corpus


@dataclass(frozen=True)
class Units:
    """The n clips or frames that are ranked.

    `rank` (n,) orders them by id, `of_pair` gives for each sensor the unit of every pair of its corpus, -1 for none.
    """

    rank: Ints
    of_pair: Mapping[str, Ints]

    def __len__(self) -> int:
        return len(self.rank)


def clip_units(corpora: Mapping[str, Corpus]) -> Units:
    """The clips of the first corpus; those of the others are found by id."""
    first, *_ = corpora.values()
    of_pair = {}
    for sensor, corpus in corpora.items():
        if corpus.clips.equals(first.clips):
            of_pair[sensor] = corpus.clip
            continue
        place = pc.index_in(corpus.clips["clip_id"], first.clips["clip_id"].combine_chunks())
        number = pc.fill_null(place, -1).to_numpy().astype(np.int64)
        of_pair[sensor] = np.append(number, -1)[corpus.clip]
    return Units(first.clip_ids.rank, of_pair)


def frame_units(sensor: str, corpus: Corpus) -> Units:
    """The readings of one corpus."""
    number = corpus.readings.rank
    return Units(np.arange(int(number.max(initial=-1)) + 1), {sensor: number[corpus.row]})
