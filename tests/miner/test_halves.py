"""A block's work in two halves gives what one worker gives, whatever is in the block."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from miner.embed import EmbedStage
from miner.executor import LocalExecutor
from miner.halves import ApplyWorker, Prepared, PrepareWorker
from miner.lake import Lake, create
from miner.plan import make_plan, pending
from miner.stage import Stage
from miner.store import Store
from miner.usage import Usage
from miner.worker import BlockWorker, Receipt
from tests.jobs.stages import OneClipStage, write_scenes
from tests.recordings import write_drives


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(str(tmp_path / "lake"))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    source = write_drives(tmp_path / "source", scenes=2, frames=6)
    (source / "drive_01" / "frame_000003.jpg").write_bytes(b"<html>not a picture</html>")
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    lake.ingest(source)
    return lake


def block_of(stage: Stage, store: Store) -> pa.Table:
    store.ensure("quarantine")
    for output in stage.outputs:
        store.ensure(output.table, output.schema)
    return next(iter(pending(store, make_plan(store, stage))))


def in_halves(stage: Stage, store: Store, block: pa.Table, unit_timeout_s: float = 10.0) -> Receipt:
    prepared = PrepareWorker(stage, store, unit_timeout_s)(block)
    return ApplyWorker(stage, store, unit_timeout_s)(Prepared.from_row(prepared.to_row()))


def told(receipt: Receipt) -> Receipt:
    """What does not depend on when and where it was done."""
    return replace(receipt, fragments={}, usage=Usage(), worker="", preparer="", trace="")


@pytest.mark.parametrize("encoder", ["hashing", pytest.param("lite", marks=pytest.mark.slow)])
def test_vectors_are_those_of_one_worker(lake: Lake, encoder: str) -> None:
    stage = EmbedStage.of(lake.store, [encoder])
    block = block_of(stage, lake.store)
    receipts = [in_halves(stage, lake.store, block), BlockWorker(stage, lake.store)(block)]
    assert told(receipts[0]) == told(receipts[1])
    assert [each.reason for each in receipts[0].failures] == ["not-an-image"]
    found = []
    for receipt in receipts:
        table = f"embeddings/{encoder}"
        lake.store.commit(table, receipt.fragments[table], {}, lake.store.version(table))
        found.append(lake.store.scan(table).slice(sum(map(len, found))))
    assert found[0].equals(found[1])


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("fault", ["", "fail", "raise", "bad-input", "hang", "hang-in-c"])
def test_bad_units_are_told_as_by_one_worker(store: Store, fault: str, early: bool) -> None:
    ids = write_scenes(store, 6)
    stage = OneClipStage((ids[0], ids[3]), fault, early=early)
    block = block_of(stage, store)
    limit_s = 0.1 if fault.startswith("hang") else 10.0
    one, two = BlockWorker(stage, store, limit_s)(block), in_halves(stage, store, block, limit_s)
    assert two.units == tuple(ids) and told(one) == told(two)
    assert (two.usage.blocks, two.usage.units) == (1, 6)
    assert len(two.failures) == (2 if fault in ("fail", "hang", "hang-in-c") else 0)


def test_a_block_without_a_good_unit(store: Store) -> None:
    ids = write_scenes(store, 2)
    for fault in ("fail", "hang-in-c"):
        stage = OneClipStage(tuple(ids), fault, early=True)
        receipt = in_halves(stage, store, block_of(stage, store), 0.1)
        assert receipt.units == tuple(ids) and {each.key for each in receipt.failures} == {*ids}
        assert not receipt.fragments and not receipt.cause


def test_what_is_prepared_travels_without_being_copied(lake: Lake) -> None:
    stage = EmbedStage.of(lake.store, ["hashing"])
    row = PrepareWorker(stage, lake.store)(block_of(stage, lake.store)).to_row()
    pixels = Prepared.from_row(row).units["input:hashing"].chunk(0).buffers()[2]
    assert pixels.size > 30_000
    whole = row["units"].chunk(0).values.field("input:hashing").buffers()[2]
    assert pixels.address == whole.address


def test_both_halves_are_in_the_usage(lake: Lake) -> None:
    stage = EmbedStage.of(lake.store, ["hashing"])
    usage = in_halves(stage, lake.store, block_of(stage, lake.store)).usage
    assert (usage.units, usage.blocks) == (12, 1)
    assert min(usage.prepare_s, usage.apply_s, usage.write_s, usage.bytes_read, usage.bytes_written) > 0
