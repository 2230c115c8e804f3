"""Groups of commits: nothing is left out, and what commits take bounds how many there are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from miner.commit import Committer
from miner.lineage import Run
from miner.schema import CLIPS
from miner.store import Store
from miner.usage import Usage
from miner.worker import Receipt
from tests.jobs.stages import OneClipStage

RECEIPTS, GROUP = 320, 32


class SlowStore(Store):
    """As a store is whose lists of fragments have grown long."""

    def commit(self, table: str, fragments: Iterable[str], properties: Mapping[str, str], since: int) -> int:
        time.sleep(0.3)
        return super().commit(table, fragments, properties, since)


def commits(store: Store) -> int:
    """How many versions it takes to take in RECEIPTS blocks of one file."""
    store.ensure("clips", CLIPS)
    row = {"clip_id": "a" * 32, "scene_id": "b" * 32, "start_ns": 0, "end_ns": 1, "recipe": "one"}
    fragments = {"clips": store.write("clips", pa.Table.from_pylist([row], schema=CLIPS))}
    before = store.version("clips")
    committer = Committer(store, OneClipStage(), Run("test"), lambda: None)
    for number in range(RECEIPTS):
        committer.add(Receipt((f"unit {number}",), fragments, {"clips": 1}))
    committer.flush()
    assert store.count("clips") == committer.units == committer.rows["clips"] == RECEIPTS
    return store.version("clips") - before


def test_groups_grow_with_what_a_commit_takes(tmp_path: Path) -> None:
    assert commits(SlowStore.create(str(tmp_path / "slow"))) < RECEIPTS / GROUP / 2


def test_no_group_waits_for_ever_however_long_a_commit_takes(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("clips", CLIPS)
    committer = Committer(store, OneClipStage(), Run("test"), lambda: None)
    committer._last_s = 1e6
    for age_s, units in ((290.0, 0), (310.0, 2)):
        committer._opened = time.monotonic() - age_s
        committer.add(Receipt(("unit",)))
        assert committer.units == units


def test_a_group_has_so_many_files_at_least(tmp_path: Path) -> None:
    assert commits(Store.create(str(tmp_path / "lake"))) <= RECEIPTS / GROUP


def test_workers_that_give_no_more_blocks_are_not_there(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "lake"))
    store.ensure("clips", CLIPS)
    committer, began_s = Committer(store, OneClipStage(), Run("test"), lambda: None), time.monotonic()
    committer.account(Receipt(("unit",), worker="one", preparer="other"))
    committer.account(Receipt(("unit",)))  # of a worker that died
    assert committer.present(began_s) == 2
    assert committer.present(time.monotonic() + 61) == 0
    committer.account(Receipt(("unit",), usage=Usage(apply_s=100.0), worker="one"))
    assert committer.present(began_s + 190) == 2  # a block takes so long
    assert committer.present(time.monotonic() + 201) == 0
