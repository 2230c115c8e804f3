"""The KITTI object benchmark: single frames of many drives, with 2D and 3D boxes in `label_2`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

import numpy as np

from kernels.se3 import SE3
from miner.errors import BadInput, NotFound
from miner.ids import make_id
from miner.readers import SceneRef, SceneTables
from miner.readers.kitti import (
    PICTURES,
    Calibration,
    CalibrationFile,
    SceneIds,
    frame_files,
    label_rows,
    read_labels,
    reading_rows,
)
from miner.readers.places import AnyPath, place_of
from miner.readers.sources import Row, read_text, table
from miner.schema import ANNOTATIONS, SAMPLE_DATA, SCENES

_SPLITS = ("training", "testing")
_CHANNELS = ("image_2", "image_3", "velodyne")
_FOLDERS = {"image_2": PICTURES, "image_3": PICTURES, "velodyne": ("bin",), "calib": ("txt",), "label_2": ("txt",)}
_MAPPINGS = ("mapping", "devkit_object/mapping")
_DRIVE = re.compile(r"\S+ (\S+_drive_\d+)\S* (\d+)")


class KittiObjectReader:
    """A folder with `training` or `testing`, which hold image_2, image_3, velodyne, calib, label_2; any may be missing.

    The frames are no clip, so each is a scene of its own, at time 0, in its own ego frame. Its log is the frame itself,
    or the drive it was taken from where the devkit's `mapping` folder (train_mapping.txt and train_rand.txt) is there.
    """

    name: ClassVar[str] = "kitti_object"
    looks_for: ClassVar[str] = "a folder training or testing with 000000.png in image_2 or 000000.bin in velodyne"
    fallback: ClassVar[bool] = False

    def __init__(self, source: str, dataset: str | None = None) -> None:
        """Raises NotFound where there is no split."""
        self.source = source
        self.dataset = dataset or self.name
        self._place = place_of(source)
        splits = _splits(self._place)
        if not splits:
            raise NotFound(f"{source}: no KITTI object frames", f"Give the source: {self.looks_for}.")
        self._root = splits[0].parent

    def __reduce__(self) -> tuple[type[KittiObjectReader], tuple[str, str]]:
        return KittiObjectReader, (self.source, self.dataset)

    @staticmethod
    def matches(source: str | AnyPath) -> bool:
        return bool(_splits(place_of(source)))

    def scenes(self) -> Iterable[SceneRef]:
        """`training/000000` and on."""
        return [SceneRef(SceneIds(self.dataset, name).scene_id, name) for name in self._frames]

    def read(self, scene: str) -> SceneTables:
        """The rows of one frame. Raises BadInput for a calibration or label file that cannot be read."""
        if scene not in self._frames:
            raise BadInput("unknown-scene", f"{self.source}: no scene {scene!r} among {len(self._frames)}")
        split, frame = self._frames[scene]
        files, ids = self._files[split], SceneIds(self.dataset, scene)
        calibration = Calibration()
        if path := files["calib"].get(frame):
            calibration = read_calibration(path, self._root)
        readings: list[Row] = []
        for channel in _CHANNELS:
            own = {frame: path} if (path := files[channel].get(frame)) else {}
            rows = reading_rows(ids, channel, own, calibration.sensor(channel), self._root)
            readings += [row | {"timestamp_ns": 0} for row in rows.values()]
        image = ids.sample_data_id("image_2", frame) if frame in files["image_2"] else None
        place = {
            "scene_id": ids.scene_id,
            "sample_id": ids.sample_id(frame),
            "timestamp_ns": 0,
            "sample_data_id": image,
        }
        labels = read_labels(path, self._root) if (path := files["label_2"].get(frame)) else []
        return SceneTables(
            table([self._scene(ids, split, frame)], SCENES),
            table(readings, SAMPLE_DATA),
            table(label_rows(labels, place, calibration), ANNOTATIONS),
        )

    def _scene(self, ids: SceneIds, split: str, frame: int) -> Row:
        drive, raw_frame = self._origins.get(frame, ("", "")) if split == "training" else ("", "")
        return {
            "scene_id": ids.scene_id,
            "dataset": self.dataset,
            "log_id": make_id("log", self.dataset, drive or ids.scene),
            "name": ids.scene,
            "start_ns": 0,
            "end_ns": 1,
            "split": split,
            "description": f"frame {raw_frame} of {drive}" if drive else None,
        }

    @cached_property
    def _files(self) -> dict[str, dict[str, dict[int, AnyPath]]]:
        """By split and folder the files of each frame."""
        return {
            split.name: {folder: frame_files(split / folder, suffixes) for folder, suffixes in _FOLDERS.items()}
            for split in _splits(self._place)
        }

    @cached_property
    def _frames(self) -> dict[str, tuple[str, int]]:
        """By name of the scene its split and frame."""
        return {
            f"{split}/{frame:06d}": (split, frame)
            for split, files in self._files.items()
            for frame in sorted(set().union(*(files[channel] for channel in _CHANNELS)))
        }

    @cached_property
    def _origins(self) -> dict[int, tuple[str, str]]:
        """By training frame the drive and the frame there: `train_rand` says which line of `train_mapping` it is."""
        folder = next((self._root / name for name in _MAPPINGS if (self._root / name).is_dir()), None)
        if folder is None:
            return {}
        lines = read_text(folder / "train_mapping.txt", self._root).splitlines()
        numbers = read_text(folder / "train_rand.txt", self._root).replace(",", " ").split()
        try:
            found = [_DRIVE.fullmatch(lines[int(number) - 1].strip()) for number in numbers]
            return {frame: (match[1], match[2]) for frame, match in enumerate(found) if match}
        except (ValueError, IndexError) as error:
            raise BadInput("bad-mapping", f"{folder}: {len(numbers)} frames, {len(lines)} lines: {error}") from error


def read_calibration(path: AnyPath, root: AnyPath) -> Calibration:
    """The calibration of one frame: P0 to P3, R0_rect, Tr_velo_to_cam and, if it is there, Tr_imu_to_velo."""
    file = CalibrationFile(path, root)
    rect0_SE3_camera0 = SE3(file.rotation("R0_rect"), np.zeros(3))
    return Calibration(
        velodyne_SE3_imu=file.pose("Tr_imu_to_velo") if "Tr_imu_to_velo" in file else None,
        rect0_SE3_velodyne=rect0_SE3_camera0 @ file.pose("Tr_velo_to_cam"),
        cameras={number: file.rectified_camera(f"P{number}") for number in range(4) if f"P{number}" in file},
    )


def _splits(source: AnyPath) -> list[AnyPath]:
    """The folders of a source, or the source itself, that are named like a split and have recordings as files."""
    folders = [source] if source.name in _SPLITS else [source / split for split in _SPLITS]
    return [folder for folder in folders if any(frame_files(folder / name, _FOLDERS[name]) for name in _CHANNELS)]
