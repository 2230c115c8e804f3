"""Files of divided reductions: what is written is read, of this run alone, and nothing is left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from miner.errors import Conflict
from miner.scratch import FOLDER, Scratch, sweep
from miner.store import Store
from tests.s3 import Cloud, cloud, s3_server  # noqa: F401  fixtures


def test_arrays_come_back_and_go(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    old = Scratch.fresh(store, "scores")
    arrays = {"a": np.arange(6).reshape(2, 3), "ids": np.array(["x", "yy"]), "none": np.empty((0, 4), np.float32)}
    for _ in range(2):  # a part that is done again
        old.write("part-0", **arrays)
    read = old.read("part-0")
    assert {name: each.tolist() for name, each in read.items()} == {name: x.tolist() for name, x in arrays.items()}
    assert read["none"].shape == (0, 4) and read["none"].dtype == np.float32
    other = Scratch.fresh(store, "duplicates")
    other.write("x", a=np.ones(1))
    Scratch.fresh(store, "scores")
    with pytest.raises(Conflict, match="another run took over"):
        old.read("part-0")
    assert other.read("x")["a"].tolist() == [1.0], "of another table, which has its own lease"
    sweep(store, "duplicates")
    sweep(store, "duplicates")
    assert not [path for path in (tmp_path / "lake" / FOLDER).rglob("*") if path.is_file()]
    assert store.tables() == ["lineage"]


def test_who_reads_meanwhile_finds_what_is_whole(tmp_path: Path) -> None:
    made = Scratch.fresh(Store.create(str(tmp_path / "lake")), "scores")
    made.write("part-0", a=np.zeros(1_000_000))
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(lambda: [made.write("part-0", a=np.zeros(1_000_000)) for _ in range(6)])
        while not again.done():
            assert len(made.read("part-0")["a"]) == 1_000_000
        again.result()
    assert [path.name for path in (tmp_path / "lake" / FOLDER).rglob("*") if path.is_file()] == ["part-0.npz"]


def test_in_a_bucket(cloud: Cloud) -> None:  # noqa: F811
    store = Store.create(f"s3://{cloud.bucket.name}/lake")
    made = Scratch.fresh(store, "scores")
    made.write("part-0", a=np.arange(3))
    assert made.read("part-0")["a"].tolist() == [0, 1, 2]
    sweep(store, "scores")
    with pytest.raises(Conflict, match="part-0"):
        made.read("part-0")
    sweep(store, "scores")
