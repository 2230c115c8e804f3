"""Files of a source: which are taken, and text that cannot be."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest

from miner.errors import BadInput
from miner.readers.sources import files_by_folder, read_text, table
from miner.schema import SCENES

_DAT = re.compile(r".+\.dat")


def test_files_folder_by_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ("b/2.dat", "b/10.dat", "b/x.txt", ".hidden/3.dat", ".4.dat", "__MACOSX/5.dat", "a é.dat")
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "out.dat").touch()
    (tmp_path / "in" / "out.dat").symlink_to(tmp_path / "out.dat")
    (tmp_path / "in" / "twin.dat").symlink_to(tmp_path / "in" / "b" / "2.dat")
    (tmp_path / "in" / "gone.dat").symlink_to(tmp_path / "none")
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    (tmp_path / "in" / "folder.dat").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe.dat")
    Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xff.dat")).touch()
    found = [[path.relative_to(tmp_path / "in").as_posix() for path in files] for files in _found(tmp_path / "in")]
    assert found == [["a é.dat", "twin.dat"], ["b/10.dat", "b/2.dat"]]
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    link, bytes_ = (record.message for record in caplog.records)
    assert "out.dat: leads out of" in link and "UTF-8" in bytes_
    assert _found(tmp_path / "out.dat") == [[tmp_path / "out.dat"]]
    assert _found(tmp_path / "in" / "b" / "x.txt") == _found(tmp_path / "none") == []


def _found(source: Path) -> list[list[Path]]:
    return list(files_by_folder(source, _DAT))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_that_may_be_listed_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "closed").mkdir()
    for name in ("closed/1.dat", "2.dat"):
        (tmp_path / name).touch()
    (tmp_path / "closed").chmod(0o600)
    try:
        assert _found(tmp_path) == [[tmp_path / "2.dat"]] and "closed/1.dat" in caplog.text
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_text_that_cannot_be_read(tmp_path: Path) -> None:
    root, secret = tmp_path / "root", tmp_path / "secret.txt"
    root.mkdir()
    secret.write_text("x")
    (root / "link.txt").symlink_to(secret)
    (root / "latin.txt").write_bytes(b"R: \xff")
    with (root / "huge.txt").open("wb") as file:
        file.truncate(10**12)  # sparse: takes no space
    for name, reason in (
        ("link.txt", "outside-source"),
        ("../secret.txt", "outside-source"),
        ("none.txt", "missing-file"),
        ("latin.txt", "unreadable"),
        ("huge.txt", "too-large"),
    ):
        with pytest.raises(BadInput, match=reason) as caught:
            read_text(root / name, root)
        assert str(root / name) in caught.value.detail


@pytest.mark.parametrize("row", [{}, {"start_ns": "x"}, {"start_ns": 1 << 64}, {"name": "\udcff"}])
def test_rows_that_no_table_can_hold(row: dict[str, object]) -> None:
    names = dict.fromkeys(("scene_id", "dataset", "log_id", "name"), "x")
    assert len(table([names | {"start_ns": 0, "end_ns": 1}], SCENES)) == 1
    with pytest.raises(BadInput, match="bad-row"):
        table([{**names, "end_ns": 1, **row}], SCENES)
