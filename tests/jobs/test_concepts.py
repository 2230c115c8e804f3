"""Concepts and queries on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from miner.concepts.vocabulary import load_vocabulary
from miner.executor import LocalExecutor
from miner.lake import create
from tests.jobs.command import Miner
from tests.recordings import write_drives


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("concepts")
    lake = create(folder / "lake", LocalExecutor(threads=2))
    lake.ingest(write_drives(folder / "source", scenes=3, frames=3))
    lake.cut(1)
    lake.embed(["hashing"])
    lake.index()
    return lake.uri


def test_queries(miner: Miner, lake: str, tmp_path: Path) -> None:
    asked = miner("search", lake, "--query", "truck AND night NOT rain", "-k", "3", "--json").document
    assert [hit["rank"] for hit in asked["hits"]] == [1, 2, 3]
    assert set(asked["hits"][0]["evidence"]) == {"truck", "night", "rain"}
    assert asked["query"]["query"] == "truck AND night NOT rain"
    (tmp_path / "query.yaml").write_text("and: [truck, night, {not: rain}]\n")
    again = miner("search", lake, "--query-file", tmp_path / "query.yaml", "-k", "3", "--json").document
    assert again["hits"] == asked["hits"] and again["query"]["query"] == "truck AND night AND NOT rain"
    first = asked["hits"][0]["clip_id"]
    told = miner("search", lake, "a van", "-q", f'"a truck"^2 - "rain" + like("{first}")', "--not-like", first)
    assert told.code == 0 and "for " in told.out.splitlines()[0] and '"a truck"^2' in told.out.splitlines()[0]
    assert first not in told.out.replace(told.out.splitlines()[0], "")


REFUSED = {
    "truck AND": "query, column 10: the query ends where a part was expected\n  truck AND\n",
    "trucks": "unknown concept 'trucks'\nDid you mean 'truck'?",
    'lidar("x") AND a': "query, column 1: lidar ranks but has no probability",
    "count(truck) > 1": "no annotation of the lake is of 'truck'",
}


@pytest.mark.parametrize("query", REFUSED)
def test_refusals(miner: Miner, lake: str, query: str) -> None:
    done = miner("search", lake, "--query", query)
    assert done.code in (2, 4) and done.out == "" and REFUSED[query] in done.err and "Traceback" not in done.err


def test_query_files(miner: Miner, lake: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("and: [truck\n")
    assert "no YAML: line 2" in miner("search", lake, "--query-file", tmp_path / "bad.yaml").err
    assert miner("search", lake, "--query-file", tmp_path / "none.yaml").code == 4
    assert miner("search", lake, "--query-file", tmp_path / "bad.yaml", "--query", "a").code == 2


def test_concepts(miner: Miner, lake: str) -> None:
    names = list(load_vocabulary())
    listed = miner("concepts", "ls", lake, "--json").document["concepts"]
    assert [each["name"] for each in listed] == names and not any(each["fitted"] for each in listed)
    assert "truck              not fitted" in miner("concepts", "ls", lake).out
    planned = miner("concepts", "fit", lake, "truck", "night", "--dry-run", "--json").document
    assert planned["changed"] and [each["name"] for each in planned["concepts"]] == ["night", "truck"]
    assert not any(each["fitted"] for each in miner("concepts", "ls", lake, "--json").document["concepts"])
    assert (
        "truck              hashing: against contrasting prompts"
        in miner("concepts", "fit", lake, "truck", "night").out
    )
    assert "Nothing to do: 2 concepts" in miner("concepts", "fit", lake, "truck", "night").out
    own = ("concepts", "fit", lake, "wheelie_bin", "--prompt", "a wheelie bin", "--label", "*bin", "--json")
    [made] = miner(*own).document["concepts"]
    assert made["origin"] == "lake" and made["labels"] == ["*bin"] and made["fitted"][0]["encoder"] == "hashing"
    assert "wheelie_bin (lake)" in miner("concepts", "show", lake, "wheelie_bin").out
    assert miner("search", lake, "--query", "wheelie_bin", "--json").document["hits"]
    assert miner("concepts", "show", lake, "wheely_bin").code == 2
