"""`miner demo`, small: real drives, a real lake, and a page that needs nothing from outside, also in a real browser."""

from __future__ import annotations

import html
import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import app
from jobs.demo import QUERIES, DemoConfig, run, text
from jobs.demo_page import Found, command, render
from jobs.run import Listener
from miner.lake import Lake, open
from tests.browser import Browser, browser, spread

__all__ = ["browser"]
EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def config(folder: Path) -> DemoConfig:
    return DemoConfig(folder=folder, scenes=2, seconds=2.0, encoder="hashing", executor="local")


@pytest.fixture(scope="module")
def first(config: DemoConfig) -> tuple[dict[str, Any], list[str]]:
    """What the first run says, and what it told meanwhile."""
    told: list[str] = []
    document = run(config, Listener(lambda progress: told.append(progress.stage), told.append))
    return document, told


@pytest.fixture(scope="module")
def lake(folder: Path, first: tuple[dict[str, Any], list[str]]) -> Lake:
    return open(folder / "lake")


@pytest.fixture(scope="module")
def page(first: tuple[dict[str, Any], list[str]]) -> str:
    return Path(first[0]["page"]).read_text(encoding="utf-8")


def test_the_lake_holds_the_drives(lake: Lake, first: tuple[dict[str, Any], list[str]]) -> None:
    document, told = first
    found = document["contents"]
    assert document["changed"] and found == lake.describe()
    assert (found["scenes"], found["datasets"]) == (2, {"demo": 2})
    assert found["annotations"] > 0 and found["clips"] >= 2 and found["quarantine"] == {}
    readings = {each["encoder"]: each["readings"] for each in found["encoders"]}
    sensors = {"hashing": "camera", "descriptor": "lidar"}
    assert readings == {name: lake.store.count("sample_data", f"modality = '{sensors[name]}'") for name in sensors}
    assert min(readings.values()) > 0
    assert all(check.ok for check in lake.verify())
    assert {"simulate", "ingest", "embed"} <= set(told)


def test_every_query_is_answered(lake: Lake, first: tuple[dict[str, Any], list[str]]) -> None:
    document, _ = first
    assert [(search["text"], search["where"]) for search in document["searches"]] == list(QUERIES)
    scenes = {row["name"]: row["description"] for row in lake.store.scan("scenes").to_pylist()}
    unfiltered = [search for search in document["searches"] if search["where"] is None]
    assert unfiltered and all(search["hits"] for search in unfiltered)
    for search in document["searches"]:
        scores = [hit["score"] for hit in search["hits"]]
        assert scores == sorted(scores, reverse=True)
        assert all(hit["is"] == scenes[hit["scene"]] for hit in search["hits"])
    assert document["rare"] and all(hit["why"] for hit in document["rare"])
    json.dumps(document)


def test_the_page_needs_nothing_from_outside(page: str, first: tuple[dict[str, Any], list[str]]) -> None:
    document, _ = first
    drives, rare, sweeps = document["contents"]["scenes"], len(document["rare"]), 2
    hits = sum(len(search["hits"]) for search in document["searches"])
    sources = re.findall(r'(?:src|action|data)\s*=\s*"([^"]*)"', page)
    assert len(sources) == 2 * (drives + hits + sweeps + rare) + 1  # frame and sweep of each, and the figure
    assert all(re.match(r"data:image/(jpeg|png);base64,", source) for source in sources)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    assert not re.search(r"https?://|url\(|@import|<script|<link|<iframe", page)
    assert len(page) < 4e6
    for query, where in QUERIES:
        assert html.escape(query) in page
        assert where is None or where in html.unescape(page)


def test_the_page_tells_the_run_from_lineage(page: str, lake: Lake) -> None:
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(<td>.*?)</tr>", page)]
    steps = {row[0]: row for row in rows}
    assert list(steps) == ["(simulate)", "ingest", "cut", "embed", "index", "rare"]
    readings = lake.store.count("sample_data")
    assert steps["embed"][2] == str(readings) and float(steps["embed"][5]) > 0
    vectors = lake.store.count("embeddings/hashing")
    assert f"{vectors} embeddings/hashing" in steps["embed"][3] and f"{readings} assets" in steps["embed"][3]


def test_boxes_from_above_are_where_they_are(page: str, lake: Lake) -> None:
    """Each drawn box keeps the size of its annotation: SVG units are metres."""
    outlines = [
        [tuple(map(float, corner.split(","))) for corner in points.split(" ")]
        for points in re.findall(r'<polygon points="([^"]*)" stroke="#(?!ffb000)', page)
    ]
    sizes = {
        (round(size[0], 0), round(size[1], 0))
        for size in lake.store.scan("annotations", ["size_lwh"])["size_lwh"].to_pylist()
        if size
    }
    assert len(outlines) > 10
    for a, b, c, _ in outlines:
        width, length = (sum((p - q) ** 2 for p, q in zip(*side, strict=True)) ** 0.5 for side in ((a, b), (b, c)))
        assert any(abs(length - size[0]) < 0.7 and abs(width - size[1]) < 0.7 for size in sizes)


