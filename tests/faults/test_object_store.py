"""Case 49: a lake and a source in an object store, and its bad days: 403, 404, bursts of 503, silence, nobody there.

The server is moto in a process of its own, the faults come from a proxy before it (`tests.s3`).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from miner import object_store
from miner.decode.files import read_bytes
from miner.errors import BadInput, MinerError, NotFound
from miner.executor import LocalExecutor
from miner.lake import Lake, create, open_source
from miner.lake import open as open_lake
from miner.object_store import Limits
from miner.schema import TABLES
from miner.store import Store
from tests.recordings import write_drives
from tests.s3 import SECRET, Cloud, Fault, cloud, s3_server  # noqa: F401  fixtures
from tests.tables import contents

SCENES, FRAMES = 2, 6
READINGS = SCENES * FRAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drives(tmp_path_factory.mktemp("local") / "drives", scenes=SCENES, frames=FRAMES)


@pytest.fixture(scope="module")
def from_disk(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a lake on disk holds of the same drives."""
    return on_disk(folder, tmp_path_factory.mktemp("disk") / "lake", whole=True)


def on_disk(folder: Path, place: Path, whole: bool) -> dict[str, Any]:
    lake = create(str(place))
    fill(lake, str(folder), whole)
    return tables(place, str(folder))


@pytest.fixture
def source(cloud: Cloud, folder: Path) -> str:  # noqa: F811
    return cloud.bucket.put(folder, "drives")


def fill(lake: Lake, source: str, whole: bool = True) -> None:
    """Ingest and embed; `whole`: with clips and indexes, which is thousands of requests more."""
    lake.executor = LocalExecutor(threads=2)
    lake.ingest(source)
    if whole:
        embed(lake)
    else:
        lake.embed(["hashing"], "whole")


def embed(lake: Lake) -> None:
    lake.cut(2.0)
    lake.embed(["hashing"], "whole")
    lake.index()


def tables(lake: Path, source: str) -> dict[str, Any]:
    """All rows of a lake, read from outside; files as seen from the source."""
    found = contents(lake)
    for row in found["sample_data"]:
        row["uri"] = row["uri"].removeprefix(source)
    return found


def downloaded(cloud: Cloud, folder: Path) -> dict[str, Any]:  # noqa: F811
    return tables(cloud.bucket.download("lake", folder / "copy"), f"{cloud.uri}/drives")


def ends(within_s: float, call: Callable[[], object]) -> MinerError:
    """What a call raises, which it does within some seconds."""
    started = time.perf_counter()
    with pytest.raises(MinerError) as caught:
        call()
    assert time.perf_counter() - started < within_s
    assert SECRET not in str(caught.value) and not isinstance(caught.value, BadInput)
    return caught.value


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_verb(
    whole: bool,
    cloud: Cloud,  # noqa: F811
    source: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.bucket.endpoint)  # without the proxy, which costs as much as moto
    lake = create(f"{cloud.uri}/lake")
    fill(lake, source, whole)
    assert downloaded(cloud, tmp_path) == on_disk(folder, tmp_path / "lake", whole)
    again = open_lake(f"{cloud.uri}/lake")
    before = cloud.bucket.keys("lake/")
    assert not again.ingest(source).changed and not again.embed(["hashing"], "whole").changed
    assert cloud.bucket.keys("lake/") == before
    picture = f"{source}/drive_01/frame_000003.jpg"
    hits = again.search(images=picture, k=3, per="frame")
    assert hits[0].uri == picture and hits[0].score > 0.999
    assert "<img" in hits.to_html()
    found = again.describe()
    assert (found["scenes"], found["readings"], found["quarantine"]) == (SCENES, READINGS, {})
    assert {"scenes", "sample_data", "embeddings/hashing"} <= set(found["tables"])
    assert not whole or {"clips", "clip_facts", "indexes"} <= set(found["tables"])
    assert again.show("drive_00")["kind"] == "scene" and f"{cloud.uri}/lake" in repr(again)
    assert [check.name for check in again.verify() if not check.ok] == []


