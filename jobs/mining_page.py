"""Pages of clips in groups, with figures on top: what `dedup` and the tail report show. Nothing from outside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miner.decode import Recordings
from miner.decode.image import encode_jpeg
from miner.errors import BadInput
from miner.shown import shown_time
from miner.store import Store, one_of
from miner.thumbnail import thumbnail

Card = dict[str, Any]
_READING = [
    *("sample_data_id", "channel", "modality", "timestamp_ns"),
    *("uri", "offset", "length", "fileformat", "ego_SE3_sensor"),
]


@dataclass(frozen=True)
class Group:
    """Clips that belong together: `clips` are ids, each with words to put below its picture."""

    title: str
    text: str
    clips: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """What a page says: `numbers` and what each counts, a `chart` (PNG bytes) and what it says, the groups."""

    title: str
    lead: str
    numbers: Sequence[tuple[str, str]]
    groups: Sequence[Group]
    chart: bytes = b""
    chart_says: str = ""


def render(store: Store, page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("jobs"), autoescape=True, undefined=StrictUndefined)
    with Recordings() as recordings:
        groups = [
            {"title": each.title, "text": each.text, "cards": [_card(store, recordings, *clip) for clip in each.clips]}
            for each in page.groups
        ]
    chart = f"data:image/png;base64,{base64.b64encode(page.chart).decode()}" if page.chart else ""
    return pages.get_template("mining.html.j2").render(
        title=page.title,
        lead=page.lead,
        numbers=page.numbers,
        groups=groups,
        chart=chart,
        chart_says=page.chart_says,
    )


def _card(store: Store, recordings: Recordings, clip_id: str, text: str) -> Card:
    """A clip by the middle frame of its first camera, or its middle sweep from above."""
    card = {"src": "", "none": "", "alt": clip_id, "text": text, "more": clip_id}
    clips = store.scan("clips", filter=one_of("clip_id", [clip_id])).to_pylist()
    if not clips:
        return card | {"none": "this clip is not in the lake any more"}
    [clip] = clips
    within = f"timestamp_ns >= {clip['start_ns']} AND timestamp_ns < {clip['end_ns']}"
    rows = store.scan("sample_data", _READING, f"{one_of('scene_id', [clip['scene_id']])} AND {within}")
    rows = rows.filter(pc.is_in(rows["modality"], pa.array(["camera", "lidar"]))).sort_by(
        [("modality", "ascending"), ("channel", "ascending"), ("timestamp_ns", "ascending")]
    )
    if not len(rows):
        return card | {"none": "no picture or sweep"}
    channel = pc.equal(rows["channel"], rows["channel"][0])
    own = rows.filter(channel).to_pylist()
    reading = own[len(own) // 2]
    card["more"] = f"{reading['channel']}, {shown_time(reading['timestamp_ns'])}"
    try:
        pixels = np.ascontiguousarray(thumbnail(recordings, reading))
    except BadInput as bad:
        return card | {"none": str(bad)}
    return card | {"src": f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(pixels)).decode()}"}
