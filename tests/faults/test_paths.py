"""Links and names that lead out of a source, names of any kind, archives: what is named inside data opens no door."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from miner.executor import LocalExecutor
from miner.lake import Lake, create
from tests.faults.fuzzing import NUSCENES
from tests.faults.test_malformed import MAKE, matching
from tests.pictures import jpg, noise
from tests.recordings import write_frames

CANARY = b"canary: nobody may read this"
EVIL = "a\x1b[31mred\x1b[0m\u202eevil\nnew\tline\x07"


def linked(pattern: str) -> Callable[[Path, Path], None]:
    """Every file of a pattern, which may name folders, becomes a link to the same outside of the source."""

    def link(folder: Path, outside: Path) -> None:
        for number, path in enumerate(sorted(folder.glob(pattern))):
            shutil.move(path, outside / f"{number}-{path.name}")
            path.symlink_to(outside / f"{number}-{path.name}")

    return link


# Where a link that leaves the source may stand, by reader; None: its scenes are left out with a warning.
LINKS: list[tuple[str, str, str | None]] = [
    ("images", "*/*.jpg", None),
    ("images", "drive_00", None),
    ("video", "*.mp4", None),
    ("mcap", "*.mcap", None),
    ("nuscenes", "samples/CAM_FRONT/*", "outside-source"),
    ("nuscenes", "samples/LIDAR_TOP", "outside-source"),
    ("nuscenes", "samples", "outside-source"),
    ("nuscenes", "v1.0-mini/sample.json", "outside-source"),
    ("kitti_raw", "*/*_sync/velodyne_points/data/*.bin", "outside-source"),
    ("kitti_raw", "*/*_sync/velodyne_points", "outside-source"),
    ("kitti_raw", "*/calib_velo_to_cam.txt", "outside-source"),
    ("kitti_object", "training/velodyne/*.bin", "outside-source"),
    ("kitti_object", "training/label_2/*.txt", "outside-source"),
    ("synthetic", "*/LIDAR_TOP", "outside-source"),
    ("synthetic", "*/LIDAR_TOP/*.bin", "outside-source"),
]


@pytest.mark.parametrize(("reader", "pattern", "reason"), LINKS, ids=[f"{name}-{path}" for name, path, _ in LINKS])
def test_links_out_of_the_source(tmp_path: Path, reader: str, pattern: str, reason: str | None) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.mkdir()
    outside.mkdir()
    MAKE[reader](source)
    linked(pattern)(source, outside)
    if reason is None:
        write_frames(source / "other", 1) if reader == "images" else MAKE[reader](source / "other")
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    lake.ingest(source, reader)
    bad = lake.store.scan("quarantine").to_pylist()
    uris = lake.store.scan("sample_data", ["uri"])["uri"].to_pylist()
    assert not [uri for uri in uris if Path(uri.partition("#")[0]).resolve().is_relative_to(outside)]
    assert [row["reason"] for row in bad] == ([reason] * len(bad) if reason else [])
    assert bool(bad) == (reason is not None) and bool(uris) == (reason is None)
    assert all("leads out of" in row["detail"] and str(source) in row["detail"] for row in bad)


@pytest.mark.parametrize("reader", sorted(MAKE))
def test_the_source_itself_may_be_a_link(tmp_path: Path, reader: str) -> None:
    (tmp_path / "real").mkdir()
    MAKE[reader](tmp_path / "real")
    (tmp_path / "source").symlink_to(tmp_path / "real")
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    lake.ingest(tmp_path / "source", reader)
    assert lake.store.count("quarantine") == 0 and lake.store.count("sample_data") > 0


@pytest.mark.parametrize("label", ["labels/a/1.txt", "labels.json", "classes.txt"])
def test_labels_that_are_links_out_of_the_source(tmp_path: Path, label: str) -> None:
    source, outside = tmp_path / "source", tmp_path / "canary"
    for name in ("images/a/1.jpg", "labels/a/1.txt", label):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(jpg(noise()) if name.endswith("jpg") else b"0 0.5 0.5 0.1 0.1")
    outside.write_bytes(CANARY)
    (source / label).unlink()
    (source / label).symlink_to(outside)
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    lake.ingest(source)
    [row] = lake.store.scan("quarantine").to_pylist()
    assert row["reason"] == "outside-source" and CANARY.decode() not in row["detail"]


def nuscenes(folder: Path, changed: dict[str, list[dict[str, Any]]]) -> Path:
    (folder / "v1.0-mini").mkdir(parents=True)
    for name, rows in (NUSCENES | changed).items():
        (folder / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
    return folder


@pytest.mark.parametrize("name", ["../../canary", "/etc/passwd", "samples/../../canary", "a\\..\\canary", "a\0.jpg"])
def test_names_inside_data_that_leave_the_source(tmp_path: Path, name: str) -> None:
    (tmp_path / "canary").write_bytes(CANARY)
    reading = NUSCENES["sample_data"][0] | {"filename": name}
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    lake.ingest(nuscenes(tmp_path / "source" / "deep", {"sample_data": [reading]}))
    reasons = lake.store.scan("quarantine")["reason"].to_pylist()
    assert reasons == ["outside-source"] and lake.store.count("sample_data") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary", "lake", "source"]


def test_a_name_that_no_file_can_have_and_links_in_a_circle(tmp_path: Path) -> None:
    loop = tmp_path / "source" / "samples" / "loop.jpg"
    loop.parent.mkdir(parents=True)
    loop.symlink_to(loop)
    for name in ("samples/" + "y" * 4000 + ".jpg", "samples/loop.jpg"):
        shutil.rmtree(tmp_path / "source" / "v1.0-mini", ignore_errors=True)
        reading = NUSCENES["sample_data"][0] | {"filename": name}
        lake = create(tmp_path / f"lake-{len(name)}", LocalExecutor(threads=1))
        lake.ingest(nuscenes(tmp_path / "source", {"sample_data": [reading]}))
        lake.cut()
        lake.embed(["hashing"])
        assert lake.store.scan("quarantine")["reason"].to_pylist()[:1] == ["unreadable"]


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Scenes, channels and categories with names that no sane person gives."""
    folder = tmp_path_factory.mktemp("evil")
    names = [EVIL, "x" * 4096, "nul\0byte", "\ud800lone", "夜の運転", "../../etc", "", "e\u0301te\u0301", "नमस्ते 🚲"]
    tables = {
        "scene": [{"token": f"s{n}", "name": name} for n, name in enumerate(names)],
        "sample": [{"token": f"k{n}", "scene_token": f"s{n}", "timestamp": 10**15} for n in range(len(names))],
        "sample_data": [
            NUSCENES["sample_data"][0] | {"token": f"d{n}", "sample_token": f"k{n}", "filename": f"samples/{n}.jpg"}
            for n in range(len(names))
        ],
        "sensor": [{"token": "CAM_FRONT", "channel": f"CAM{EVIL}", "modality": "camera"}],
        "sample_annotation": [NUSCENES["sample_annotation"][0] | {"sample_token": "k0"}],
        "category": [{"token": "c", "name": EVIL}],
    }
    source = nuscenes(folder / "source", tables)
    (source / "samples").mkdir()
    for n in range(len(names)):
        (source / "samples" / f"{n}.jpg").write_bytes(jpg(noise()))
    lake = create(folder / "lake", LocalExecutor(threads=1))
    lake.ingest(source)
    lake.cut()
    lake.embed(["hashing"], "whole")
    lake.index()
    return lake


