"""Events found between shards are those found in one piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.event_shards import Work
from miner.events import collapse
from miner.scratch import Scratch
from tests.footages import footage, mixture


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(6, 40), st.booleans())
def test_as_in_one_piece(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, shard: int, timed: bool
) -> None:
    rng = np.random.default_rng(seed)
    camera, lidar = mixture(count, 4, rng, dim=8, spread=0.4), mixture(count, 3, rng, dim=8, spread=0.4)
    camera[rng.random(count) < 0.2] = 0
    lidar[rng.random(count) < 0.3] = 0
    scene, starts = rng.integers(max(count // 3, 1), size=count), rng.uniform(0, 300, count)
    made = footage(camera, scene, starts, since_ns=10**18 if timed else 0, lidar=lidar)
    near = {"camera": 0.2, "lidar": 0.3}
    expected = collapse(made, near)
    work = Work.begun(Scratch(str(tmp_path_factory.mktemp("work"))), made, near, shard)
    for place in rng.permutation(len(work.parts)):
        work.parts[place]()
    ids, scenes, leader = work.merged()
    assert ids.equals(made.clip_ids) and scenes.to_pylist() == made.scene_ids.take(made.scene).to_pylist()
    assert (leader == expected).all()
