"""How hits show themselves: JSON, Arrow, pandas, a terminal, a page."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import FrozenInstanceError, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from miner.decode.image import decode_image
from miner.decode.views import Region
from miner.hits import SCHEMA, Hit, Hits, outlined

EVIL = "<script>alert('x')</script> \u202e\x1b[31m\n"


def picture(path: Path, width: int = 800, height: int = 400) -> NDArray[np.uint8]:
    """A PNG, red on the left and blue on the right."""
    from PIL import Image

    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 200
    Image.fromarray(pixels).save(path)
    return pixels


def hit(rank: int, uri: str | None, **other: object) -> Hit:
    made = Hit(
        rank=rank,
        score=0.5 - rank / 100,
        clip_id=f"{rank:032x}",
        scene_id="s",
        sample_data_id=f"reading-{rank}",
        channel="CAM_FRONT",
        timestamp_ns=1_532_402_927_612_460_000,
        start_ns=0,
        end_ns=10,
        uri=uri,
        evidence={"image": 0.5 - rank / 100},
        scene="scene 1",
        fileformat="png",
    )
    return replace(made, **other)  # type: ignore[arg-type]


def hits_of(*found: Hit) -> Hits:
    query = {"texts": ["night"], "not_texts": [], "images": [], "like": [], "k": 10, "per": "clip", "where": None}
    return Hits("/lake", query, "hashing", None, 3, 1.5, tuple(found))


class Page(HTMLParser):
    """All tags, with attributes, of a page; fails on a tag that is closed in the wrong order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pixels_of(image: dict[str, str | None]) -> NDArray[np.int64]:
    """An embedded picture, decoded."""
    return decode_image(base64.b64decode(str(image["src"]).partition(",")[2]), "jpg", "thumbnail").astype(np.int64)


def test_is_an_immutable_sequence() -> None:
    hits = hits_of(hit(1, "a.png"), hit(2, "b.png"), hit(3, "c.png"))
    assert len(hits) == 3 and hits[-1].rank == 3 and [each.rank for each in hits] == [1, 2, 3]
    assert isinstance(hits[1:], Hits) and [each.rank for each in hits[1:]] == [2, 3] and hits[1:].table_version == 3
    assert hits[0] in hits
    with pytest.raises(IndexError):
        hits[3]
    with pytest.raises(FrozenInstanceError):
        hits.lake = "x"  # type: ignore[misc]


def test_json_arrow_and_pandas_agree() -> None:
    hits = hits_of(hit(1, "a.png"), hit(2, None, clip_id=None, start_ns=None, end_ns=None))
    document = json.loads(json.dumps(hits.to_dict()))
    assert list(document["hits"][0]) == SCHEMA.names
    table = hits.to_arrow()
    assert table.schema.equals(SCHEMA)
    for row, told in zip(table.to_pylist(), document["hits"], strict=True):
        assert row == told | {
            "score": pytest.approx(told["score"]),
            "evidence": [("image", pytest.approx(told["score"]))],
        }
    frame = hits.to_pandas()
    assert list(frame.columns) == SCHEMA.names and frame["sample_data_id"].tolist() == ["reading-1", "reading-2"]
    assert hits_of().to_arrow().schema.equals(SCHEMA) and len(hits_of().to_pandas()) == 0


def test_terminal_table() -> None:
    text = repr(
        hits_of(hit(1, "/data/a b.png"), hit(12, "s3://bucket/very/far/" + "x" * 80, timestamp_ns=2_500_000_000))
    )
    lines = text.splitlines()
    assert lines[0] == "2 clips for night (hashing, table version 3)" and len(lines) == 4
    assert lines[1].split() == ["score", "channel", "time", "scene", "clip", "file"]
    assert "0.490" in lines[2] and "2018-07-24 03:28:47.612" in lines[2] and "a b.png" in lines[2]
    assert "2.500 s" in lines[3] and lines[3].endswith("…") and len(lines[3]) < 150
    assert "nothing found" in repr(hits_of())


def test_terminal_table_is_harmless() -> None:
    text = repr(hits_of(hit(1, f"/data/{EVIL}.png", scene=EVIL, channel=EVIL)))
    assert len(text.splitlines()) == 3 and not set(text) & set("\x1b\u202e")


