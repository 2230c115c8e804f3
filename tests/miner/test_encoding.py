"""Prepared readings to rows of vectors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from embeddings.encoder import load_encoder
from miner.encoding import vectors_of
from miner.schema import REGION


def units(cells: list[bytes], views: int, chunks: int) -> pa.Table:
    count = len(cells)
    columns = {
        "sample_data_id": [f"{number:032x}" for number in range(count)],
        "scene_id": ["s"] * count,
        "channel": ["CAM"] * count,
        "timestamp_ns": list(range(count)),
        "regions": pa.array([[None] * views] * count, pa.list_(REGION)),
        "input:hashing": pa.array(cells, pa.large_binary()),
    }
    table = pa.table(columns)
    size = -(-count // chunks)
    return pa.concat_tables([table.slice(at, size) for at in range(0, count, size)])


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("chunks", [1, 2])
def test_vectors_are_those_of_the_frames_in_order(views: int, chunks: int) -> None:
    encoder = load_encoder("hashing")
    frames = np.random.default_rng(0).integers(0, 256, (20, views, 32, 32, 3), dtype=np.uint8)
    table = units([frame.tobytes() for frame in frames], views, chunks)
    for part, own in ((table, frames), (table.slice(7, 9), frames[7:16])):
        rows = vectors_of(part, encoder)
        expected = encoder.encode(own.reshape(-1, 32, 32, 3))
        np.testing.assert_array_equal(np.stack(rows["vector"].to_numpy()), expected)
        assert rows["part"].to_pylist() == [*range(views)] * len(own)
        assert rows["sample_data_id"].to_pylist() == [
            each for each in part["sample_data_id"].to_pylist() for _ in range(views)
        ]
