"""Broken copies of every format through all of ingest: quarantined with the reason, nothing lost, never a hang."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embeddings.plugins import plugin_names
from miner.executor import LocalExecutor
from miner.lake import Lake, create
from miner.simulation import Spec, record
from tests.kitti import sweep, write_object, write_raw
from tests.mcaps import Sent, compressed_image, point_cloud, write_mcap
from tests.pictures import jpg, noise
from tests.recordings import write_drives
from tests.videos import write_video

Damage = Callable[[Path], object]
T0 = 1_600_000_000_000_000_000
ROOT = Path(__file__).resolve().parents[2]
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


def stamped(*times_ns: int) -> Damage:
    """The key frames of the nuScenes tables are of these times."""

    def damage(folder: Path) -> None:
        path = folder / "v1.0-mini" / "sample_data.json"
        rows = json.loads(path.read_text())
        for row, time_ns in zip(rows, times_ns, strict=True):
            row["timestamp"] = time_ns // 1000
        path.write_text(json.dumps(rows))

    return damage


def listed(*times_ns: int) -> bytes:
    return "".join(f"{time_ns}\n" for time_ns in times_ns).encode()


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
    ("nuscenes", replace("samples/LIDAR_TOP/*", sweep(400).tobytes()), "wrong-format"),  # KITTI's columns, size fits
    ("nuscenes", stamped(T0, T0 + 2 * 3600 * 10**9), "time-jump"),
    ("nuscenes", stamped(T0, 0), "time-jump"),
    ("nuscenes", stamped(T0, 1 << 63), "bad-row"),
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
    ("video", replace("*.txt", listed(*range(T0, T0 + 59 * 10**7, 10**7), T0)), "times-go-back"),
    ("video", replace("*.txt", listed(*range(T0, T0 + 59 * 10**7, 10**7), 2 * T0)), "time-jump"),
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


@pytest.mark.timeout(180)
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


def test_sweeps_without_points_leave_the_cameras(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    synthetic(source)
    for number, path in enumerate(matching(source, "**/*.bin")):
        path.write_bytes(b"" if number % 2 else bytes(2000))
    lake = taken_in(tmp_path / "lake", source, "synthetic", lambda folder: None)
    sweeps = lake.store.count("sample_data", "modality = 'lidar'")
    reasons = lake.store.scan("quarantine")["reason"].to_pylist()
    assert len(reasons) == sweeps and set(reasons) == {"empty-file", "no-points"}
    assert lake.store.count("assets") == lake.store.count("sample_data") - sweeps
    hits = lake.search("a truck", encoder="hashing")
    assert len(hits) == lake.store.count("clips") > 0


def test_a_truncated_recording_is_kept_as_far_as_it_goes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    mcap(source)
    whole = taken_in(tmp_path / "whole", source, "mcap", lambda folder: None).store.count("sample_data")
    cut("*.mcap", 0.6)(source)
    lake = taken_in(tmp_path / "cut", source, "mcap", lambda folder: None)
    kept = lake.store.count("sample_data")
    assert 0 < kept < whole and lake.store.count("assets") == kept and lake.store.count("quarantine") == 0
    assert "partial: drive.mcap is cut off" in lake.store.scan("scenes")["description"][0].as_py()


LIES = r"""
import re, sys
from pathlib import Path
from miner.decode import Recordings
from miner.errors import BadInput
from tests.faults.test_malformed import lies

def peak_mb():
    # not ru_maxrss: a child starts with that of its parent
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

def read(recordings, path, fileformat):
    try:
        read = recordings.read({"uri": str(path), "offset": None, "length": None, "fileformat": fileformat})
        read.decode(0)
    except BadInput as bad:
        return bad.reason

made = lies(Path(sys.argv[1]))
with Recordings() as recordings:
    for path, fileformat, _ in made:
        if path.stem == "small":
            read(recordings, path, fileformat)  # loads the libraries
    for path, fileformat, reason in made:
        before = peak_mb()
        assert read(recordings, path, fileformat) == reason, path
        most = 200 if path.name == "lie.jpg" else 32  # what a true picture of 64 MP takes, the most that is allowed
        assert peak_mb() - before < most, f"{path}: {peak_mb() - before:.0f} MB"
print("good")
"""


def lies(folder: Path) -> list[tuple[Path, str, str | None]]:
    """Small files whose headers claim gigabytes, and a large one; each with its format and the reason it is refused."""
    from PIL import Image

    from tests.pictures import encoded, patched_size, picture, png
    from tests.sweeps import npy, pcd

    side, small = 65_000, Image.fromarray(picture())
    bmp, gif = bytearray(encoded(small, "BMP")), bytearray(encoded(small, "GIF"))
    bmp[18:26] = side.to_bytes(4, "little") * 2
    gif[6:10] = side.to_bytes(2, "little") * 2
    header = npy(np.zeros((0, 4)))
    made: list[tuple[str, bytes, str, str | None]] = [
        ("small.jpg", jpg(noise()), "jpg", None),
        ("small.png", png(noise()), "png", None),
        ("small.bmp", encoded(small, "BMP"), "bmp", None),
        ("small.gif", encoded(small, "GIF"), "gif", None),
        ("bomb.jpg", patched_size(jpg(noise()), side, side), "jpg", "too-large"),
        ("bomb.png", patched_size(png(noise()), side, side), "png", "too-large"),
        ("bomb.bmp", bytes(bmp), "bmp", "too-large"),
        ("bomb.gif", bytes(gif), "gif", "too-large"),
        ("lie.png", patched_size(png(noise()), 8000, 8000), "png", "truncated-image"),
        ("lie.jpg", patched_size(jpg(noise()), 8000, 8000), "jpg", "truncated-image"),
        ("points.pcd", pcd(sweep(), POINTS=10**12, WIDTH=10**12), "pcd", "too-many-points"),
        ("negative.pcd", pcd(sweep(), POINTS=-1, WIDTH=-1), "pcd", "bad-pcd"),
        ("full.pcd", pcd(sweep(), POINTS=19_999_999, WIDTH=19_999_999), "pcd", "bad-pcd"),
        ("points.npy", header.replace(b"(0, 4)", b"(19999999, 4)"), "npy", "bad-npy"),
    ]
    for name, content, _, _ in made:
        (folder / name).write_bytes(content)
    with (folder / "points.bin").open("wb") as file:
        file.truncate(16 * 10**8)  # 100 million points; sparse, so it takes no space
    found: list[tuple[Path, str, str | None]] = [(folder / name, kind, reason) for name, _, kind, reason in made]
    return [*found, (folder / "points.bin", "kitti_bin", "too-large")]


def test_headers_that_lie_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIES, tmp_path], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout == "good\n", done.stderr


def test_a_frame_of_another_size_than_its_calibration_is_flagged(tmp_path: Path) -> None:
    from PIL import Image

    source = tmp_path / "source"
    source.mkdir()
    synthetic(source)
    resized = matching(source, "**/*.jpg")[1]
    with Image.open(resized) as picture:
        picture.resize((picture.width // 2, picture.height // 2)).save(resized, quality=95)
    lake = taken_in(tmp_path / "lake", source, "synthetic", lambda folder: None)
    flagged = [row for row in lake.store.scan("assets").to_pylist() if row["flags"]]
    uri = {row["sample_data_id"]: row["uri"] for row in lake.store.scan("sample_data").to_pylist()}
    assert [(uri[row["sample_data_id"]], row["flags"], row["width"]) for row in flagged] == [
        (str(resized), ["size-mismatch"], 32)
    ]
    assert lake.store.count("quarantine") == 0
