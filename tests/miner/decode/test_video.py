"""Frames by byte range against a plain decode of the whole file; damaged files give BadInput and never another
picture."""

from __future__ import annotations

import io
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miner.decode import Recordings
from miner.decode.demux import File, FrameRange, Video, frame_index
from miner.decode.image import MAX_PIXELS, Picture
from miner.decode.video import VideoFile
from miner.errors import BadInput
from tests.videos import (
    GOP,
    SIZE,
    codec,
    number_of,
    numbered,
    plain_decode,
    presentation_times_ns,
    write_audio,
    write_video,
)

DATA = os.environ.get("MINER_TEST_DATA", "")
REAL = {"solidWhiteRight.mp4": (221, 960, 540, 8), "test_video.mp4": (38, 1280, 720, 2)}
# One of each container and of each way to store times and to order frames; encoders as the installed PyAV has them.
FILES = {
    "plain.mp4": {},
    "faststart.mp4": {"movflags": "faststart"},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "plain.mkv": {},
    "plain.mov": {},
    "mpeg4.mp4": {"name": "mpeg4"},
    "mpeg4.avi": {"name": "mpeg4"},
    "mjpeg.avi": {"name": "mjpeg"},
    "open_gop.mp4": {"name": "libx265", "options": {"x265-params": "log-level=none:pools=1:open-gop=1:keyint=12"}},
    "vp9.webm": {"name": "libvpx-vp9", "options": {"cpu-used": "8"}},
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", 40)


@pytest.fixture
def opened(clip: Path) -> Iterator[VideoFile]:
    video = VideoFile(str(clip))
    yield video
    video.close()


def _read(path: Path | str, frame: FrameRange) -> Picture:
    video = VideoFile(str(path))
    try:
        return video.read(frame.offset, frame.length, str(path))
    finally:
        video.close()


def _frames(path: Path) -> list[FrameRange]:
    return frame_index(str(path)).frames


def _check_all(path: Path, orders: list[list[int]]) -> None:
    expected, frames, data = plain_decode(path), _frames(path), path.read_bytes()
    assert len(frames) == len(expected)
    for order in orders:
        video = VideoFile(str(path))
        for number in order:
            offset, length, _, _ = frames[number]
            picture = video.read(offset, length, str(path))
            assert picture.data == data[offset : offset + length]
            assert (picture.width, picture.height) == expected[number].shape[1::-1]
            assert np.array_equal(picture.decode(0), expected[number]), (number, order)
        video.close()


@pytest.mark.parametrize("name", FILES)
def test_frames_equal_those_of_a_plain_decode_in_any_order(tmp_path: Path, name: str) -> None:
    if FILES[name].get("name", codec()) not in av.codecs_available:
        pytest.skip("no such encoder in this PyAV")
    path = write_video(tmp_path / name, 30, **FILES[name])  # type: ignore[arg-type]
    forward, frames = list(range(30)), _frames(path)
    by_offset = sorted(forward, key=lambda n: frames[n].offset)
    shuffled = random.Random(1).sample(forward, 30)
    _check_all(path, [forward, forward[::-1], by_offset, shuffled, [29, 0, 0, 29, 13, 12, 14]])
    assert [number_of(_read(path, frames[n]).decode(0)) for n in (0, 7, 13)] == [0, 7, 13]


@pytest.mark.parametrize("name", FILES)
def test_the_index_has_every_frame_at_its_time(tmp_path: Path, name: str) -> None:
    if FILES[name].get("name", codec()) not in av.codecs_available:
        pytest.skip("no such encoder in this PyAV")
    path = write_video(tmp_path / name, 30, **FILES[name])  # type: ignore[arg-type]
    expected = presentation_times_ns(path)
    start = expected[0] if name.endswith("avi") else 0
    assert [frame.time_ns for frame in _frames(path)] == [time_ns - start for time_ns in expected]
    assert np.ptp(np.diff(expected)) <= 1_000_000 and _frames(path)[0].is_key


def test_uneven_times_stay_with_their_frames(tmp_path: Path) -> None:
    times = [0, 10, 50, 51, 300, 333, 1000, 1040, 1041, 2000]
    path = write_video(tmp_path / "uneven.mp4", times)
    frames = _frames(path)
    if codec() == "libx264":
        assert [frame.time_ns for frame in frames] == [time_ms * 10**6 for time_ms in times]
    assert [number_of(_read(path, frame).decode(0)) for frame in frames] == list(range(10))


def _remuxed(source: Path, target: Path, shift: int, **container: dict[str, str]) -> Path:
    with av.open(str(source)) as old, av.open(str(target), "w", **container) as new:  # type: ignore[call-overload]
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                new.mux(packet)
    return target


def test_an_edit_list_hides_frames(clip: Path, tmp_path: Path) -> None:
    """Times below 0 become an edit list that starts behind them: no player shows those frames, others need them."""
    with av.open(str(clip)) as container:
        unit = container.streams.video[0].time_base
    assert unit is not None
    options = {"container_options": {"avoid_negative_ts": "disabled", "use_editlist": "1"}}
    path = _remuxed(clip, tmp_path / "cut.mp4", -round(0.2 / unit), **options)
    frames = _frames(path)
    assert len(frames) == len(plain_decode(path)) == 35
    assert [number_of(_read(path, frame).decode(0)) for frame in frames[:3]] == [5, 6, 7]
    _check_all(path, [list(range(35)), [20, 3, 0]])


def test_no_frame_is_read_for_the_index_of_an_mp4(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30, movflags="faststart", size=(320, 240))
    expected = _frames(path)
    data = bytearray(path.read_bytes())
    start = expected[0].offset
    data[start:] = bytes(len(data) - start)
    path.write_bytes(data)
    assert _frames(path) == expected


@pytest.mark.parametrize("name", ["plain.mp4", "plain.mkv"])
def test_opening_decodes_no_frame(tmp_path: Path, name: str) -> None:
    """Of H.264, FFmpeg learns the format of pixels from the first one, which takes longer than all else of an index."""
    with Video.opened(str(write_video(tmp_path / name, 12))) as video:
        assert video.decoder.pix_fmt is None and video.decoder.skip_frame == "DEFAULT"


def test_a_key_frame_needs_no_other(clip: Path, tmp_path: Path) -> None:
    frames, expected = _frames(clip), plain_decode(clip)
    keys = [n for n, frame in enumerate(frames) if frame.is_key]
    assert len(keys) >= 40 // GOP
    data = bytearray(clip.read_bytes())
    for n, (offset, length, _, _) in enumerate(frames):
        if n not in keys:
            data[offset : offset + length] = os.urandom(length)
    broken = tmp_path / "keys.mp4"
    broken.write_bytes(data)
    for n in keys:
        assert np.array_equal(_read(broken, frames[n]).decode(0), expected[n])


def test_reading_on_decodes_only_key_frames_twice(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import miner.decode.video as module

    fed: list[int] = []
    feed = module._Run._feed
    monkeypatch.setattr(module._Run, "_feed", lambda run, packet: (fed.append(run.fed), feed(run, packet))[1])
    video = VideoFile(str(clip))
    frames = _frames(clip)
    for frame in frames:
        video.read(frame.offset, frame.length, str(clip))
    keys = sum(frame.is_key for frame in frames)
    assert len(fed) <= len(frames) + 4 * keys  # each key frame twice, and the ends of both runs


@pytest.mark.parametrize(("min_side", "factor"), [(0, 1), (60, 1), (33, 1), (32, 2), (17, 2), (16, 4), (3, 4)])
def test_reduced_decoding_keeps_the_short_side(clip: Path, min_side: int, factor: int) -> None:
    picture = _read(clip, _frames(clip)[3])
    small = picture.decode(min_side)
    assert small.shape == (SIZE[1] // factor, SIZE[0] // factor, 3) and small.dtype == np.uint8
    full = picture.decode(0).reshape(SIZE[1] // factor, factor, SIZE[0] // factor, factor, 3).mean((1, 3))
    assert np.abs(small - full).mean() < 4
    assert np.array_equal(small, picture.decode(min_side)) and small.flags.c_contiguous


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1)), (-90, (0, -1))])
def test_rotated_videos_come_upright(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    path = write_video(tmp_path / "turned.mp4", 3, rotation=rotation)
    picture = _read(path, _frames(path)[1])
    pixels = picture.decode(0)
    assert pixels.shape[:2] == (picture.height, picture.width) == (SIZE if rotation % 180 else SIZE[::-1])
    expected = np.rot90(plain_decode(path)[1], rotation // 90)
    assert np.array_equal(pixels, expected)
    assert pixels[corner].min() > 240  # the white corner has gone along


def test_mirrored_videos_come_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "turned.mp4", 2, rotation=180)
    data = path.read_bytes()
    turned = b"".join(value.to_bytes(4, signed=True) for value in (-1 << 16, 0, 0, 0, -1 << 16))
    assert data.count(turned) == 1
    mirrored = b"".join(value.to_bytes(4, signed=True) for value in (-1 << 16, 0, 0, 0, 1 << 16))
    path.write_bytes(data.replace(turned, mirrored))
    assert np.array_equal(_read(path, _frames(path)[0]).decode(0), plain_decode(path)[0][:, ::-1])


def test_colours_survive(clip: Path) -> None:
    for number in (0, 5, 11):
        pixels = _read(clip, _frames(clip)[number]).decode(0).astype(int)
        assert np.abs(pixels - numbered(number)).mean() < 6


def test_the_first_of_several_video_streams(clip: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.mp4", 5, size=(32, 32))
    path = tmp_path / "two.mkv"
    with av.open(str(clip)) as one, av.open(str(other)) as two, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(source.streams.video[0]) for source in (one, two)]
        for source, stream in zip((one, two), streams, strict=True):
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    frames = _frames(path)
    assert len(frames) == 40
    assert _read(path, frames[30]).width == SIZE[0]


def test_through_the_rows_of_a_lake(clip: Path) -> None:
    frames, expected = _frames(clip), plain_decode(clip)
    with Recordings() as recordings:
        for number in (0, 12, 13, 30):
            offset, length, _, _ = frames[number]
            row = {"uri": str(clip), "offset": offset, "length": length, "fileformat": "mp4"}
            picture = recordings.read(row)
            assert isinstance(picture, Picture) and np.array_equal(picture.decode(0), expected[number])


def test_remote_files_through_arrow(clip: Path) -> None:
    frames = _frames(clip)
    assert frame_index(clip.as_uri()).frames == frames
    assert np.array_equal(_read(clip.as_uri(), frames[17]).decode(0), plain_decode(clip)[17])


@pytest.mark.parametrize("name", ["none.mp4", "", "nul\0.mp4"])
def test_files_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    for open_it in (VideoFile, frame_index):
        with pytest.raises(BadInput, match=r"missing-file|unreadable"):
            open_it(f"{tmp_path}/{name}")


def test_what_is_no_video(clip: Path, tmp_path: Path) -> None:
    cases = {
        "html.mp4": (b"<!doctype html><html>", "not-a-video"),
        "empty.mp4": (b"", "not-a-video"),
        "list.mp4": (b"#EXTM3U\n#EXT-X-VERSION:3\n/etc/hostname\n", "not-a-video"),
        "noise.mp4": (b"\0\0\0\x18ftyp" + random.Random(0).randbytes(5000), "corrupt-video|no-video-stream"),
        "noise.mkv": (b"\x1a\x45\xdf\xa3" + random.Random(0).randbytes(5000), "corrupt-video|no-video-stream"),
        "noise.avi": (b"RIFF\0\0\0\0AVI " + random.Random(0).randbytes(5000), "corrupt-video|no-video-stream"),
    }
    for name, (data, reason) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput, match=reason) as caught:
            frame_index(str(tmp_path / name))
        assert name in caught.value.detail and str(len(data)) in caught.value.detail
    audio = write_audio(tmp_path / "sound.mp4")
    with pytest.raises(BadInput, match=r"no-video-stream.*sound\.mp4.*streams: audio"):
        frame_index(str(audio))


