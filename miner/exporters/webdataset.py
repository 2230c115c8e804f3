"""WebDataset shards: tar files of samples, which the `webdataset` library streams; pictures and sweeps as bytes.

A sample is a clip (`CLIP.json` and `CLIP.CHANNEL.0000.jpg`, ...) or a reading (`READING.json`, `READING.jpg`).
"""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO, ClassVar

from miner.errors import BadInput
from miner.exporters import Part, Written, numbered
from miner.exporters.content import Content, Options
from miner.exporters.jsonl import documents


class WebDatasetExporter:
    """`shard-000000.tar`, ...: `webdataset.WebDataset("DEST/shard-{000000..000007}.tar")`."""

    name: ClassVar[str] = "webdataset"
    part_clips: ClassVar[int] = 32

    def parts(self, clips: int, options: Options) -> Sequence[Part]:
        return numbered(clips, options.part_clips or self.part_clips, "shard-{:06d}.tar")

    def write(self, part: Part, content: Content, file: BinaryIO) -> Written:
        left_out: list[dict[str, str]] = []
        samples = 0
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for document in documents(part, content):
                write = _frames if content.options.per == "frame" else _clip
                samples += write(tar, document, content, left_out)
        return Written(samples, left_out)


def _clip(tar: tarfile.TarFile, document: dict[str, Any], content: Content, left_out: list[dict[str, str]]) -> int:
    """One sample: readings in order of channel and time, then the JSON that names them."""
    count: Counter[str] = Counter()
    for reading in document["readings"]:
        payload = _payload(reading, document, content, left_out)
        if payload is None:
            continue
        channel = re.sub(r"[^a-z0-9_-]+", "_", reading["channel"].lower())
        reading["key"] = f"{channel}.{count[channel]:04d}.{payload[0]}"
        count[channel] += 1
        _add(tar, f"{document['clip_id']}.{reading['key']}", payload[1])
    _add(tar, f"{document['clip_id']}.json", _json(document))
    return 1


def _frames(tar: tarfile.TarFile, document: dict[str, Any], content: Content, left_out: list[dict[str, str]]) -> int:
    """A sample for each reading: its bytes, and the JSON of reading and clip, with the annotations of its time."""
    samples = 0
    clip = {name: value for name, value in document.items() if name not in ("readings", "annotations")}
    for reading in document["readings"]:
        payload = _payload(reading, document, content, left_out)
        if payload is None:
            continue
        reading["key"] = payload[0]
        notes = [each for each in document["annotations"] if _is_of(each, reading)]
        _add(tar, f"{reading['sample_data_id']}.{payload[0]}", payload[1])
        _add(tar, f"{reading['sample_data_id']}.json", _json({**reading, "clip": clip, "annotations": notes}))
        samples += 1
    return samples


def _is_of(note: dict[str, Any], reading: dict[str, Any]) -> bool:
    """Whether an annotation is of a reading, of its sample or time, or of all of the scene."""
    if note["sample_data_id"] is not None and note["bbox_xyxy"] is not None:
        return bool(note["sample_data_id"] == reading["sample_data_id"])
    if note["sample_id"] is not None:
        return bool(note["sample_id"] == reading["sample_id"])
    if note["sample_data_id"] is not None:
        return bool(note["sample_data_id"] == reading["sample_data_id"])
    return note["timestamp_ns"] is None or bool(note["timestamp_ns"] == reading["timestamp_ns"])


def _payload(
    reading: dict[str, Any], document: dict[str, Any], content: Content, left_out: list[dict[str, str]]
) -> tuple[str, bytes] | None:
    """Ending and bytes of a reading; None, and a record of why, where it cannot be read."""
    try:
        return content.payload(reading)
    except BadInput as bad:
        reading["key"] = None
        ids = {"clip_id": document["clip_id"], "sample_data_id": reading["sample_data_id"]}
        left_out.append({**ids, "reason": bad.reason, "detail": bad.detail})
        return None


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, ensure_ascii=False).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A member without time, owner or rights of the machine: the same bytes anywhere."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), 0, 0o644
    tar.addfile(member, BytesIO(data))
