"""Plans against a plain anti-join over all keys, on small random lakes of real tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from embeddings.encoder import load_encoder
from miner.embed import EmbedStage
from miner.executor import LocalExecutor
from miner.ingest import IngestStage
from miner.lineage import Run
from miner.plan import make_plan, pending
from miner.readers.images import ImagesReader
from miner.schema import ASSETS, QUARANTINE, SAMPLE_DATA, check, embeddings_schema
from miner.store import Store
from tests.recordings import write_drives

ENCODER = load_encoder("hashing")
VECTORS = embeddings_schema(ENCODER.name, ENCODER.version, ENCODER.dim, "whole")
SWEEP_ENCODER = load_encoder("descriptor")
SWEEP_VECTORS = embeddings_schema(
    SWEEP_ENCODER.name, SWEEP_ENCODER.version, SWEEP_ENCODER.dim, "whole", modality="lidar"
)
STAGE = EmbedStage(("hashing",), "whole")
STAGES = [STAGE, EmbedStage(("hashing", "descriptor"), "whole"), EmbedStage(("descriptor",), "whole")]
OWN = {"camera": "embeddings/hashing", "lidar": "embeddings/descriptor"}


class Reading(NamedTuple):
    """A reading of a made-up lake and what is known of it."""

    key: str
    scene_id: str
    modality: str
    has: frozenset[str]
    quarantined_by: str | None


def random_readings(seed: int) -> list[Reading]:
    """Readings of 3 to 9 scenes; a third of the scenes is done, the others lack vectors, assets or both here and
    there."""
    random = np.random.default_rng(seed)
    readings = []
    for scene in range(random.integers(3, 10)):
        done = random.random() < 1 / 3
        for number in range(random.integers(0, 7)):
            modality = str(random.choice(["camera", "camera", "lidar", "lidar", "radar"]))
            tables = [OWN[modality], "assets"] if modality in OWN else []
            stage = str(random.choice(["embed", "cut", ""], p=[0.15, 0.1, 0.75])) or None
            bad = modality in OWN and stage == "embed" and not done
            chosen = tables if done else [table for table in tables if random.random() < 0.6]
            has = frozenset(() if bad else chosen)
            readings.append(
                Reading(f"r{scene}-{number}", f"s{scene}", modality, has, stage if bad or stage == "cut" else None)
            )
    return readings


def write(store: Store, table: str, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    store.ensure(table, schema)
    store.append(table, check(pa.Table.from_pylist(rows, schema), schema))


def lake_of(folder: Path, readings: list[Reading]) -> Store:
    """The readings as tables, most columns of no interest; a vector table has a second row for some readings."""
    store = Store.create(str(folder))
    of_reading = {"channel": "CAM", "timestamp_ns": 0, "is_key_frame": True, "uri": "u", "fileformat": "jpg"}
    rows = [{"sample_data_id": r.key, "scene_id": r.scene_id, "modality": r.modality, **of_reading} for r in readings]
    write(store, "sample_data", SAMPLE_DATA, rows)
    for table, schema in ((OWN["camera"], VECTORS), (OWN["lidar"], SWEEP_VECTORS)):
        dim = schema.field("vector").type.list_size
        vector = {"channel": "CAM", "timestamp_ns": 0, "vector": [1.0] + [0.0] * (dim - 1)}
        vectors = [
            {"embedding_id": f"{r.key}/{part}", "sample_data_id": r.key, "scene_id": r.scene_id, "part": part, **vector}
            for number, r in enumerate(readings)
            if table in r.has
            for part in range(1 + number % 2)
        ]
        write(store, table, schema, vectors)
    facts = {"sha256": "", "num_bytes": 0, "flags": []}
    assets = [
        {"sample_data_id": r.key, "scene_id": r.scene_id, "modality": r.modality, **facts}
        for r in readings
        if "assets" in r.has
    ]
    write(store, "assets", ASSETS, assets)
    why = {"reason": "r", "detail": "d", "attempts": 1, "run_id": "x"}
    bad = [{"stage": r.quarantined_by, "key": r.key, "scene_id": r.scene_id, **why} for r in readings]
    write(store, "quarantine", QUARANTINE, [row for row in bad if row["stage"]])
    return store


def concerned(stage: EmbedStage, readings: list[Reading]) -> list[Reading]:
    """The units of a stage."""
    return [r for r in readings if r.modality in stage.modalities]


def lacking(stage: EmbedStage, reading: Reading) -> set[str]:
    """The stage's tables for readings of this kind that have no row of it."""
    return {output.table for output in stage.outputs if output.kind in (None, reading.modality)} - reading.has


def anti_join(stage: EmbedStage, readings: list[Reading]) -> dict[str, tuple[str, int]]:
    """By key the scene and the bits of every reading that is still to do: tables it lacks or that are not for it."""
    found = {}
    for r in concerned(stage, readings):
        if lacking(stage, r) and r.quarantined_by != "embed":
            bits = [output.table not in r.has for output in stage.outputs]
            found[r.key] = (r.scene_id, sum(1 << bit for bit, lacks in enumerate(bits) if lacks))
    return found


