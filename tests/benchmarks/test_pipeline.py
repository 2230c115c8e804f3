"""What the pipeline is compared with does the same work."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from benchmarks.made_frames import lake_of, write_frames
from benchmarks.pipeline_rivals import daft_pipeline, embedded, in_threads
from miner.embed import EmbedStage, _readings
from miner.executor import LocalExecutor
from miner.lake import Lake


def test_rivals_make_the_vectors_of_the_lake(tmp_path: Path) -> None:
    files = write_frames(tmp_path / "frames", 34)
    assert 250_000 < files[0].stat().st_size < 400_000 and files[0].read_bytes() != files[1].read_bytes()
    lake = Lake(lake_of(str(tmp_path / "lake"), files[30:]), LocalExecutor(threads=1))
    stage = EmbedStage.of(lake.store, ["hashing"], "whole")
    readings = _readings(lake.store, stage.units(lake.store, "true", pa.array([], pa.string())))
    lake.embed(["hashing"], "whole")
    rows = lake.store.scan("embeddings/hashing", ["sample_data_id", "vector"]).sort_by("sample_data_id")
    ordered = readings.sort_by("sample_data_id")
    assert embedded(stage, ordered).to_pylist() == rows["vector"].to_pylist()
    assert in_threads(stage, readings, 2) == 4
    daft = daft_pipeline(stage, readings)
    assert daft is None or daft() == 4