def test_the_commands_on_the_page_find_the_same(
    page: str, lake: Lake, first: tuple[dict[str, Any], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [html.unescape(each) for each in re.findall(r'<code class="command">(.*?)</code>', page)]
    assert len(shown) == len(QUERIES) + 2
    lists = [search["hits"] for search in first[0]["searches"]] + [None, first[0]["rare"]]
    for line, expected in zip(shown, lists, strict=True):
        words = shlex.split(line)
        assert words[0] == "miner"
        app([*words[1:], "--json"], standalone_mode=False)
        found = json.loads(capsys.readouterr().out)["hits"]
        if expected is None:
            assert found and {hit["channel"] for hit in found} == {"LIDAR_TOP"}
        else:
            assert [(hit["channel"], pytest.approx(hit["score"])) for hit in found] == [
                (hit["channel"], hit["score"]) for hit in expected
            ]


@pytest.mark.parametrize("asked", ["plain", "two words", "it's", 'a "quoted" $HOME `ls` \\ it\'s', "scene != 'a'"])
def test_commands_are_safe_to_paste(lake: Lake, asked: str) -> None:
    hits = lake.search("x", 1)
    line = command(replace(hits, query={**hits.query, "texts": (asked,)}))
    assert shlex.split(line) == ["miner", "search", lake.uri, asked, "-k", "1"]


def test_the_page_escapes_what_recordings_and_people_say(lake: Lake) -> None:
    hits = lake.search("x", 2)
    evil = replace(hits, hits=tuple(replace(hit, channel=EVIL, why=EVIL) for hit in hits))
    evil = replace(evil, query={**hits.query, "texts": (EVIL,)}, encoder=EVIL)
    made = render(lake, Found([evil], None, None))
    assert EVIL not in made and html.escape("<script>alert(") in made


def test_a_lost_file_is_named_on_the_page(lake: Lake) -> None:
    hits = lake.search("x", 2)
    lost = replace(hits, hits=tuple(replace(hit, uri="/nowhere/frame.jpg") for hit in hits))
    made = render(lake, Found([lost], None, None))
    assert made.count("/nowhere/frame.jpg") == 2 and 'id="rare"' not in made and 'id="lidar"' not in made


def test_the_page_does_without_matplotlib(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    made = render(lake, Found([lake.search("x", 1)], None, lake.rare(1)))
    assert 'id="rare"' in made and "data:image/png" not in made


def test_the_text_says_what_to_do_next(first: tuple[dict[str, Any], list[str]]) -> None:
    document, _ = first
    said = text(document)
    assert all(query in said for query, _ in QUERIES)
    assert f"miner ls {document['lake']}" in said and document["page"] in said


def test_the_command_again_changes_nothing_and_prints_one_document(
    folder: Path,
    first: tuple[dict[str, Any], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document, _ = first
    monkeypatch.setenv("MINER_SECONDS", "2")
    words = ["demo", str(folder), "--scenes", "2", "--encoder", "hashing", "--executor", "local", "--json"]
    app(words, standalone_mode=False)
    again = json.loads(capsys.readouterr().out)
    assert again["changed"] is False and again["page"] == document["page"]
    assert again["contents"] == document["contents"]
    assert again["searches"] == document["searches"]
    assert "(simulate)" not in Path(again["page"]).read_text()


def test_in_a_browser_the_pictures_are_there(browser: Browser, first: Any, page: str) -> None:
    opened = browser.open(Path(first[0]["page"]))
    grounds = {}
    for scheme, width_px in (("light", 1200), ("dark", 390)):
        opened.resize(width_px)
        opened.prefer(scheme)
        pictures, shot = opened.pictures(), opened.screenshot()
        assert len(pictures) == page.count("<img ") and all(picture["loaded"] for picture in pictures)
        assert opened.overflow_px() <= 0 and shot.shape[1] == width_px
        seen = [picture for picture in pictures if picture["left"] + picture["width"] <= width_px]
        assert len(seen) >= (8 if width_px == 390 else len(pictures))  # on a phone most wait to be swiped in
        assert all(spread(shot, picture) > 4 for picture in seen)
        grounds[scheme] = shot[:10, :10].mean()
    assert grounds["light"] > 200 and grounds["dark"] < 60
    assert opened.outside() == [] and opened.complaints == []


def test_in_a_browser_a_click_enlarges(browser: Browser, first: Any) -> None:
    opened = browser.open(Path(first[0]["page"]), 1200)
    before = opened.pictures()[:2]
    opened.evaluate("document.querySelector('figure img').click()")
    after = opened.pictures()[:2]
    assert after[0]["width"] > 2.5 * before[0]["width"] and after[1]["width"] > 3 * before[1]["width"]
    assert after[0]["height"] == pytest.approx(after[1]["height"], rel=0.02)
    opened.evaluate("document.querySelector('figure img').click()")
    assert opened.pictures()[:2] == before