def test_page_shows_pictures(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    hits = hits_of(hit(1, str(tmp_path / "a.png")))
    page = Page(hits.to_html(tmp_path / "page.html", title="Night <drives>"))
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == hits.to_html(title="Night <drives>")
    [image] = page.named("img")
    source = str(image["src"])
    assert source.startswith("data:image/jpeg;base64,") and len(source) < 40_000
    small = pixels_of(image)
    assert small.shape[:2] == (200, 400) and (image["width"], image["height"]) == ("240", "120")
    assert np.abs(small[100, [50, 350]] - pixels[200, [100, 700]]).max() < 12
    text = (tmp_path / "page.html").read_text()
    assert "prefers-color-scheme:dark" in text and "Night &lt;drives&gt;" in text
    assert not re.search(r"(src|href)=[\"']?(http|//)|url\(|@import", text)


def test_the_region_that_scored_is_outlined_in_the_picture(tmp_path: Path) -> None:
    """In the pixels: GitHub shows a notebook's pictures but drops whatever is laid over them."""
    pixels = picture(tmp_path / "a.png")
    hits = hits_of(hit(1, str(tmp_path / "a.png"), region=Region(0.5, 0.0, 1.0, 1.0)))
    small = pixels_of(Page(hits.to_html()).named("img")[0])
    assert np.abs(small[100, [201, 398]] - np.array([255, 176, 0])).max() < 60
    assert np.abs(small[100, [50, 350]] - pixels[200, [100, 700]]).max() < 12


@pytest.mark.parametrize("region", [Region(0, 0, 1, 1), Region(0.2, 0.3, 0.201, 0.301), Region(0.9, 0.9, 1, 1)])
def test_outlines_of_any_size_stay_inside(region: Region) -> None:
    pixels = np.full((40, 60, 3), 7, np.uint8)
    marked = outlined(pixels, region)
    y, x = np.nonzero((marked != pixels).any(axis=2))
    assert (pixels == 7).all() and marked.shape == pixels.shape
    if len(y):
        assert x.min() >= round(region.x0 * 60) and x.max() < round(region.x1 * 60)
        assert y.min() >= round(region.y0 * 40) and y.max() < round(region.y1 * 40)
    assert outlined(pixels, None) is pixels


def test_the_grid_survives_where_styles_do_not(tmp_path: Path) -> None:
    """GitHub and untrusted notebooks keep tables, sizes of pictures and line breaks, and drop style, class and id."""
    picture(tmp_path / "a.png")
    hits = hits_of(*(hit(rank, str(tmp_path / "a.png"), why=f"why {rank}") for rank in range(1, 6)))
    page = Page(hits._repr_html_())
    assert len(page.named("tr")) == 2 and len(page.named("td")) == 5
    assert all(image["width"] and image["height"] for image in page.named("img"))
    assert {tag for tag, _ in page.tags} <= {
        "style", "div", "h3", "table", "tbody", "tr", "td", "img", "br", "b", "small"
    }  # fmt: skip
    assert not [attributes for _, attributes in page.tags if "style" in attributes or "id" in attributes]


def test_page_says_why_there_is_no_picture(tmp_path: Path) -> None:
    picture(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:300])
    (tmp_path / "sweep.bin").write_bytes(b"\0" * 20)
    hits = hits_of(
        hit(1, str(tmp_path / "gone.png")),
        hit(2, str(tmp_path / "cut.png")),
        hit(3, None),
        hit(4, str(tmp_path / "sweep.bin"), evidence={"lidar": 0.1}, fileformat="kitti_bin"),
    )
    text = hits.to_html()
    assert len(Page(text).named("td")) == 4 and not Page(text).named("img")
    for reason in ("missing-file", "truncated-image", "no-file", "bad-size: "):
        assert reason in text


def test_a_sweep_is_shown_from_above(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(0, 1, (5000, 4)).astype(np.float32) * np.float32((20, 20, 3, 1))
    points.tofile(tmp_path / "sweep.bin")
    swept = hit(1, str(tmp_path / "sweep.bin"), evidence={"lidar": 0.1}, fileformat="kitti_bin")
    [image] = Page(hits_of(swept).to_html()).named("img")
    assert image["width"] == image["height"] == "240" and pixels_of(image).shape[:2] == (360, 360)


def test_page_escapes_everything(tmp_path: Path) -> None:
    evil = hit(1, str(tmp_path / 'no"><script>.png'), scene=EVIL, channel=EVIL, sample_data_id=EVIL)
    hits = replace(hits_of(evil), query={"texts": [EVIL], "where": EVIL, "per": "clip"}, encoder=EVIL)
    for text in (hits.to_html(title=EVIL), hits._repr_html_()):
        assert not Page(text).named("script") and not set(text) & set("\x1b\u202e")


def test_notebook_shows_the_first_ones() -> None:
    text = hits_of(*(hit(rank, None) for rank in range(1, 41)))._repr_html_()
    assert len(Page(text).named("td")) == 24 and "16 more" in text
    assert "nothing found" in hits_of()._repr_html_()