def test_a_file_in_another_container_than_its_name_says(clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "clip.mkv")
    assert _frames(tmp_path / "clip.mkv") == _frames(clip)


def test_cut_before_the_sample_tables(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(BadInput, match=r"corrupt-video|no-video-stream") as caught:
        frame_index(str(path))
    assert str(path) in caught.value.detail and "mdat" in caught.value.detail and "moov" not in caught.value.detail


def test_cut_in_the_frames_those_before_still_work(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 40, movflags="faststart")
    frames, expected = _frames(path), plain_decode(path)
    cut = sorted(frame.offset for frame in frames)[25] + 1
    with path.open("r+b") as file:
        file.truncate(cut)
    assert _frames(path) == frames  # the tables still promise them: each is quarantined on its own
    video = VideoFile(str(path))
    for number, (offset, length, _, _) in enumerate(frames):
        if offset + length <= cut:
            assert np.array_equal(video.read(offset, length, "x").decode(0), expected[number])
        else:
            with pytest.raises(BadInput, match=r"truncated-video.*bytes asked"):
                video.read(offset, length, "x")


@pytest.mark.parametrize(("offset", "length"), [(1, 0), (-1, -1), (0, 1), (10**9, 10**9), (-(10**18), 5)])
def test_a_wrong_byte_range(clip: Path, opened: VideoFile, offset: int, length: int) -> None:
    first = _frames(clip)[0]
    with pytest.raises(BadInput, match=r"no-such-frame.*clip\.mp4"):
        opened.read(first.offset + offset, first.length + length, str(clip))
    assert number_of(opened.read(first.offset, first.length, str(clip)).decode(0)) == 0


def test_too_large_a_picture_by_its_header(tmp_path: Path) -> None:
    path = write_video(tmp_path / "raw.avi", 2, name="rawvideo")
    width, height = (value.to_bytes(4, "little") for value in SIZE)
    data = path.read_bytes()
    assert data.count(width + height) >= 2
    path.write_bytes(data.replace(width + height, (10_000).to_bytes(4, "little") * 2))
    with pytest.raises(BadInput, match=f"too-large.*{MAX_PIXELS}"):
        frame_index(str(path))


def test_too_large_a_picture_inside_the_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "m.avi", 2, name="mjpeg")
    width, height = (value.to_bytes(2) for value in SIZE)
    path.write_bytes(path.read_bytes().replace(b"\x08" + height + width, b"\x08\xfd\xe8\xfd\xe8"))
    with pytest.raises(BadInput, match="corrupt-video"):
        _read(path, _frames(path)[0])


