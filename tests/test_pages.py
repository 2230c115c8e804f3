"""Pages in a real browser: nothing is asked of the network, pictures are there, light and dark, wide and narrow."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from jobs import dedup_page, tail_page
from miner.hits import Hits
from miner.lake import Lake, create
from miner.simulation import Spec, record
from tests.browser import Browser, browser, spread
from tests.miner.test_hits import EVIL, hit, hits_of

__all__ = ["browser"]
NOTEBOOK = Path(__file__).parent / "notebooks" / "search.ipynb"


@pytest.fixture(scope="module")
def hits(tmp_path_factory: pytest.TempPathFactory) -> Hits:
    """Five hits: two frames, two sweeps, a file that is gone."""
    folder = tmp_path_factory.mktemp("drives")
    spec = Spec(1, 2.0, camera_hz=1.0, lidar_hz=1.0, cameras=("CAM_FRONT",), width=320, height=180)
    record(spec, folder)
    files = sorted(folder.rglob("*.jpg")) + sorted(folder.rglob("*.bin")) + [folder / "gone.jpg"]
    assert len(files) == 5
    formats = {".jpg": "jpg", ".bin": "nuscenes_bin"}
    return hits_of(
        *(hit(rank, str(file), fileformat=formats[file.suffix], why=EVIL) for rank, file in enumerate(files, 1))
    )


def test_a_page_of_hits(browser: Browser, hits: Hits, tmp_path: Path) -> None:
    hits.to_html(tmp_path / "hits.html", title=EVIL)
    page = browser.open(tmp_path / "hits.html")
    columns = {}
    for scheme, width_px in (("light", 1200), ("dark", 390)):
        page.resize(width_px)
        page.prefer(scheme)
        pictures, shot = page.pictures(), page.screenshot()
        assert len(pictures) == 4 and all(picture["loaded"] for picture in pictures)
        assert all(spread(shot, picture) > 4 for picture in pictures)
        assert page.overflow_px() <= 0
        assert (shot[:8, :8].mean() > 200) == (scheme == "light")
        columns[width_px] = len({round(picture["left"]) for picture in pictures})
    assert columns == {1200: 4, 390: 1}
    assert page.outside() == [] and page.complaints == []


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three drives, a clip a second."""
    folder = tmp_path_factory.mktemp("mined")
    record(Spec(3, 2.0, camera_hz=1.0, lidar_hz=1.0, cameras=("CAM_FRONT",), width=320, height=180), folder / "drives")
    made = create(folder / "lake")
    made.ingest(folder / "drives")
    made.cut(1.0)
    made.embed(["hashing", "descriptor"], views="whole")
    made.index()
    return made


@pytest.mark.parametrize("kind", ["tail", "duplicates"])
def test_pages_of_groups(browser: Browser, lake: Lake, tmp_path: Path, kind: str) -> None:
    text = tail_page.page(lake.store, lake.tail("label")) if kind == "tail" else dedup_page.page(
        lake.store, lake.dedup(eps=0.99, dry_run=True)
    )  # fmt: skip
    (tmp_path / "page.html").write_text(text)
    page = browser.open(tmp_path / "page.html")
    for scheme, width_px in (("light", 1200), ("dark", 390)):
        page.resize(width_px)
        page.prefer(scheme)
        pictures, shot = page.pictures(), page.screenshot()
        assert len(pictures) > 3 and all(picture["loaded"] for picture in pictures)
        assert all(spread(shot, picture) > 4 for picture in pictures[:4])
        assert page.overflow_px() <= 0 and (shot[:8, :8].mean() > 200) == (scheme == "light")
    assert page.outside() == [] and page.complaints == []


def test_the_checks_find_what_they_look_for(browser: Browser, tmp_path: Path) -> None:
    """What the other tests look for is found where it is: a request, a missing picture, a flat one, a wide line."""
    path = tmp_path / "bad.html"
    flat = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="
    path.write_text(
        f'<img src="http://example.org/pixel.gif" alt="far" width=9 height=9><img src="{flat}" width=90 height=90>'
        '<div style="width:2000px">x</div><script>console.error("bad")</script>'
    )
    page = browser.open(path, 390)
    far, near = page.pictures()
    assert (far["loaded"], near["loaded"]) == (False, True)
    assert page.outside() == ["http://example.org/pixel.gif"]
    assert page.overflow_px() > 1000 and spread(page.screenshot(), near) == 0
    assert any("bad" in each for each in page.complaints)


@pytest.mark.parametrize("keeps_styles", [True, False], ids=["jupyter", "github"])
def test_the_stored_notebook(browser: Browser, tmp_path: Path, keeps_styles: bool) -> None:
    """Its outputs as Jupyter shows them, and as GitHub does: without styles, classes and ids."""
    shown = outputs_html(nbformat.read(NOTEBOOK, as_version=4))
    if not keeps_styles:
        shown = re.sub(r' (style|class|id)="[^"]*"', "", re.sub(r"<style.*?</style>", "", shown, flags=re.DOTALL))
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><body style='width:860px'>{shown}")
    page = browser.open(path, 900)
    pictures, shot = page.pictures(), page.screenshot()
    assert len(pictures) == shown.count("<img ") >= 4 and all(picture["loaded"] for picture in pictures)
    assert all(spread(shot, picture) > 4 for picture in pictures)
    assert all(picture["left"] + picture["width"] <= 900 for picture in pictures)
    assert len(np.unique([picture["left"] for picture in pictures[:3]])) == 3, "a grid, not a column"
    assert page.outside() == [] and page.complaints == []


def outputs_html(notebook: nbformat.NotebookNode) -> str:
    """All outputs of a notebook, each in the richest kind that Jupyter would choose."""
    parts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            kinds = output.get("data", {})
            if "text/html" in kinds:
                parts.append(kinds["text/html"])
            elif "image/png" in kinds:
                png = kinds["image/png"].replace("\n", "")
                parts.append(f'<img src="data:image/png;base64,{png}" width="860">')
    return "\n".join(parts)
