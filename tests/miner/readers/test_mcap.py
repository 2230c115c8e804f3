"""The MCAP reader: recordings of other sources give the sources' tables back; every rule on small made-up files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import Writer
from scipy.spatial.transform import Rotation, Slerp

from kernels.se3 import SE3
from miner.decode import Recordings
from miner.decode.image import Picture
from miner.decode.ros import Cdr
from miner.decode.sweep import Sweep
from miner.errors import BadInput, NotFound
from miner.readers import SceneTables
from miner.readers.mcap import McapReader
from miner.readers.nuscenes import NuScenesReader
from miner.readers.ros import CameraInfo, TransformTree, calibration_of, clock_of, distinct
from miner.readers.synthetic import SyntheticReader
from miner.simulation.recording import record
from miner.simulation.spec import Spec
from tests.kitti import write
from tests.mcaps import (
    LAYOUTS,
    Sent,
    camera_info,
    compressed_image,
    counted,
    fix,
    image,
    make,
    point_cloud,
    recorded,
    serialised,
    topic_of,
    transforms,
    write_mcap,
)
from tests.pictures import jpg, picture
from tests.sweeps import nuscenes_sweep

_S = 10**9
_T0 = 1_600_000_000 * _S
_POSE = {"translation": [1.0, 2.0, 3.0], "rotation_wxyz": [0.5, 0.5, -0.5, 0.5]}
_STILL = {"translation": [0.0, 0.0, 0.0], "rotation_wxyz": [1.0, 0.0, 0.0, 0.0]}
_POINTS = np.zeros(3, [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])


def _camera(topic: str = "/front/image_raw", stamp_ns: int = _T0, log_ns: int = _T0, frame: str = "cam") -> Sent:
    return Sent(topic, compressed_image(stamp_ns, b"", frame), log_ns)


def _read(path: Path, messages: Iterable[Sent], topics: tuple[str, ...] = (), **options: Any) -> SceneTables:
    write_mcap(path / "a.mcap", messages, **options)
    return McapReader(str(path), topics=",".join(topics)).read("a.mcap")


def _description(tables: SceneTables) -> str:
    return tables.scenes["description"].to_pylist()[0] or ""


# ---- whole recordings against their source ----


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> SceneTables:
    """The tables of a simulated drive, with any pictures and sweeps on disk."""
    folder = tmp_path_factory.mktemp("drive")
    record(Spec(scenes=1, seconds=0.6, camera_hz=5.0, lidar_hz=5.0, pixels=False), folder)
    reader = SyntheticReader(str(folder))
    tables = reader.read(next(iter(reader.scenes())).name)
    for number, row in enumerate(tables.sample_data.to_pylist()):
        camera = row["modality"] == "camera"
        write(
            Path(row["uri"]),
            jpg(np.roll(picture(), 3 * number, axis=1)) if camera else nuscenes_sweep(seed=number).tobytes(),
        )
    return tables


def _same_as_source(path: Path, source: SceneTables, layout: str) -> None:
    """Write the source as an MCAP file; its tables must come back, and its bytes and points by byte range."""
    write_mcap(path / "a.mcap", recorded(source), **LAYOUTS[layout])
    got = McapReader(str(path)).read("a.mcap")
    want = {
        (topic_of(row["channel"], row["modality"]), row["timestamp_ns"]): row
        for row in source.sample_data.to_pylist()
        if row["modality"] != "radar"
    }
    rows = {(row["channel"], row["timestamp_ns"]): row for row in got.sample_data.to_pylist()}
    assert rows.keys() == want.keys() and len(rows) == len(got.sample_data)
    assert got.scenes["location"].to_pylist() == ["1.29720, 103.78700"] and _description(got) == ""
    topics = Counter(row["channel"] for row in rows.values())
    assert topics == {topic: count for topic, count in counted(path / "a.mcap").items() if topic in topics}
    with Recordings() as recordings:
        for key, row in rows.items():
            _same_row(row, want[key])
            read = recordings.read(row)
            if isinstance(read, Picture):
                assert read.data == Path(want[key]["uri"]).read_bytes()
            else:
                stored = np.fromfile(want[key]["uri"], np.float32).reshape(-1, 5)
                np.testing.assert_array_equal(read.points, stored)


def _same_row(row: dict[str, Any], want: dict[str, Any]) -> None:
    assert row["modality"] == want["modality"] and row["is_key_frame"]
    assert row["intrinsic"] == want["intrinsic"] and row["distortion"] == want["distortion"]
    for pose in ("ego_SE3_sensor", "global_SE3_ego"):
        ours, theirs = (SE3.from_wxyz(*side[pose].values()) for side in (row, want))
        np.testing.assert_allclose(ours.translation, theirs.translation, rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.rotation, theirs.rotation, rtol=0, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_simulated_drive_comes_back(tmp_path: Path, drive: SceneTables, layout: str) -> None:
    assert set(drive.sample_data["modality"].to_pylist()) == {"camera", "lidar"}
    _same_as_source(tmp_path, drive, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nuscenes_comes_back(tmp_path: Path, test_data: Path, layout: str) -> None:
    reader = NuScenesReader(str(test_data / "nuscenes"))
    for scene in reader.scenes():
        _same_as_source(tmp_path / scene.name, reader.read(scene.name), layout)


def test_radiate_comes_back(tmp_path: Path, test_data: Path) -> None:
    """Real frames of three sensors at their own times, with sweeps of 20,000 points."""
    folder = test_data / "radiate" / "fog_6_0"
    sent, want = [], {}
    for sensor in ("zed_left", "zed_right", "velo_lidar"):
        times = [
            float(line.rpartition("Time:")[2]) for line in (folder / f"{sensor}.txt").read_text().splitlines() if line
        ]
        for file in sorted((folder / sensor).iterdir())[:5]:
            time_ns = round(times[int(file.stem) - 1] * 1e9)
            if file.suffix == ".csv":
                columns = np.loadtxt(file, np.float32, delimiter=",")
                points = np.zeros(len(columns), [(name, "<f4") for name in ("x", "y", "z", "i", "ring")])
                for place, name in enumerate(points.dtype.names):
                    points[name] = columns[:, place]
                message, want[f"/{sensor}", time_ns] = point_cloud(points, time_ns), columns
            else:
                message = compressed_image(time_ns, file.read_bytes(), fileformat="png")
                want[f"/{sensor}", time_ns] = file.read_bytes()
            sent.append(Sent(f"/{sensor}", message, time_ns))
    got = _read(tmp_path, sorted(sent, key=lambda one: one.log_time_ns)).sample_data.to_pylist()
    assert [(row["channel"], row["timestamp_ns"]) for row in got] == sorted(want, key=lambda key: (key[1], key[0]))
    with Recordings() as recordings:
        for row in got:
            read, expected = recordings.read(row), want[row["channel"], row["timestamp_ns"]]
            if isinstance(read, Sweep):
                finite = np.isfinite(expected[:, :3]).all(axis=1)
                np.testing.assert_array_equal(read.points, expected[finite])
            else:
                assert read.data == expected and (read.width, read.height) == (672, 376)


def test_the_columns(tmp_path: Path) -> None:
    first, second = Sent("/lidar", point_cloud(_POINTS, _T0 + 5), _T0), _camera(stamp_ns=_T0 + 2)
    tables = _read(tmp_path / "my drives", [first, second], chunk_size=1 << 20)
    (scene,), (camera, lidar) = tables.scenes.to_pylist(), tables.sample_data.to_pylist()
    assert (scene["dataset"], scene["name"]) == ("my drives", "a.mcap")
    assert (scene["start_ns"], scene["end_ns"]) == (_T0 + 2, _T0 + 6)
    assert (camera["channel"], camera["modality"], lidar["modality"]) == ("/front/image_raw", "camera", "lidar")
    assert camera["num_bytes"] == len(serialised(second.message)) and camera["fileformat"] == "mcap"
    assert camera["uri"].startswith(f"{tmp_path}/my drives/a.mcap#type=sensor_msgs/msg/CompressedImage&message=")
    assert (camera["offset"], camera["length"]) == (lidar["offset"], lidar["length"])  # of one chunk
    assert camera["intrinsic"] is camera["ego_SE3_sensor"] is camera["global_SE3_ego"] is scene["location"] is None


# ---- which files are scenes ----


def test_files_and_bag_folders_are_scenes(tmp_path: Path) -> None:
    for name in ("z.mcap", "run_10.mcap", "run_2.mcap", "day/bag/bag_0.mcap", "day/bag/bag_1.mcap", ".hidden/h.mcap"):
        write_mcap(tmp_path / name, [_camera()])
    (tmp_path / "day/bag/metadata.yaml").write_text("rosbag2_bagfile_information:\n  relative_file_paths: []\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/metadata.yaml").write_text("")
    names = [ref.name for ref in McapReader(str(tmp_path)).scenes()]
    assert names == ["day/bag", "run_2.mcap", "run_10.mcap", "z.mcap"]


def test_a_recording_has_the_same_ids_alone_and_in_its_folder(tmp_path: Path) -> None:
    write_mcap(tmp_path / "a.mcap", [_camera()])
    write_mcap(tmp_path / "bag" / "bag_0.mcap", [_camera()])
    (tmp_path / "bag" / "metadata.yaml").write_text("")
    whole = list(McapReader(str(tmp_path)).scenes())
    alone = [ref for name in ("a.mcap", "bag") for ref in McapReader(str(tmp_path / name)).scenes()]
    assert sorted(whole) == sorted(alone)
    assert all(McapReader.matches(str(tmp_path / name)) for name in (".", "a.mcap", "bag", "bag/bag_0.mcap"))
    with pytest.raises(NotFound):
        McapReader(str(tmp_path / "none"))


# As rosbag2 writes it since ROS 2 Humble: the files twice.
_METADATA = """rosbag2_bagfile_information:
  version: 8
  storage_identifier: mcap
  topics_with_message_count:
    - topic_metadata:
        name: /front/image_raw
  relative_file_paths:
    - bag_2.mcap
    - 'bag_10.mcap'
  files:
    - path: bag_2.mcap
      message_count: 2
    - path: 'bag_10.mcap'
      message_count: 2
  ros_distro: jazzy
