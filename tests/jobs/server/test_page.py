"""The page for people, in a real browser: pictures, light and dark, wide and narrow, by keyboard, with a token."""

from __future__ import annotations

import pytest

from miner.lake import Lake
from tests.browser import Browser, Opened, browser, spread
from tests.jobs.server.conftest import Client, Serve
from tests.miner.test_hits import EVIL

__all__ = ["browser"]
TOKEN = "correct horse battery staple"
UNTIL = """(async () => {{
  for (let i = 0; i < 300 && !({0}); i++) await new Promise(done => setTimeout(done, 50));
  return Boolean({0})
}})()"""
CODES = {"Enter": 13, "Tab": 9, "Escape": 27}
LOADED = "[...document.images].length && [...document.images].every(image => image.complete && image.naturalWidth)"


def until(page: Opened, condition: str) -> None:
    assert page.evaluate(UNTIL.format(condition)), condition


def type_in(page: Opened, text: str) -> None:
    page._call("Input.insertText", text=text)


def press(page: Opened, key: str) -> None:
    code: dict[str, object] = {"key": key, "code": key, "windowsVirtualKeyCode": CODES[key]}
    text = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        page._call("Input.dispatchKeyEvent", type=kind, **code, **(text if kind == "keyDown" else {}))


def only_from(page: Opened, client: Client) -> bool:
    return all(url.startswith((client.url, "data:", f"blob:{client.url}")) for url in page.requests)


def test_search_by_keyboard(browser: Browser, client: Client, lake: Lake) -> None:
    page = browser.visit(f"{client.url}/")
    type_in(page, "a truck")
    press(page, "Enter")
    until(page, "document.querySelectorAll('#hits li').length > 3")
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    until(page, LOADED)
    alts = [picture["alt"].partition(",")[0] for picture in page.pictures()]
    assert alts[:2] == [f"hit {hit.rank}: {hit.channel}" for hit in lake.search("a truck", 2)]
    columns = {}
    for scheme, width_px in (("light", 1200), ("dark", 390)):
        page.resize(width_px)
        page.prefer(scheme)
        pictures, shot = page.pictures(), page.screenshot()
        assert all(picture["loaded"] and spread(shot, picture) > 4 for picture in pictures)
        assert page.overflow_px() <= 0 and (shot[:8, :8].mean() > 200) == (scheme == "light")
        columns[width_px] = len({round(picture["left"]) for picture in pictures})
    assert columns == {1200: 4, 390: 1}
    for _ in range(4):  # search button, filter, first picture
        press(page, "Tab")
        if page.evaluate("document.activeElement.className") == "picture":
            break
    press(page, "Enter")
    until(page, "document.querySelector('dialog').open && document.querySelectorAll('#frames img').length > 2")
    assert "clip" in page.evaluate("document.querySelector('#facts').textContent")
    press(page, "Escape")
    until(page, "!document.querySelector('dialog').open")
    assert only_from(page, client) and page.complaints == []


def test_more_like_this_and_back(browser: Browser, client: Client) -> None:
    page = browser.visit(f"{client.url}/#text=a+truck&k=3&per=frame")
    until(page, "document.querySelectorAll('#hits li').length == 3")
    first = page.evaluate("document.querySelector('img').alt")
    page.evaluate("document.querySelector('#hits li button:last-child').click()")
    until(page, f"location.hash.includes('like=') && document.querySelector('img')?.alt != {first!r}")
    page.evaluate("history.back()")
    until(page, f"document.querySelector('img')?.alt == {first!r}")


@pytest.mark.parametrize(("where", "said"), [("colour = 'red'", "colour"), ("num_frames > 999", "0 clips")])
def test_says_what_is_wrong(browser: Browser, client: Client, where: str, said: str) -> None:
    page = browser.visit(f"{client.url}/#text=a&where={where}")
    until(page, f"document.querySelector('#said').textContent.includes({said!r})")
    assert page.pictures() == []


def test_what_comes_is_never_markup(browser: Browser, client: Client) -> None:
    """Whatever a lake says of a clip, and whatever stands in the address."""
    page = browser.visit(f"{client.url}/#text=<img src=x onerror=alert(1)>&where=<b>")
    until(page, "document.querySelector('#said').className == 'bad'")
    evil: dict[str, object] = {"rank": 1, "score": 0.5, "timestamp_ns": 5}
    evil |= dict.fromkeys(["channel", "sample_data_id", "uri", "why"], EVIL)
    page.evaluate(f"document.querySelector('#hits').append(card({evil!r}))")
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert "<script>" in page.evaluate("document.querySelector('#hits').textContent")


def test_with_a_token(browser: Browser, serve: Serve) -> None:
    client = serve(token=TOKEN)
    page = browser.visit(f"{client.url}/#text=a+truck&k=2&per=frame")
    until(page, "document.activeElement.id == 'token'")
    type_in(page, TOKEN)
    press(page, "Enter")
    until(page, f"document.querySelectorAll('#hits li').length == 2 && {LOADED}")
    assert TOKEN not in "".join(page.requests) and only_from(page, client)
