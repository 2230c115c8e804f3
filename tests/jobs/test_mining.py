"""The mining commands, and that Ray computes what threads do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.engine import RayExecutor
from miner.lake import Lake
from miner.store import Store
from tests.jobs.command import Miner
from tests.miner.test_rare import ROWS, lake_of


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return lake_of(tmp_path_factory.mktemp("mining") / "lake", ROWS)


def test_rare_writes_what_a_dry_run_foresees(miner: Miner, lake: Store, tmp_path: Path) -> None:
    def pending() -> dict[str, int]:
        foreseen = miner("rare", lake.uri, "--dry-run", "--json").document
        return {stage["stage"]: stage["pending"] for stage in foreseen["stages"]}

    assert pending() == {"events": 1, "rarity": 1} and not lake.exists("scores")
    done = miner("rare", lake.uri, "-k", "3", "--html", tmp_path / "rare.html", "--json").document
    assert pending() == {"events": 0, "rarity": 0} and lake.count("scores") == len(ROWS["clips"])
    assert [hit["rank"] for hit in done["hits"]] == [1, 2, 3] and done["query"]["by"] == "event"
    assert all(hit["why"] and 0 <= hit["score"] <= 1 for hit in done["hits"])
    assert (tmp_path / "rare.html").read_text().count("<td") == 3
    told = miner("rare", lake.uri, "-k", "2", "--by", "clip").out
    assert told.startswith("2 clips for rare") and "times the usual distance" in told


def test_a_reference_is_fixed_and_used(miner: Miner, lake: Store) -> None:
    fixed = miner("rare", lake.uri, "-k", "2", "--fix-reference", "now", "--reference", "now", "--json").document
    plain = miner("rare", lake.uri, "-k", "2", "--json").document
    assert fixed["query"]["scorer"] == "rarity@now" and plain["query"]["scorer"] == "rarity"
    assert [hit["score"] for hit in fixed["hits"]] == [hit["score"] for hit in plain["hits"]]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["-k", "0"], 2, "expected a whole number"),
        (["--executor", "dask"], 2, "See: miner rare --help"),
        (["--by", "drive"], 2, "Known: clip, cluster, event, label"),
        (["--by", "label", "-k", "0"], 2, "expected a whole number"),
        (["--by", "label", "--where", "split = 'train'"], 2, "is of the whole lake"),
        (["--html", "nowhere/rare.html"], 2, "no folder nowhere"),
        (["--html", "."], 2, "is a folder"),
        (["--reference", "never"], 4, "no reference 'never'"),
        (["--versus", "never"], 4, "no dataset version 'never'"),
        (["--encoder", "never"], 4, "no vectors of encoder 'never'"),
    ],
)
def test_mistakes_are_told(miner: Miner, lake: Store, words: list[str], code: int, told: str) -> None:
    done = miner("rare", lake.uri, *words)
    assert done.code == code and told in done.err


def test_ray_computes_what_threads_do(tmp_path: Path, ray_executor: RayExecutor) -> None:
    tables = []
    for name, executor in (("local", None), ("ray", ray_executor)):
        store = lake_of(tmp_path / name, ROWS)
        Lake(store, **({"executor": executor} if executor else {})).rare(3)
        rows = [store.scan(table).sort_by("clip_id") for table in ("events", "scores")]
        tables.append([each.drop_columns([c for c in ("table_version",) if c in each.column_names]) for each in rows])
    assert tables[0] == tables[1]
    assert json.dumps(tables[0][1].to_pylist())


def test_dedup_tells_what_it_checked(miner: Miner, lake: Store, tmp_path: Path) -> None:
    foreseen = miner("dedup", lake.uri, "--eps", "0.3", "--dry-run", "--json").document
    assert foreseen["dry_run"] and foreseen["guarantee"]["holds"] and not lake.exists("duplicates")
    page = tmp_path / "duplicates.html"
    done = miner("dedup", lake.uri, "--eps", "0.3", "--html", page)
    assert "checked: 0 removed without a kept duplicate, 0 pairs of kept ones" in done.out and "SemDeDup" in done.out
    assert lake.count("duplicates") == len(foreseen["duplicates"]) > 0
    assert page.read_text().count("<section>") > 0 and "http:" not in page.read_text()
    assert miner("dedup", lake.uri, "--eps", "7").code == 2


@pytest.mark.parametrize("by", ["cluster", "label"])
def test_the_long_tail(miner: Miner, lake: Store, tmp_path: Path, by: str) -> None:
    page, plot = tmp_path / "tail.html", tmp_path / "tail.png"
    foreseen = miner("rare", lake.uri, "--by", by, "--dry-run").out
    assert ("clusters  1 of 1 to do" in foreseen) == (by == "cluster")
    done = miner("rare", lake.uri, "--by", by, "--html", page, "--png", plot, "--json").document
    assert done["by"] == by and [each["events"] for each in done["entries"]] == sorted(
        each["events"] for each in done["entries"]
    )
    assert plot.read_bytes().startswith(b"\x89PNG") and "data:image/png" in page.read_text()
    told = miner("rare", lake.uri, "--by", by).out
    assert all(each["name"] in told for each in done["entries"])
    assert ("The rarest first" in told) == bool(done["entries"]) == ("at least 3 events" not in told)
    few = miner("rare", lake.uri, "--by", by, "-k", "1").out.splitlines()
    assert len(few) == min(len(told.splitlines()), 3)
    assert miner("rare", lake.uri, "--png", plot).code == 2
