"""Label files beside pictures: YOLO text, Scalabel JSON (BDD100K), DriveLM JSON. Plain dicts in, annotation rows out.

YOLO labels lie where `images` in a picture's path becomes `labels`. JSON files are those in the source itself and below
its folder `labels`; one named like a scene's folder is that scene's, the others are looked through for every scene.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from miner.decode.image import image_header
from miner.errors import BadInput
from miner.ids import make_id
from miner.readers.places import AnyPath, open_place, read_whole, relative, walk
from miner.readers.sources import check_inside

Row = dict[str, Any]
T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_UNUSED = {"poly2d", "rle", "QA", "graph"}  # most of the bytes of a label file, and no column of ours
_SPLIT = re.compile(r"(?<![a-z])(?:train|val|test)(?![a-z])")  # not the test in "latest"
_CLASS_FILES = ("classes.txt", "obj.names", "data.yaml", "dataset.yaml")
_FRAME_FIELDS = {"labels", "attributes", "videoName"}
_HEADER_BYTES = 1 << 18


class Picture(NamedTuple):
    """One reading that labels may belong to."""

    sample_data_id: str
    scene_id: str
    timestamp_ns: int
    path: AnyPath


@dataclass(frozen=True)
class JsonLabels:
    """One label file: rows and descriptions by picture, named `name` or `folder/name`."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)


class LabelFiles:
    """All label files of a source, found once; JSON files that several scenes share are parsed once."""

    def __init__(self, root: AnyPath, scenes: Collection[str]) -> None:
        self._root = root
        self._folders = {(root / scene).name for scene in scenes}
        self._parsed: dict[AnyPath, JsonLabels] = {}

    def read(self, scene: str, pictures: list[Picture]) -> tuple[list[Row], str | None]:
        """The annotation rows of a scene, and its description if its label files hold exactly one.

        Raises BadInput `bad-labels` naming the file and cause where a label file of the scene cannot be read.
        """
        rows: list[Row] = []
        descriptions: set[str] = set()
        files = [self._labels(path) for path in self._json_files(scene)]
        for picture in pictures:
            found = list(self._yolo(picture.path))
            for labels in files:
                for key in (picture.path.name, f"{picture.path.parent.name}/{picture.path.name}"):
                    found.extend(labels.rows.get(key, []))
                    descriptions |= {labels.descriptions[key]} if key in labels.descriptions else set()
            rows.extend(_of_picture(row, number, picture) for number, row in enumerate(found))
        return rows, descriptions.pop() if len(descriptions) == 1 else None

    def _json_files(self, scene: str) -> list[AnyPath]:
        own = [path for path in self._all_json if path.stem == (self._root / scene).name]
        return own or [
            path for path in self._all_json if path.stem not in self._folders and self._same_split(path, scene)
        ]

    def _same_split(self, path: AnyPath, scene: str) -> bool:
        """False for labels of another split: `det_val.json` does not speak of `images/train/0001.jpg`."""
        splits = [set(_SPLIT.findall(name)) for name in (relative(path, self._root), scene)]
        return not all(splits) or bool(splits[0] & splits[1])

    def _labels(self, path: AnyPath) -> JsonLabels:
        if path not in self._parsed:
            check_inside(path, self._root)
            self._parsed[path] = _guarded(path, _parse_json)
        return self._parsed[path]

    @cached_property
    def _all_json(self) -> list[AnyPath]:
        below = [folder / name for folder, _, names in walk(self._root / "labels") for name in names]
        files = [path for path in (*self._root.iterdir(), *below) if path.suffix.lower() == ".json" and path.is_file()]
        return sorted((path for path in files if not path.name.startswith(".")), key=lambda path: path.parts)

    def _yolo(self, picture: AnyPath) -> list[Row]:
        parts = list(PurePosixPath(relative(picture, self._root)).parts)
        if "images" not in parts[:-1]:
            return []
        last = max(place for place, part in enumerate(parts[:-1]) if part == "images")
        path = self._root.joinpath(*parts[:last], "labels", *parts[last + 1 :]).with_suffix(".txt")
        if not path.is_file():
            return []
        check_inside(path, self._root)
        boxes = _guarded(path, lambda file: parse_yolo(read_whole(file).decode("utf-8-sig")))
        return yolo_rows(boxes, _class_names(path.parent, self._root), _size(picture)) if boxes else []


def parse_yolo(text: str) -> list[tuple[int, list[float]]]:
    """Lines `class x y width height` (centre and size as shares) as class index and x0, y0, x1, y1 as shares.

    A line with a polygon, `class x1 y1 x2 y2 x3 y3 ...`, gives the box around it. Raises ValueError naming the line.
    """
    boxes = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            index, *values = line.split()
            shares = [float(value) for value in values]
            polygon = len(shares) >= 6 and len(shares) % 2 == 0
            if int(index) < 0 or not all(map(math.isfinite, shares)) or not (polygon or len(shares) == 4):
                raise ValueError("expected `class x y width height`")
        except ValueError as error:
            raise ValueError(f"line {number}: {line[:80]!r}: {error}") from error
        boxes.append((int(index), _box_of_polygon(shares) if polygon else _box_of_centre(*shares)))
    return boxes


def yolo_rows(
    boxes: list[tuple[int, list[float]]], names: Mapping[int, str], size: tuple[int, int] | None
) -> list[Row]:
    """Rows in pixels of a picture of `size` (width, height); of unknown size, shares in the attributes and no box."""
    rows = []
    for index, shares in boxes:
        row: Row = {"category": names.get(index) or f"class_{index}", "source": "yolo", "attributes": {}}
        if size is None:
            row["attributes"] = {"flags": ["no-picture-size"], "box_shares_xyxy": shares}
        else:
            row["bbox_xyxy"] = [share * edge for share, edge in zip(shares, (*size, *size), strict=True)]
        rows.append(row)
    return rows


