"""Folders of video files: each file is one scene with one camera. Times beside a video are read by `video_times`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import ClassVar

from miner.decode import VIDEO_FORMATS
from miner.decode.demux import FrameIndex, frame_index
from miner.errors import BadInput, NotFound, UsageError
from miner.ids import make_id
from miner.readers import SceneRef, SceneTables
from miner.readers.frame_times import frame_times, natural
from miner.readers.places import AnyPath, place_of, relative
from miner.readers.sources import Row, check_jumps, files_by_folder, table
from miner.readers.video_times import sidecar_times
from miner.schema import ANNOTATIONS, SAMPLE_DATA, SCENES

_VIDEO = re.compile(rf".+\.({'|'.join(sorted(VIDEO_FORMATS))})", re.IGNORECASE | re.DOTALL)
_CHANNEL = "CAM"
DEFAULT_FRAMES = "rate=2"


class VideoReader:
    """Videos below the folder `source`, or one file; `dataset` defaults to the name of the folder.

    `frames` says which frames become readings: `all`, `keyframes`, or `rate=HZ`: one in every 1/HZ seconds, a key frame
    where there is one (they decode alone), else the frame nearest to the beat. So with key frames further apart than
    that all of them are taken.

    Times are those of a sidecar file (see `video_times`), else the time in the video plus a start: the one in the name
    of the file, else its `creation_time`, else 0. Folders that are symbolic links are not entered, and files that are
    links out of the source are left out.
    """

    name: ClassVar[str] = "video"
    looks_for: ClassVar[str] = f"videos ({', '.join(sorted(VIDEO_FORMATS))}) in any folder"
    fallback: ClassVar[bool] = True

    def __init__(self, source: str, dataset: str | None = None, frames: str = DEFAULT_FRAMES) -> None:
        """Raises NotFound where `source` is not there, UsageError for other `frames`."""
        self.source, self.frames = source, frames
        self._rate_hz = _rate_hz(frames)
        self._place = place_of(source)
        if not self._place.exists():
            raise NotFound(f"{source}: no such file or folder", "Give a folder of videos, or one video.")
        self._root = self._place if self._place.is_dir() else self._place.parent
        self.dataset = dataset or self._root.name

    def __reduce__(self) -> tuple[type[VideoReader], tuple[str, str, str]]:
        return VideoReader, (self.source, self.dataset, self.frames)

    @staticmethod
    def matches(source: str | AnyPath) -> bool:
        return next(files_by_folder(place_of(source), _VIDEO), None) is not None

    def scenes(self) -> Iterable[SceneRef]:
        """In natural order of their paths; the name of a scene is the path of its file in the folder."""
        return [SceneRef(make_id("scene", self.dataset, name), name) for name in self._paths]

    def read(self, scene: str) -> SceneTables:
        """The rows of one video, from its tables of samples: no frame is read.

        Raises BadInput for an unknown scene, a file that is no whole video (see `frame_index`), a sidecar that does not
        fit it, and times that jump.
        """
        path = self._paths.get(scene)
        if path is None:
            raise BadInput("unknown-scene", f"{self.source}: no scene {scene!r} among {len(self._paths)}")
        index = frame_index(str(path))
        if not index.frames:
            raise BadInput("no-frames", f"{path}: a video stream without frames")
        times = _times_ns(path, self._root, index)
        check_jumps(times, str(path))
        chosen = _chosen(times, [frame.is_key for frame in index.frames], self.frames, self._rate_hz)
        readings = [self._reading(scene, path, index, times, number) for number in chosen]
        row = {
            "scene_id": make_id("scene", self.dataset, scene),
            "dataset": self.dataset,
            "log_id": make_id("log", self.dataset, scene),
            "name": scene,
            "start_ns": times[0],
            "end_ns": times[-1] + 1,
        }
        return SceneTables(table([row], SCENES), table(readings, SAMPLE_DATA), table([], ANNOTATIONS))

    def _reading(self, scene: str, path: AnyPath, index: FrameIndex, times: list[int], number: int) -> Row:
        frame = index.frames[number]
        return {
            "sample_data_id": make_id("sample_data", self.dataset, scene, _CHANNEL, number),
            "scene_id": make_id("scene", self.dataset, scene),
            "channel": _CHANNEL,
            "modality": "camera",
            "timestamp_ns": times[number],
            "is_key_frame": frame.is_key,
            "uri": str(path),
            "offset": frame.offset,
            "length": frame.length,
            "num_bytes": frame.length,
            "fileformat": path.suffix[1:].lower(),
        }

    @cached_property
    def _paths(self) -> dict[str, AnyPath]:
        folders = files_by_folder(self._place, _VIDEO)
        found = {relative(path, self._root): path for paths in folders for path in paths}
        return {name: found[name] for name in sorted(found, key=natural)}


def _rate_hz(frames: str) -> float | None:
    """The rate of `rate=HZ`; None for `all` and `keyframes`."""
    if frames in ("all", "keyframes"):
        return None
    try:
        rate_hz = float(frames.removeprefix("rate="))
    except ValueError:
        rate_hz = 0.0
    if not (frames.startswith("rate=") and 0.001 <= rate_hz <= 1000):
        raise UsageError(f"frames of a video: {frames!r}", "Choose all, keyframes or rate=HZ, e.g. rate=2.")
    return rate_hz


def _chosen(times: Sequence[int], is_key: Sequence[bool], frames: str, rate_hz: float | None) -> list[int]:
    """The numbers of the frames to take, in order; `times` in ns ascend."""
    if rate_hz is None:
        return [n for n, key in enumerate(is_key) if key or frames == "all"]
    beat_ns = 10**9 / rate_hz
    best: dict[int, tuple[bool, float, int]] = {}
    for number, (time_ns, key) in enumerate(zip(times, is_key, strict=True)):
        beat = round((time_ns - times[0]) / beat_ns)
        rank = (not key, abs(time_ns - times[0] - beat * beat_ns), number)
        best[beat] = min(best.get(beat, rank), rank)
    return [number for _, _, number in best.values()]


def _times_ns(path: AnyPath, root: AnyPath, index: FrameIndex) -> list[int]:
    """The times of the frames in ns, ascending and distinct."""
    times = sidecar_times(path, root, len(index.frames))
    if times is None:
        start_ns = _start_ns(path, index.creation_time)
        unknown = sum(frame.time_ns is None for frame in index.frames)
        if unknown:
            raise BadInput("no-times", f"{path}: {unknown} of {len(index.frames)} frames have no time")
        times = [start_ns + (frame.time_ns or 0) for frame in index.frames]
    for n in range(1, len(times)):
        times[n] = max(times[n], times[n - 1] + 1)
    return times


def _start_ns(path: AnyPath, creation_time: str | None) -> int:
    """When the video began, from the name of the file, else from its `creation_time`, else 0."""
    named = frame_times([(_CHANNEL, path.stem)])[0]
    return named or frame_times([(_CHANNEL, creation_time or "")])[0]
