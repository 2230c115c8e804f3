"""Reading whole files and ranges of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miner.decode.files import _open_remote, _read, read_bytes, shown, store_failures
from miner.errors import BadInput, MinerError


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_reads_whole_and_part(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "a file.bin"
    path.write_bytes(bytes(range(100)))
    uri = scheme + (str(path).replace(" ", "%20") if scheme else str(path))
    assert read_bytes(uri) == bytes(range(100))
    assert read_bytes(uri, 10, 5) == bytes(range(10, 15))
    assert read_bytes(uri, 90) == bytes(range(90, 100))
    assert read_bytes(uri, 5, 0) == b""


def test_other_filesystems_through_arrow(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(range(100)) * 30_000)
    for offset, length in ((0, None), (98, 5), (7, 2_500_000), (2_999_990, None), (2_999_990, 20), (9_000_000, None)):
        with _open_remote(path.as_uri()) as file, path.open("rb") as plain:
            plain.seek(offset)
            assert _read(file, offset, length) == plain.read(-1 if length is None else length)


@pytest.mark.parametrize(("offset", "length"), [(0, 101), (99, 2), (500, 1)])
def test_a_range_past_the_end(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(100))
    with pytest.raises(BadInput, match="truncated-file") as caught:
        read_bytes(str(path), offset, length)
    assert str(length) in caught.value.detail


@pytest.mark.parametrize(
    ("name", "reason"), [("none.jpg", "missing-file"), ("", "unreadable"), ("nul\0.jpg", "unreadable")]
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_bytes(f"{tmp_path}/{name}")
    assert caught.value.reason == reason and str(tmp_path) in caught.value.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(BadInput, match="unreadable"):
        read_bytes(str(path))


@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(BadInput, match="unreadable"):
        read_bytes(str(tmp_path / "pipe.jpg"))


@pytest.mark.parametrize("uri", ["nosuch://key:canary@bucket/a.jpg?token=canary", "s3://key:canary@bucket/a b?canary"])
def test_no_secrets_in_messages(uri: str) -> None:
    with pytest.raises(BadInput, match="unreadable") as caught:
        read_bytes(uri)
    assert "//bucket/a" in caught.value.detail and "canary" not in caught.value.detail


def test_what_is_shown_of_a_uri() -> None:
    assert shown("s3://bucket/a.jpg?X-Amz-Signature=canary") == "s3://bucket/a.jpg"
    assert shown("/data/what?/a@b.jpg") == "/data/what?/a@b.jpg"


def test_a_store_that_fails_behind_an_open_file_is_told_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container stays open between two readings; what then goes wrong is of its store, not of the lake's."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(MinerError, match="s3://recordings") as raised, store_failures("s3://recordings/a.mp4"):
        raise OSError("When reading information for key 'a.mp4': AWS Error SLOW_DOWN during GetObject")
    assert "127.0.0.1:1" in raised.value.message
    with pytest.raises(OSError, match="of the decoder"), store_failures("s3://recordings/a.mp4"):
        raise OSError("of the decoder")
