"""MCAP files by byte range, ROS 2 messages to pictures and sweeps: against other libraries and plain loops."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from numpy.typing import NDArray

from miner.decode import Recordings
from miner.decode.image import Picture
from miner.decode.mcap import MAGIC, McapFile, Message, Place, Scan, inflate, message_uri, parse_place
from miner.decode.ros import COMPRESSED_IMAGE, IMAGE, POINT_CLOUD, Cdr, decode_message, is_picture, peek
from miner.decode.sweep import Sweep
from miner.errors import BadInput
from tests.mcaps import (
    LAYOUTS,
    NUSCENES_POINT,
    Sent,
    camera_info,
    compressed_image,
    fix,
    image,
    point_cloud,
    serialised,
    transforms,
    write_mcap,
)
from tests.pictures import jpg, noise, picture, png

_NS = 10**9


def _cloud(count: int, seed: int = 0) -> NDArray[Any]:
    points = np.zeros(count, NUSCENES_POINT)
    random = np.random.default_rng(seed)
    for name in ("x", "y", "z", "intensity"):
        points[name] = random.normal(size=count)
    points["ring"] = random.integers(0, 64, count)
    return points


def _messages() -> list[Sent]:
    """A picture, a raw image and a sweep every 0.1 s, with others between them."""
    pose = {"translation": [1.0, 2.0, 3.0], "rotation_wxyz": [1.0, 0.0, 0.0, 0.0]}
    sent = [Sent("/tf_static", transforms(("base_link", "cam", pose)), _NS), Sent("/gps", fix(1.0, 2.0), _NS)]
    for n in range(6):
        time_ns = (10 + n) * _NS // 10
        jpeg = jpg(np.roll(picture(), 5 * n, axis=1))
        sent.append(Sent("/front/compressed", compressed_image(time_ns, jpeg), time_ns))
        sent.append(Sent("/raw", image(noise(9 + n, 7), "rgb8", time_ns, padding=3), time_ns))
        sent.append(Sent("/lidar", point_cloud(_cloud(50 + n, n), time_ns), time_ns))
        sent.append(Sent("/tf", transforms(("map", "base_link", pose), stamp_ns=time_ns), time_ns))
    return sent


_KINDS = {"/front/compressed": COMPRESSED_IMAGE, "/raw": IMAGE, "/lidar": POINT_CLOUD}


def _readings(path: Path) -> list[tuple[Message, bytes]]:
    """The camera and LiDAR messages of a file, with a copy of their data."""
    return [(m, bytes(m.data)) for m in Scan(str(path)).messages() if m.channel.topic in _KINDS]


def _row(path: Path, message: Message) -> dict[str, Any]:
    uri = message_uri(str(path), Place(message.channel.kind, message.at))
    return {"uri": uri, "offset": message.offset, "length": message.length, "fileformat": "mcap"}


@pytest.fixture(scope="module", params=LAYOUTS)
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mcap") / f"{request.param}.mcap"
    return write_mcap(path, _messages(), **LAYOUTS[request.param])


# ---- the file ----


def test_scanning_finds_what_other_libraries_find(recording: Path) -> None:
    with open(recording, "rb") as file:
        theirs = [
            (channel.topic, schema.name, message.log_time, message.data)
            for schema, channel, message in make_reader(file, validate_crcs=True).iter_messages(log_time_order=False)
        ]
    ours = [(m.channel.topic, m.channel.kind, m.log_time_ns, bytes(m.data)) for m in Scan(str(recording)).messages()]
    assert ours == theirs and len(ours) == 26


def test_every_reading_decodes_from_its_range_alone(recording: Path) -> None:
    file = McapFile(str(recording))
    for message, data in reversed(_readings(recording)):
        row = _row(recording, message)
        got = file.read(row["offset"], row["length"], row["uri"])
        want = decode_message(message.channel.kind, memoryview(data), "")
        assert got.data == want.data
        if isinstance(got, Picture) and isinstance(want, Picture):
            np.testing.assert_array_equal(got.decode(0), want.decode(0))
        else:
            assert isinstance(got, Sweep) and isinstance(want, Sweep)
            np.testing.assert_array_equal(got.points, want.points)
    file.close()


def test_rows_are_opened_as_recordings(recording: Path) -> None:
    with Recordings() as recordings:
        kinds = [type(recordings.read(_row(recording, message))) for message, _ in _readings(recording)]
    assert kinds == [Picture, Picture, Sweep] * 6


def test_readings_of_one_chunk_cost_one_read(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "one chunk.mcap", _messages(), chunk_size=1 << 20)
    rows = [_row(path, message) for message, _ in _readings(path)]
    assert len({(row["offset"], row["length"]) for row in rows}) == 1
    file = McapFile(str(path))
    file.read(rows[0]["offset"], rows[0]["length"], rows[0]["uri"])
    path.unlink()
    for row in rows:
        file.read(row["offset"], row["length"], row["uri"])
    file.close()
    with pytest.raises(BadInput, match="missing-file"):
        file.read(rows[0]["offset"], rows[0]["length"], rows[0]["uri"])


@pytest.mark.parametrize("place", [Place(IMAGE, 0), Place(POINT_CLOUD, 4711), Place(COMPRESSED_IMAGE, -1)])
def test_the_place_survives_the_uri(place: Place) -> None:
    assert parse_place(message_uri("s3://bucket/a #1/b.mcap", place)) == place


@pytest.mark.parametrize("fragment", ["", "#", "#message=3", "#type=", "#type=x&message=y", "#type=x&message=-"])
def test_a_uri_without_a_place(tmp_path: Path, fragment: str) -> None:
    with pytest.raises(BadInput, match="bad-uri"):
        McapFile(str(tmp_path)).read(0, 9, f"{tmp_path}{fragment}")


@settings(max_examples=30)
@given(st.data())
def test_a_wrong_range_never_decodes_silently(recording: Path, data: st.DataObject) -> None:
    message, _ = data.draw(st.sampled_from(_readings(recording)))
    row = _row(recording, message)
    size = recording.stat().st_size
    offset, length = data.draw(st.tuples(st.integers(0, size), st.integers(-5, size)))
    at = data.draw(st.integers(0, 5000))
    if (offset, length) != (row["offset"], row["length"]):
        with pytest.raises(BadInput):
            McapFile(str(recording)).read(offset, length, row["uri"])
    if message.at >= 0:
        uri = message_uri(str(recording), Place(message.channel.kind, at))
        starts = {m.at for m in Scan(str(recording)).messages() if m.offset == row["offset"]}
        if at not in starts:
            with pytest.raises(BadInput):
                McapFile(str(recording)).read(row["offset"], row["length"], uri)


def _scanned(path: Path) -> list[tuple[Any, ...]]:
    return [(*m[:2], bytes(m.data), *m[3:]) for m in Scan(str(path)).messages()]


@settings(max_examples=150)
@given(st.data())
def test_a_flipped_bit_is_found_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Without a CRC over the whole data section, as most writers leave it out."""
    whole = _flip_source(tmp_path_factory)
    content = bytearray(whole.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    broken = whole.with_name("broken.mcap")
    broken.write_bytes(content)
    try:
        found = _scanned(broken)
    except BadInput as bad:
        assert "broken.mcap" in bad.detail
    else:
        assert found == _scanned(whole)


def _flip_source(factory: pytest.TempPathFactory) -> Path:
    path = factory.getbasetemp() / "flips" / "whole.mcap"
    return path if path.exists() else write_mcap(path, _messages(), enable_data_crcs=False)


@settings(max_examples=60)
@given(st.data())
def test_a_flipped_bit_outside_of_chunks_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "plain" / "whole.mcap"
    if not path.exists():
        write_mcap(path, _messages(), use_chunking=False)
    content, last = bytearray(path.read_bytes()), max(m.offset + m.length for m in Scan(str(path)).messages())
    content[data.draw(st.integers(0, last - 1))] ^= 1 << data.draw(st.integers(0, 7))
    broken = path.with_name("broken.mcap")
    broken.write_bytes(content)
    with pytest.raises(BadInput):
        _scanned(broken)


def test_every_flip_in_the_frame_of_a_record(tmp_path: Path) -> None:
    """Opcodes and lengths are under no CRC of a chunk: a chunk must not turn into a record that is passed over."""
    path = write_mcap(tmp_path / "a.mcap", _messages()[:8], enable_data_crcs=False, chunk_size=2000)
    whole, content = _scanned(path), path.read_bytes()
    at = len(MAGIC)
    while at < len(content) - len(MAGIC):
        for place, bit in [(0, bit) for bit in range(8)] + [(1, 0), (1, 7), (2, 1), (4, 0), (8, 7)]:
            broken = bytearray(content)
            broken[at + place] ^= 1 << bit
            path.write_bytes(broken)
            try:
                found = _scanned(path)
            except BadInput:
                continue
            assert found == whole
        at += 9 + struct.unpack_from("<Q", content, at + 1)[0]


def test_a_section_without_its_end(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", _messages(), use_statistics=False, enable_data_crcs=False)
    content, end = bytearray(path.read_bytes()), _data_end(path) - 13
    assert content[end] == 15
    content[end] = 0x8F  # a private record, to be passed over
    path.write_bytes(content)
    with pytest.raises(BadInput, match="the data section has no end"):
        _scanned(path)


def test_a_channel_that_its_copy_contradicts(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", _messages(), use_chunking=False, enable_data_crcs=False)
    content = path.read_bytes()
    for right, wrong in ((b"/lidar", b"/lizar"), (b"sensor_msgs/msg/Image", b"sensor_msgs/msg/Imagf")):
        assert content.count(right) == 2
        path.write_bytes(content.replace(right, wrong, 1))
        with pytest.raises(BadInput, match="declared twice"):
            _scanned(path)


def test_a_flip_names_the_chunk_at_ingest_and_at_decode(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", _messages(), **LAYOUTS["none"])
    message, data = _readings(path)[4]
    content = bytearray(path.read_bytes())
    content[content.index(data) + len(data) // 2] ^= 16
    path.write_bytes(content)
    with pytest.raises(BadInput, match="crc-mismatch") as caught:
        _scanned(path)
    assert f"chunk 3 at byte {message.offset}" in caught.value.detail
    row = _row(path, message)
    with pytest.raises(BadInput, match="crc-mismatch"):
        McapFile(str(path)).read(row["offset"], row["length"], row["uri"])


@settings(max_examples=40)
@given(st.data())
def test_of_a_truncated_file_all_that_is_whole_is_kept(recording: Path, data: st.DataObject) -> None:
    content, whole = recording.read_bytes(), _scanned(recording)
    cut = data.draw(st.integers(0, len(content) - 1))
    broken = recording.with_name("cut.mcap")
    broken.write_bytes(content[:cut])
    if cut < 8:
        with pytest.raises(BadInput, match="not-mcap"):
            _scanned(broken)
        return
    scan = Scan(str(broken))
    found = [m.offset for m in scan.messages()]
    assert found == [m[3] for m in whole if m[3] + m[4] <= cut]
    assert (scan.cut_at is None) == (cut >= _data_end(recording))
    assert scan.cut_at is None or scan.cut_at <= cut


def _data_end(path: Path) -> int:
    """Where the data section of a file ends: its footer says where the summary starts."""
    summary_start: int = struct.unpack_from("<Q", path.read_bytes()[-8 - 20 :])[0]
    return summary_start


def test_the_zeros_of_a_file_that_was_never_closed(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", _messages())
    end = _data_end(path)
    path.write_bytes(path.read_bytes()[: end - 13] + bytes(5000))
    scan = Scan(str(path))
    assert len(list(scan.messages())) == 26 and scan.cut_at == end - 13


def test_what_is_no_mcap(tmp_path: Path) -> None:
    for name, content in {"empty": b"", "text": b"<html>", "bag": b"#ROSBAG V2.0\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match="not-mcap"):
            _scanned(tmp_path / name)
    with pytest.raises(BadInput, match="missing-file"):
        _scanned(tmp_path / "none")
    with pytest.raises(BadInput, match="unreadable"):
        _scanned(tmp_path)


def _chunk(size: int, compression: str, stored: bytes, crc: int = 0) -> memoryview:
    head = struct.pack("<QQQI", 0, 0, size, crc) + struct.pack("<I", len(compression)) + compression.encode()
    return memoryview(head + struct.pack("<Q", len(stored)) + stored)


def _streamed(data: bytes) -> bytes:
    """A zstd frame that does not say how long its content is."""
    writer = zstandard.ZstdCompressor().compressobj()
    return writer.compress(data) + writer.flush()


_PACK = {"zstd": zstandard.compress, "zstd streamed": _streamed, "lz4": lz4.frame.compress, "": bytes}


@pytest.mark.parametrize("pack", _PACK)
def test_inflating(pack: str) -> None:
    data = bytes(range(256)) * 40
    chunk = _chunk(len(data), pack.partition(" ")[0], _PACK[pack](data), zlib.crc32(data))
    assert inflate(chunk, "f") == data
    assert inflate(_chunk(0, pack.partition(" ")[0], _PACK[pack](b"")), "f") == b""


@pytest.mark.parametrize("pack", _PACK)
@pytest.mark.parametrize("size", [0, 1, 10_239, 10_241, 1 << 29])
def test_a_chunk_of_another_size_than_it_says(pack: str, size: int) -> None:
    data = bytes(range(256)) * 40
    with pytest.raises(BadInput, match="corrupt-chunk"):
        inflate(_chunk(size, pack.partition(" ")[0], _PACK[pack](data)), "f")


@pytest.mark.parametrize("pack", ["zstd", "zstd streamed", "lz4"])
def test_a_bomb_is_not_inflated(pack: str) -> None:
    bomb = _PACK[pack](bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(BadInput, match="corrupt-chunk"):
        inflate(_chunk(1000, pack.partition(" ")[0], bomb), "f")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (_chunk(1 << 62, "zstd", b""), "too-large"),
        (_chunk(10, "brotli", b"0123456789"), "unsupported-compression"),
        (_chunk(10, "zstd", b"0123456789"), "corrupt-chunk"),
        (_chunk(10, "lz4", b"0123456789"), "corrupt-chunk"),
        (_chunk(10, "", b"0123456789", crc=1), "crc-mismatch"),
        (_chunk(10, "", b"0123456789")[:-1], "bad-record"),
        (_chunk(10, "", b"0123456789")[:20], "bad-record"),
    ],
)
def test_bad_chunks(chunk: memoryview, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        inflate(chunk, "f")


def test_scanning_holds_one_chunk(tmp_path: Path) -> None:
    sent = [Sent("/lidar", point_cloud(_cloud(40_000, n), n + 1), n + 1) for n in range(12)]
    path = write_mcap(tmp_path / "a.mcap", sent, **LAYOUTS["none"])
    assert path.stat().st_size > 9 << 20
    tracemalloc.start()
    assert sum(1 for _ in Scan(str(path)).messages()) == 12
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


# ---- messages ----


def test_messages_are_read_as_mcap_ros2_reads_them(recording: Path) -> None:
    with open(recording, "rb") as file:
        decoded = make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages(log_time_order=False)
        theirs = [(c.topic, message) for _, c, _, message in decoded if c.topic in _KINDS]
    ours = _readings(recording)
    assert [topic for topic, _ in theirs] == [message.channel.topic for message, _ in ours]
    for (_, want), (message, data) in zip(theirs, ours, strict=True):
        header, encoding = peek(message.channel.kind, memoryview(data), "")
        assert header.stamp_ns == want.header.stamp.sec * _NS + want.header.stamp.nanosec
        assert header.frame_id == want.header.frame_id
        assert encoding == getattr(want, "encoding", getattr(want, "format", ""))
        assert decode_message(message.channel.kind, memoryview(data), "").data == bytes(want.data)


def _decoded(message: Any, little_endian: bool = True) -> Any:
    return decode_message(message.__msgtype__, memoryview(serialised(message, little_endian)), "f.mcap")


def test_the_alignment_of_both_encodings() -> None:
    one = b"\0\1\0\0" + struct.pack("<I4xd", 7, 2.5)
    two = b"\0\7\0\0" + struct.pack("<Id", 7, 2.5)
    for data in (one, two):
        cdr = Cdr(data, "f")
        assert cdr.numbers("I") == (7,) and cdr.numbers("d") == (2.5,)
        with pytest.raises(BadInput, match="bad-message"):
            cdr.numbers("B")
    assert Cdr(b"\0\0\0\0" + struct.pack(">Bxh", 1, -2), "f").numbers("B") == (1,)
    for data in (b"", b"\0\1", b"\0\3\0\0", b"\1\1\0\0", b"{}  "):
        with pytest.raises(BadInput, match="unsupported-encoding"):
            Cdr(data, "f")


@settings(max_examples=60)
@given(st.sampled_from(["jpg", "raw", "cloud"]), st.booleans(), st.data())
def test_a_message_cut_short_is_bad_input(kind: str, little_endian: bool, data: st.DataObject) -> None:
    whole = {
        "jpg": compressed_image(5, jpg(picture())),
        "raw": image(noise(5, 4), "bgr8", padding=2),
        "cloud": point_cloud(_cloud(5)),
    }[kind]
    content = serialised(whole, little_endian)
    cut = data.draw(st.integers(0, len(content) - 8))
    with pytest.raises(BadInput) as caught:
        decode_message(whole.__msgtype__, memoryview(content[:cut]), "f.mcap")
    assert "f.mcap" in caught.value.detail


@settings(max_examples=80)
@given(st.sampled_from(["raw", "cloud"]), st.data())
def test_no_header_is_believed(kind: str, data: st.DataObject) -> None:
    """Four bytes anywhere are overwritten: a result or BadInput, and no memory beyond the message's own size."""
    whole = image(noise(5, 4), "bgr8", padding=2) if kind == "raw" else point_cloud(_cloud(5))
    content = bytearray(serialised(whole))
    at = 4 * data.draw(st.integers(0, len(content) // 4 - 1))
    content[at : at + 4] = data.draw(st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\1\0"]))
    tracemalloc.start()
    try:
        got = decode_message(whole.__msgtype__, memoryview(content), "f.mcap")
        if isinstance(got, Picture):
            got.decode(0)
    except BadInput:
        pass
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_compressed_pictures_keep_their_bytes() -> None:
    for data in (jpg(picture()), png(picture())):
        got = _decoded(compressed_image(1, data))
        assert got.data == data and (got.width, got.height) == (80, 48)
    np.testing.assert_array_equal(got.decode(0), picture())
    for data, reason in ((b"", "empty-file"), (b"<html>", "not-an-image")):
        with pytest.raises(BadInput, match=reason):
            _decoded(compressed_image(1, data))


_GREY = noise(6, 8)[..., 0]


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "stored", "want"),
    [
        ("rgb8", noise(), noise()),
        ("bgr8", noise()[..., ::-1], noise()),
        ("8UC3", noise()[..., ::-1], noise()),
        ("rgba8", np.insert(noise(), 3, 7, axis=2), noise()),
        ("bgra8", np.insert(noise()[..., ::-1], 3, 7, axis=2), noise()),
        ("8UC4", np.insert(noise()[..., ::-1], 3, 7, axis=2), noise()),
        ("mono8", _GREY, np.stack([_GREY] * 3, axis=-1)),
        ("8UC1", _GREY, np.stack([_GREY] * 3, axis=-1)),
        ("mono16", _GREY.astype(np.uint16) * 257, np.stack([_GREY] * 3, axis=-1)),
        ("rgb16", noise().astype(np.uint16) * 257, noise()),
        ("bgr16", noise()[..., ::-1].astype(np.uint16) * 257 + 0, noise()),
        ("bgra16", np.insert(noise()[..., ::-1], 3, 7, axis=2).astype(np.uint16) * 257, noise()),
    ],
)
def test_raw_encodings(
    encoding: str, stored: NDArray[Any], want: NDArray[np.uint8], padding: int, little_endian: bool
) -> None:
    for big in (False, True):
        got = _decoded(image(np.ascontiguousarray(stored), encoding, padding=padding, big=big), little_endian)
        assert (got.height, got.width) == want.shape[:2]
        pixels = got.decode(224)
        assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
        np.testing.assert_array_equal(pixels, want)


@pytest.mark.parametrize(("encoding", "luma"), [("yuv422", 1), ("uyvy", 1), ("yuv422_yuy2", 0), ("yuyv", 0)])
def test_yuv_against_the_formula(encoding: str, luma: int) -> None:
    stored = np.random.default_rng(1).integers(16, 236, (6, 8, 2), dtype=np.uint8)
    got = _decoded(image(stored, encoding)).decode(0)
    for row in range(6):
        for col in range(8):
            y = 1.164383 * (float(stored[row, col, luma]) - 16)
            u, v = (float(stored[row, col // 2 * 2 + k, 1 - luma]) - 128 for k in (0, 1))
            want = [y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u]
            assert np.abs(got[row, col] - np.clip(want, 0, 255)).max() <= 1.5


@pytest.mark.parametrize("pattern", ["rggb", "grbg", "gbrg", "bggr"])
def test_bayer_against_a_loop(pattern: str) -> None:
    raw = np.random.default_rng(2).integers(0, 256, (6, 7), dtype=np.uint8)
    want, mirrored = np.zeros((6, 7, 3)), np.pad(raw, 1, mode="reflect")
    for row, col, colour in np.ndindex(6, 7, 3):
        near: dict[int, list[float]] = {}
        for y, x in np.ndindex(3, 3):
            if pattern[(row + y - 1) % 2 * 2 + (col + x - 1) % 2] == "rgb"[colour]:
                near.setdefault((y - 1) ** 2 + (x - 1) ** 2, []).append(float(mirrored[row + y, col + x]))
        want[row, col, colour] = np.mean(near[min(near)])
    for stored, bits in ((raw, 8), (raw.astype(np.uint16) * 257, 16)):
        got = _decoded(image(stored, f"bayer_{pattern}{bits}")).decode(0)
        assert np.abs(got - want).max() <= 0.5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoding": "32FC1"}, "unsupported-image"),
        ({"encoding": "nv21"}, "unsupported-image"),
        ({"width": 0}, "corrupt-image"),
        ({"height": 0}, "corrupt-image"),
        ({"step": 11}, "corrupt-image"),
        ({"height": 6}, "truncated-image"),
        ({"step": 15}, "truncated-image"),
        ({"height": 100_000, "width": 100_000}, "too-large"),
        ({"encoding": "yuyv", "width": 3, "step": 6}, "corrupt-image"),
    ],
)
def test_bad_images(change: dict[str, Any], reason: str) -> None:
    message = image(noise(5, 4), "rgb8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(BadInput, match=reason):
        _decoded(message)


def test_what_is_a_picture() -> None:
    assert is_picture(IMAGE, "bgr8") and is_picture(IMAGE, "bayer_rggb16") and is_picture(POINT_CLOUD, "")
    assert not any(is_picture(IMAGE, encoding) for encoding in ("16UC1", "32FC1", "nv21", ""))
    assert is_picture(COMPRESSED_IMAGE, "jpeg") and is_picture(COMPRESSED_IMAGE, "bgr8; jpeg compressed bgr8")
    assert not is_picture(COMPRESSED_IMAGE, "16UC1; compressedDepth png") and not is_picture(COMPRESSED_IMAGE, "h264")
    with pytest.raises(BadInput, match="unsupported-message"):
        _decoded(camera_info("cam", np.eye(3).ravel()))


_NUMBER = st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(
        {name: st.sampled_from(["f4", "f8", "i2"]) for name in "xyz"},
        optional={name: _NUMBER for name in ("intensity", "i", "ring", "line", "t")},
    ),
    st.randoms(use_true_random=False),
    st.booleans(),
    st.sampled_from([(1, 4), (3, 2), (2, 1)]),
)
def test_point_clouds_against_a_loop(formats: dict[str, str], random: Any, big: bool, shape: tuple[int, int]) -> None:
    order = list(formats)
    random.shuffle(order)
    offsets, end = {}, 0
    for name in order:
        offsets[name] = end + random.randrange(3)
        end = offsets[name] + int(formats[name][1])
    mark = ">" if big else "<"
    kind = np.dtype(
        {
            "names": order,
            "formats": [mark + formats[name] for name in order],
            "offsets": [offsets[name] for name in order],
            "itemsize": end + random.randrange(4),
        }
    )
    raw = bytes(random.randrange(256) for _ in range(shape[0] * shape[1] * kind.itemsize))
    message = point_cloud(np.frombuffer(raw, kind).reshape(shape), row_padding=random.randrange(4), big=big)
    columns = ["x", "y", "z"]
    columns += [alias for alias in ("intensity", "i") if alias in formats][:1]
    columns += [alias for alias in ("ring", "line") if alias in formats][:1]
    want = []
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(raw), kind.itemsize):
            codes = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
            values = [
                np.float32(struct.unpack_from(mark + codes[formats[name]], raw, start + offsets[name])[0])
                for name in columns
            ]
            if all(abs(float(value)) <= 10_000 for value in values[:3]):
                has_intensity = columns[3:4] in (["intensity"], ["i"])
                if has_intensity and not np.isfinite(values[3]):
                    values[3] = np.float32(0)
                want.append(values)
        for little_endian in (True, False):
            if not np.any([row[:3] for row in want]):
                with pytest.raises(BadInput, match="no-points"):
                    _decoded(message, little_endian)
                continue
            got = _decoded(message, little_endian)
            assert got.fields[:3] == ("x", "y", "z") and len(got.fields) == len(columns)
            assert set(got.fields[3:]) <= {"intensity", "ring"}
            assert got.dropped == shape[0] * shape[1] - len(want)
            np.testing.assert_array_equal(got.points, np.array(want, np.float32))


def test_points_that_are_not_finite_or_far_off_are_dropped_and_counted() -> None:
    points = _cloud(11)
    points["y"][10] = -10_001
    points["x"][2], points["z"][7], points["intensity"][4] = np.nan, np.inf, np.nan
    got = _decoded(point_cloud(points))
    assert got.dropped == 3 and got.points.shape == (8, 5) and got.fields == ("x", "y", "z", "intensity", "ring")
    assert got.points[3, 3] == 0 and np.isfinite(got.points).all()
    with pytest.raises(BadInput, match="no-points"):
        _decoded(point_cloud(np.zeros(5, NUSCENES_POINT)))


def _change_field(index: int, **values: Any) -> dict[str, Any]:
    fields = point_cloud(_cloud(3)).fields
    for name, value in values.items():
        setattr(fields[index], name, value)
    return {"fields": fields}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 0}, "no-points"),
        ({"width": 4}, "truncated-sweep"),
        ({"height": 2}, "truncated-sweep"),
        ({"height": 2, "width": 1, "row_step": 10}, "truncated-sweep"),
        ({"height": 65536, "width": 65536}, "truncated-sweep"),
        ({"point_step": 16}, "corrupt-sweep"),
        ({"point_step": 0}, "corrupt-sweep"),
        ({"height": 2**31, "width": 2**31, "row_step": 0, "point_step": 0}, "corrupt-sweep"),
        (_change_field(0, name="range"), "bad-columns"),
        (_change_field(1, count=3), "bad-columns"),
        (_change_field(2, datatype=9), "bad-columns"),
        (_change_field(0, offset=2**32 - 1), "corrupt-sweep"),
    ],
)
def test_bad_point_clouds(change: dict[str, Any], reason: str) -> None:
    message = point_cloud(_cloud(3))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(BadInput, match=reason):
        _decoded(message)
