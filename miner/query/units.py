"""What a query ranks, clips or frames, across the corpora of several sensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.spans import Ints
from miner.corpus import Corpus


@dataclass(frozen=True)
class Units:
    """The n clips or frames that are ranked.

    `ids` (n,) are theirs, `rank` (n,) orders them by id, `of_pair` gives for each sensor the unit of every pair of its
    corpus, -1 for a pair of none.
    """

    ids: NDArray[Any]
    rank: Ints
    of_pair: Mapping[str, Ints]

    def __len__(self) -> int:
        return len(self.ids)


def clip_units(corpora: Mapping[str, Corpus]) -> Units:
    """The clips of the first corpus; those of the others are found by id."""
    ids = next(iter(corpora.values())).clips["clip_id"]
    of_pair = {}
    for sensor, corpus in corpora.items():
        place = pc.fill_null(pc.index_in(corpus.clips["clip_id"], ids.combine_chunks()), -1)
        of_pair[sensor] = np.append(place.to_numpy().astype(np.int64), -1)[corpus.clip]
    return _ranked(ids.to_pylist(), of_pair)


def frame_units(sensor: str, corpus: Corpus) -> Units:
    """The readings of one corpus."""
    readings = corpus.index.rows["sample_data_id"].combine_chunks().dictionary_encode()
    return _ranked(readings.dictionary.to_pylist(), {sensor: readings.indices.to_numpy().astype(np.int64)[corpus.row]})


def _ranked(ids: list[str], of_pair: dict[str, Ints]) -> Units:
    names = np.array(ids, object)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(names, kind="stable")] = np.arange(len(names))
    return Units(names, rank, of_pair)
