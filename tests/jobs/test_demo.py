"""`miner demo`, small: real drives, a real lake, and a page that needs nothing from outside."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from jobs.demo import QUERIES, DemoConfig, run, text
from jobs.run import Listener
from miner.lake import open


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def config(folder: Path) -> DemoConfig:
    return DemoConfig(folder=folder, scenes=2, encoder="hashing", executor="local")


@pytest.fixture(scope="module")
def first(config: DemoConfig) -> tuple[dict[str, Any], list[str]]:
    """What the first run says, and what it told meanwhile."""
    told: list[str] = []
    document = run(config, Listener(lambda progress: told.append(progress.stage), told.append))
    return document, told


def test_the_lake_holds_the_drives(folder: Path, first: tuple[dict[str, Any], list[str]]) -> None:
    document, told = first
    lake = open(folder / "lake")
    found = document["contents"]
    assert document["changed"] and found == lake.describe()
    assert (found["scenes"], found["datasets"]) == (2, {"demo": 2})
    assert found["annotations"] > 0 and found["clips"] >= 2 and found["quarantine"] == {}
    assert found["encoders"][0]["readings"] == lake.store.count("sample_data", "modality = 'camera'") > 0
    assert lake.store.count("sample_data", "modality = 'lidar'") > 0
    assert all(check.ok for check in lake.verify())
    assert {"simulate", "ingest", "embed"} <= set(told)


def test_every_query_is_answered(folder: Path, first: tuple[dict[str, Any], list[str]]) -> None:
    document, _ = first
    assert [(search["text"], search["where"]) for search in document["searches"]] == list(QUERIES)
    scenes = {row["name"]: row["description"] for row in open(folder / "lake").store.scan("scenes").to_pylist()}
    unfiltered = [search for search in document["searches"] if search["where"] is None]
    assert unfiltered and all(search["hits"] for search in unfiltered)
    for search in document["searches"]:
        scores = [hit["score"] for hit in search["hits"]]
        assert scores == sorted(scores, reverse=True)
        assert all(hit["is"] == scenes[hit["scene"]] for hit in search["hits"])
    json.dumps(document)


def test_the_page_needs_nothing_from_outside(first: tuple[dict[str, Any], list[str]]) -> None:
    document, _ = first
    page = Path(document["page"]).read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href|action|data)\s*=\s*"([^"]*)"', page)
    assert len(sources) == sum(len(search["hits"]) for search in document["searches"])
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?://|url\(|@import|<script|<link|<iframe", page)
    for query, where in QUERIES:
        assert html.escape(query) in page
        assert where is None or html.escape(where) in page


def test_the_text_says_what_to_do_next(first: tuple[dict[str, Any], list[str]]) -> None:
    document, _ = first
    said = text(document)
    assert all(query in said for query, _ in QUERIES)
    assert f"miner ls {document['lake']}" in said and document["page"] in said


def test_the_second_call_changes_nothing(config: DemoConfig, first: tuple[dict[str, Any], list[str]]) -> None:
    document, _ = first
    again = run(config, Listener())
    assert again["changed"] is False
    assert again["contents"] == document["contents"]
    assert again["searches"] == document["searches"]
