"""A small lake of simulated drives, served in this process over real sockets."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from jobs.serve import Serving, serving
from miner.lake import Lake, create
from miner.simulation import Spec, record

SPEC = Spec(scenes=2, seconds=2.0, width=128, height=72, beams=8, azimuths=90, lidar_hz=1.0, camera_hz=1.0)


class Got(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Asks one server; connections are made anew."""

    url: str

    def __call__(self, path: str, body: Any = None, method: str = "", **headers: str) -> Got:
        """GET, or POST of a JSON body (or of bytes as they are); header names with _ for -."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body, given = json.dumps(body).encode(), {"content-type": "application/json", **given}
        connection.request(method or ("GET" if body is None else "POST"), path, body, given)
        answer = connection.getresponse()
        heads = {name.lower(): value for name, value in answer.getheaders()}
        got = Got(answer.status, heads, answer.read())
        connection.close()
        return got


def filled(folder: Path, drives: Path) -> Lake:
    """A lake of drives, with vectors of frames."""
    lake = create(folder)
    lake.ingest(drives)
    lake.cut(1)
    lake.embed(["hashing"], "whole")
    lake.index()
    return lake


@pytest.fixture(scope="session")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "drives"
    record(SPEC, folder)
    return folder


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory, drives: Path) -> Lake:
    return filled(tmp_path_factory.mktemp("served") / "lake", drives)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for sockets; their paths have to be short."""
    folder = tempfile.mkdtemp(prefix="miner-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    yield Path(folder)
    shutil.rmtree(folder)


Serve = Callable[..., Client]


@pytest.fixture
def serve(runtime: Path, lake: Lake) -> Iterator[Serve]:
    """Serves the lake (or another) with some settings, and gives who asks."""
    running: list[Any] = []

    def start(served: Lake = lake, **how: Any) -> Client:
        running.append(serving(served.uri, Serving(**{"port": 0, **how})))
        return Client(running[-1].__enter__())

    yield start
    for each in running:
        each.__exit__(None, None, None)


@pytest.fixture(scope="session")
def client(lake: Lake) -> Iterator[Client]:
    """Asks a server of the lake that gives at most 50 hits; for tests that change nothing."""
    folder = tempfile.mkdtemp(prefix="miner-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        with serving(lake.uri, Serving(port=0, max_k=50)) as url:
            yield Client(url)
    shutil.rmtree(folder)
