"""Recordings for Rerun, read back by its own reader and compared with the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miner.decode import Recordings
from miner.decode.image import decode_image
from miner.decode.sweep import Sweep
from miner.errors import NotFound, UsageError
from miner.lake import Lake, create
from miner.moment import pose_of
from miner.rerun_log import TIMELINE
from miner.simulation import Spec, record
from tests.jobs.command import Miner, miner
from tests.miner.test_hits import hit, hits_of

__all__ = ["miner"]
pytest.importorskip("rerun")
SPEC = Spec(2, 3.0, camera_hz=2.0, lidar_hz=2.0, width=320, height=180, beams=8, azimuths=90, cameras=("CAM_FRONT",))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("rerun")
    record(SPEC, folder / "drives")
    made = create(folder / "lake")
    made.ingest(folder / "drives")
    made.cut(2)
    made.embed(["hashing"], "whole")
    return made


@pytest.fixture(scope="module")
def clip(lake: Lake) -> dict[str, Any]:
    row: dict[str, Any] = (
        lake.store.scan("clips").sort_by([("scene_id", "ascending"), ("start_ns", "ascending")])[:1].to_pylist()[0]
    )
    return row


Logged = dict[str, dict[int | None, dict[str, Any]]]


def read(path: Path) -> Logged:
    """What a file holds: by entity and time (nanoseconds, None: static) the values of each component."""
    from rerun.chunk import RrdReader

    logged: Logged = {}
    for chunk in RrdReader(path).stream().to_chunks():
        rows = chunk.to_record_batch()
        times = rows[TIMELINE].cast("int64").to_pylist() if TIMELINE in rows.schema.names else [None] * len(rows)
        assert chunk.is_static or chunk.timeline_names == [TIMELINE]
        for time, row in zip(times, rows.to_pylist(), strict=True):
            values = {name: value for name, value in row.items() if ":" in name and value is not None}
            logged.setdefault(chunk.entity_path, {}).setdefault(time, {}).update(values)
    return logged


def readings_of(lake: Lake, clip: dict[str, Any], modality: str) -> dict[int, dict[str, Any]]:
    """The clip's readings by time since its start."""
    where = f"scene_id = '{clip['scene_id']}' AND modality = '{modality}'"
    where += f" AND timestamp_ns >= {clip['start_ns']} AND timestamp_ns < {clip['end_ns']}"
    return {
        row["timestamp_ns"] - clip["start_ns"]: row for row in lake.store.scan("sample_data", filter=where).to_pylist()
    }


def test_cameras_and_sweeps(lake: Lake, clip: dict[str, Any], tmp_path: Path) -> None:
    logged = read(lake.to_rerun(clip["clip_id"], tmp_path / "x.rrd"))
    assert list(tmp_path.iterdir()) == [tmp_path / "x.rrd"]
    frames, sweeps = readings_of(lake, clip, "camera"), readings_of(lake, clip, "lidar")
    images, points = logged["/world/ego/CAM_FRONT/image"], logged["/world/ego/LIDAR_TOP/points"]
    assert images.keys() == frames.keys() and points.keys() == sweeps.keys() and len(sweeps) >= 3
    with Recordings() as recordings:
        for time, row in sweeps.items():
            swept = recordings.read(row)
            assert isinstance(swept, Sweep)
            np.testing.assert_array_equal(points[time]["Points3D:positions"], swept.points[:, :3])
        for time, row in frames.items():
            pixels = decode_image(bytes(images[time]["EncodedImage:blob"][0]), "jpg", "logged").astype(int)
            frame = recordings.read(row).decode(0).astype(int)  # type: ignore[union-attr]
            assert pixels.shape == (180, 320, 3) and np.abs(pixels - frame).mean() < 4
            matrix = logged["/world/ego/CAM_FRONT"][time]["Pinhole:image_from_camera"][0]
            np.testing.assert_allclose(np.reshape(matrix, (3, 3)).T.ravel(), row["intrinsic"], rtol=1e-6)


