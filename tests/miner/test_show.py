"""Moments and their pictures, on simulated drives whose every box is known."""

from __future__ import annotations

import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kernels.boxes import points_in_box
from kernels.se3 import SE3
from miner.decode import Recordings
from miner.errors import NotFound, UsageError
from miner.executor import LocalExecutor
from miner.lake import Lake, create
from miner.moment import Moment, moment, pose_of
from miner.show import colour_of, figure, figure_png
from miner.simulation import Spec, record
from miner.thumbnail import WIDTH_PX, ego_points, thumbnail
from tests.pictures import noise, png

SPEC = Spec(scenes=1, seconds=2.0, camera_hz=2.0, lidar_hz=2.0, width=128, height=72, beams=16, azimuths=180, seed=3)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("show")
    record(SPEC, folder / "drives")
    lake = create(folder / "lake", LocalExecutor(threads=2))
    lake.ingest(folder / "drives")
    lake.cut(2)
    lake.embed(["hashing"], "whole")
    lake.index()
    return lake


@pytest.fixture(scope="module")
def seen(lake: Lake) -> Moment:
    return moment(lake.store, lake.store.scan("clips")["clip_id"][0].as_py())


def pixels_of(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def test_one_reading_of_each_channel_at_one_time(lake: Lake, seen: Moment) -> None:
    assert [camera["channel"] for camera in seen.cameras] == ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"]
    assert seen.sweep is not None and seen.sweep["channel"] == "LIDAR_TOP"
    assert seen.start_ns <= seen.time_ns < seen.end_ns and len(seen.readings) == lake.store.count("sample_data")
    for reading in (*seen.cameras, seen.sweep):
        assert abs(reading["timestamp_ns"] - seen.time_ns) <= 250_000_000


def test_boxes_are_those_of_the_annotated_time(lake: Lake, seen: Moment) -> None:
    notes = [note for note in lake.store.scan("annotations").to_pylist() if note["ego_SE3_object"]]
    times = {note["timestamp_ns"] for note in notes}
    nearest = min(times, key=lambda time: abs(time - seen.time_ns))
    expected = sorted(note["category"] for note in notes if note["timestamp_ns"] == nearest)
    assert expected and sorted(box.category for box in seen.boxes) == expected


def test_points_lie_in_the_boxes_that_say_so(lake: Lake, seen: Moment) -> None:
    """What the annotation counted in the sensor's frame is what the picture's frame holds."""
    assert seen.sweep is not None
    with Recordings() as recordings:
        xyz = ego_points(recordings, seen.sweep)[:, :3]
    notes = [n for n in lake.store.scan("annotations").to_pylist() if n["timestamp_ns"] == seen.sweep["timestamp_ns"]]
    counted = [(note, note["num_lidar_pts"]) for note in notes if note["ego_SE3_object"] and note["num_lidar_pts"]]
    assert counted
    for note, count in counted:
        pose = pose_of(note["ego_SE3_object"])
        assert pose is not None
        grown = np.array(note["size_lwh"]) + 0.1  # measured ranges are noisy
        assert points_in_box(xyz, pose, grown).sum() >= 0.5 * count


def test_another_time_and_other_names(lake: Lake, seen: Moment) -> None:
    reading = seen.cameras[0]
    assert moment(lake.store, reading["sample_data_id"]).time_ns == reading["timestamp_ns"]
    assert moment(lake.store, reading["sample_data_id"]).clip_id == seen.clip_id
    assert moment(lake.store, seen.scene["name"]).scene == seen.scene
    assert moment(lake.store, seen.scene["name"], seen.start_ns).time_ns == seen.start_ns
    with pytest.raises(NotFound, match="'nothing'"):
        moment(lake.store, "nothing")


def test_the_way_to_a_camera_goes_through_both_poses(seen: Moment) -> None:
    camera = seen.cameras[0]
    assert seen.sweep is not None
    found = seen.camera_SE3_ego(camera)
    mount, at_camera = pose_of(camera["ego_SE3_sensor"]), pose_of(camera["global_SE3_ego"])
    at_sweep = pose_of(seen.sweep["global_SE3_ego"])
    assert found is not None and mount is not None and at_camera is not None and at_sweep is not None
    point = np.array([10.0, 2.0, 1.0])
    expected = (at_camera @ mount).inverse().transform(at_sweep.transform(point))
    np.testing.assert_allclose(found.transform(point), expected, atol=1e-9)
    assert seen.camera_SE3_ego({**camera, "ego_SE3_sensor": None}) is None
    assert isinstance(seen.camera_SE3_ego({**camera, "global_SE3_ego": None}), SE3)


def test_the_figure_has_all_parts(seen: Moment) -> None:
    drawn = figure(seen)
    titles = {axes.get_title(loc="left") for axes in drawn.axes}
    assert {"CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"} < titles
    assert any(title.startswith("LIDAR_TOP") for title in titles) and len(drawn.axes) == 5
    birds_eye = next(axes for axes in drawn.axes if axes.get_title(loc="left").startswith("LIDAR_TOP"))
    assert len(birds_eye.lines) == 2 * len(seen.boxes) + 1 and len(birds_eye.collections) == 1
    timeline = drawn.axes[0]
    assert [label.get_text() for label in timeline.get_yticklabels()] == [*sorted({*titles} - {""})[:3], "LIDAR_TOP"]


def test_the_png_shows_pictures(seen: Moment) -> None:
    pixels = pixels_of(figure_png(seen, "a $title$"))
    assert pixels.shape[1] > 1000 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000


def test_a_lost_file_is_named_in_its_place(seen: Moment) -> None:
    lost = tuple({**camera, "uri": "/nowhere/lost.jpg"} for camera in seen.cameras)
    drawn = figure(replace(seen, cameras=lost, sweep={**seen.sweep, "uri": "/nowhere/lost.bin"}))  # type: ignore[dict-item]
    texts = [text.get_text().replace("\n", "") for axes in drawn.axes for text in axes.texts]
    assert sum("lost.jpg" in text for text in texts) == 3 and sum("lost.bin" in text for text in texts) == 1


def test_cameras_alone_and_a_sweep_alone(seen: Moment) -> None:
    assert len(figure(replace(seen, sweep=None)).axes) == 4
    assert len(figure(replace(seen, cameras=())).axes) == 2


def test_names_are_text_and_no_mathematics(seen: Moment) -> None:
    odd = "CAM_$x^{$_\N{CJK UNIFIED IDEOGRAPH-524D}"
    readings = seen.readings.set_column(0, "channel", pa.array([odd] * len(seen.readings)))
    cameras = tuple({**camera, "channel": odd} for camera in seen.cameras)
    named = replace(seen, cameras=cameras, sweep={**(seen.sweep or {}), "channel": odd}, readings=readings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels_of(figure_png(named, odd)).std() > 5


@pytest.mark.parametrize("count", [0, 3])
def test_a_moment_without_pictures_is_a_timeline(seen: Moment, count: int) -> None:
    readings = seen.readings.slice(0, count)
    bare = replace(seen, cameras=(), sweep=None, boxes=(), marks={}, readings=readings)
    [timeline] = figure(bare).axes
    assert len(timeline.get_yticks()) == len(set(readings["channel"].to_pylist()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(pixels_of(figure_png(bare))) < 250


def test_a_hit_shows_itself(lake: Lake) -> None:
    hits = lake.search("night", k=1)
    assert pixels_of(hits[0].show()._repr_png_()).std() > 5
    with pytest.raises(UsageError, match="no lake"):
        replace(hits[0], store=None).show()


def test_thumbnails(seen: Moment) -> None:
    assert seen.sweep is not None
    with Recordings() as recordings:
        assert thumbnail(recordings, seen.cameras[0]).shape == (72, 128, 3)
        above = thumbnail(recordings, seen.sweep)
    assert above.shape == (WIDTH_PX, WIDTH_PX, 3) and 0.001 < (above.max(axis=2) > 0).mean() < 0.9


@pytest.mark.parametrize(("height", "width"), [(250, 4000), (2, 30), (1, 1), (30, 2)])
def test_a_thumbnail_of_an_odd_shape_has_pixels(tmp_path: Path, height: int, width: int) -> None:
    (tmp_path / "a.png").write_bytes(png(noise(height, width)))
    reading = {"uri": str(tmp_path / "a.png"), "offset": None, "length": None, "fileformat": "png"}
    with Recordings() as recordings:
        assert thumbnail(recordings, reading).size


def test_colours_tell_kinds_apart() -> None:
    names = ["human.pedestrian.adult", "vehicle.bicycle", "vehicle.truck", "Car", "animal", "something"]
    assert len({colour_of(name) for name in names}) == len(names)