def parse_scalabel(frames: list[Row]) -> JsonLabels:
    """Scalabel frames (doc.scalabel.ai): labels with box2d, and frame attributes as rows without a box.

    A label id is a track only within a video: in sets of single pictures ids start again in each.
    """
    labels = JsonLabels()
    for frame in frames:
        video, name = frame.get("videoName"), Path(frame["name"])
        folder = video or name.parent.name
        rows = labels.rows.setdefault(f"{folder}/{name.name}" if folder else name.name, [])
        for category, value in (frame.get("attributes") or {}).items():
            rows.append({"category": category, "attributes": {"value": value}, "source": "scalabel"})
        for label in frame.get("labels") or []:
            row = {"category": label["category"], "attributes": label.get("attributes") or {}, "source": "scalabel"}
            row["track_id"] = str(label["id"]) if video and "id" in label else None
            if box := label.get("box2d"):
                row["bbox_xyxy"] = [float(box[edge]) for edge in ("x1", "y1", "x2", "y2")]
            rows.append(row)
    return labels


def parse_drivelm(scenes: Mapping[str, Row]) -> JsonLabels:
    """DriveLM scenes (Sima et al. 2024): key objects `<c1,CAM_FRONT,x,y>` with 2D box and description in words."""
    labels = JsonLabels()
    for scene in scenes.values():
        for token, key_frame in scene["key_frames"].items():
            keys = {camera: "/".join(Path(path).parts[-2:]) for camera, path in key_frame["image_paths"].items()}
            if description := scene.get("scene_description"):
                labels.descriptions.update(dict.fromkeys(keys.values(), str(description)))
            for name, info in (key_frame.get("key_object_infos") or {}).items():
                tag, camera, *_ = name.strip("<>").split(",")
                said = {"description": info.get("Visual_description"), "status": info.get("Status")}
                attributes = {key: value for key, value in said.items() if value} | {"object": tag, "key_frame": token}
                box = [float(edge) for edge in info["2d_bbox"]]
                row = {"category": info["Category"], "bbox_xyxy": box, "attributes": attributes, "source": "drivelm"}
                labels.rows.setdefault(keys[camera], []).append(row)
    return labels


def _parse_json(path: AnyPath) -> JsonLabels:
    data = json.loads(read_whole(path), object_hook=lambda row: {k: v for k, v in row.items() if k not in _UNUSED})
    frames = data["frames"] if isinstance(data, dict) and isinstance(data.get("frames"), list) else data
    if isinstance(frames, list) and all(
        isinstance(f, dict) and _FRAME_FIELDS & f.keys() and "name" in f for f in frames
    ):
        return parse_scalabel(frames)
    if isinstance(data, dict) and data and all(isinstance(v, dict) and "key_frames" in v for v in data.values()):
        return parse_drivelm(data)
    _LOG.warning("%s: neither Scalabel nor DriveLM labels; left out", path)
    return JsonLabels()


def _guarded(path: AnyPath, parse: Callable[[AnyPath], T]) -> T:
    """`parse(path)`, with whatever bad data makes of it as one BadInput."""
    try:
        return parse(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput("bad-labels", f"{path}: {type(error).__name__}: {error}") from error


def _of_picture(row: Row, number: int, picture: Picture) -> Row:
    box = row.get("bbox_xyxy")
    if box is not None and not (len(box) == 4 and all(map(math.isfinite, box))):
        raise BadInput("bad-labels", f"{picture.path}: a {row['source']} box is {box!r}, not 4 finite numbers")
    return {
        **row,
        "annotation_id": make_id("annotation", picture.sample_data_id, row["source"], number),
        "scene_id": picture.scene_id,
        "sample_data_id": picture.sample_data_id,
        "timestamp_ns": picture.timestamp_ns,
        "attributes": json.dumps(row["attributes"], sort_keys=True, ensure_ascii=False),
        "version": "1",
    }


def _box_of_centre(x: float, y: float, width: float, height: float) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _box_of_polygon(shares: list[float]) -> list[float]:
    return [min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2])]


def _class_names(folder: AnyPath, root: AnyPath) -> dict[int, str]:
    """Class names by index from the nearest file of names at `folder` or above it in the source; empty without one."""
    for above in (folder, *folder.parents):
        for name in _CLASS_FILES:
            if (above / name).is_file():
                check_inside(above / name, root)
                return _guarded(above / name, _parse_class_names)
        if above == root:
            break
    return {}


def _parse_class_names(path: AnyPath) -> dict[int, str]:
    text = read_whole(path).decode("utf-8-sig")
    if path.suffix != ".yaml":
        return dict(enumerate(line.strip() for line in text.splitlines()))
    import yaml

    try:
        names = (yaml.safe_load(text) or {}).get("names") or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return {int(key): str(name) for key, name in (names.items() if isinstance(names, dict) else enumerate(names))}


def _size(picture: AnyPath) -> tuple[int, int] | None:
    """Width and height from the header; None for a picture that cannot be read, which embed will report."""
    for num_bytes in (_HEADER_BYTES, -1):
        try:
            with open_place(picture) as file:
                header = image_header(file.read(num_bytes), str(picture))
        except (BadInput, OSError):
            continue  # the header of a few pictures lies beyond the first bytes
        return header.width, header.height
    return None