def test_credentials_from_storage_options(cloud: Cloud, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    options = {
        "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        "aws_endpoint": os.environ["AWS_ENDPOINT_URL"],
        "aws_region": "us-east-1",
    }
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    create(f"{cloud.uri}/lake", storage_options=options).ingest(str(folder))
    lake = open_lake(f"{cloud.uri}/lake", storage_options=options)
    assert lake.store.count("sample_data") == READINGS and "scenes" in lake.store.tables()


def test_what_is_given_wins(cloud: Cloud) -> None:  # noqa: F811
    options = Store.at(cloud.uri, {"client_max_retries": "9", "connect_timeout": "1s"}).storage_options or {}
    assert (options["client_max_retries"], options["connect_timeout"]) == ("9", "1s")
    assert options["aws_endpoint"] == cloud.proxy.url


def test_a_table_is_made_once(cloud: Cloud) -> None:  # noqa: F811
    """Of many who make it at once: Lance's conditional put."""
    store = Store.create(f"{cloud.uri}/lake")
    for name in ("clips", "scenes"):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _, name=name: store.ensure(name), range(4)))
    assert {store.version(name) for name in ("clips", "scenes")} == {1}
    with pytest.raises(OSError):
        store._at("clips").create(TABLES["clips"])


@pytest.mark.slow
def test_a_burst_of_503(cloud: Cloud, source: str, from_disk: dict[str, Any], tmp_path: Path) -> None:  # noqa: F811
    """Twice in a row for whoever asks: a listing, a recording, a manifest, a data file, a commit."""
    patterns = (
        r"GET \S+list-type",
        r"HEAD \S+jpg",
        r"GET \S+jpg",
        r"GET \S+manifest",
        r"PUT \S+lance",
        r"PUT \S+manif",
    )
    cloud.proxy.faults += [Fault(pattern, 503, times=2) for pattern in patterns]
    fill(create(f"{cloud.uri}/lake"), source)
    assert [fault.hits for fault in cloud.proxy.faults] == [2] * len(patterns)
    assert downloaded(cloud, tmp_path) == from_disk


@pytest.mark.parametrize("who", ["lake", "source", pytest.param("table", marks=pytest.mark.slow)])
def test_503_for_ever(cloud: Cloud, who: str) -> None:  # noqa: F811
    """Tried a few times, then told; also of a table in the middle of a run, where only Lance asks."""
    store = Store.create(f"{cloud.uri}/lake")
    cloud.proxy.faults.append(Fault("", 503))
    cloud.proxy.requests.clear()
    calls = {"lake": lambda: open_lake(store.uri), "source": lambda: open_source(f"{cloud.uri}/drives")}
    error = ends(20 if who == "table" else 10, calls.get(who, lambda: store.count("scenes")))
    assert re.search("SlowDown|SLOW_DOWN|503", error.message)
    assert f"{cloud.uri}/" in error.message and cloud.proxy.url in error.message
    assert 2 < len(cloud.proxy.requests) < 40


@pytest.mark.parametrize("status", [403, 404])
def test_refused_at_once(cloud: Cloud, source: str, status: int) -> None:  # noqa: F811
    cloud.proxy.faults.append(Fault("", status))
    for call in (lambda: open_lake(f"{cloud.uri}/lake"), lambda: open_source(source)):
        cloud.proxy.requests.clear()
        error = ends(2, call)
        assert cloud.uri in error.message and len(cloud.proxy.requests) <= 3
        if status == 403:
            assert "AWS_ACCESS_KEY_ID of the environment" in error.message


