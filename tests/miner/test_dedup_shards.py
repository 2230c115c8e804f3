"""Duplicates over shards are those found in one piece: kept set and who stands for whom, whatever the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.thinning import Edges, Space, thin
from miner.dedup_shards import Asked, Work
from miner.errors import Conflict
from miner.scratch import Scratch
from tests.footages import mixture


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.floats(0, 0.6), st.integers(8, 40))
def test_as_in_one_piece(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, eps: float, shard: int
) -> None:
    rng = np.random.default_rng(seed)
    camera, lidar = mixture(count, 3, rng, dim=6, spread=0.7), mixture(count, 2, rng, dim=4, spread=0.7)
    camera[rng.random(count) < 0.2] = 0
    lidar[rng.random(count) < 0.3] = 0
    spaces = [Space(camera, 1 - eps), Space(lidar, 1 - eps)]
    order = rng.permutation(count)
    same = [rng.integers(count, size=(2, count // 8)) for _ in range(2)]
    exact, near = (Edges(*ends[:, ends[0] != ends[1]]) for ends in same)
    whole = Edges(*(np.concatenate([exact[side], near[side]]) for side in range(2)))
    ids = np.array([f"clip {row}" for row in range(count)])
    work = Work.begun(
        Scratch(str(tmp_path_factory.mktemp("work"))), Asked(ids, ids, spaces, (exact, near), order), shard
    )
    assert work.shards == -(-count // shard)
    while work.settled < work.shards:
        work, parts = work.next()
        for place in rng.permutation(len(parts)):
            parts[place]()
            parts[place]()  # a worker died, it is done again
    asked, kept = work.merged()
    expected = thin(spaces, order, whole)
    assert (kept.kept == expected.kept).all() and (kept.keeper == expected.keeper).all()
    for mine, theirs in zip(asked.spaces, spaces, strict=True):
        assert mine.min_score == theirs.min_score and (mine.vectors == theirs.vectors).all()


def test_files_of_another_run_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    vectors = mixture(10, 2, np.random.default_rng(0))
    none = Edges(np.empty(0, np.int64), np.empty(0, np.int64))
    asked = Asked(*[np.arange(10).astype(str)] * 2, [Space(vectors, 0.9)], (none, none), np.arange(10))
    work, parts = Work.begun(Scratch(str(tmp_path / "a")), asked, 4).next()
    with pytest.raises(Conflict, match="took over"):
        work.next()  # its parts were not done
    assert len(parts) == 2