def test_odd_names_lose_nothing(evil: Lake) -> None:
    names = evil.store.scan("scenes", ["name"])["name"].to_pylist()
    assert len(names) == len(set(names)) == 9 and all(name.isprintable() and len(name) <= 256 for name in names)
    assert {"夜の運転", "../../etc", "e\u0301te\u0301", "नमस्ते 🚲"} < set(names)  # what can be read and typed stays
    assert evil.store.count("quarantine") == 0 and evil.store.count("assets") == 9
    assert [check for check in evil.verify() if not check.ok] == []


@pytest.mark.parametrize("verb", ["ls", "show", "verify", "search", "rare", "show-annotated"])
def test_odd_names_do_nothing_to_a_terminal(
    evil: Lake, verb: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"show": ["夜の運転"], "search": ["rain"], "show-annotated": []}.get(verb, [])
    if verb == "show-annotated":
        [scene] = evil.store.scan("annotations", ["scene_id"])["scene_id"].to_pylist()
        verb, arguments = "show", [scene]
    monkeypatch.setattr(sys, "argv", ["miner", verb, evil.uri, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert not ended.value.code and out and not set(out + err) & set("\x1b\u202e\x07\t")


def test_file_names_of_any_kind(tmp_path: Path) -> None:
    """Whatever a file system allows and a table can hold is taken in, whole."""
    names = [
        "a\nb",
        "tab\t",
        "夜",
        "e\u0301",
        "\u202egpj",
        "'; --",
        'quo"te',
        "x" * 240,
        "100%",
        "a#b",
        "a?b",
        "sp ace",
    ]
    [frame] = write_frames(tmp_path / "frame", 1)
    for number, name in enumerate(names):
        folder = tmp_path / "source" / (name if len(name) < 200 else f"long{number}")
        folder.mkdir(parents=True)
        shutil.copy(frame, folder / f"{name}.jpg")
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    lake.ingest(tmp_path / "source")
    lake.cut()
    lake.embed(["hashing"], "whole")
    lake.index()
    assert lake.store.count("scenes") == lake.store.count("assets") == len(names)
    assert lake.store.count("quarantine") == 0 and [check for check in lake.verify() if not check.ok] == []


@pytest.mark.parametrize("name", ["a\nb", "", "../x", "a/b", "\u202ex", "x" * 4096, "\x1b[31m", "-x", "."])
def test_names_that_users_give_are_checked_before_anything_is_made(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_frames(tmp_path / "source", 1)
    options = ["--executor", "local", "--encoder", "hashing", f"--dataset={name}"]
    command = ["miner", "ingest", str(tmp_path / "source"), "--lake", str(tmp_path / "lake"), *options]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    _, err = capfd.readouterr()
    assert ended.value.code == 2 and "not a name" in err and "Allowed" in err and "\x1b" not in err
    assert not (tmp_path / "lake").exists()


def test_archives_are_not_opened(tmp_path: Path) -> None:
    """Nothing of ours unpacks archives yet: one in a source is no recording, and its members are written nowhere."""
    import zipfile

    source = tmp_path / "source"
    write_frames(source / "drive", 1)
    with zipfile.ZipFile(source / "drives.zip", "w") as archive:
        archive.writestr("../../escaped.jpg", jpg(noise()))
    before = {path for path in tmp_path.rglob("*")}
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    lake.ingest(source)
    assert lake.store.count("sample_data") == 1
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "lake")} == before
    assert matching(source, "*.zip")
