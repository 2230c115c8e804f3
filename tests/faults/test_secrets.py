"""Case 55 and invariant I7: secrets are refused in URIs and configuration, and in no output, log or table of a lake."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli import main
from miner.decode.files import read_bytes
from miner.errors import BadInput, MinerError, UsageError
from miner.lake import Lake, create, open_source
from miner.lake import open as open_lake
from miner.masking import has_secret, masked, refuse_secrets
from miner.object_store import failure
from miner.store import Store
from tests.recordings import write_drives
from tests.s3 import KEY, SECRET, Cloud, Fault, cloud, s3_server  # noqa: F401  fixtures

CANARY = "canary0SECRET0canary"
TOKEN = "canary-session-token-of-the-tests"
URIS = [
    f"s3://AKIAIOSFODNN7EXAMPLE:{CANARY}@bucket/drives",
    f"s3://{CANARY}@bucket/drives",
    f"https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Credential=AKIA&X-Amz-Signature={CANARY}",
    f"s3://bucket/a.jpg?AWSAccessKeyId={CANARY}&Expires=1",
    f"az://container/a.jpg?sv=2024-01-01&sig={CANARY}",
    f"abfss://container:{CANARY}@account.dfs.core.windows.net/a",
    f"gs://bucket/a?X-Goog-Signature={CANARY}",
]


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_with_a_secret_is_refused(uri: str, tmp_path: Path) -> None:
    assert has_secret(uri)
    lake = create(str(tmp_path / "lake"))
    calls: list[Callable[[], object]] = [
        lambda: Store.at(uri),
        lambda: open_lake(uri),
        lambda: create(uri, storage_options={"aws_endpoint": "http://127.0.0.1:1"}),
        lambda: open_source(uri),
        lambda: lake.ingest(uri),
        lambda: refuse_secrets(["harmless", uri]),
    ]
    for call in calls:
        with pytest.raises(UsageError) as caught:
            call()
        assert CANARY not in str(caught.value) and "***" in caught.value.message
        assert "AWS_ACCESS_KEY_ID" in caught.value.hint and "storage_options" in caught.value.hint
    with pytest.raises(BadInput) as bad:
        read_bytes(uri)
    assert CANARY not in str(bad.value)


@pytest.mark.parametrize(
    "uri",
    [
        "/data/what?sig=1/a@b.jpg",
        "s3://bucket/user@mail/what?.jpg",
        "s3://bucket/side=left/sv/a.jpg",
        "abfss://container@account.dfs.core.windows.net/a",
        "file:///data/a@b",
    ],
)
def test_what_only_looks_like_a_secret(uri: str) -> None:
    assert not has_secret(uri) and masked("s3://bucket/side=left/sv/a.jpg") == "s3://bucket/side=left/sv/a.jpg"


@pytest.mark.parametrize(
    "text",
    [
        f"GET http://store:9000/bucket?list-type=2&X-Amz-Signature={CANARY}: 403",
        f"GET https://{CANARY}:{CANARY}@store/bucket failed",
        f"<Error><AWSAccessKeyId>{CANARY}</AWSAccessKeyId><StringToSign>\n{CANARY}\n</StringToSign></Error>",
        f"{{'aws_secret_access_key': '{CANARY}', \"account_key\": \"{CANARY}\"}}",
        f"aws_session_token={CANARY}, AZURE_STORAGE_SAS_TOKEN: {CANARY}",
        f"authorization: {CANARY}",
    ],
)
def test_masked(text: str) -> None:
    assert CANARY not in masked(text) and "***" in masked(text)
    told = failure("s3://bucket/lake", OSError(f"AWS Error: {text}"), {"aws_secret_access_key": CANARY})
    assert CANARY not in str(told)


def test_values_of_the_environment_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", TOKEN)
    assert masked(f"it says {CANARY} and {TOKEN}; AKIAIOSFODNN7EXAMPLE") == "it says *** and ***; ***"
    assert masked("and abc", {"aws_session_token": "abc"}) == "and abc", "too short to be told from a word"


def test_store_options_show_nowhere(tmp_path: Path) -> None:
    store = Store(str(tmp_path), {"aws_secret_access_key": CANARY})
    assert CANARY not in f"{store} {store!r} {Lake(store)!r}"
    assert CANARY in str(pickle.loads(pickle.dumps(store)).storage_options), "a worker gets them by value"


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def secrets_in(data: bytes) -> list[str]:
    return [secret for secret in (KEY, SECRET, CANARY, TOKEN) if secret.encode() in data]


def call(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *args: str,
    environment: tuple[str, str] = ("", ""),
) -> tuple[int, str]:
    """The command in this process: exit code, and all it printed."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["miner", *args])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0), "".join(capfd.readouterr())


