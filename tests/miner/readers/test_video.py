"""The video reader: which frames, at what times, from which files; on real drives against a plain decode."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from miner.decode import Recordings
from miner.decode.image import Picture
from miner.errors import BadInput, NotFound, UsageError
from miner.readers import find_reader
from miner.readers.video import VideoReader
from tests.videos import GOP, number_of, write_video

DATA = os.environ.get("MINER_TEST_DATA", "")
EPOCH_NS = 1_600_000_000 * 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drives")
    write_video(folder / "clip.mp4", 30)
    return folder


@pytest.fixture
def clip(folder: Path, tmp_path: Path) -> Path:
    """A video of 30 frames in a folder of its own, without a sidecar."""
    return Path(shutil.copy(folder / "clip.mp4", tmp_path / "clip.mp4"))


def _rows(path: Path, frames: str = "all") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = VideoReader(str(path), frames=frames).read(path.name).sample_data.to_pylist()
    return rows


def _times(path: Path, frames: str = "all") -> list[int]:
    return [row["timestamp_ns"] for row in _rows(path, frames)]


def _numbers(path: Path, frames: str) -> list[int]:
    """The numbers of the chosen frames, read from their pictures."""
    numbers = []
    with Recordings() as recordings:
        for row in _rows(path, frames):
            picture = recordings.read(row)
            assert isinstance(picture, Picture)
            numbers.append(number_of(picture.decode(0)))
    return numbers


def test_each_video_is_a_scene(tmp_path: Path) -> None:
    for name in ("b/10.mp4", "b/2.MOV", "a é.mkv", ".hidden.mp4", "b/.git/x.mp4", "b/._2.mp4", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [ref.name for ref in VideoReader(str(tmp_path)).scenes()] == ["a é.mkv", "b/2.MOV", "b/10.mp4"]
    assert find_reader(str(tmp_path)) is VideoReader


def test_links_out_of_the_source_are_left_out(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "out.mp4").symlink_to(clip)
    (source / "folder").symlink_to(tmp_path)
    shutil.copy(clip, source / "in.mp4")
    (source / "same.mp4").symlink_to(source / "in.mp4")
    assert [ref.name for ref in VideoReader(str(source)).scenes()] == ["in.mp4", "same.mp4"]


def test_one_file_is_the_same_scene_as_in_its_folder(clip: Path) -> None:
    one, folder = VideoReader(str(clip)), VideoReader(str(clip.parent))
    assert list(one.scenes()) == list(folder.scenes()) and one.dataset == clip.parent.name
    assert one.read("clip.mp4").sample_data.equals(folder.read("clip.mp4").sample_data)
    assert find_reader(str(clip)) is VideoReader


def test_the_columns(clip: Path) -> None:
    tables = VideoReader(str(clip), "mine", "all").read("clip.mp4")
    (scene,), rows = tables.scenes.to_pylist(), tables.sample_data.to_pylist()
    assert (scene["dataset"], scene["name"], scene["start_ns"], scene["end_ns"]) == ("mine", "clip.mp4", 0, 1160000001)
    assert len(rows) == 30 and len(tables.annotations) == 0
    data = clip.read_bytes()
    assert {(row["channel"], row["modality"], row["fileformat"]) for row in rows} == {("CAM", "camera", "mp4")}
    assert {row["uri"] for row in rows} == {str(clip)}
    with av.open(str(clip)) as container:
        packets = {bytes(packet) for packet in container.demux(video=0) if packet.size}
    assert {data[row["offset"] : row["offset"] + row["length"]] for row in rows} == packets
    keys = _times(clip, "keyframes")
    assert [row["is_key_frame"] for row in rows] == [row["timestamp_ns"] in keys for row in rows]


def test_the_frames_to_take(clip: Path) -> None:
    keys = [n for n, row in enumerate(_rows(clip)) if row["is_key_frame"]]
    assert len(keys) >= 30 // GOP and _numbers(clip, "keyframes") == [n % 16 for n in keys]
    assert _numbers(clip, "all") == [n % 16 for n in range(30)]
    assert VideoReader(str(clip)).read("clip.mp4").sample_data.to_pylist() == _rows(clip, "rate=2")


def test_a_rate_prefers_key_frames_and_leaves_no_gap(clip: Path) -> None:
    rows = _rows(clip)
    keys = {row["timestamp_ns"] for row in rows if row["is_key_frame"]}
    assert keys <= set(_times(clip, "rate=2"))  # the key frames are further apart than 0.5 s
    times = np.array(_times(clip, "rate=5"))
    assert keys <= set(times.tolist()) and times[0] == 0
    assert np.diff(times).max() < 2 * 200_000_000
    beats = np.round(times / 200_000_000)
    assert np.array_equal(beats, np.arange(7))
    free = [time_ns for time_ns in times.tolist() if time_ns not in keys]
    assert all(time_ns % 200_000_000 == 0 for time_ns in free[:-1])  # every fifth frame: exactly on the beat
    assert _times(clip, "rate=1000") == _times(clip)
    assert _times(clip, "rate=0.001") == [0]


@pytest.mark.parametrize("frames", ["", "rate", "rate=", "rate=0", "rate=-1", "rate=nan", "rate=inf", "5", "every"])
def test_unknown_frames(clip: Path, frames: str) -> None:
    with pytest.raises(UsageError, match="rate=2"):
        VideoReader(str(clip), frames=frames)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        VideoReader(str(tmp_path / "none"))


def test_the_choice_of_frames_travels(clip: Path) -> None:
    reader = pickle.loads(pickle.dumps(VideoReader(str(clip), "mine", "rate=5")))
    assert (reader.dataset, reader.frames) == ("mine", "rate=5")
    assert len(reader.read("clip.mp4").sample_data) == 7


@pytest.mark.parametrize(
    ("stem", "creation", "start_ns"),
    [
        ("clip", None, 0),
        ("clip", "2016-08-28T21:16:08Z", 1_472_418_968 * 10**9),
        ("2020-09-13_12-26-40", "2016-08-28T21:16:08Z", EPOCH_NS),
        ("CAM_1600000000000", None, EPOCH_NS),
        ("clip", "1970-01-01T00:00:00Z", 0),
    ],
)
def test_where_the_clock_starts(tmp_path: Path, stem: str, creation: str | None, start_ns: int) -> None:
    path = write_video(tmp_path / f"{stem}.mp4", 3, metadata={"creation_time": creation} if creation else {})
    assert _times(path) == [start_ns, start_ns + 40_000_000, start_ns + 80_000_000]


def _lines(values: Sequence[object]) -> str:
    return "".join(f"{value}\n" for value in values)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return _lines([",".join(header), *(",".join(map(str, row)) for row in rows)])


_STEPS = [n * 33_000_000 + (n % 3) * 1_000_000 for n in range(30)]  # a camera that is not even
_ABSOLUTE = [EPOCH_NS + step for step in _STEPS]
_SIDECARS = {
    "clip.timestamps.txt": _lines(_ABSOLUTE),
    "clip.txt": _lines([ns // 10**3 for ns in _ABSOLUTE]),
    "clip.csv": _table(["frame", "timestamp_ms", "speed"], [(n, ns // 10**6, 1.5) for n, ns in enumerate(_ABSOLUTE)]),
    "clip.timestamps.csv": _table(["time [s]"], [[f"{ns / 10**9:.3f}"] for ns in _ABSOLUTE]),
    "clip.json": json.dumps({"camera": "x", "timestamps_us": [ns // 10**3 for ns in _ABSOLUTE]}),
    "clip.timestamps.json": json.dumps(_ABSOLUTE),
}


@pytest.mark.parametrize("name", _SIDECARS)
def test_times_beside_the_video(clip: Path, name: str) -> None:
    clip.with_name(name).write_text(_SIDECARS[name])
    assert _times(clip) == _ABSOLUTE
    scene = VideoReader(str(clip)).read("clip.mp4").scenes.to_pylist()[0]
    assert (scene["start_ns"], scene["end_ns"]) == (_ABSOLUTE[0], _ABSOLUTE[-1] + 1)


def test_more_ways_to_write_times(clip: Path) -> None:
    sidecar = clip.with_name("clip.txt")
    for text, expected in [
        ("# s\n\n" + _lines([f"{ns / 10**9:.3f}" for ns in _STEPS]), _STEPS),
        (_lines([f"{n} {ns / 10**9:.3f}" for n, ns in enumerate(_ABSOLUTE)]), _ABSOLUTE),
        (_lines([f"2020-09-13 12:26:40.{ns:09d}" for ns in range(30)]), [EPOCH_NS + n for n in range(30)]),
        (_lines(["time_ms", *range(0, 300, 10)]), [n * 10_000_000 for n in range(30)]),
        (_lines([EPOCH_NS] * 30), [EPOCH_NS + n for n in range(30)]),  # equal ones are moved apart
    ]:
        sidecar.write_text(text)
        assert _times(clip) == expected


def test_other_files_of_the_same_name_are_no_times(clip: Path) -> None:
    expected = _times(clip)
    for name, text in {
        "clip.txt": "a car turns left\nand stops\n",
        "clip.csv": _table(["frame", "speed"], [(n, 12.5) for n in range(7)]),
        "clip.json": json.dumps({"rideID": "x", "startTime": 1_600_000_000_000, "locations": [{"speed": 1}]}),
    }.items():
        clip.with_name(name).write_text(text)
    assert _times(clip) == expected


def test_a_log_or_a_broken_file_of_the_same_name_is_left_out(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = _times(clip)
    clip.with_name("clip.txt").write_bytes("Stra\xdfe".encode("latin-1"))
    track = _table(["timestamp", "latitude", "longitude"], [(1_600_000_000 + n, 48.1, 11.5) for n in range(4)])
    clip.with_name("clip.csv").write_text(track)
    clip.with_name("clip.json").symlink_to(__file__)
    assert _times(clip) == expected
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "4 rows for 30 frames" in caplog.text and "outside-source" in caplog.text
    clip.with_name("clip.csv").rename(clip.with_name("clip.timestamps.csv"))
    with pytest.raises(BadInput, match=r"frame-count.*4 times for 30 frames"):
        _times(clip)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_lines(_ABSOLUTE[:-3]), r"frame-count.*27 times for 30 frames"),
        (_lines([*_ABSOLUTE, EPOCH_NS * 2]), r"frame-count.*31 times for 30 frames"),
        ("", r"frame-count.*0 times for 30"),
        (_lines([*_ABSOLUTE[:10], "x", *_ABSOLUTE[11:]]), r"bad-times.*time 11 of 30 is 'x'"),
        (_lines([*_ABSOLUTE[:10], "nan", *_ABSOLUTE[11:]]), r"bad-times.*time 11 of 30"),
        (_lines([*_ABSOLUTE[:10], EPOCH_NS, *_ABSOLUTE[11:]]), r"times-go-back.*time 11"),
        (_lines(range(30)), r"bad-times.*time 1 of 30 is '0'"),  # in what unit?
    ],
)
def test_times_that_do_not_fit(clip: Path, text: str, reason: str) -> None:
    sidecar = clip.with_name("clip.timestamps.txt")
    sidecar.write_text(text)
    with pytest.raises(BadInput, match=reason) as caught:
        _rows(clip)
    assert str(sidecar) in caught.value.detail


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b'{"timestamps": [1,', b"[" * 100_000])
def test_a_broken_file_of_times(clip: Path, data: bytes) -> None:
    clip.with_name("clip.timestamps.json").write_bytes(data)
    with pytest.raises(BadInput, match=r"(bad-times|unreadable).*clip\.timestamps\.json"):
        _rows(clip)


def test_a_huge_cell_in_a_table(clip: Path) -> None:
    clip.with_name("clip.timestamps.csv").write_text("time,x\n" + "1," + "9" * (csv.field_size_limit() + 1))
    with pytest.raises(BadInput, match="bad-times"):
        _rows(clip)


def test_files_that_are_no_whole_videos(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "bad"
    source.mkdir()
    (source / "half.mp4").write_bytes(clip.read_bytes()[:2000])
    (source / "text.mp4").write_text("<html>not found</html>")
    (source / "empty.mkv").touch()
    reader = VideoReader(str(source))
    assert len(list(reader.scenes())) == 3
    for name, reason in {"half.mp4": "corrupt-video", "text.mp4": "not-a-video", "empty.mkv": "not-a-video"}.items():
        with pytest.raises(BadInput, match=reason) as caught:
            reader.read(name)
        assert str(source / name) in caught.value.detail


@pytest.mark.skipif(not DATA, reason="MINER_TEST_DATA is not set")
@pytest.mark.parametrize(("name", "count"), [("solidWhiteRight.mp4", 221), ("test_video.mp4", 38)])
def test_real_drives(name: str, count: int) -> None:
    path = Path(DATA, "dashcam_video", name)
    rows = _rows(path)
    expected = [n * 40_000_000 for n in range(count)]  # 25 frames a second
    assert len(rows) == count
    start = rows[0]["timestamp_ns"]
    assert [row["timestamp_ns"] - start for row in rows] == expected
    with av.open(str(path)) as container:
        created = container.metadata.get("creation_time")
    assert (start == 0) == (created is None)
    for frames, most in (("rate=2", 2), ("keyframes", 25)):
        chosen = [time_ns - start for time_ns in _times(path, frames)]
        assert len(chosen) <= count / 25 * most + 2 and set(chosen) <= set(expected)
