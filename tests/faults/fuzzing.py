"""Fuzzing in a process of its own: `python -m tests.faults.fuzzing SEED KIND:FIRST:LAST ...`.

Each case is made from the seed and its own number alone. A line says that a case begins, a line what became of it, so a
crash of the process or a hang (the watchdog ends it) names its case. The functions called are those that embed calls.
"""

from __future__ import annotations

import faulthandler
import json
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from miner.decode import Recordings
from miner.decode.quality import quality_of
from miner.decode.sweep import Sweep
from miner.decode.views import crop_views, min_side_for, regions
from miner.embed import sweep_points
from miner.errors import BadInput, UsageError
from miner.ids import is_token
from miner.readers import Reader
from miner.readers.mcap import McapReader
from miner.readers.nuscenes import NuScenesReader
from miner.readers.video import VideoReader
from tests.faults.mutations import mutated
from tests.mcaps import LAYOUTS, Sent, camera_info, compressed_image, fix, image, point_cloud, transforms, write_mcap
from tests.pictures import encoded, jpg, noise, picture, png
from tests.sweeps import ENCODERS
from tests.videos import write_video

LIMIT_S = 20.0
Case = Callable[[random.Random], str]
_POSE = {"translation": [1, 2, 0], "rotation": [1, 0, 0, 0]}
NUSCENES: dict[str, list[dict[str, Any]]] = {
    "scene": [{"token": "s", "name": "scene-1", "log_token": "l"}, {"token": "t", "name": "scene-2"}],
    "log": [{"token": "l", "location": "boston", "vehicle": "n008"}],
    "sample": [{"token": "k", "scene_token": "s", "timestamp": 10**15}],
    "sample_data": [
        {"token": name, "sample_token": "k", "timestamp": 10**15, "is_key_frame": True, "ego_pose_token": "p"}
        | {"filename": f"samples/{name}/1.jpg", "calibrated_sensor_token": name}
        for name in ("CAM_FRONT", "LIDAR_TOP")
    ],
    "ego_pose": [{"token": "p", **_POSE}],
    "calibrated_sensor": [
        {"token": name, "sensor_token": name, "camera_intrinsic": [[700, 0, 40], [0, 700, 24], [0, 0, 1]], **_POSE}
        for name in ("CAM_FRONT", "LIDAR_TOP")
    ],
    "sensor": [
        {"token": "CAM_FRONT", "channel": "CAM_FRONT", "modality": "camera"},
        {"token": "LIDAR_TOP", "channel": "LIDAR_TOP", "modality": "lidar"},
    ],
    "sample_annotation": [
        {"token": "b", "sample_token": "k", "instance_token": "i", "visibility_token": "4", "attribute_tokens": ["a"]}
        | {"size": [2, 4, 1], "num_lidar_pts": 7, **_POSE}
    ],
    "instance": [{"token": "i", "category_token": "c"}],
    "category": [{"token": "c", "name": "car"}],
    "attribute": [{"token": "a", "name": "parked"}],
    "visibility": [{"token": "4", "level": "v80-100"}],
}
_ODD: list[Any] = [None, True, 0, -1, 1.5, 1e308, float("inf"), float("nan"), 10**30, "", "x" * 5000, "\0", "\ud800"]
_ODD += ["a\nb\x1b[2J", "../../etc/passwd", "/etc/passwd", "s", [], {}, [[]], {"a": [1]}, [1, 2, 3], ["a", 1]]
_ODD += [[0, 0, 0, 0], [1e308] * 3]


def read_fully(recordings: Recordings, row: Mapping[str, Any]) -> None:
    """Everything embed does with a reading before an encoder sees it."""
    read = recordings.read(row)
    if isinstance(read, Sweep):
        assert np.isfinite(sweep_points(read, 4096)[:, :3]).all() and len(read.points)
        return
    parts = regions(read.width, read.height, "whole+tiles")
    pixels = read.decode(min_side_for(224))
    quality_of(pixels)
    assert crop_views(pixels, parts, 224).shape == (len(parts), 224, 224, 3)


