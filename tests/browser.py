"""A headless Chromium for tests of pages, driven over the DevTools protocol through two pipes: no port is opened."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # as root in a container there is no other way; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-quic",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # whatever a page asks for, nothing leaves this machine
)
_PATIENCE_S = 60.0


def find_browser() -> str | None:
    """The path of a Chromium: of MINER_TEST_BROWSER, else one of NAMES; None where there is none."""
    named = os.environ.get("MINER_TEST_BROWSER")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A running Chromium; the test is skipped where there is none."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium; MINER_TEST_BROWSER names one")
    with Browser(program, tmp_path_factory.mktemp("browser")) as running:
        yield running


@dataclass
class Opened:
    """A page that is loaded: what it asked for, what its console said, and its content."""

    browser: Browser
    session: str
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, or of the promise it gives."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width_px: int, height_px: int = 900) -> None:
        """Another viewport."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width_px, height=height_px, deviceScaleFactor=1, mobile=False
        )

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`, as the reader's system says."""
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self) -> NDArray[np.uint8]:
        """The whole page, also below the viewport, as uint8 RGB (height, width, 3)."""
        from PIL import Image

        return np.asarray(Image.open(BytesIO(self.screenshot_png())).convert("RGB"))

    def screenshot_png(self) -> bytes:
        """The whole page as the bytes of a PNG."""
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def pictures(self) -> list[dict[str, Any]]:
        """Every picture that takes room: whether it loaded, and its place in the page in pixels."""
        found = self.evaluate(_PICTURES)
        assert isinstance(found, list)
        return found

    def overflow_px(self) -> int:
        """By how much the page is wider than its viewport."""
        return int(self.evaluate("document.documentElement.scrollWidth - innerWidth"))

    def outside(self) -> list[str]:
        """Requests for anything but the page itself and what it embeds."""
        return [url for url in self.requests if url != self.url and not url.startswith("data:")]

    def _call(self, method: str, **parameters: Any) -> Any:
        return self.browser.call(method, self.session, **parameters)


class Browser:
    """One Chromium process with a profile of its own in `folder`; a context manager that ends it."""

    def __init__(self, program: str, folder: Path) -> None:
        # Chromium reads commands from descriptor 3 and writes to 4: the shell puts our pipes there.
        script = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>"$ERRORS"'
        command = [program, *_SWITCHES, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe"]
        self._errors = folder / "errors.txt"
        self._process = subprocess.Popen(
            ["sh", "-c", script, "sh", *command, "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "ERRORS": str(self._errors), "HOME": str(folder)},
        )
        self._waiting = b""
        self._number = 0
        self._pages: dict[str, Opened] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._send("Browser.close", None, {})
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def open(self, path: Path, width_px: int = 1200) -> Opened:
        """Load a file and wait until it and its pictures are there."""
        return self.visit(path.absolute().as_uri(), width_px)

    def visit(self, url: str, width_px: int = 1200) -> Opened:
        """Load an address of this machine and wait until the page and its pictures are there."""
        target = self.call("Target.createTarget", None, url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", None, targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Opened(self, session, url)
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable", session)
        page.resize(width_px)
        self.call("Page.navigate", session, url=page.url)
        page.evaluate(_ALL_LOADED)
        return page

    def call(self, method: str, session: str | None, **parameters: Any) -> Any:
        """The result of a DevTools command; events that come meanwhile are noted with their pages."""
        number = self._send(method, session, parameters)
        until = time.monotonic() + _PATIENCE_S
        while True:
            message = self._receive(until)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _send(self, method: str, session: str | None, parameters: dict[str, Any]) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        return self._number

    def _receive(self, until: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            read = os.read(descriptor, 1 << 20) if ready else b""
            if not read:
                said = self._errors.read_text(errors="replace")[-2000:] if self._errors.exists() else ""
                raise RuntimeError(f"{'it ended' if ready else f'no answer in {_PATIENCE_S:.0f} s'}: {said}")
            self._waiting += read
        first, _, self._waiting = self._waiting.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        page, told = self._pages.get(event.get("sessionId", "")), event.get("params", {})
        if page is None:
            return
        match event["method"]:
            case "Network.requestWillBeSent":
                page.requests.append(told["request"]["url"])
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                page.complaints.append(told["entry"]["text"])
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                page.complaints.append(json.dumps(told["args"]))
            case "Runtime.exceptionThrown":
                page.complaints.append(told["exceptionDetails"]["text"])


# Lazy pictures load when they are near the viewport: tests want all of them.
_ALL_LOADED = """(async () => {
  while (document.readyState != 'complete') await new Promise(done => setTimeout(done, 10));
  for (const image of document.images) image.loading = 'eager';
  await Promise.all([...document.images].map(image => image.decode().catch(() => 0)));
})()"""

_PICTURES = """[...document.images].map(image => {
  const box = image.getBoundingClientRect()
  return {loaded: image.complete && image.naturalWidth > 0, alt: image.alt,
          left: box.left + scrollX, top: box.top + scrollY, width: box.width, height: box.height}
}).filter(image => image.width > 0)"""


def spread(shot: NDArray[np.uint8], picture: dict[str, Any]) -> float:
    """Standard deviation of the pixels of a screenshot where a picture lies: 0 for a flat area, nan outside of it."""
    left, top = max(0, round(picture["left"])), max(0, round(picture["top"]))
    part = shot[top : top + round(picture["height"]), left : left + round(picture["width"])]
    return float(part.std()) if part.size else float("nan")
