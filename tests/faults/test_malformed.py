"""Broken copies of every format through all of ingest: quarantined with the reason, nothing lost, never a hang."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embeddings.plugins import plugin_names
from miner.executor import LocalExecutor
from miner.lake import Lake, create
from miner.simulation import Spec, record
from tests.kitti import write_object, write_raw
from tests.mcaps import Sent, compressed_image, point_cloud, write_mcap
from tests.pictures import jpg, noise
from tests.recordings import write_drives
from tests.videos import write_video

Damage = Callable[[Path], object]
T0 = 1_600_000_000_000_000_000
DOUBLES = np.random.default_rng(0).normal(0, 20, (500, 4)).tobytes()  # a sweep in float64


def cut(pattern: str, share: float = 0.6) -> Damage:
    """Every file of a pattern ends at a share of its length."""

    def damage(folder: Path) -> None:
        for path in matching(folder, pattern):
            path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size) // 2 * 2 + 1])

    return damage


def flip(pattern: str, share: float = 0.5) -> Damage:
    """64 bytes inverted at a share of the length of every file of a pattern."""

    def damage(folder: Path) -> None:
        for path in matching(folder, pattern):
            data = bytearray(path.read_bytes())
            at = int(share * len(data))
            data[at : at + 64] = bytes(255 - byte for byte in data[at : at + 64])
            path.write_bytes(bytes(data))

    return damage


def replace(pattern: str, content: bytes) -> Damage:
    """Every file of a pattern holds something else."""
    return lambda folder: [path.write_bytes(content) for path in matching(folder, pattern)]


def remove(pattern: str) -> Damage:
    """Every file of a pattern is gone, once ingest has seen it."""
    return lambda folder: [path.unlink() for path in matching(folder, pattern)]


def matching(folder: Path, pattern: str) -> list[Path]:
    found = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
    assert found, f"nothing matches {pattern}"
    return found


def nuscenes(folder: Path) -> None:
    """A simulated drive as nuScenes tables: enough of them for key frames of a camera and the LiDAR."""
    record(Spec(scenes=1, seconds=1.0, width=64, height=36, beams=8, azimuths=90), folder / "made")
    files = {"CAM_FRONT": "*CAM_FRONT/*.jpg", "LIDAR_TOP": "*LIDAR_TOP/*.bin"}
    readings = []
    for channel, pattern in files.items():
        path = sorted((folder / "made").rglob(pattern))[0]
        target = folder / "samples" / channel / (path.name if channel == "CAM_FRONT" else f"{path.stem}.pcd.bin")
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
        row = {"token": channel, "sample_token": "k", "timestamp": T0 // 1000, "is_key_frame": True}
        readings.append(row | {"filename": str(target.relative_to(folder))})
    shutil.rmtree(folder / "made")
    tables = {
        "scene": [{"token": "s", "name": "scene-1"}],
        "sample": [{"token": "k", "scene_token": "s", "timestamp": T0 // 1000}],
        "sample_data": readings,
    }
    (folder / "v1.0-mini").mkdir()
    for name, rows in tables.items():
        (folder / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))


def synthetic(folder: Path) -> None:
    record(Spec(scenes=1, seconds=1.0, width=64, height=36, beams=8, azimuths=90), folder)


def mcap(folder: Path) -> None:
    points = np.zeros(200, np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("intensity", "f4")]))
    points["x"] = np.arange(200)
    sent = [
        message
        for n in range(4)
        for message in (
            Sent("/front", compressed_image(T0 + n, jpg(noise())), T0 + n),
            Sent("/lidar", point_cloud(points, T0 + n), T0 + n),
        )
    ]
    write_mcap(folder / "drive.mcap", sent)


def video(folder: Path) -> None:
    write_video(folder / "drive.mp4", 60)
    (folder / "drive.txt").write_text("".join(f"{T0 // 10**6 + 40 * n}\n" for n in range(60)))


MAKE: dict[str, Damage] = {
    "images": lambda folder: write_drives(folder, scenes=1, frames=3),
    "kitti_object": write_object,
    "kitti_raw": write_raw,
    "mcap": mcap,
    "nuscenes": nuscenes,
    "synthetic": synthetic,
    "video": video,
}
CASES: list[tuple[str, Damage, str]] = [
    ("images", cut("*/*.jpg"), "truncated-image"),
    ("images", flip("*/*.jpg", 0.7), "corrupt-image"),
    ("images", replace("*/*.jpg", b"<html>not found</html>"), "not-an-image"),
    ("images", remove("*/*.jpg"), "missing-file"),
    ("synthetic", cut("**/*.bin"), "bad-size"),
    ("synthetic", replace("**/*.bin", b""), "empty-file"),
    ("nuscenes", cut("samples/LIDAR_TOP/*"), "bad-size"),
    ("nuscenes", replace("samples/LIDAR_TOP/*", DOUBLES), "wrong-format"),
    ("nuscenes", cut("samples/CAM_FRONT/*"), "truncated-image"),
    ("nuscenes", remove("samples/LIDAR_TOP/*"), "missing-file"),
    ("nuscenes", flip("v1.0-mini/sample_data.json", 0.2), "bad-json"),
    ("kitti_raw", cut("*/*_sync/velodyne_points/data/*.bin"), "bad-size"),
    ("kitti_raw", replace("*/*_sync/velodyne_points/data/*.bin", DOUBLES), "wrong-format"),
    ("kitti_raw", flip("*/calib_velo_to_cam.txt"), "unreadable"),
    ("kitti_raw", remove("*/*_sync/velodyne_points/data/*.bin"), "missing-file"),
    ("kitti_object", cut("training/velodyne/*.bin"), "bad-size"),
    ("kitti_object", flip("training/label_2/*.txt", 0.2), "unreadable"),
    ("kitti_object", cut("training/calib/*.txt"), "bad-calibration"),
    ("video", cut("*.mp4"), "corrupt-video"),
    ("video", replace("*.mp4", b"\0" * 5000), "not-a-video"),
    ("video", replace("*.txt", b"1600000000000\n" * 7), "frame-count"),
    ("video", remove("*.mp4"), "missing-file"),
    ("mcap", flip("*.mcap", 0.5), "crc-mismatch"),
    ("mcap", replace("*.mcap", b"\x89MCAP0\r\n" + b"\0" * 500), "no-readings"),
    ("mcap", remove("*.mcap"), "missing-file"),
]


def taken_in(folder: Path, source: Path, reader: str, between: Damage) -> Lake:
    lake = create(folder, LocalExecutor(threads=2))
    lake.ingest(source, reader)
    between(source)
    lake.cut()
    lake.embed(["hashing", "descriptor"], "whole")
    lake.index()
    return lake


def test_every_reader_has_its_broken_copies() -> None:
    assert {name for name, _, _ in CASES} == set(MAKE) == set(plugin_names("miner.readers"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("reader", "damage", "reason"), CASES, ids=[f"{name}-{why}" for name, _, why in CASES])
def test_quarantined_with_the_reason(tmp_path: Path, reader: str, damage: Damage, reason: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    MAKE[reader](source)
    late = damage.__qualname__.startswith("remove")
    if not late:
        damage(source)
    lake = taken_in(tmp_path / "lake", source, reader, damage if late else lambda folder: None)
    bad = lake.store.scan("quarantine").to_pylist()
    assert bad and all(row["detail"] and str(source) in row["detail"] for row in bad)
    assert reason in {row["reason"] for row in bad}
    assert [check for check in lake.verify() if not check.ok] == []
    again = [lake.cut(), lake.embed(["hashing", "descriptor"]), *lake.index()]
    again += [] if late else [lake.ingest(source, reader)]
    assert not any(report.changed for report in again)


@pytest.mark.parametrize("reader", sorted(MAKE))
def test_whole_copies_have_no_quarantine(tmp_path: Path, reader: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    MAKE[reader](source)
    lake = taken_in(tmp_path / "lake", source, reader, lambda folder: None)
    readings = lake.store.count("sample_data")
    assert lake.store.count("quarantine") == 0 and lake.store.count("assets") == readings > 0