@pytest.mark.parametrize("place", ["disk", pytest.param("store", marks=pytest.mark.slow)])
def test_canaries(
    place: str,
    cloud: Cloud,  # noqa: F811
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every verb with secrets in the environment: in no stream, no log record, no file of the lake."""
    caplog.set_level(logging.DEBUG)
    drives = write_drives(tmp_path / "drives", scenes=1, frames=4)
    (drives / "drive_00" / "frame_000001.jpg").write_bytes(b"")
    source = cloud.bucket.put(drives, "drives")
    lake = f"{cloud.uri}/lake" if place == "store" else str(tmp_path / "lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.bucket.endpoint)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    config = tmp_path / "config.yaml"
    config.write_text("executor: local\nencoder: hashing\nviews: whole\nmax_bad: 1.0\n")
    texts = [caplog.text]
    for command in (
        ("ingest", source, "--lake", lake, "--config", str(config), "--json"),
        ("search", lake, "--image", f"{source}/drive_00/frame_000000.jpg", "--json"),
        ("show", lake, "drive_00", "--json"),
        ("ls", lake, "--json"),
        ("verify", lake, "--json"),
    ):
        code, printed = call(capfd, monkeypatch, *command)
        assert code == 0 and json.loads(printed[printed.index("{") : printed.rindex("}") + 1]), printed
        texts.append(printed)
    for text in (*texts, caplog.text):
        assert secrets_in(text.encode()) == []
    found = cloud.bucket.download("lake", tmp_path / "copy") if place == "store" else Path(lake)
    assert len(everything(found)) > 20
    assert [path for path in everything(found) if secrets_in(path.read_bytes())] == []
    assert source.encode() in b"".join(path.read_bytes() for path in everything(found)), "nothing was grepped"


def test_canaries_in_options(
    cloud: Cloud,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`storage_options` in Python: in no repr, report, log record or object, nor in what a failure says."""
    caplog.set_level(logging.DEBUG)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    options = {"aws_access_key_id": KEY, "aws_secret_access_key": CANARY, "aws_session_token": TOKEN}
    lake = create(f"{cloud.uri}/lake", storage_options=options)
    report = lake.ingest(write_drives(tmp_path / "drives", scenes=1, frames=2))
    cloud.proxy.faults.append(Fault("", 403))
    with pytest.raises(MinerError, match="asked with storage_options") as refused:
        open_lake(f"{cloud.uri}/lake", storage_options=options)
    cloud.proxy.faults.clear()
    said = f"{report} {lake!r} {lake.store!r} {lake.show('drive_00')} {refused.value} {caplog.text}"
    assert secrets_in(said.encode()) == []
    objects = [cloud.bucket.get(key) for key in cloud.bucket.keys("lake/")]
    assert len(objects) > 10 and [data for data in objects if secrets_in(data)] == []


def test_canaries_in_arguments(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As source, lake or picture: told with the hidden part left out, and nothing is written."""
    drives = str(write_drives(tmp_path / "drives", scenes=1, frames=2))
    lake, other = str(tmp_path / "lake"), str(tmp_path / "other")
    create(other)
    local = ("--executor", "local", "--encoder", "hashing")
    for command in (
        ("ingest", URIS[0], "--lake", lake, *local),
        ("ingest", drives, "--lake", URIS[0], *local),
        ("ls", URIS[1]),
        ("search", URIS[2], "anything"),
        ("search", other, "--image", URIS[3]),
    ):
        code, printed = call(capfd, monkeypatch, *command)
        assert code in (2, 4) and secrets_in(printed.encode()) == [], printed
    assert not Path(lake).exists()


def test_a_store_that_quotes_what_it_was_told(cloud: Cloud) -> None:  # noqa: F811
    """S3 repeats the key id and what was signed: neither Arrow's nor Lance's error brings it to the user."""
    told = failure(cloud.uri, ValueError(f"Generic S3 error: <AWSAccessKeyId>{KEY}</AWSAccessKeyId> {SECRET}"))
    assert isinstance(told, MinerError) and secrets_in(str(told).encode()) == []
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET
