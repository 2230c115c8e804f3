"""Training sets of a lake: chosen, kept as versions that never change, compared, removed; never half there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.errors import Conflict, NotFound, UnknownName, UsageError
from miner.lake import Lake, open
from miner.selection.build import Infeasible
from miner.snapshot import Snapshot
from miner.training_sets import dataset
from miner.verify import verify
from miner.versions import tags
from tests.fleets import add_scenes, fleet

SPEC: dict[str, Any] = {
    "budget": 40,
    "from": "split = 'train'",
    "targets": [{"over": ["location"], "shares": "uniform"}],
    "limit": {"by": "scene_id", "at_most": 6},
    "guard": {"against": "split = 'test'", "seconds": 5, "metres": 20},
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return fleet(tmp_path, scenes=12, clips=8)


def clips(lake: Lake, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.dataset(name).to_arrow().to_pylist()
    return rows


def test_a_version_stays_as_it_was_made(lake: Lake) -> None:
    made = lake.select(SPEC, "town", note="first")
    assert made.changed and made.dataset and made.dataset.version_id == "town@1"
    before = clips(lake, "town@1")
    assert [row["rank"] for row in before] == [*range(1, 41)]
    held = {table: lake.store.scan(table, version=version) for table, version in made.dataset.snapshot.versions.items()}
    add_scenes(lake, range(12, 16), 8)
    for table in ("clips", "clip_facts", "embeddings/hashing"):
        lake.compact(0, table)
    assert clips(open(lake.uri), "town@1") == before
    again = lake.dataset("town").snapshot
    assert all(again.scan(table).equals(rows) for table, rows in held.items())
    assert not [check for check in verify(lake.store) if not check.ok]


def test_the_same_again_is_the_same_version(lake: Lake) -> None:
    first = lake.select(SPEC, "town").selection.rows
    lake.compact(0, "clips")
    lake.compact(0, "sample_data")
    versions = {table: lake.store.version(table) for table in ("selections", "versions", "lineage")}
    again = lake.select(SPEC, "town")
    assert not again.changed and again.selection.rows.equals(first)
    assert versions == {table: lake.store.version(table) for table in versions}
    other = lake.select({**SPEC, "seed": 1}, "town")
    assert other.dataset and other.dataset.version_id == "town@2" and other.dataset.row["parent"] == "town@1"
    assert not other.selection.rows.equals(first)
    assert [each.version_id for each in lake.datasets()] == ["town@1", "town@2"]


def test_the_same_spec_and_seed_give_the_same_bytes_however_rows_lie(lake: Lake, tmp_path: Path) -> None:
    here = lake.select(SPEC).selection.rows
    scenes = lake.store.scan("clip_facts")
    lake.store.replace("clip_facts", scenes.sort_by([("clip_id", "descending")]), "true", {})
    assert lake.select(SPEC).selection.rows.equals(here)


def test_diff(lake: Lake) -> None:
    lake.select(SPEC, "town")
    lake.select({**SPEC, "budget": 30, "seed": 5}, "town")
    found = lake.dataset("town@2").diff("town@1")
    one, two = ({row["clip_id"] for row in clips(lake, f"town@{n}")} for n in (1, 2))
    assert found["added"] == sorted(two - one) and found["removed"] == sorted(one - two)
    assert found["kept"] == len(one & two) and found["spec"] == {"budget": [40, 30], "seed": [None, 5]}
    assert found["tables"] == {}


def test_nothing_leaks(lake: Lake) -> None:
    lake.select({**SPEC, "guard": {"against": "split = 'test'", "seconds": 3000}}, "far")
    logs = {row["scene_id"]: row for row in lake.store.scan("scenes").to_pylist()}
    tested = [row for row in logs.values() if row["split"] == "test"]
    for row in clips(lake, "far"):
        scene = logs[row["scene_id"]]
        for other in tested:
            if scene["log_id"] == other["log_id"] or scene["vehicle"] == other["vehicle"]:
                away = max(other["start_ns"] - row["end_ns"], row["start_ns"] - other["end_ns"])
                assert away > 3000e9


def test_what_the_lake_cannot_make_is_named(lake: Lake) -> None:
    spec = {"budget": 40, "quotas": [
        {"where": "count('weather: fog') > 0", "at_least": 500, "name": "fog"},
        {"where": "count('weather: snow') > 0", "at_least": 3, "name": "snow"},
        {"where": "count('weather: clear') > 0", "at_least": 1, "name": "clear"},
    ]}  # fmt: skip
    fog = lake.store.scan("clip_facts").to_pylist()
    there = sum(any(each["name"] == "weather: fog" for each in row["categories"]) for row in fog)
    with pytest.raises(Infeasible, match=r"fog(.|\n)*snow: 0 of 3, 3 short") as refused:
        lake.select(spec, "never")
    found = {cell["cell"]: cell["deficit"] for cell in refused.value.shortage}
    assert found == {"fog": 500 - min(there, 39), "snow": 3}
    assert lake.datasets() == [] and lake.store.count("selections") == 0
    assert [cell["cell"] for cell in lake.select(spec).selection.shortage] == ["fog", "snow"]


def test_where_no_clip_is_left_all_is_short(lake: Lake) -> None:
    spec = {**SPEC, "from": "split = 'none'"}
    found = lake.select(spec).selection
    assert len(found.rows) == 0 and {cell["cell"]: cell["deficit"] for cell in found.shortage} == {"all clips": 40}
    with pytest.raises(Infeasible, match="all clips: 0 of 40, 40 short; 0 candidates"):
        lake.select(spec, "never")
    assert len(lake.select({**spec, "fill": False}, "empty").selection.rows) == 0


def test_names_and_versions_that_are_not_there(lake: Lake) -> None:
    lake.select(SPEC, "town")
    for name in ("town@2", "tawn"):
        with pytest.raises(NotFound, match=r"no dataset(.|\n)*Did you mean 'town"):
            lake.dataset(name)
    for name in ("a/b", "a@1", "", "x" * 65, "-a"):
        with pytest.raises(UsageError, match="not a name"):
            lake.select(SPEC, name)
    with pytest.raises(UnknownName, match="column 'scene_ids'"):
        lake.select({**SPEC, "limit": {"by": "scene_ids", "at_most": 1}})
    with pytest.raises(NotFound, match="no scores"):
        lake.select({**SPEC, "scarcity": {"at_least": 1}})
    with pytest.raises(NotFound, match="no dataset 'eval@7'"):
        lake.select({**SPEC, "guard": {"against": "eval@7"}})


def test_a_removed_version_lets_go_and_its_number_is_not_given_again(lake: Lake) -> None:
    lake.select(SPEC, "town")
    assert "dataset-town-1" in tags(lake.store, "clips")
    assert lake.forget_dataset("town@1") == "town@1"
    assert lake.datasets() == [] and lake.store.count("selections") == 0
    assert "dataset-town-1" not in tags(lake.store, "clips")
    with pytest.raises(NotFound):
        lake.forget_dataset("town@1")
    again = lake.select(SPEC, "town").dataset
    assert again and again.version_id == "town@2"


def test_datasets_as_examples_and_as_evaluation_set(lake: Lake) -> None:
    lake.select({"budget": 5, "from": "split = 'test'"}, "eval")
    spec = {**SPEC, "guard": {"against": "eval@1", "radius": 0.2}, "like": {"clips": ["eval@1"], "weight": 2}}
    lake.select(spec, "town")
    ours = {row["clip_id"] for row in clips(lake, "town")}
    assert not ours & {row["clip_id"] for row in clips(lake, "eval")}
    gains = [row["gain"] for row in clips(lake, "town")]
    assert gains == sorted(gains, reverse=True) and "like a named clip" in clips(lake, "town")[0]["reason"]


def test_copies_leave_one_of_each(lake: Lake) -> None:
    found = lake.select({"budget": 5, "fill": False, "dedup": {"radius": 0.4},
                         "quotas": [{"where": "num_frames > 0", "at_least": 1}]}).selection  # fmt: skip
    from miner.selection.pool import Pool
    from miner.selection.spec import Spec

    pool = Pool(Snapshot.now(lake.store), Spec.load({"budget": 5, "dedup": {"radius": 0.4}}))
    kept = dict(pool.steps())["dedup"]
    likeness = pool.vectors @ pool.vectors.T
    inside = likeness[kept][:, kept] - np.eye(int(kept.sum()))
    assert 1 < kept.sum() < len(kept) and inside.max() < 0.6, "no two kept are near"
    assert (likeness[~kept][:, kept].max(axis=1) >= 0.6 - 1e-6).all(), "each removed one has a kept one near"
    assert found.report["candidates"]["dedup"] == kept.sum()


KILLED = """
import sys
from miner.lake import open
lake = open(sys.argv[1])
lake.select({"budget": 5}, "v")
"""


@pytest.mark.fault
def test_killed_between_the_tables(lake: Lake) -> None:
    environment = {**os.environ, "MINER_FAILPOINT": "dataset:between-tables=kill"}
    done = subprocess.run([sys.executable, "-c", KILLED, lake.uri], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert lake.datasets() == []
    lake.select({"budget": 6}, "v")
    assert len(clips(lake, "v@1")) == lake.store.count("selections") == 6
    lake.store.remove("versions", "true", {})  # as far as a removal comes that is killed there
    assert lake.forget_dataset("v@1") == "v@1"
    assert lake.store.count("selections") == 0 and "dataset-v-1" not in tags(lake.store, "clips")
    assert not [check for check in verify(lake.store) if not check.ok]


@settings(max_examples=3)
@given(st.lists(st.sampled_from(["ingest", "replace", "index", "compact", "select"]), min_size=2, max_size=4))
def test_no_reader_sees_a_mixed_version(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """A version read while tables are written to, replaced and cleaned is always the same; and a snapshot is whole."""
    lake = fleet(tmp_path_factory.mktemp("mixed"), scenes=4, clips=3)
    lake.select({"budget": 6}, "v")
    first = dataset(lake.store, "v@1").to_arrow()
    facts = dataset(lake.store, "v@1").snapshot.scan("clip_facts")
    done, wrong = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            seen = dataset(lake.store, "v@1")
            if not (seen.to_arrow().equals(first) and seen.snapshot.scan("clip_facts").equals(facts)):
                wrong.append("the version changed")
            now = Snapshot.now(lake.store)
            scenes = set(now.scan("scenes", ["scene_id"])["scene_id"].to_pylist())
            held = set(now.scan("clips", ["scene_id"])["scene_id"].to_pylist())
            if not scenes <= held:
                wrong.append("a scene without its clips")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number, step in enumerate(steps):
            if step == "ingest":
                add_scenes(lake, range(4 + number, 5 + number), 3)
            elif step == "replace":
                gone = lake.store.scan("scenes", ["scene_id"])["scene_id"][0].as_py()
                for table in ("scenes", "clip_facts", "clips"):
                    lake.store.remove(table, f"scene_id = '{gone}'", {})
            elif step == "index":
                lake.index()
            elif step == "compact":
                lake.compact(0, "clip_facts")
            else:
                lake.select({"budget": 3, "seed": number}, f"other-{number}")
    finally:
        done.set()
        reader.join()
    assert wrong == []


def test_a_version_whose_table_is_gone_says_so(lake: Lake) -> None:
    lake.select(SPEC, "town")
    pinned = lake.dataset("town").snapshot.versions["clips"]
    add_scenes(lake, range(12, 13), 8)
    lake.store.dataset("clips").tags.delete("dataset-town-1")
    lake.compact(0, "clips")
    with pytest.raises(NotFound, match=f"clips.*version {pinned}"):
        lake.dataset("town").to_arrow()


def test_no_wait(lake: Lake) -> None:
    from miner.executor import LocalExecutor
    from miner.lease import lease

    lake.select(SPEC, "town")
    impatient = Lake(lake.store, LocalExecutor(wait=False))
    with lease(lake.store, ["versions"], "other"), pytest.raises(Conflict, match="held by run other"):
        impatient.select({**SPEC, "seed": 9}, "town")
