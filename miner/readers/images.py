"""Any folder tree of pictures: a folder that holds pictures is a scene, folders named like cameras are its channels.

Labels beside the pictures (YOLO, Scalabel, DriveLM) are read by `miner.readers.labels`. Label maps are no frames.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from miner.errors import BadInput, NotFound
from miner.ids import make_id
from miner.readers import SceneRef, SceneTables
from miner.readers.frame_times import frame_times, natural
from miner.readers.labels import LabelFiles, Picture
from miner.readers.places import AnyPath, Entry, place_of, relative, scan, walk
from miner.readers.sources import is_own, is_text, table
from miner.schema import ANNOTATIONS, SAMPLE_DATA, SCENES

_LOG = logging.getLogger(__name__)

_PICTURE = re.compile(r"[^.].*\.(jpe?g|png|webp|bmp|tiff?)", re.IGNORECASE | re.DOTALL)
_FORMATS = {"jpeg": "jpg", "tif": "tiff"}

_SIDE = r"(?:front|back|rear|left|right|side|center|centre)"
_CHANNEL = re.compile(
    r"cam(?:era)?(?:[_-]?\d+|[_-]\w+)|image_0?[0-3]"
    rf"|(?:(?:ring|stereo|zed)_)?{_SIDE}(?:[_-]?{_SIDE})*(?:[_-]cam(?:era)?)?",
    re.IGNORECASE,
)
_NO_FRAMES = re.compile(
    r"\w*annot|annotations?|labels?|label_?maps?|gt|gt(?:fine|coarse)|ground_?truth|\w*masks?|colou?rmaps?"
    r"|semantics?|instances?|panoptic|segmentation\w*|depth|disparity|thumbs?|thumbnails?|__macosx|\..*",
    re.IGNORECASE,
)
_NO_FRAME = re.compile(
    r".*_(?:labelids|labeltrainids|instanceids|instancetrainids|gt(?:fine|coarse)_color|masks?|labels?|seg|annot|gt)",
    re.IGNORECASE,
)


class ImagesReader:
    """Pictures (jpg, png, webp, bmp, tiff) in folders below `source`; `dataset` defaults to the name of that folder.

    Times come from the names where all names of a scene hold one, else they are nominal (see `frame_times`). Folders
    that are symbolic links are not entered, and files that are links out of the source are left out.
    """

    name: ClassVar[str] = "images"
    looks_for: ClassVar[str] = "pictures (jpg, png, webp, bmp, tiff) in any folder"
    fallback: ClassVar[bool] = True

    def __init__(self, source: str, dataset: str | None = None) -> None:
        """Raises NotFound where `source` is no folder."""
        self.source = source
        self._root = place_of(source)
        self.dataset = dataset or self._root.name
        if not self._root.is_dir():
            raise NotFound(f"{source}: no such folder", "Give a folder of pictures.")

    def __reduce__(self) -> tuple[type[ImagesReader], tuple[str, str]]:
        return ImagesReader, (self.source, self.dataset)

    @staticmethod
    def matches(source: str | AnyPath) -> bool:
        return next(_picture_folders(place_of(source)), None) is not None

    def scenes(self) -> Iterable[SceneRef]:
        """In natural order of their paths; the name of a scene is its path in the source, "." for the source itself."""
        return [SceneRef(make_id("scene", self.dataset, name), name) for name in self._channels]

    def read(self, scene: str) -> SceneTables:
        """The rows of one scene. Raises BadInput for an unknown scene or a label file of it that cannot be read."""
        if scene not in self._channels:
            raise BadInput("unknown-scene", f"{self.source}: no scene {scene!r} among {len(self._channels)}")
        files = [(channel, path) for channel, folder in self._channels[scene] for path in _pictures(folder, self._root)]
        readings = self._readings(scene, files)
        pictures = [_picture(reading, self._root) for reading in readings]
        annotations, description = self._label_files.read(scene, pictures)
        return SceneTables(
            table([self._scene(scene, readings, description)], SCENES),
            table(readings, SAMPLE_DATA),
            table(annotations, ANNOTATIONS),
        )

    def _scene(self, scene: str, readings: list[dict[str, Any]], description: str | None) -> dict[str, Any]:
        times = [reading["timestamp_ns"] for reading in readings] or [0]
        return {
            "scene_id": make_id("scene", self.dataset, scene),
            "dataset": self.dataset,
            "log_id": make_id("log", self.dataset, scene),
            "name": scene,
            "start_ns": min(times),
            "end_ns": max(times) + 1,
            "description": description,
        }

    def _readings(self, scene: str, files: list[tuple[str, AnyPath]]) -> list[dict[str, Any]]:
        scene_id, folder = make_id("scene", self.dataset, scene), self._root / scene
        times = frame_times([(channel, path.stem) for channel, path in files])
        rows = [
            {
                "sample_data_id": make_id("sample_data", self.dataset, scene, channel, relative(path, folder)),
                "scene_id": scene_id,
                "channel": channel,
                "modality": "camera",
                "timestamp_ns": time_ns,
                "is_key_frame": True,
                "uri": str(path),
                "num_bytes": path.stat().st_size,
                "fileformat": _fileformat(path),
            }
            for (channel, path), time_ns in zip(files, times, strict=True)
        ]
        return sorted(rows, key=lambda row: (row["timestamp_ns"], row["channel"]))

    @cached_property
    def _label_files(self) -> LabelFiles:
        return LabelFiles(self._root, set(self._channels))

    @cached_property
    def _channels(self) -> dict[str, list[tuple[str, AnyPath]]]:
        """By scene name its folders with pictures, each with its channel."""
        scenes: dict[str, list[tuple[str, AnyPath]]] = {}
        for folder in _picture_folders(self._root):
            scene, channel = _place(folder, self._root)
            scenes.setdefault(relative(scene, self._root), []).append((channel, folder))
        for folders in scenes.values():
            folders.sort(key=lambda each: (each[0], each[1].parts))
        return {name: scenes[name] for name in sorted(scenes, key=natural)}


def _picture_folders(root: AnyPath) -> Iterator[AnyPath]:
    """The folders at and below `root` that hold pictures, label maps and hidden folders left out."""
    for folder, subfolders, _ in walk(root, onerror=_warn):
        subfolders[:] = [name for name in sorted(subfolders) if not _NO_FRAMES.fullmatch(name) and is_text(name)]
        if next(_pictures(folder, root), None) is not None:
            yield folder


def _warn(error: OSError) -> None:
    _LOG.warning("%s: left out: %s", error.filename, error.strerror)


def _pictures(folder: AnyPath, root: AnyPath) -> Iterator[AnyPath]:
    """The pictures directly in `folder`, in natural order of their names."""
    with scan(folder) as entries:
        names = [entry.name for entry in entries if _is_frame(entry, root)]
    return (folder / name for name in sorted(names, key=natural))


def _is_frame(entry: os.DirEntry[str] | Entry, root: AnyPath) -> bool:
    stem = os.path.splitext(entry.name)[0]
    if (
        not _PICTURE.fullmatch(entry.name)
        or _NO_FRAME.fullmatch(stem)
        or not entry.is_file()
        or not is_text(entry.path)
    ):
        return False
    return not entry.is_symlink() or is_own(Path(entry.path), root)


def _place(folder: AnyPath, root: AnyPath) -> tuple[AnyPath, str]:
    """The scene folder and the channel of a folder with pictures; KITTI's `image_02/data` is channel image_02."""
    camera = folder.parent if folder.name == "data" and folder != root else folder
    if camera != root and _CHANNEL.fullmatch(camera.name):
        return camera.parent, camera.name
    return folder, "CAM"


def _fileformat(path: AnyPath) -> str:
    suffix = path.suffix[1:].lower()
    return _FORMATS.get(suffix, suffix)


def _picture(reading: dict[str, Any], root: AnyPath) -> Picture:
    return Picture(reading["sample_data_id"], reading["scene_id"], reading["timestamp_ns"], root / reading["uri"])
