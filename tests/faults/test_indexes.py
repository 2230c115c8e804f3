"""A build of a vector index that is killed: what was there answers, and the same command again ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from miner.indexes.files import FOLDER
from miner.indexes.flat import FlatIndex
from miner.indexes.load import load_index
from miner.schema import embeddings_schema
from miner.store import Store
from tests.miner.test_indexes import DIM, TABLE, exhaustive, rows_of, unit

pytestmark = pytest.mark.fault
OLD, NEW = "faiss:IVF-Flat", "faiss:IVF-SQ8"


def index(lake: Path, kind: str, window: str = "") -> int:
    """`miner index` as a process of its own, killed at a failpoint where one is given; gives its exit code."""
    command = [sys.executable, "-m", "jobs.cli", "index", str(lake), "--kind", kind, "--executor", "local"]
    environment = {**os.environ, "MINER_FAILPOINT": f"{window}=kill"} if window else {**os.environ}
    return subprocess.run(command, env=environment, capture_output=True, timeout=240).returncode


@pytest.mark.parametrize("window", ["index:part", pytest.param("index:sealed", marks=pytest.mark.slow)])
def test_a_build_killed_there_leaves_the_old_index(window: str, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    store.ensure(TABLE, embeddings_schema("hashing", "1", DIM))
    store.append(TABLE, rows_of(unit(300)))
    home = Path(store.uri, FOLDER, TABLE)
    assert index(Path(store.uri), OLD) == 0
    [old] = home.iterdir()
    assert index(Path(store.uri), NEW, window) == -signal.SIGKILL
    left = load_index(store, TABLE)
    assert left.kind == OLD and not left.notes and len([*home.iterdir()]) == 2
    expected = FlatIndex.load(store, TABLE).search(unit(2, 5), 9)
    np.testing.assert_array_equal(exhaustive(left, unit(2, 5), 9)[0], expected[0])
    assert index(Path(store.uri), NEW) == 0
    [new] = home.iterdir()
    assert new != old and load_index(store, TABLE).kind == NEW, "no litter"