@pytest.mark.parametrize("listed_scenes", [1, 500], ids=["by-range", "by-list"])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: "+".join(stage.encoders))
@pytest.mark.parametrize("seed", range(4))
def test_pending_is_the_anti_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, stage: EmbedStage, listed_scenes: int
) -> None:
    readings = random_readings(seed)
    store = lake_of(tmp_path / "lake", readings)
    monkeypatch.setattr("miner.plan.CHUNK", 5)
    monkeypatch.setattr("miner.plan._LISTED_SCENES", listed_scenes)
    plan = make_plan(store, stage)
    rows = [row for chunk in pending(store, plan) for row in chunk.to_pylist()]
    found = {row["key"]: (row["scene_id"], row["lacks"]) for row in rows}
    assert len(found) == len(rows), "a unit is planned twice"
    assert found == anti_join(stage, readings)
    assert not any(row["partial"] for row in rows)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: "+".join(stage.encoders))
@pytest.mark.parametrize("seed", range(3))
def test_the_counts_of_a_plan(tmp_path: Path, seed: int, stage: EmbedStage) -> None:
    readings = random_readings(seed)
    plan = make_plan(lake_of(tmp_path / "lake", readings), stage)
    units = concerned(stage, readings)
    still = [r for r in units if lacking(stage, r)]
    bad = [r for r in units if r.quarantined_by == "embed"]
    assert (plan.total, plan.quarantined) == (len(units), len(bad))
    assert set(plan.scene_ids.filter(pa.array(plan.open_scenes)).to_pylist()) == {r.scene_id for r in still}
    assert plan.open_units <= len(still)  # the units that lack different outputs are counted once at least
    assert plan.open_units >= max(sum(o.table in lacking(stage, r) for r in units) for o in stage.outputs)


def test_chunks_are_small_and_disjoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = [Reading(f"r{s}-{n}", f"s{s}", "camera", frozenset(), None) for s in range(8) for n in range(3)]
    store = lake_of(tmp_path / "lake", readings)
    monkeypatch.setattr("miner.plan.CHUNK", 6)
    chunks = [set(chunk["key"].to_pylist()) for chunk in pending(store, make_plan(store, STAGE))]
    assert len(chunks) >= 4
    assert max(map(len, chunks)) <= 6 + 3  # a scene is never divided
    assert sum(map(len, chunks)) == len(set().union(*chunks)) == 24


def test_a_lake_without_output_tables_lacks_everything(tmp_path: Path) -> None:
    readings = [Reading(f"r{n}", "s", "camera", frozenset(), None) for n in range(4)]
    store = lake_of(tmp_path / "lake", readings)
    stage = EmbedStage(("hashing:32",), "whole")
    plan = make_plan(store, stage)
    [chunk] = pending(store, plan)
    assert (plan.total, plan.pending, len(chunk)) == (4, 4, 4)
    assert not store.exists("embeddings/hashing-32"), "planning makes no table"


def test_scenes_whose_children_are_there_are_partial(tmp_path: Path) -> None:
    reader = ImagesReader(str(write_drives(tmp_path / "source", scenes=4, frames=2)))
    done, half, bad, new = list(reader.scenes())
    stage = IngestStage(reader)
    store = Store.create(str(tmp_path / "lake"))
    for output in stage.outputs:
        store.ensure(output.table, output.schema)
    store.append("scenes", reader.read(done.name).scenes)
    for scene in (done, half):  # as a run leaves it that died between its two commits
        store.append("sample_data", reader.read(scene.name).sample_data)
    row = {"stage": "ingest", "key": bad.scene_id, "scene_id": bad.scene_id}
    write(store, "quarantine", QUARANTINE, [row | {"reason": "r", "detail": "d", "attempts": 1, "run_id": "x"}])
    plan = make_plan(store, stage)
    found = {row["key"]: row for chunk in pending(store, plan) for row in chunk.to_pylist()}
    assert set(found) == {half.scene_id, new.scene_id}
    assert found[half.scene_id]["partial"] and not found[new.scene_id]["partial"]
    assert {row["lacks"] for row in found.values()} == {0b111}
    assert (plan.total, plan.open_units, plan.quarantined, plan.pending) == (4, 3, 1, 2)
    LocalExecutor(threads=2).map(stage, store, Run("ingest"))
    ids = store.scan("sample_data", ["sample_data_id"])["sample_data_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 6


def test_the_quarantine_of_another_source_is_not_counted(tmp_path: Path) -> None:
    broken = write_drives(tmp_path / "broken", scenes=2, frames=1)
    (broken / "labels").mkdir()
    (broken / "labels" / "drive_00.json").write_text("{not json")
    store = Store.create(str(tmp_path / "lake"))
    executor = LocalExecutor(threads=1)
    first = executor.map(IngestStage(ImagesReader(str(broken))), store, Run("ingest"))
    assert (first.written, first.quarantined, first.reasons) == (1, 1, {"bad-labels": 1})
    good = IngestStage(ImagesReader(str(write_drives(tmp_path / "good", scenes=3, frames=1))))
    second = executor.map(good, store, Run("ingest"))
    assert (second.written, second.done_before, second.quarantined_before) == (3, 0, 0)
