"""What a dataset version holds for whoever writes it out: its clips, their readings, annotations and the bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.spans import Ints, Spans, instants, overlaps
from miner.decode import VIDEO_FORMATS, Recordings
from miner.decode.files import read_bytes
from miner.decode.image import encode_jpeg, sniff
from miner.decode.sweep import Sweep
from miner.errors import NotFound, UnknownName, UsageError
from miner.facts import READS, annotation_spans
from miner.snapshot import Snapshot
from miner.store import one_of
from miner.training_sets import Dataset

PER = ("clip", "frame")
_CONTAINERS = VIDEO_FORMATS | {"mcap"}
_QUALITY = 95
_ORDER = [
    ("place", "ascending"),
    ("channel", "ascending"),
    ("timestamp_ns", "ascending"),
    ("sample_data_id", "ascending"),
]
_FACTS = ("dataset", "scene", "log_id", "location", "vehicle", "split", "license", "description", "categories")


@dataclass(frozen=True)
class Options:
    """What goes out: readings of these `channels` (all if none is named), of key frames only; `per` says whether a
    sample of a WebDataset is a clip or a reading; `part_clips` how many clips a file has (None: the format's own)."""

    channels: tuple[str, ...] = ()
    key_frames: bool = False
    per: str = "clip"
    part_clips: int | None = None

    def __post_init__(self) -> None:
        if self.per not in PER:
            raise UnknownName.of("unit", self.per, PER)
        if self.part_clips is not None and self.part_clips < 1:
            raise UsageError(f"part_clips = {self.part_clips}: expected 1 or more")


@dataclass
class Content:
    """The rows of a dataset version, read at the table versions it pins. Use in one thread."""

    dataset: Dataset
    options: Options
    recordings: Recordings = field(default_factory=Recordings)

    @cached_property
    def clips(self) -> pa.Table:
        """All clips by rank, with what is known of their scenes."""
        clips = self.dataset.to_arrow()
        facts = self.snapshot.scan("clip_facts", ["clip_id", *_FACTS])
        place = pc.index_in(clips["clip_id"], facts["clip_id"].combine_chunks())
        for name in _FACTS:
            clips = clips.append_column(name, facts[name].take(place))
        return clips

    @property
    def snapshot(self) -> Snapshot:
        """The tables as the version pins them."""
        return self.dataset.snapshot

    def check(self) -> None:
        """Raise NotFound where the lake has no such channel, or a table went."""
        known = set(self.snapshot.scan("sample_data", ["channel"])["channel"].unique().to_pylist())
        for name in self.options.channels:
            if name not in known:
                raise NotFound(f"no reading is of channel {name!r}", f"Channels: {', '.join(sorted(known))}")

    def readings(self, first: int, last: int) -> pa.Table:
        """Rows of `sample_data` of some clips, with `clip_id`, by clip, channel and time."""
        clips = self.clips.slice(first, last - first)
        rows = self._scenes("sample_data", clips)
        if self.options.channels:
            rows = rows.filter(pc.is_in(rows["channel"], pa.array(self.options.channels)))
        if self.options.key_frames:
            rows = rows.filter(rows["is_key_frame"])
        scenes = clips["scene_id"].unique()
        row, clip = overlaps(instants(_ints(rows["timestamp_ns"]), _codes(rows, scenes)), _windows(clips, scenes))
        return _of_clips(rows, clips, row, clip).sort_by(_ORDER).drop_columns("place")

    def annotations(self, first: int, last: int) -> pa.Table:
        """Rows of `annotations` that hold in some clips, with `clip_id`, by clip and id."""
        clips = self.clips.slice(first, last - first)
        scenes = clips["scene_id"].unique()
        rows = self._scenes("annotations", clips)
        readings = self._scenes("sample_data", clips, READS["sample_data"])
        spans = annotation_spans(rows, _codes(rows, scenes), readings)
        row, clip = overlaps(spans, _windows(clips, scenes))
        found = _of_clips(rows, clips, row, clip)
        return found.sort_by([("place", "ascending"), ("annotation_id", "ascending")]).drop_columns("place")

    def payload(self, reading: dict[str, object]) -> tuple[str, bytes]:
        """File ending and bytes of a reading: those of its file as they are, what lies in a video or an MCAP file as
        JPEG or, a sweep, as npy (float32). Raises BadInput."""
        uri, fileformat = str(reading["uri"]), str(reading["fileformat"])
        if fileformat not in _CONTAINERS:
            offset, length = reading["offset"], reading["length"]
            assert offset is None or isinstance(offset, int)
            assert length is None or isinstance(length, int)
            return _ending(fileformat, uri), read_bytes(uri, offset, length)
        read = self.recordings.read(reading)
        if isinstance(read, Sweep):
            buffer = BytesIO()
            np.save(buffer, read.points, allow_pickle=False)
            return "npy", buffer.getvalue()
        kind = sniff(read.data)
        return (kind, read.data) if kind in ("jpg", "png") else ("jpg", encode_jpeg(read.decode(0), _QUALITY))

    def _scenes(self, table: str, clips: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
        return self.snapshot.scan(table, columns, one_of("scene_id", clips["scene_id"].unique().to_pylist()))


def _of_clips(rows: pa.Table, clips: pa.Table, row: Ints, clip: Ints) -> pa.Table:
    found = rows.take(row).add_column(0, "clip_id", clips["clip_id"].take(clip))
    return found.append_column("place", pa.array(clip))


def _windows(clips: pa.Table, scenes: pa.Array) -> Spans:
    return Spans(_ints(clips["start_ns"]), _ints(clips["end_ns"]), _codes(clips, scenes))


def _codes(rows: pa.Table, scenes: pa.Array) -> Ints:
    codes: Ints = pc.fill_null(pc.index_in(rows["scene_id"], scenes), -1).to_numpy().astype(np.int64)
    return codes


def _ints(column: pa.ChunkedArray) -> Ints:
    found: Ints = column.to_numpy().astype(np.int64, copy=False)
    return found


def _ending(fileformat: str, uri: str) -> str:
    """The ending of the file itself, else what the row says it is: kitti_bin is a .bin."""
    found = re.search(r"\.([A-Za-z0-9]{1,8})$", uri.partition("?")[0].partition("#")[0])
    return found[1].lower() if found else re.sub(r"[^a-z0-9]", "", fileformat.rpartition("_")[2].lower()) or "bytes"