def one_file(seeds: Sequence[tuple[str, bytes]], folder: Path) -> Case:
    """Cases of one reading a file: `seeds` are file formats and whole files."""

    def case(chance: random.Random) -> str:
        fileformat, content = chance.choice(seeds)
        path = folder / "reading"
        path.write_bytes(mutated(content, [data for _, data in seeds], chance))
        with Recordings() as recordings:
            row = {"uri": str(path), "offset": None, "length": None, "fileformat": fileformat}
            return _outcome(lambda: read_fully(recordings, row))

    return case


def container(seeds: Sequence[Path], folder: Path, kind: Callable[[str], Reader], most: int) -> Case:
    """Cases of many readings a file: the reader's rows, then at most `most` of the readings."""

    def case(chance: random.Random) -> str:
        seed = chance.choice(seeds)
        path = folder / f"drive{seed.suffix}"
        path.write_bytes(mutated(seed.read_bytes(), [each.read_bytes() for each in seeds], chance))
        rows: list[Mapping[str, Any]] = []
        found = _outcome(lambda: rows.extend(kind(str(path)).read(path.name).sample_data.to_pylist()))
        with Recordings() as recordings:
            outcomes = {_outcome(lambda row=row: read_fully(recordings, row)) for row in rows[:most]}  # type: ignore[misc]
        return found if found != "read" else "read" if outcomes <= {"read"} else "read in part"

    return case


def _outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except BadInput as bad:
        assert "/" in bad.detail or ".json" in bad.detail, f"no file in {bad.detail!r}"
        return bad.reason
    except UsageError as error:
        return type(error).__name__
    return "read"


def pictures() -> list[tuple[str, bytes]]:
    """Whole pictures of every kind of JPEG, and of the other formats."""
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth, rough = Image.fromarray(picture(90, 160)), Image.fromarray(noise(64, 96))
    jpegs = [jpg(picture(120, 200)), jpg(noise()), encoded(smooth, "JPEG", exif=exif)]
    jpegs += [encoded(smooth, "JPEG", progressive=True), encoded(smooth.convert("L"), "JPEG")]
    jpegs += [encoded(rough.convert("CMYK"), "JPEG"), encoded(rough, "JPEG", restart_marker_blocks=2)]
    return [("jpg", data) for data in jpegs]


def other_pictures() -> list[tuple[str, bytes]]:
    """Whole pictures that are no JPEG."""
    smooth = Image.fromarray(picture(60, 90))
    found = [("png", png(noise())), ("png", encoded(smooth.convert("P"), "PNG")), ("bmp", encoded(smooth, "BMP"))]
    found += [("tiff", encoded(smooth, "TIFF", compression=name)) for name in ("raw", "tiff_lzw", "tiff_adobe_deflate")]
    found += [("webp", encoded(smooth, "WEBP", lossless=flag)) for flag in (True, False)]
    return [*found, ("gif", encoded(smooth, "GIF"))]


def sweeps() -> list[tuple[str, bytes]]:
    """Whole sweeps of every format."""
    return [(name.partition(" ")[0], make()) for name, make in ENCODERS.items()]


def mcaps(folder: Path) -> list[Path]:
    """Small recordings with everything that is read, in every way to lay out a file."""
    points = np.zeros(200, np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("intensity", "f4")]))
    points["x"] = np.arange(200)
    pose = {"translation": [1.0, 2.0, 3.0], "rotation_wxyz": [1.0, 0.0, 0.0, 0.0]}
    sent = [Sent("/tf_static", transforms(("base_link", "cam", pose)), 1), Sent("/fix", fix(1.3, 103.8), 1)]
    sent += [Sent("/front/camera_info", camera_info("cam", [700.0, 0, 40, 0, 700, 24, 0, 0, 1], ()), 1)]
    for n in range(1, 5):
        sent.append(Sent("/front/image", compressed_image(n * 10**9, jpg(noise())), n * 10**9))
        sent.append(Sent("/raw", image(noise(), "rgb8", n * 10**9), n * 10**9))
        sent.append(Sent("/lidar", point_cloud(points, n * 10**9), n * 10**9))
        sent.append(Sent("/tf", transforms(("map", "base_link", pose), stamp_ns=n * 10**9), n * 10**9))
    none = {"enable_crcs": False, "enable_data_crcs": False}  # else damage is found before it is parsed
    layouts = {**LAYOUTS, **{f"{name} without CRCs": options | none for name, options in LAYOUTS.items()}}
    return [write_mcap(folder / f"{name}.mcap", sent, **options) for name, options in layouts.items()]