"""


@pytest.mark.parametrize("metadata", ["", _METADATA, "  relative_file_paths:\n  - before_it_was_renamed_0.mcap\n"])
def test_splits_are_read_in_order(tmp_path: Path, metadata: str) -> None:
    for split, frame in (("bag_2", 0), ("bag_10", 1)):
        write_mcap(tmp_path / "bag" / f"{split}.mcap", [_camera(stamp_ns=_T0 + frame)] * 2)
    (tmp_path / "bag" / "metadata.yaml").write_text(metadata)
    rows = McapReader(str(tmp_path)).read("bag").sample_data.to_pylist()
    assert [Path(row["uri"].partition("#")[0]).stem for row in rows] == ["bag_2", "bag_2", "bag_10", "bag_10"]


def test_a_missing_split_is_told(tmp_path: Path) -> None:
    write_mcap(tmp_path / "bag" / "bag_0.mcap", [_camera()])
    (tmp_path / "bag" / "metadata.yaml").write_text("paths:\n- bag_0.mcap\n- bag_1.mcap\n- ../../other.mcap\n")
    with pytest.raises(BadInput, match="missing-file") as caught:
        McapReader(str(tmp_path)).read("bag")
    assert str(tmp_path / "bag" / "bag_1.mcap") in caught.value.detail


def test_files_that_the_metadata_does_not_name_are_scenes_of_their_own(tmp_path: Path) -> None:
    for name in ("bag_0", "bag_1", "other"):
        write_mcap(tmp_path / "bag" / f"{name}.mcap", [_camera()])
    (tmp_path / "bag" / "metadata.yaml").write_text("paths:\n- bag_1.mcap\n- bag_0.mcap\n")
    for source in (tmp_path, tmp_path / "bag"):
        reader = McapReader(str(source))
        assert {ref.name: len(reader.read(ref.name).sample_data) for ref in reader.scenes()} == {
            "bag": 2,
            "bag/other.mcap": 1,
        }


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("place", "reason"), [("link", "outside-source"), ("pipe", "unreadable")])
def test_splits_that_are_no_files_of_the_folder(tmp_path: Path, place: str, reason: str) -> None:
    write_mcap(tmp_path / "in" / "bag_0.mcap", [_camera()])
    (tmp_path / "in" / "metadata.yaml").write_text("paths:\n- bag_0.mcap\n- bag_1.mcap\n")
    if place == "link":
        (tmp_path / "in" / "bag_1.mcap").symlink_to(write_mcap(tmp_path / "outside.mcap", [_camera()]))
    else:
        os.mkfifo(tmp_path / "in" / "bag_1.mcap")
    with pytest.raises(BadInput, match=rf"{reason}.*bag_1\.mcap"):
        McapReader(str(tmp_path / "in")).read("in")


def test_links_out_of_the_source_are_not_followed(tmp_path: Path) -> None:
    outside = write_mcap(tmp_path / "outside.mcap", [_camera()])
    write_mcap(tmp_path / "in" / "own.mcap", [_camera()])
    (tmp_path / "in" / "stranger.mcap").symlink_to(outside)
    (tmp_path / "in" / "twin.mcap").symlink_to(tmp_path / "in" / "own.mcap")
    (tmp_path / "in" / "broken.mcap").symlink_to(tmp_path / "none")
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    assert [ref.name for ref in McapReader(str(tmp_path / "in")).scenes()] == ["own.mcap", "twin.mcap"]


# ---- topics ----


def test_topics_can_be_named(tmp_path: Path) -> None:
    sent = [_camera("/a"), _camera("/b"), Sent("/c", point_cloud(_POINTS, _T0), _T0)]
    assert set(_read(tmp_path, sent).sample_data["channel"].to_pylist()) == {"/a", "/b", "/c"}
    assert set(_read(tmp_path, sent, ("/c", "/b")).sample_data["channel"].to_pylist()) == {"/b", "/c"}


@pytest.mark.parametrize("topics", [("/none",), ("/a", "/gps")])
def test_a_missing_topic_lists_what_is_there(tmp_path: Path, topics: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match="missing-topic") as caught:
        _read(tmp_path, [_camera("/a"), Sent("/gps", fix(1, 2), _T0)], topics)
    assert topics[-1] in caught.value.detail
    assert "/a (sensor_msgs/msg/CompressedImage, cdr)" in caught.value.detail
    assert "/gps (sensor_msgs/msg/NavSatFix, cdr)" in caught.value.detail


def test_no_readings_at_all(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no-readings.*/gps"):
        _read(tmp_path, [Sent("/gps", fix(1, 2), _T0)])
    with pytest.raises(BadInput, match=r"no-readings.*present: none"):
        _read(tmp_path, [])


@pytest.mark.parametrize(
    ("encoding", "schema"), [("ros1", "ros1msg"), ("json", "jsonschema"), ("protobuf", "protobuf")]
)
def test_other_encodings_are_named(tmp_path: Path, encoding: str, schema: str) -> None:
    writer = Writer(str(tmp_path / "a.mcap"))
    writer.start()
    kind = writer.register_schema("sensor_msgs/CompressedImage", schema, b"")
    writer.add_message(writer.register_channel("/front", encoding, kind), _T0, b"1234567", _T0)
    writer.finish()
    with pytest.raises(BadInput, match="no-readings") as caught:
        McapReader(str(tmp_path)).read("a.mcap")
    assert f"/front (sensor_msgs/msg/CompressedImage, {encoding})" in caught.value.detail
    assert "in cdr (ROS 2)" in caught.value.detail


def test_depth_and_video_are_left_out_unless_named(tmp_path: Path) -> None:
    depth = np.zeros((2, 2), np.uint16)
    sent = [
        _camera(),
        *[Sent("/depth", image(depth, "16UC1", _T0 + n), _T0) for n in range(3)],
        Sent("/video", compressed_image(_T0, b"", fileformat="h264"), _T0),
    ]
    tables = _read(tmp_path, sent)
    assert tables.sample_data["channel"].to_pylist() == ["/front/image_raw"]
    assert "/depth left out: 16UC1 is no picture; /video left out: h264" in _description(tables)
    assert len(_read(tmp_path, sent, ("/depth",)).sample_data) == 3


def test_a_message_that_is_no_cdr_of_its_type(tmp_path: Path) -> None:
    for data, reason in ((b"\0\1\0\0\1\0\0\0", "bad-message"), (b"{}", "unsupported-encoding")):
        writer = Writer(str(tmp_path / "a.mcap"))
        writer.start()
        kind = writer.register_schema("sensor_msgs/msg/PointCloud2", "ros2msg", b"")
        writer.add_message(writer.register_channel("/lidar", "cdr", kind), _T0, data, _T0)
        writer.finish()
        with pytest.raises(BadInput, match=f"{reason}.*/lidar at byte"):
            McapReader(str(tmp_path)).read("a.mcap")


# ---- damage ----


@pytest.mark.parametrize("log_ns", [2**62, 2**63 - 1, 2**64 - 1])
def test_a_log_time_that_no_clock_shows(tmp_path: Path, log_ns: int) -> None:
    with pytest.raises(BadInput, match=rf"bad-record.*{log_ns}"):
        _read(tmp_path, [_camera(), _camera(stamp_ns=0, log_ns=log_ns)])
    sent = [_camera(stamp_ns=stamp, log_ns=log) for stamp, log in ((2**60, 5), (2**60, 6), (_T0, 2**62 - 1))]
    assert min(_read(tmp_path, sent).sample_data["timestamp_ns"].to_pylist()) == 2**60


def test_a_truncated_file_is_flagged_partial(tmp_path: Path) -> None:
    sent = [_camera(stamp_ns=_T0 + n * _S, log_ns=_T0 + n * _S) for n in range(500)]
    whole = _read(tmp_path, sent).sample_data
    content = (tmp_path / "a.mcap").read_bytes()
    cut = len(content) * 6 // 10
    (tmp_path / "a.mcap").write_bytes(content[:cut])
    tables = McapReader(str(tmp_path)).read("a.mcap")
    kept = whole.filter(pc.less_equal(pc.add(whole["offset"], whole["length"]), cut))
    assert tables.sample_data.equals(kept) and 200 < len(kept) < 500
    assert _description(tables).startswith("partial: a.mcap is cut off at byte ")


@settings(max_examples=60)
@given(st.data())
def test_damage_is_bad_input_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "damage"
    if not folder.exists():
        write_mcap(folder / "whole.mcap", [_camera(stamp_ns=_T0 + n) for n in range(40)], chunk_size=400)
    content = bytearray((folder / "whole.mcap").read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    whole = McapReader(str(folder)).read("whole.mcap").sample_data
    broken = folder / "broken" / "whole.mcap"
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(content)
    try:
        tables = McapReader(str(broken), dataset=folder.name).read("whole.mcap")
    except BadInput as bad:
        assert "whole.mcap" in bad.detail
        return
    finally:
        broken.unlink()
    kept = tables.sample_data
    assert kept.drop(["uri"]).equals(whole.drop(["uri"]).slice(0, len(kept)))
    assert len(kept) == len(whole) or "partial" in _description(tables)


# ---- times ----


def test_the_log_time_stands_in_for_a_stamp(tmp_path: Path) -> None:
    sent = [_camera(stamp_ns=0, log_ns=_T0 + n) for n in (1, 2)] + [
        _camera("/b", _T0 - 5, _T0),
        _camera("/b", 0, _T0 + 9),
    ]
    rows = _read(tmp_path, sent).sample_data.to_pylist()
    times = [(row["channel"], row["timestamp_ns"] - _T0) for row in rows]
    assert times == [("/b", -5), ("/front/image_raw", 1), ("/front/image_raw", 2), ("/b", 4)]


def test_equal_stamps_are_moved_apart_and_order_does_not_matter(tmp_path: Path) -> None:
    sent = [_camera(stamp_ns=_T0 + n) for n in (7, 3, 3, 4, 3)] + [_camera("/b", _T0 + 3)]
    rows = _read(tmp_path, sent).sample_data
    own = rows.filter(pc.equal(rows["channel"], "/front/image_raw"))
    assert [time - _T0 for time in own["timestamp_ns"].to_pylist()] == [3, 4, 5, 6, 7]
    assert len(set(rows["sample_data_id"].to_pylist())) == 6


def test_a_wild_stamp_does_not_stretch_the_scene(tmp_path: Path) -> None:
    sent = [_camera(stamp_ns=_T0 + n * _S - 50, log_ns=_T0 + n * _S) for n in range(5)]
    sent.append(_camera(stamp_ns=5, log_ns=_T0 + 5 * _S))
    tables = _read(tmp_path, sent)
    assert tables.sample_data["timestamp_ns"].to_pylist() == [_T0 + n * _S - 50 for n in range(6)]
    assert "1 of 6 stamps were wild" in _description(tables)


def test_a_sensor_with_a_clock_of_its_own(tmp_path: Path) -> None:
    sent = [_camera(stamp_ns=_T0), Sent("/lidar", point_cloud(_POINTS, 77 * _S), _T0 + 9)]
    tables = _read(tmp_path, sent)
    assert tables.sample_data["timestamp_ns"].to_pylist() == [_T0, _T0 + 9]
    assert "/lidar: a clock of its own" in _description(tables)
    simulated = [_camera(stamp_ns=5 * _S), Sent("/lidar", point_cloud(_POINTS, 6 * _S), _T0)]
    assert _read(tmp_path, simulated).sample_data["timestamp_ns"].to_pylist() == [5 * _S, 6 * _S]


@given(st.lists(st.integers(0, 9), max_size=12))
def test_distinct_times_against_a_loop(times: list[int]) -> None:
    got = distinct(np.array(times, np.int64)).tolist()
    last, want = -1, {}
    for index in sorted(range(len(times)), key=lambda i: (times[i], i)):
        last = want[index] = max(times[index], last + 1)
    assert got == [want[index] for index in range(len(times))]


def test_stamps_beyond_all_clocks() -> None:
    times, mended = clock_of(np.array([0, 0], np.int64), np.array([5, 6], np.int64))
    assert times.tolist() == [5, 6] and mended == 0


# ---- transforms ----


def _tree(*sent: tuple[bool, Any]) -> TransformTree:
    tree = TransformTree()
    for static, message in sent:
        tree.add(Cdr(serialised(message), "f"), static)
    return tree


def _pose(rotation: Rotation, translation: Iterable[float]) -> dict[str, list[float]]:
    x, y, z, w = rotation.as_quat().tolist()
    return {"translation": [float(value) for value in translation], "rotation_wxyz": [w, x, y, z]}


def test_a_chain_of_static_and_moving_frames_against_scipy() -> None:
    random = np.random.default_rng(3)
    turns = Rotation.random(6, random_state=3)
    offsets = random.normal(size=(6, 3)) * 10
    times = np.array([0, 10, 40]) * _S
    moving = [
        (False, transforms(("odom", "base_link", _pose(turns[n], offsets[n])), stamp_ns=int(t)))
        for n, t in enumerate(times)
    ]
    fixed = [
        (True, transforms(("map", "odom", _pose(turns[3], offsets[3])), ("chassis", "base_link_2", _STILL))),
        (
            True,
            transforms(
                ("base_link", "mast", _pose(turns[4], offsets[4])), ("mast", "/cam", _pose(turns[5], offsets[5]))
            ),
        ),
    ]
    tree = _tree(*moving[::-1], *fixed)
    at = np.array([-1, 0, 4 * _S, 10 * _S, 25 * _S, 40 * _S, 40 * _S + 1])
    ego, outer = tree.ego_frame(), tree.global_frame("base_link")
    assert (ego, outer) == ("base_link", "map")
    poses = tree.lookup("map", "cam", at)
    assert poses is not None and poses.known.tolist() == [False, *[True] * 5, False]
    slerp = Slerp(times.astype(float), turns[:3])
    for row in range(1, 6):
        where = np.array([np.interp(at[row], times, offsets[:3, axis]) for axis in range(3)])
        want, turn = np.zeros(3), Rotation.identity()
        for way, offset in (
            (turns[5], offsets[5]),
            (turns[4], offsets[4]),
            (slerp(at[row]), where),
            (turns[3], offsets[3]),
        ):
            want, turn = way.apply(want) + offset, way * turn
        np.testing.assert_allclose(poses.translation[row], want, atol=1e-9)
        got = SE3.from_wxyz([0, 0, 0], poses.rotation_wxyz[row])
        np.testing.assert_allclose(got.rotation, turn.as_matrix(), atol=1e-9)
    back = tree.lookup("cam", "map", at[1:2])
    assert back is not None
    here = SE3.from_wxyz(back.translation[0], back.rotation_wxyz[0]) @ SE3.from_wxyz(
        poses.translation[1], poses.rotation_wxyz[1]
    )
    np.testing.assert_allclose(here.translation, 0, atol=1e-9)
    assert tree.lookup("map", "base_link_2", at) is None and tree.lookup("map", "nobody", at) is None


def test_poses_are_not_guessed_outside_of_the_samples(tmp_path: Path) -> None:
    sent = [Sent("/tf", transforms(("odom", "base_link", _POSE), stamp_ns=_T0 + t * _S), _T0) for t in (1, 2)]
    sent += [_camera(stamp_ns=_T0 + t * _S // 2) for t in (1, 2, 3, 4, 5)]
    poses = _read(tmp_path, sent).sample_data["global_SE3_ego"].to_pylist()
    assert [pose is not None for pose in poses] == [False, True, True, True, False]
    np.testing.assert_allclose(poses[2]["rotation_wxyz"], _POSE["rotation_wxyz"], atol=1e-12)


@pytest.mark.parametrize(
    ("edges", "ego", "outer"),
    [
        ([], None, None),
        (
            [("s", "vehicle", "cam_1"), ("s", "vehicle", "cam_2"), ("s", "earth", "map"), ("d", "map", "vehicle")],
            "vehicle",
            "map",
        ),
        ([("s", "base_footprint", "base_link"), ("d", "odom", "base_footprint")], "base_link", "odom"),
        ([("d", "odom", "base_link"), ("d", "map", "base_link")], "base_link", "map"),
        ([("d", "utm", "base_link")], "base_link", "utm"),
        ([("s", "pole", "base_link"), ("s", "base_link", "cam")], "base_link", None),
        ([("s", "map", "base_link")], "base_link", "map"),
        ([("d", "a", "b")], None, None),
        ([("d", "a", "base_link"), ("d", "base_link", "a")], "base_link", "a"),
        ([("s", "a", "b"), ("s", "b", "a")], "a", None),
    ],
)
def test_ego_and_global_frames(edges: list[tuple[str, str, str]], ego: str | None, outer: str | None) -> None:
    tree = _tree(*[(kind == "s", transforms((parent, child, _POSE))) for kind, parent, child in edges])
    assert tree.ego_frame() in (ego, *("ab" if ego == "a" else ()))
    if ego:
        assert tree.global_frame(ego) == outer


def test_a_sensor_on_a_moving_joint(tmp_path: Path) -> None:
    turned = _pose(Rotation.from_euler("z", 90, degrees=True), [0, 0, 0])
    sent = [
        Sent("/tf", transforms(("base_link", "cam", pose), stamp_ns=_T0 + t * _S), _T0)
        for t, pose in ((0, _STILL), (2, turned))
    ]
    (row,) = _read(tmp_path, [*sent, _camera(stamp_ns=_T0 + _S)]).sample_data.to_pylist()
    want = [np.cos(np.pi / 8), 0, 0, np.sin(np.pi / 8)]
    np.testing.assert_allclose(row["ego_SE3_sensor"]["rotation_wxyz"], want, atol=1e-12)
    assert row["global_SE3_ego"] is None


def test_transforms_that_are_none_are_left_out_and_counted(tmp_path: Path) -> None:
    bad = [
        {"translation": [np.nan, 0.0, 0.0], "rotation_wxyz": [1.0, 0.0, 0.0, 0.0]},
        {"translation": [0.0, 0.0, 0.0], "rotation_wxyz": [0.0, 0.0, 0.0, 0.0]},
    ]
    sent = [Sent("/tf_static", transforms(*[("base_link", "cam", pose) for pose in bad]), _T0), _camera()]
    tables = _read(tmp_path, sent)
    assert tables.sample_data["ego_SE3_sensor"].to_pylist() == [None]
    assert "2 transforms left out" in _description(tables)


def test_a_static_transform_sent_again_holds(tmp_path: Path) -> None:
    sent = [Sent("/tf_static", transforms(("base_link", "cam", pose), stamp_ns=_T0), _T0) for pose in (_POSE, _STILL)]
    (row,) = _read(tmp_path, [_camera(), *sent]).sample_data.to_pylist()
    assert row["ego_SE3_sensor"] == _STILL


# ---- calibration and position ----

_K = [1000.0, 0.0, 800.0, 0.0, 1000.0, 450.0, 0.0, 0.0, 1.0]


def _info(frame: str, focal: float) -> CameraInfo:
    k = [focal, 0.0, 0.0, 0.0, focal, 0.0, 0.0, 0.0, 1.0]
    return CameraInfo(frame, k, [0.1], [2 * value for value in k])


@pytest.mark.parametrize(
    ("topic", "frame", "focal"),
    [
        ("/front/image_raw", "", 1.0),
        ("/front/image_raw/compressed", "x", 1.0),
        ("/front/image_rect/compressed", "", 2.0),
        ("/front/image_rect_color", "", 2.0),
        ("/front/left/image_raw", "", None),
        ("/rear/image_raw", "rear", 3.0),
        ("/rear/image_raw", "twice", None),
        ("/rear/image_raw", "", None),
        ("/image", "", None),
    ],
)
def test_which_calibration_belongs_to_a_camera(topic: str, frame: str, focal: float | None) -> None:
    infos = {"/front/camera_info": _info("f", 1.0), "/x/rear_info": _info("rear", 3.0)}
    infos |= {f"/twins/{n}/info": _info("twice", 4.0) for n in range(2)}
    found = calibration_of(topic, frame, infos)
    assert (found and found.intrinsic and found.intrinsic[0]) == focal
    assert found is None or (found.distortion is None) == ("rect" in topic)


def test_calibration_reaches_the_rows(tmp_path: Path) -> None:
    sent = [_camera(), _camera("/rear/image_raw"), Sent("/lidar", point_cloud(_POINTS, _T0, "cam"), _T0)]
    sent += [Sent("/front/camera_info", camera_info("cam", _K, [0.1, -0.2]), _T0 + n) for n in range(2)]
    sent += [Sent("/rear/camera_info", camera_info("rear", np.zeros(9)), _T0)]
    rows = {row["channel"]: row for row in _read(tmp_path, sent).sample_data.to_pylist()}
    assert rows["/front/image_raw"]["intrinsic"] == _K and rows["/front/image_raw"]["distortion"] == [0.1, -0.2]
    assert rows["/rear/image_raw"]["intrinsic"] is None and rows["/lidar"]["intrinsic"] is None


@pytest.mark.parametrize(
    ("fixes", "location"),
    [
        ([fix(0, 0, status=-1), fix(float("nan"), 0), fix(-33.86882, 151.2093), fix(1, 2)], "-33.86882, 151.20930"),
        ([fix(91, 0)], None),
    ],
)
def test_the_first_fix_is_the_location(tmp_path: Path, fixes: list[Any], location: str | None) -> None:
    tables = _read(tmp_path, [_camera(), *[Sent("/fix", message, _T0) for message in fixes]])
    assert tables.scenes["location"].to_pylist() == [location]


def test_a_topic_of_two_types_is_refused(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path / "a.mcap"))
    writer.start()
    for message in (compressed_image(_T0, jpg(picture())), point_cloud(_POINTS, _T0)):
        kind = writer.register_schema(message.__msgtype__, "ros2msg", b"")
        writer.add_message(writer.register_channel("/x", "cdr", kind), _T0, serialised(message), _T0)
    writer.finish()
    with pytest.raises(BadInput, match=r"bad-record.*before it was"):
        McapReader(str(tmp_path)).read("a.mcap")


def test_many_readings_stay_quick(tmp_path: Path) -> None:
    sent = [_camera(f"/cam_{n % 4}", _T0 + n) for n in range(4000)]
    rows = _read(tmp_path, sent, chunk_size=1 << 16).sample_data
    assert len(rows) == 4000 and isinstance(rows, pa.Table)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write_mcap(tmp_path / "a.mcap", [_camera()]).chmod(0)
    with pytest.raises(BadInput, match="unreadable"):
        McapReader(str(tmp_path)).read("a.mcap")


def test_messages_of_no_interest_are_passed_over(tmp_path: Path) -> None:
    text = make("std_msgs/String", "hello")
    assert len(_read(tmp_path, [Sent("/chat", text, _T0), _camera(), Sent("/chat", text, _T0)]).sample_data) == 1