def test_poses_and_boxes_are_in_one_world(lake: Lake, clip: dict[str, Any], tmp_path: Path) -> None:
    logged = read(lake.to_rerun(clip["clip_id"], tmp_path / "x.rrd"))
    readings = {**readings_of(lake, clip, "camera"), **readings_of(lake, clip, "lidar")}
    first = min(readings)
    origin = np.array(readings[first]["global_SE3_ego"]["translation"])
    for time, row in readings.items():
        pose = logged["/world/ego"][time]
        expected = np.array(row["global_SE3_ego"]["translation"]) - origin
        np.testing.assert_allclose(pose["Transform3D:translation"][0], expected, atol=1e-4)
    assert len(logged["/world/way"][None]["LineStrips3D:strips"][0]) == len(readings_of(lake, clip, "camera")) + len(
        readings_of(lake, clip, "lidar")
    )
    notes = [
        n
        for n in lake.store.scan("annotations").to_pylist()
        if n["ego_SE3_object"] and n["scene_id"] == clip["scene_id"]
    ]
    assert logged["/world/boxes"]
    assert {note["sample_data_id"] for note in notes} == {None}
    for time, boxes in logged["/world/boxes"].items():
        assert time is not None
        own = [note for note in notes if note["timestamp_ns"] == clip["start_ns"] + time]
        assert [note["category"] for note in own] == boxes["Boxes3D:labels"]
        for note, centre, half in zip(own, boxes["Boxes3D:centers"], boxes["Boxes3D:half_sizes"], strict=True):
            nearest = readings[min(readings, key=lambda each: abs(each - time))]  # the simulator's boxes name none
            ego, box = pose_of(nearest["global_SE3_ego"]), pose_of(note["ego_SE3_object"])
            assert ego is not None and box is not None
            np.testing.assert_allclose(centre, (ego @ box).translation - origin, atol=1e-3)
            np.testing.assert_allclose(half, np.array(note["size_lwh"]) / 2, rtol=1e-6)


def test_hits_each_have_their_place(lake: Lake, tmp_path: Path) -> None:
    hits = lake.search("a truck", 2)
    logged = read(hits.to_rerun(tmp_path / "hits.rrd"))
    for found in hits:
        assert f"/hit_{found.rank}/world/ego/CAM_FRONT/image" in logged
        times = logged[f"/hit_{found.rank}/world/ego/CAM_FRONT/image"].keys()
        assert found.start_ns is not None and found.timestamp_ns - found.start_ns in times
    with pytest.raises(UsageError, match="no lake that is open"):
        hits_of(hit(1, "a.png")).to_rerun(tmp_path / "none.rrd")


def test_a_file_that_is_gone_is_said_in_its_place(tmp_path: Path) -> None:
    record(SPEC, tmp_path / "drives")
    lake = create(tmp_path / "lake")
    lake.ingest(tmp_path / "drives")
    lake.cut(2)
    gone = next((tmp_path / "drives").rglob("*.bin"))
    gone.unlink()
    scene = next(r for r in lake.store.scan("sample_data").to_pylist() if r["uri"] == str(gone))["scene_id"]
    logged = read(lake.to_rerun(scene, tmp_path / "x.rrd"))
    [problem] = logged["/problems"].values()
    assert "missing-file" in problem["TextLog:text"][0] and "LIDAR_TOP" in problem["TextLog:text"][0]


def test_by_command(lake: Lake, clip: dict[str, Any], tmp_path: Path, miner: Miner) -> None:
    done = miner("show", lake.uri, clip["clip_id"], "--rrd", tmp_path / "x.rrd")
    assert done.code == 0 and "/world/ego/CAM_FRONT/image" in read(tmp_path / "x.rrd")
    with pytest.raises(NotFound):
        lake.to_rerun("nothing", tmp_path / "y.rrd")
    assert not (tmp_path / "y.rrd").exists()
