"""Events of large lakes: which leaders of drives are alike is looked for between shards of them, by many workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from kernels.neighbors import Pairs
from kernels.spans import Ints
from miner.events import Occasion, across_drives, along_drives, distances_of, near_pairs
from miner.footage import Footage
from miner.scratch import Scratch
from miner.stage import Part

_COLUMNS = ("scene", "start_ns", "end_ns", "place", "metres", "continues")


@dataclass(frozen=True)
class Work:
    """The leaders of drives in files, `shard` to each of `shards`. Small and picklable."""

    scratch: Scratch
    near: Mapping[str, float]
    shard: int
    shards: int

    @classmethod
    def begun(cls, scratch: Scratch, footage: Footage, near: Mapping[str, float], shard: int) -> Work:
        """Lay out the clips, and the leaders within drives."""
        leader = along_drives(footage, near, Occasion())
        heads = footage.take(np.flatnonzero(leader == np.arange(len(leader))))
        scenes = footage.scene_ids.take(pa.array(footage.scene))
        names = {"ids": np.array(footage.clip_ids.to_pylist()), "scenes": np.array(scenes.to_pylist())}
        scratch.write("clips", leader=leader, **names)
        scratch.write("heads", **{name: getattr(heads, name) for name in _COLUMNS})
        starts = range(0, len(heads), shard)
        for number, first in enumerate(starts):
            own = {f"vectors_{at}": each[first : first + shard] for at, each in enumerate(heads.vectors.values())}
            scratch.write(f"shard-{number}", **own)
        return cls(scratch, {name: near[name] for name in heads.vectors}, shard, len(starts))

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Each shard with itself and with each later one."""
        return [(one, other) for one in range(self.shards) for other in range(one, self.shards)]

    @property
    def parts(self) -> Sequence[Part]:
        """What there is to do."""
        return [partial(self.pair, *each) for each in self.pairs]

    def pair(self, one: int, other: int) -> None:
        """Look for leaders of one shard that are near those of another, or one another."""
        read = [self.scratch.read(f"shard-{number}") for number in sorted({one, other})]
        vectors = {name: np.concatenate([each[f"vectors_{at}"] for each in read]) for at, name in enumerate(self.near)}
        found = near_pairs(vectors, self.near, None if one == other else self.shard)
        distance = distances_of(vectors, self.near, found)
        left, right = found.left + one * self.shard, found.right + (other - (one != other)) * self.shard
        self.scratch.write(f"pairs-{one}-{other}", left=left, right=right, scores=found.scores, distance=distance)

    def merged(self) -> tuple[pa.Array, pa.Array, Ints]:
        """The clips, their scenes, and the row of each one's leader."""
        clips, heads = self.scratch.read("clips"), self.scratch.read("heads")
        read = [self.scratch.read(f"pairs-{one}-{other}") for one, other in self.pairs]
        left, right, scores, distance = (
            np.concatenate([part[name] for part in read]) for name in ("left", "right", "scores", "distance")
        )
        ids, scenes = (pa.array(clips[name].tolist(), pa.string()) for name in ("ids", "scenes"))
        rows = ids.take(pa.array(np.flatnonzero(clips["leader"] == np.arange(len(ids)))))
        known = Footage(rows, pa.array([], pa.string()), vectors={}, **heads)
        return ids, scenes, across_drives(clips["leader"], known, Pairs(left, right, scores), distance, Occasion())
