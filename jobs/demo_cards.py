"""The pictures of the demo's page: a frame, the sweep of its moment from above with boxes, and words."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miner.decode import Recordings
from miner.decode.image import Picture, encode_jpeg
from miner.errors import BadInput
from miner.hits import Hit, Hits
from miner.lake import Lake
from miner.moment import Box, Moment, moment
from miner.show import colour_of
from miner.shown import shown_time
from miner.thumbnail import BIRDS_EYE_M, ego_points, from_above

Card = dict[str, Any]
Row = Mapping[str, Any]

_WIDTH_PX = 640
_FILE = ("uri", "offset", "length", "fileformat", "ego_SE3_sensor")
_EMPTY: Card = {"scored": "", "number": "", "text": "", "why": "", "alt": "", "small": None}


@dataclass(frozen=True)
class Cards:
    """Makes cards: a picture, a small one beside it, and words. `descriptions` are of scenes, by id."""

    lake: Lake
    recordings: Recordings
    descriptions: Mapping[str, str]

    def drive(self, scene: Row) -> Card:
        """A frame of a drive and the sweep of that moment."""
        seen = moment(self.lake.store, scene["scene_id"])
        words = {"number": scene["name"], "text": self.descriptions.get(scene["scene_id"], ""), "alt": scene["name"]}
        return _EMPTY | self._frame_first(_front(seen), seen) | words | {"channel": ""}

    def hits(self, hits: Iterable[Hit]) -> list[Card]:
        """Hits of cameras, each with the sweep of its moment."""
        return [self._hit(hit) for hit in hits]

    def sweeps(self, hits: Hits) -> list[Card]:
        """The sweep that was asked for, then the hits, each with the frame of its moment."""
        asked = self.lake.show(hits.query["like"][0])
        first = {"number": "asked for", "text": self.descriptions.get(asked["scene_id"], ""), "alt": "the query"}
        return [self._sweep(asked["sample_data_id"]) | first] + [
            self._sweep(hit.sample_data_id) | self._words(hit) | {"channel": ""} for hit in hits
        ]

    def _hit(self, hit: Hit) -> Card:
        reading = {name: getattr(hit, name) for name in _FILE}
        card = _EMPTY | self._frame_first(reading, moment(self.lake.store, hit.sample_data_id)) | self._words(hit)
        if hit.region is not None:
            x0, y0, x1, y1 = (100 * float(edge) for edge in hit.region)
            card["scored"] = f"left:{x0:.2f}%;top:{y0:.2f}%;width:{x1 - x0:.2f}%;height:{y1 - y0:.2f}%"
        return card

    def _words(self, hit: Hit) -> Card:
        text = self.descriptions.get(hit.scene_id) or f"{hit.scene}, {shown_time(hit.timestamp_ns)}"
        words = {"number": f"{hit.rank}. {hit.score:.3f}", "channel": hit.channel, "text": text}
        return words | {"why": hit.why, "alt": f"hit {hit.rank}: {text}"}

    def _frame_first(self, camera: Row | None, seen: Moment) -> Card:
        big = self._frame(camera) if camera else {"problem": "no camera"}
        return {"big": big, "small": self._above(seen), "channel": (camera or {}).get("channel", "")}

    def _sweep(self, sample_data_id: str) -> Card:
        seen = moment(self.lake.store, sample_data_id)
        camera = _front(seen)
        small = self._frame(camera) if camera else None
        return _EMPTY | {"big": self._above(seen) or {"problem": "no sweep"}, "small": small, "channel": ""}

    def _frame(self, reading: Row) -> Card:
        """A frame at about the width the page shows it at its largest; a card that says why there is none."""
        try:
            read = self.recordings.read(reading)
            if not isinstance(read, Picture):
                raise BadInput("wrong-modality", f"{reading['uri']}: not a picture")
            pixels = read.decode(_WIDTH_PX * 9 // 16)
        except BadInput as bad:
            return {"problem": str(bad)}
        step = max(1, pixels.shape[1] // _WIDTH_PX)
        return _embedded(pixels[::step, ::step], 70)

    def _above(self, seen: Moment) -> Card | None:
        """The sweep of a moment with its boxes, the vehicle's front up; None where there is no sweep."""
        if seen.sweep is None:
            return None
        try:
            points = ego_points(self.recordings, seen.sweep)
        except BadInput as bad:
            return {"problem": str(bad)}
        near = [box for box in seen.boxes if np.abs(box.corners_m[:, :2]).min() < BIRDS_EYE_M]
        return _embedded(from_above(points), 60) | {"span": BIRDS_EYE_M, "boxes": [_outline(box) for box in near]}


def _front(seen: Moment) -> Row | None:
    """The front camera, else any."""
    fronts = (camera for camera in seen.cameras if camera["channel"] in ("CAM_FRONT", "image_02"))
    return next(fronts, next(iter(seen.cameras), None))


def _outline(box: Box) -> Card:
    """A box from above as the points of an SVG polygon: metres, to the right and down."""
    ring = box.corners_m[[0, 2, 6, 4]]  # the upper corners: front left, front right, back right, back left
    points = " ".join(f"{-y:.1f},{-x:.1f}" for x, y, _ in ring)
    return {"points": points, "colour": colour_of(box.category)}


def _embedded(pixels: NDArray[np.uint8], quality: int) -> Card:
    data = base64.b64encode(encode_jpeg(pixels, quality)).decode()
    return {"data": f"data:image/jpeg;base64,{data}", "width": pixels.shape[1], "height": pixels.shape[0]}
