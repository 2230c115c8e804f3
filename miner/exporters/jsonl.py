"""JSON lines: a clip a line, with its readings (where their files are) and annotations inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, ClassVar

from miner.exporters import Part, Written, numbered, plain
from miner.exporters.content import Content, Options


class JsonlExporter:
    """`clips-00000.jsonl`, ... in UTF-8, keys in order."""

    name: ClassVar[str] = "jsonl"
    part_clips: ClassVar[int] = 1_000

    def parts(self, clips: int, options: Options) -> Sequence[Part]:
        return numbered(clips, options.part_clips or self.part_clips, "clips-{:05d}.jsonl")

    def write(self, part: Part, content: Content, file: BinaryIO) -> Written:
        rows = 0
        for document in documents(part, content):
            file.write(json.dumps(document, sort_keys=True, ensure_ascii=False).encode() + b"\n")
            rows += 1
        return Written(rows)


def documents(part: Part, content: Content) -> Iterator[dict[str, Any]]:
    """The clips of a part as JSON values, each with its `readings` and `annotations`."""
    clips = content.clips.slice(part.first, part.last - part.first).to_pylist()
    inside: dict[str, dict[str, list[Any]]] = {clip["clip_id"]: {"readings": [], "annotations": []} for clip in clips}
    for kind, rows in (("readings", content.readings), ("annotations", content.annotations)):
        for row in rows(part.first, part.last).to_pylist():
            inside[row.pop("clip_id")][kind].append(row)
    for clip in clips:
        for note in inside[clip["clip_id"]]["annotations"]:
            note["attributes"] = _parsed(note["attributes"])
        yield plain({**clip, **inside[clip["clip_id"]]})


def _parsed(text: str) -> Any:
    """The JSON object of an annotation's attributes; as it is where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text
