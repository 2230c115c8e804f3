"""Reports: each number against what a plain look at the tables gives; pages that show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.dataset_text import report_text
from kernels.diversity import vendi
from miner.errors import NotFound, UnknownName, UsageError
from miner.lake import Lake, create
from miner.report.intervals import estimate
from miner.report.measure import Asked
from miner.report.page import render, write_page
from miner.schema import SCORES, check
from tests.browser import Browser, browser  # noqa: F401  a fixture
from tests.fleets import fleet

SPEC: dict[str, Any] = {
    "budget": 30,
    "from": "split = 'train'",
    "targets": [{"over": ["weather"], "shares": {"rain": 0.4, "clear": 0.3, "fog": 0.3}}],
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = fleet(tmp_path_factory.mktemp("fleet"), scenes=15, clips=6)
    clips = lake.store.scan("clips", ["clip_id"])["clip_id"].to_pylist()
    rows = [
        {"clip_id": clip, "scorer": "rarity", "version": "1", "table_version": 1, "value": float(place)}
        for place, clip in enumerate(clips)
    ]
    lake.store.ensure("scores")
    lake.store.append("scores", check(pa.Table.from_pylist(rows, schema=SCORES), SCORES))
    lake.select(SPEC, "wet")
    lake.select({"budget": 90}, "all")
    return lake


def test_against_a_plain_look(lake: Lake) -> None:
    found = lake.report("wet")
    clips = lake.dataset("wet").to_arrow()["clip_id"].to_pylist()
    facts = {row["clip_id"]: row for row in lake.store.scan("clip_facts").to_pylist()}
    assert (found["clips"], found["lake_clips"], found["dataset"]) == (30, 90, "wet@1")
    assert found["scenes"] == len({facts[clip]["scene_id"] for clip in clips})
    assert found["hours"] == pytest.approx(30 / 3600)
    [weather] = [each for each in found["composition"] if each["axis"] == "weather"]
    for each in weather["values"]:
        has = [any(name["name"] == f"weather: {each['value']}" for name in facts[clip]["categories"]) for clip in clips]
        assert each["clips"] == sum(has) and each["share"] == sum(has) / 30
    assert found["coverage"]["axes"] == ["weather", "light"]
    cells = {tuple(each["cell"]): each["clips"] for each in found["coverage"]["cells"]}
    assert sum(cells.values()) == 30 and found["coverage"]["covered"] == sum(count > 0 for count in cells.values())
    vectors = {row["scene_id"] + str(row["timestamp_ns"] // 10**9): row["vector"]
               for row in lake.store.scan("embeddings/hashing").to_pylist()}  # fmt: skip
    own = [vectors[facts[clip]["scene_id"] + str(facts[clip]["start_ns"] // 10**9)] for clip in clips]
    assert found["diversity"]["effective"]["value"] == pytest.approx(vendi(np.array(own, np.float32)), rel=1e-3)
    [scarcity] = found["scarcity"]
    scores = {row["clip_id"]: row["value"] for row in lake.store.scan("scores").to_pylist()}
    assert scarcity["median"] == np.median([scores[clip] for clip in clips])
    assert found["quality"]["readings"] == found["quality"]["read"] == 30
    assert found["duplicates"]["clips"] == 0


def test_the_population_represents_itself_best(lake: Lake) -> None:
    whole = lake.report("all")["representativeness"]
    part = lake.report("wet")["representativeness"]
    assert whole["value"] == 1.0 and 0 < part["low"] <= part["value"] <= part["high"] < 1
    assert lake.report()["representativeness"] is None, "of the lake itself there is nothing to say"


def test_leaks_are_counted_by_rule(lake: Lake) -> None:
    clean = lake.report(Asked("wet", against="split = 'test'"))["leakage"]
    assert clean["clips"] == clean["by"]["evaluation"] == 0 and clean["evaluation_clips"] == 18
    leaking = lake.report(Asked("all", against="wet@1", seconds=0.5))["leakage"]
    assert leaking["by"]["evaluation"] == 30 and leaking["clips"] >= 30 + leaking["by"]["scene"]


def test_a_report_is_of_the_versions_tables(lake: Lake) -> None:
    before = lake.report("wet")
    lake.store.remove("scores", "value < 50", {})
    assert lake.report("wet") == before


def test_what_is_not_there(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no dataset 'dry'"):
        lake.report("dry")
    with pytest.raises(UnknownName, match="axis 'wether'"):
        lake.report(Asked(odd=("wether",)))
    with pytest.raises(NotFound, match="no clip_facts"):
        create(tmp_path / "empty").report()


def test_an_interval_is_narrower_for_more() -> None:
    values = np.random.default_rng(0).normal(5, 1, 4000)
    few, many = (estimate(lambda rows: float(values[rows].mean()), n) for n in (40, 4000))
    assert few.low < few.value < few.high and many.high - many.low < (few.high - few.low) / 5
    assert many.high - many.low == pytest.approx(2 * 1.645 / np.sqrt(4000), rel=0.35), "as theory has it for a mean"


def test_what_tells_nothing_says_so(lake: Lake) -> None:
    lake.select({"budget": 3}, "few")
    found = lake.report(Asked("few", against="split = 'never'"))
    assert (found["representativeness"]["low"], found["representativeness"]["high"]) == (0, 1)
    assert found["diversity"]["effective"]["low"] == 1 and "leakage: not looked for" in report_text(found)
    assert "no clip of the lake is of split" in render(found)
    with pytest.raises(UsageError, match="cells"):
        lake.report(Asked(odd=("clip_id", "scene_id", "clip_id")))


@pytest.mark.parametrize("of", ["wet", None])
def test_the_page_stands_alone(lake: Lake, of: str | None, browser: Browser, tmp_path: Path) -> None:  # noqa: F811
    document = lake.report(Asked(of, against="split = 'test'"))
    page, beside = write_page(document, tmp_path / "report.html")
    assert json.loads(beside.read_text()) == document
    shown = browser.open(page, 1200)
    assert shown.overflow_px() == 0 and shown.outside() == [] and shown.complaints == []
    light = shown.screenshot()
    shown.prefer("dark")
    dark = shown.screenshot()
    assert light[:40, :40].mean() > 200 and dark[:40, :40].mean() < 60
    shown.resize(390)
    assert shown.overflow_px() == 0
    assert shown.evaluate("document.querySelectorAll('svg').length") >= 3


def test_hostile_words_stay_words(lake: Lake, tmp_path: Path) -> None:
    document = lake.report("wet")
    document["note"] = "<script>alert(1)</script>"
    document["composition"][0]["values"][0]["value"] = '"><img src=x>'
    page, _ = write_page(document, tmp_path / "report.html")
    text = page.read_text()
    assert "<script" not in text and "<img" not in text
