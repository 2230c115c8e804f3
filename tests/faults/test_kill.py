"""SIGKILL at random points, and two runs at once: the tables end as those of one undisturbed run."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import lance
import pytest

from miner.lease import lease
from miner.store import Store
from tests.faults.commands import Ingest, durations_s
from tests.faults.kills import Loop, Toll
from tests.recordings import write_drives
from tests.tables import Damage, damage

pytestmark = pytest.mark.fault
Calm = tuple[Ingest, dict[str, float]]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """The command of an undisturbed run that has ended, and the seconds its stages took."""
    folder = tmp_path_factory.mktemp("calm")
    source = write_drives(folder / "source", scenes=10, frames=40)
    (source / "drive_03" / "frame_000007.jpg").write_bytes(b"")
    ingest = Ingest(source, folder / "lake")
    return ingest, durations_s(ingest.finish())


def toll_of(calm: Calm, lake: Path, kinds: list[str], executor: str = "local") -> Toll:
    """Kills of one loop; its seed is printed."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    ingest, seconds = calm
    killed = replace(ingest, lake=lake, executor=executor)
    if executor == "ray":
        seconds = durations_s(replace(killed, lake=lake.with_name("calm")).finish())
    return Loop(killed, ingest.lake, seconds, random.Random(seed)).run(kinds)


def test_killed_ten_times_local(calm: Calm, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda name: toll_of(calm, tmp_path / name, ["driver"] * 5), ["left", "right"])
    for toll in both:
        assert len(toll.hits) == 5
        assert toll.damages == [Damage()] * len(toll.damages), toll
        assert toll.complaints == toll.gave_up == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_ten_times_ray(calm: Calm, tmp_path: Path) -> None:
    kinds = ["task", "driver"] * 5  # actors: benchmarks/kills, with an encoder that has weights
    toll = toll_of(calm, tmp_path / "lake", kinds, "ray")
    assert sorted(hit.kind for hit in toll.hits) == sorted(kinds)
    assert toll.damages == [Damage()] * len(toll.damages), toll
    assert toll.complaints == []


def test_the_check_sees_each_kind_of_damage(calm: Calm, tmp_path: Path) -> None:
    undisturbed, lake = calm[0].lake, tmp_path / "lake"
    assert damage(undisturbed, undisturbed) == Damage()
    shutil.copytree(undisturbed, lake)
    open_ = {table: lance.dataset(str(lake / f"{table}.lance")) for table in ("assets", "clips", "scenes", "indexes")}
    first = {table: dataset.to_table(limit=1) for table, dataset in open_.items()}
    open_["assets"].delete(f"sample_data_id = '{first['assets']['sample_data_id'][0]}'")
    assert damage(lake, undisturbed) == Damage(lost=1, misplaced=1)
    lance.write_dataset(first["clips"], open_["clips"].uri, mode="append")
    assert damage(lake, undisturbed) == Damage(lost=1, doubled=1, misplaced=1, differing=0)
    open_["scenes"].update({"location": "'elsewhere'"}, where=f"scene_id = '{first['scenes']['scene_id'][0]}'")
    assert damage(lake, undisturbed) == Damage(lost=1, doubled=1, misplaced=1, differing=1)
    open_["indexes"].update({"num_vectors": "3"})
    assert damage(lake, undisturbed) == Damage(lost=1, doubled=1, misplaced=1, differing=1, books=1)


def test_no_wait_ends_with_five(calm: Calm, tmp_path: Path) -> None:
    ingest = replace(calm[0], lake=tmp_path / "lake", options=("--no-wait",))
    store = Store.create(str(ingest.lake))
    with lease(store, ["scenes"], "somebody"), ingest.started() as running:
        assert running.wait() == 5
        assert "held by run somebody" in running.said()
