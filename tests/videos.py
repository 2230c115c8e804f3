"""Small videos, for tests: the colour of a frame tells its number."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SIZE = (96, 64)
GOP = 12


def codec() -> str:
    """H.264, or MPEG-4 where the installed PyAV has no encoder for it; both with B-frames."""
    return "libx264" if "libx264" in av.codecs_available else "mpeg4"


def numbered(number: int, width: int = SIZE[0], height: int = SIZE[1]) -> NDArray[np.uint8]:
    """uint8 RGB: brightness by `number % 16`, with a white top left corner and texture, so that each frame moves."""
    y, x = np.mgrid[:height, :width]
    picture = np.empty((height, width, 3), np.uint8)
    picture[...] = 20 + 13 * (number % 16)
    picture[..., 2] = 128 + 60 * np.sin((x + y + 3 * number) / 9)
    picture[: height // 4, : width // 4] = 255
    return picture


def number_of(picture: NDArray[np.uint8]) -> int:
    """The number, modulo 16, of a decoded frame."""
    height, width = picture.shape[:2]
    centre = picture[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4, :2].mean()
    return round((float(centre) - 20) / 13)


def write_video(
    path: Path,
    frames: int | Sequence[int] = 30,
    *,
    name: str | None = None,
    size: tuple[int, int] = SIZE,
    rotation: float = 0,
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    movflags: str = "",
) -> Path:
    """A video of 25 frames per second; `frames` are their number or their times in units of 1/1000 s.

    `name` is the encoder, `options` are its options, `rotation` of the display in degrees, anticlockwise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    times = range(0, 40 * frames, 40) if isinstance(frames, int) else frames
    container_options = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", container_options=container_options) as container:
        container.metadata.update(metadata or {})
        evenly = {"sc_threshold": "0"} if name in (None, "libx264") else {}  # a key frame every GOP frames
        stream = container.add_stream(name or codec(), rate=25, options={**evenly, **(options or {})})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25 if name == "mpeg4" or codec() == "mpeg4" else 1000)
        stream.codec_context.gop_size = GOP
        if name in (None, "mpeg4"):
            stream.codec_context.max_b_frames = 2
        if rotation:
            stream.set_display_rotation(rotation)
        for number, time_ms in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number, *size), "rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_audio(path: Path) -> Path:
    """An MP4 with a tone and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 16000, 0
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path


def plain_decode(path: Path) -> list[NDArray[np.uint8]]:
    """Every frame in order, as PyAV decodes it: the reference."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def presentation_times_ns(path: Path) -> list[int]:
    """The times of the decoded frames in ns: the reference."""
    with av.open(str(path)) as container:
        return [round(frame.pts * frame.time_base * 10**9) for frame in container.decode(video=0)]