def test_tables_that_promise_too_much(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    at = data.index(b"stsz") + 16  # version, sample size, count, then the sizes
    lies = data[:at] + b"\x00\x10\x00\x00" * 20 + data[at + 80 :]
    (tmp_path / "lies.mp4").write_bytes(lies)
    with pytest.raises(BadInput, match=f"truncated-video.*{len(lies)} bytes, [0-9]+ promised"):
        frame_index(str(tmp_path / "lies.mp4"))
    with pytest.raises(BadInput, match="truncated-video"):
        VideoFile(str(tmp_path / "lies.mp4"))


@pytest.mark.parametrize(("box", "at", "flags"), [("stsz", 8, b""), ("trun", 4, b"\0\0\0\1")])
def test_millions_of_frames_are_not_believed(tmp_path: Path, box: str, at: int, flags: bytes) -> None:
    """Each would cost FFmpeg 70 bytes: of a table with one size for all, and of a fragment without sizes."""
    path = write_video(tmp_path / "lies.mp4", 30, movflags="frag_keyframe+empty_moov" if box == "trun" else "")
    data = bytearray(path.read_bytes())
    start = data.index(box.encode()) + 4
    data[start : start + len(flags)] = flags
    data[start + at : start + at + 4] = (50_000_000).to_bytes(4)
    path.write_bytes(data)
    with pytest.raises(BadInput, match=rf"truncated-video.* {len(data)} bytes, 5000\d+ frames promised"):
        frame_index(str(path))


def test_a_damaged_packet_spoils_the_rest_of_its_group_and_nothing_else(clip: Path, tmp_path: Path) -> None:
    frames, expected = _frames(clip), plain_decode(clip)
    keys = [n for n, frame in enumerate(frames) if frame.is_key]
    victim = frames[keys[1]]  # a key frame
    data = bytearray(clip.read_bytes())
    data[victim.offset : victim.offset + victim.length] = b"\xff" * victim.length
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    for order in (range(40), range(39, -1, -1)):
        video, bad = VideoFile(str(path)), []
        for n in order:
            try:
                assert np.array_equal(video.read(*frames[n][:2], str(path)).decode(0), expected[n])
            except BadInput as error:
                assert error.reason == "corrupt-video" and "damaged.mp4" in error.detail
                assert "Invalid data" in error.detail  # the decoder's own word
                bad.append(n)
        assert sorted(bad) == list(range(keys[1], keys[2]))


def test_nothing_is_written_to_the_terminal(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(clip.read_bytes())
    frame = _frames(clip)[0]
    data[frame.offset : frame.offset + frame.length] = b"\xff" * frame.length
    (tmp_path / "bad.mp4").write_bytes(data)
    with pytest.raises(BadInput):
        _read(tmp_path / "bad.mp4", frame)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_bad_input_or_a_picture(clip: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Cuts and flips anywhere: every frame that the file still names is a picture of some size or BadInput, the same
    in any order."""
    content = bytearray(clip.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        frames, video = _frames(path), VideoFile(str(path))
    except BadInput as bad:
        assert "damaged.mp4" in bad.detail
        return
    chosen = [frame for frame in frames if not frames.index(frame) % 7]
    results = [[_outcome(video, frame) for frame in order] for order in (chosen, chosen[::-1])]
    video.close()
    assert results[0] == results[1][::-1]


def _outcome(video: VideoFile, frame: FrameRange) -> bytes | None:
    try:
        return video.read(frame.offset, frame.length, "x").decode(0).tobytes()
    except BadInput:
        return None


@pytest.mark.skipif(not DATA, reason="MINER_TEST_DATA is not set")
@pytest.mark.parametrize("name", REAL)
def test_real_drives(name: str) -> None:
    path = Path(DATA, "dashcam_video", name)
    count, width, height, keys = REAL[name]
    frames = _frames(path)
    assert len(frames) == count and sum(frame.is_key for frame in frames) == keys
    assert [frame.time_ns for frame in frames] == [n * 40_000_000 for n in range(count)]
    with av.open(str(path)) as container:
        wanted = [*range(0, count, 31), count - 1]
        expected = {n: f.to_ndarray(format="rgb24") for n, f in enumerate(container.decode(video=0)) if n in wanted}
    assert len(expected) == len(wanted)
    video = VideoFile(str(path))
    for n in wanted:
        picture = video.read(*frames[n][:2], str(path))
        assert (picture.width, picture.height) == (width, height)
        assert np.array_equal(picture.decode(0), expected[n])
    video.close()


class _Failing(io.BytesIO):
    broken = False

    def read(self, size: int | None = -1) -> bytes:
        if self.broken:
            raise OSError("connection reset")
        return super().read(size)


def test_a_store_that_fails_midway(tmp_path: Path) -> None:
    path = write_video(tmp_path / "large.mp4", 20, size=(320, 240), options={"qp": "0"}, movflags="faststart")
    raw = _Failing(path.read_bytes())
    video = Video(str(path), "mov", File(raw))
    video.open()
    raw.broken = True
    with pytest.raises(BadInput, match=r"unreadable: .*large\.mp4: .*connection reset"):
        list(video.demuxed())
