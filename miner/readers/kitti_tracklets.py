"""tracklet_labels.xml of KITTI raw drives: boxes of tracked objects in the LiDAR's frame (Boost's XML)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from kernels.se3 import SE3
from miner.errors import BadInput
from miner.readers.kitti import MAX_NUMBER, turn
from miner.readers.places import AnyPath
from miner.readers.sources import read_text

_POSE = ("tx", "ty", "tz", "rx", "ry", "rz")
_STATES = ("state", "occlusion", "truncation")


class TrackletBox(NamedTuple):
    """A tracklet at one frame; the origin of its pose is the middle of the box, x forward, y left, z up."""

    tracklet: int
    frame: int
    category: str
    size_lwh: list[float]
    velodyne_SE3_object: SE3
    attributes: dict[str, Any]


def read_tracklets(path: AnyPath, root: AnyPath) -> list[TrackletBox]:
    """All boxes, by tracklet and frame. Raises BadInput `bad-tracklets` naming file and cause."""
    text = read_text(path, root)
    try:
        tracklets = _parsed(text).find("tracklets")
        if tracklets is None:
            raise ValueError("no element tracklets")
        items = enumerate(tracklets.findall("item"))
        return [box for number, item in items for box in _boxes(number, item)]
    except (expat.ExpatError, ValueError) as error:
        raise BadInput("bad-tracklets", f"{path}: {error}") from error


def _parsed(text: str) -> Element:
    """An XML tree. Entities are not expanded: a file that declares one is refused, so none can grow or reach out."""

    def refuse(name: str, *_: object) -> None:
        raise ValueError(f"it declares the entity {name[:80]!r}")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    parser.Parse(text, True)
    return builder.close()


def _boxes(number: int, item: Element) -> list[TrackletBox]:
    """One tracklet: its size, and a pose a frame from the first on, that of the middle of the bottom face."""
    what = f"tracklet {number}"
    category = item.findtext("objectType", "").strip()
    length, width, height = (_number(item, name, what) for name in "lwh")
    if not category or min(length, width, height) < 0:
        raise ValueError(f"{what}: type {category!r}, length {length}, width {width}, height {height}")
    first = int(_number(item, "first_frame", what))
    boxes = []
    for frame, pose in enumerate(item.findall("poses/item"), first):
        x, y, z, roll, pitch, yaw = (_number(pose, name, f"{what}, frame {frame}") for name in _POSE)
        rotation = turn("z", yaw) @ turn("y", pitch) @ turn("x", roll)
        middle = np.array([x, y, z]) + rotation @ (0, 0, height / 2)
        attributes = {name: int(_number(pose, name, what)) for name in _STATES if pose.find(name) is not None}
        boxes.append(TrackletBox(number, frame, category, [length, width, height], SE3(rotation, middle), attributes))
    return boxes


def _number(element: Element, name: str, what: str) -> float:
    text = element.findtext(name, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < MAX_NUMBER:
        raise ValueError(f"{what}: {name} is {text[:80]!r}, expected a number")
    return value