def videos(folder: Path) -> list[Path]:
    """Short videos: MP4 with its tables behind, before and in fragments, Matroska and AVI."""
    fragmented = "frag_keyframe+empty_moov+default_base_moof"
    made = [write_video(folder / "plain.mp4", 20), write_video(folder / "fast.mp4", 20, movflags="faststart")]
    made += [write_video(folder / "parts.mp4", 20, movflags=fragmented)]
    return [*made, write_video(folder / "plain.mkv", 20), write_video(folder / "plain.avi", 20, name="mpeg4")]


def tables(folder: Path) -> Case:
    """nuScenes tables in which values, fields and rows were changed: all scenes, then all readings."""

    def case(chance: random.Random) -> str:
        changed = json.loads(json.dumps(NUSCENES))
        for _ in range(chance.randrange(1, 5)):
            rows = changed[chance.choice(sorted(changed))]
            _change(rows, chance) if rows else None
        (folder / "v1.0-mini").mkdir(exist_ok=True)
        for name, rows in changed.items():
            (folder / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
        return _outcome(lambda: _read_all(NuScenesReader(str(folder))))

    return case


def _change(rows: list[dict[str, Any]], chance: random.Random) -> None:
    row = chance.choice(rows)
    match chance.randrange(5):
        case 0:
            rows.remove(row)
        case 1:
            rows.append(dict(row))
        case 2 if row:
            row.pop(chance.choice(sorted(row)), None)
        case _ if row:
            row[chance.choice(sorted(row))] = chance.choice(_ODD)


def _read_all(reader: Reader) -> None:
    for scene in reader.scenes():
        assert scene.scene_id.isalnum() and scene.name.isprintable()
        assert all(is_token(key) for key in reader.read(scene.name).sample_data["sample_data_id"].to_pylist())


def cases(kind: str, folder: Path) -> Case:
    """The cases of a kind."""
    (folder / "seeds").mkdir(parents=True)
    if kind == "filter":
        from tests.faults.filters import case

        return case
    if kind == "tables":
        return tables(folder)
    if kind == "mcap":
        return container(mcaps(folder / "seeds"), folder, McapReader, 12)
    if kind == "video":
        return container(videos(folder / "seeds"), folder, lambda path: VideoReader(path, frames="all"), 20)
    return one_file({"jpg": pictures, "picture": other_pictures, "sweep": sweeps}[kind](), folder)


def run(kind: str, seed: int, first: int, last: int, case: Case) -> dict[str, Any]:
    """What became of the cases: how many of each outcome, the slowest, and the traces of what must not be."""
    counts: Counter[str] = Counter()
    slowest, errors = (0.0, first), []
    for number in range(first, last):
        sys.stderr.write(f"begin {kind} {seed} {number}\n")
        sys.stderr.flush()
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        started = time.perf_counter()
        try:
            counts[case(random.Random(f"{kind} {seed} {number}"))] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            errors.append(f"case {number}: {''.join(traceback.format_exception(error))}")
        slowest = max(slowest, (time.perf_counter() - started, number))
        faulthandler.cancel_dump_traceback_later()
    peak_mb = int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) // 1024
    return {"kind": kind, "counts": dict(counts), "slowest_s": slowest, "peak_mb": peak_mb, "errors": errors}


def main(seed: int, wanted: Sequence[str]) -> None:
    """Run cases of some kinds and print what became of them, a JSON document a line."""
    with tempfile.TemporaryDirectory() as folder:
        for each in wanted:
            kind, first, last = each.split(":")
            found = run(kind, seed, int(first), int(last), cases(kind, Path(folder, kind)))
            sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