def test_no_such_bucket(cloud: Cloud) -> None:  # noqa: F811
    assert cloud.proxy.url in str(ends(2, lambda: open_lake("s3://nobody-has-this/lake")))
    with pytest.raises(NotFound, match="no such bucket"):
        create("s3://nobody-has-this/lake")
    with pytest.raises(NotFound, match="no lake at s3://"):
        open_lake(f"{cloud.uri}/none")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_nobody_there(cloud: Cloud, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    lake = endpoint.endswith("1")
    error = ends(10, lambda: open_lake(f"{cloud.uri}/lake") if lake else open_source(f"{cloud.uri}/drives"))
    assert endpoint in error.message and "Is the address right" in error.hint


@pytest.mark.parametrize("silence_s", [1.0, pytest.param(None, marks=pytest.mark.slow)])
def test_a_silent_store(cloud: Cloud, silence_s: float | None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    if silence_s:  # as it is told, only sooner
        monkeypatch.setattr(object_store, "KNOCKING", Limits(silence_s, silence_s, 1))
    cloud.proxy.faults.append(Fault("", hang_s=5.0))
    error = ends(3 if silence_s else 12, lambda: open_lake(f"{cloud.uri}/lake"))
    assert "Timeout" in error.message and cloud.proxy.url in error.message


def quarantine(lake: Lake) -> dict[str, str]:
    """By file name why it is in quarantine."""
    rows = lake.store.scan("quarantine", ["reason", "detail"]).to_pylist()
    found = {re.search(r"\w+\.jpg", row["detail"])[0]: row["reason"] for row in rows}  # type: ignore[index]
    return dict(sorted(found.items()))


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_single_recordings(cloud: Cloud, source: str, broken: bool) -> None:  # noqa: F811
    """Gone, forbidden, or (`broken`) never given by a store that gives all others."""
    lake = create(f"{cloud.uri}/lake", LocalExecutor(threads=2))
    lake.ingest(source)
    cloud.bucket.delete("drives/drive_00/frame_000000.jpg")
    cloud.proxy.faults += [
        Fault("drive_01/frame_000001.jpg", 403),
        Fault("GET .*drive_01/frame_000002.jpg", 404),
        *([Fault("drive_01/frame_000003.jpg", 500)] if broken else []),
    ]
    lake.embed(["hashing"], "whole")
    expected = ["missing-file", "unreadable", "missing-file", "unreadable"]
    details = lake.store.scan("quarantine", ["detail"])["detail"].to_pylist()
    assert [*quarantine(lake).items()] == [
        (f"frame_00000{n}.jpg", reason) for n, reason in enumerate(expected[: 3 + broken])
    ], details
    assert all(detail.startswith(f"{source}/drive_0") for detail in details)
    assert any("access denied, asked with AWS_ACCESS_KEY_ID of the environment" in detail for detail in details)
    assert lake.store.count("assets") + len(details) == READINGS
    cloud.proxy.faults.clear()
    lake.executor = replace(lake.executor, retry_quarantined=True)
    lake.embed(["hashing"], "whole")
    assert quarantine(lake) == {"frame_000000.jpg": "missing-file"}
    assert lake.store.count("assets") == READINGS - 1


@pytest.mark.slow
def test_a_store_that_goes_away_is_no_files_fault(
    cloud: Cloud,  # noqa: F811
    source: str,
    from_disk: dict[str, Any],
    tmp_path: Path,
) -> None:
    lake = create(f"{cloud.uri}/lake", LocalExecutor(threads=2))
    lake.ingest(source)
    cloud.proxy.faults.append(Fault(r"/drives/|prefix=drives", 503))
    error = ends(60, lambda: embed(lake))
    assert source in error.message and "run the same command again" in str(error)
    assert lake.store.count("quarantine") == 0
    cloud.proxy.faults.clear()
    embed(lake)
    assert downloaded(cloud, tmp_path) == from_disk


def test_a_source_that_is_gone_is_no_files_fault(cloud: Cloud, source: str) -> None:  # noqa: F811
    lake = create(f"{cloud.uri}/lake", LocalExecutor(threads=2))
    lake.ingest(source)
    for key in cloud.bucket.keys("drives/"):
        cloud.bucket.delete(key)
    error = ends(30, lambda: lake.embed(["hashing"], "whole"))
    assert f"not one of {READINGS} files could be read" in error.message
    assert lake.store.count("quarantine") == 0


def test_no_read_goes_to_a_refused_place(cloud: Cloud) -> None:  # noqa: F811
    for uri in ("http://127.0.0.1/x.jpg", "s3://169.254.169.254/latest/meta-data/x.jpg", "s3://a:b@bucket/x.jpg"):
        with pytest.raises(BadInput, match="unreadable"):
            read_bytes(uri)
    assert cloud.proxy.requests == []


def command(source: str, lake: str) -> list[str]:
    options = ["--encoder", "hashing", "--views", "whole", "--clip-seconds", "2", "--executor", "local"]
    return [sys.executable, "-m", "jobs.cli", "ingest", source, "--lake", lake, *options]


@pytest.mark.fault
@pytest.mark.slow
def test_killed_and_two_at_once(cloud: Cloud, source: str, from_disk: dict[str, Any], tmp_path: Path) -> None:  # noqa: F811
    lake = f"{cloud.uri}/lake"
    for pause_s in (1.5, 2.5, 3.5):
        process = subprocess.Popen(command(source, lake), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(pause_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    both = [subprocess.Popen(command(source, lake), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert downloaded(cloud, tmp_path) == from_disk
