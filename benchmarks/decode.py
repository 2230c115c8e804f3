"""Claim: JPEG bytes become a model's input three times as fast as by open_clip's own preprocessing, and look the same.

1600 x 900 frames (nuScenes ones where MINER_TEST_DATA points to them, else made ones), one thread, CPU seconds of the
process. Ours and the rivals take turns; a ratio is that of the medians, spread is of ours. PSNR is of the worst frame,
against open_clip's own preprocessing of the same bytes, in 8 bit levels. The rival named "decode only" is the bare
codec at the scale that ours decodes at: what is left to gain. Beside the cosines stands what a random step of -1, 0 or
1 level in every value of the plain view does to them: how finely the model itself tells pictures apart.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row, portable, run
from embeddings.encoder import encode_all, load_encoder
from kernels.resize import Workspace, resize, resize_normalised
from miner.decode.demux import FrameRange, frame_index
from miner.decode.image import decode_image, encode_jpeg
from miner.decode.quality import quality_of
from miner.decode.video import VideoFile
from miner.decode.views import crop_views, min_side_for, regions

WIDTH, HEIGHT, SIZE = 1600, 900, 224
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
GOP, VIDEO_FRAMES = 12, 36
OPEN_CLIP, DECODE_ONLY = "open_clip preprocess", "decode only"

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Way = Callable[[bytes], Any]


def frames() -> tuple[str, list[bytes]]:
    """Six camera frames as JPEG files, and where they are from."""
    folder = Path(os.environ.get("MINER_TEST_DATA", "")) / "nuscenes" / "samples"
    paths = sorted(folder.glob("CAM_*/*.jpg")) if "MINER_TEST_DATA" in os.environ else []
    if paths:
        return "nuScenes", [path.read_bytes() for path in paths[:6]]
    return "made", [encode_jpeg(made_frame(seed)) for seed in range(6)]


def made_frame(seed: int) -> Pixels:
    """Detail of all sizes, the finer the fainter, as in road scenes: uint8 (900, 1600, 3), 250 KB as a JPEG."""
    rng, total = np.random.default_rng(seed), np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for n, share in ((2, 0.75), (10, 0.2), (50, 0.05)):
        coarse = rng.integers(0, 256, (9 * n, 16 * n, 3), dtype=np.uint8)
        layer = np.empty((3, HEIGHT, WIDTH), np.float32)
        resize_normalised(coarse, (0, 0, 16 * n, 9 * n), (0.0, 1 / 255), layer)
        total += share * layer.transpose(1, 2, 0)
    return total.astype(np.uint8)


def alternated(ways: dict[str, Way], inputs: list[bytes], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds for one input, a value a round, of ways that take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for each in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            for data in inputs:
                way(data)
            if each:  # the first round compiles and fills caches
                times[name].append(1e3 * (time.process_time() - start) / len(inputs))
    return times


def rate_row(case: str, times: dict[str, list[float]], ours: str, rival: str, at_least: float | None = None) -> Row:
    """Images per CPU second side by side."""
    mine, other = (1e3 / float(np.median(times[way])) for way in (ours, rival))
    spread = (1e3 / max(times[ours]), 1e3 / min(times[ours]))
    target = None if at_least is None else f">= {at_least:g} x"
    holds = None if at_least is None else mine >= at_least * other
    return Row(case, "rate", "images/cpu-s", mine, other, rival, spread, target, holds)


def box_of(view: str, width: int, height: int) -> tuple[float, float, float, float]:
    """What open_clip keeps of a frame, in pixels of its reduced decode: all of it, or the middle of it."""
    if view == "squash":
        return (0, 0, width, height)
    wide = int(SIZE * WIDTH / HEIGHT)  # torchvision truncates the long side and rounds the margin
    left = round((wide - SIZE) / 2)
    return (left / wide * width, 0, (left + SIZE) / wide * width, height)


def tensor(view: str) -> Callable[[bytes], Floats]:
    """Our way: bytes to float32 (3, 224, 224)."""
    out, space = np.empty((3, SIZE, SIZE), np.float32), Workspace.of(WIDTH, SIZE)

    def way(data: bytes) -> Floats:
        pixels = decode_image(data, "jpg", "frame", min_side_for(SIZE))
        return resize_normalised(pixels, box_of(view, pixels.shape[1], pixels.shape[0]), (MEAN, STD), out, space)

    return way


def open_clip_way(view: str) -> Callable[[bytes], Any]:
    from open_clip.transform import image_transform
    from PIL import Image

    preprocess = image_transform(SIZE, is_train=False, mean=MEAN, std=STD, resize_mode=view)
    return lambda data: preprocess(Image.open(io.BytesIO(data)))


def draft_way(view: str) -> Callable[[bytes], Any]:
    """Pillow's own short cuts: a reduced decode by `draft`, a first reduction by `reducing_gap`; then normalised."""
    from PIL import Image

    def way(data: bytes) -> Floats:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (2 * SIZE, 2 * SIZE))
        small = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box_of(view, *image.size), 2.0)
        values = np.asarray(small, np.float32).transpose(2, 0, 1) / 255
        return np.ascontiguousarray((values - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1)), np.float32)

    return way


def torchvision_way(view: str) -> Callable[[bytes], Any]:
    """torchvision on tensors: its own JPEG decoder, then v2 transforms."""
    import torch
    from torchvision.io import decode_jpeg
    from torchvision.transforms import v2

    bicubic = v2.InterpolationMode.BICUBIC
    cut = [v2.Resize((SIZE, SIZE), bicubic)] if view == "squash" else [v2.Resize(SIZE, bicubic), v2.CenterCrop(SIZE)]
    steps = v2.Compose([*cut, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(MEAN), list(STD))])
    return lambda data: steps(decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)))


def decode_only(data: bytes) -> Pixels:
    """The bare codec at the scale that ours decodes at."""
    import simplejpeg

    pixels: Pixels = simplejpeg.decode_jpeg(data, min_height=HEIGHT // 2, min_width=WIDTH // 2, strict=True)
    return pixels


def psnr_db(one: Any, other: Any) -> float:
    """Of two normalised tensors, in 8 bit levels; no difference counts as 1e-6 of a level squared."""
    levels = (np.asarray(one, np.float64) - np.asarray(other, np.float64)) * np.reshape(STD, (3, 1, 1)) * 255
    return float(10 * np.log10(255**2 / max(np.mean(levels**2), 1e-6)))


def tensor_rows(source: str, inputs: list[bytes], rounds: int) -> list[Row]:
    """Bytes to a normalised tensor, for both ways in which open_clip fits a frame into a square."""
    rows = []
    for view, name in (("squash", "whole frame, squashed"), ("shortest", "centre crop")):
        case = f"{source} 1600x900, {name} to {SIZE}"
        ways: dict[str, Way] = {"ours": tensor(view), OPEN_CLIP: open_clip_way(view), DECODE_ONLY: decode_only}
        ways["Pillow draft + reducing_gap"] = draft_way(view)
        ways |= usable({"torchvision tensors": torchvision_way(view)}, inputs[0])
        times = alternated(ways, inputs, rounds)
        rows.append(rate_row(case, times, "ours", OPEN_CLIP, 3.0))
        rows.append(rate_row(case, times, "ours", DECODE_ONLY, 0.8))
        rows += [rate_row(case, times, "ours", rival) for rival in list(ways)[3:]]
        found = {
            way: min(psnr_db(ways[way](data), ways[OPEN_CLIP](data)) for data in inputs)
            for way in ways
            if way != DECODE_ONLY
        }
        mine = found["ours"]
        rows.append(Row(f"{case}, to open_clip's", "PSNR", "dB", mine, target=">= 45", holds=mine >= 45))
        rows += [Row(f"{case}, to open_clip's, {way}", "PSNR", "dB", found[way]) for way in list(ways)[3:]]
    return rows


def usable(ways: dict[str, Way], data: bytes) -> dict[str, Way]:
    """Those that run on this machine: torchvision may come without its codecs."""
    kept = {}
    for name, way in ways.items():
        try:
            way(data)
        except (ImportError, OSError, RuntimeError):
            continue
        kept[name] = way
    return kept


def view_rows(source: str, inputs: list[bytes], rounds: int) -> list[Row]:
    """What embed does with a frame: the whole of it and tiles, as uint8, from one decode; and its quality."""
    from PIL import Image

    parts = regions(WIDTH, HEIGHT, "whole+tiles")

    def ours(data: bytes) -> Pixels:
        return crop_views(decode_image(data, "jpg", "frame", min_side_for(SIZE)), parts, SIZE)

    def pillow(data: bytes) -> list[Pixels]:
        image = Image.fromarray(decode_image(data, "jpg", "frame", min_side_for(SIZE)))
        sides = np.array([*image.size, *image.size])
        boxes = [tuple(np.array(part or (0, 0, 1, 1)) * sides) for part in parts]
        cut = partial(image.resize, (SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=2.0)
        return [np.asarray(cut(box=box)) for box in boxes]

    def facts(data: bytes) -> dict[str, float | int]:
        return quality_of(decode_image(data, "jpg", "frame", min_side_for(SIZE)))

    ways: dict[str, Way] = {
        "ours": ours,
        "Pillow resize, same decode": pillow,
        DECODE_ONLY: decode_only,
        "facts": facts,
    }
    times = alternated(ways, inputs, rounds)
    case = f"{source} 1600x900, whole and two tiles to {SIZE}, uint8"
    rows = [rate_row(case, times, "ours", rival) for rival in list(ways)[1:3]]
    return [*rows, rate_row(f"{source} 1600x900, sharpness, exposure, phash", times, "facts", DECODE_ONLY)]


def cosine_rows(source: str, inputs: list[bytes]) -> list[Row]:
    """Embeddings of our views against those of Pillow's full decode and resize, or of open_clip's own path."""
    names = ["lite"]
    if "MINER_TEST_WEIGHTS" in os.environ:
        names.append(f"openclip:local-dir:{os.environ['MINER_TEST_WEIGHTS']}")
    rows = []
    for name in names:
        encoder = load_encoder(name)
        size = encoder.input.size
        views = [crop_views(decode_image(data, "jpg", "frame", min_side_for(size)), [None], size)[0] for data in inputs]
        plain = plain_views(inputs, size)
        steps = np.random.default_rng(0).integers(-1, 2, plain.shape)
        stepped = np.clip(plain + steps, 0, 255).astype(np.uint8)
        expected = open_clip_vectors(name, inputs) if name.startswith("openclip:") else encode_all(encoder, plain)
        ours, noisy = (np.sum(encode_all(encoder, each) * expected, axis=1) for each in (np.array(views), stepped))
        low, spread = float(ours.min()), (float(ours.min()), float(ours.max()))
        case, rival = f"{source} 1600x900, whole frame, {portable(name)}", "plain view, each value +-1 level"
        row = Row(case, "lowest cosine", "1", low, float(noisy.min()), rival, spread, ">= 0.999", low >= 0.999)
        rows.append(row)
    return rows


def plain_views(inputs: list[bytes], size: int) -> Pixels:
    """The frames by Pillow's full decode and resize, uint8 (n, size, size, 3)."""
    from PIL import Image

    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in inputs]
    return np.array([image.resize((size, size), Image.Resampling.BICUBIC) for image in images])


def open_clip_vectors(name: str, inputs: list[bytes]) -> Floats:
    """Unit vectors by open_clip's own preprocessing and model."""
    import open_clip
    import torch
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(
        name.removeprefix("openclip:"), image_resize_mode="squash"
    )
    with torch.inference_mode():
        batch = torch.stack([preprocess(Image.open(io.BytesIO(data))) for data in inputs])
        vectors: Floats = model.eval().encode_image(batch, normalize=True).numpy()
    return vectors


def video_rows(source: str, inputs: list[bytes], rounds: int) -> list[Row]:
    """The key frames of a video as pixels, against decoding all frames for them."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "drive.mp4")
        write_video(path, decode_image(inputs[0], "jpg", "frame"))
        cases = {f"{source} 1600x900, H.264, key frame every {GOP}": path}
        if "MINER_TEST_DATA" in os.environ:
            found = sorted(Path(os.environ["MINER_TEST_DATA"]).glob("dashcam_video/*.mp4"))
            cases |= {f"dash-cam {file.name}": str(file) for file in found}
        return [video_row(case, file, rounds) for case, file in cases.items()]


def video_row(case: str, path: str, rounds: int) -> Row:
    frames = frame_index(path).frames  # ingest did this: rows of `sample_data` hold the byte ranges
    count, keys = len(frames), [frame for frame in frames if frame.is_key]
    ways: dict[str, Way] = {"ours": lambda _: key_frames(path, keys), "rival": lambda _: list(all_frames(path))}
    assert len(ways["ours"](b"")) == len(ways["rival"](b"")), "both ways must find the same key frames"
    times = alternated(ways, [b""], rounds)
    mine, other = (1e3 * count / float(np.median(times[way])) for way in ("ours", "rival"))
    spread = (1e3 * count / max(times["ours"]), 1e3 * count / min(times["ours"]))
    rival = "PyAV, all frames decoded"
    return Row(case, "rate", "source frames/cpu-s", mine, other, rival, spread, ">= 4 x", mine >= 4 * other)


def key_frames(path: str, keys: list[FrameRange]) -> list[Pixels]:
    """As embed reads them: by their byte ranges."""
    video = VideoFile(path)
    try:
        return [video.read(key.offset, key.length, path).decode(min_side_for(SIZE)) for key in keys]
    finally:
        video.close()


def all_frames(path: str) -> Iterable[Pixels]:
    """The same pictures by PyAV alone, which decodes all frames between them too."""
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if frame.key_frame:
                factor = 2 if min(frame.width, frame.height) // 2 >= min_side_for(SIZE) else 1
                yield frame.to_ndarray(format="rgb24", width=frame.width // factor, height=frame.height // factor)


def write_video(path: str, picture: Pixels) -> None:
    """Driving into one picture (1 % closer each frame, seen by a noisy sensor), H.264, a key frame every GOP."""
    import av

    rng = np.random.default_rng(0)

    with av.open(path, "w") as container:
        options = {"g": str(GOP), "keyint_min": str(GOP), "sc_threshold": "0", "crf": "20", "threads": "1"}
        stream = container.add_stream("libx264", rate=12, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(VIDEO_FRAMES):
            share = 1 - 0.99**i
            box = (share * WIDTH / 2, share * HEIGHT / 2, WIDTH - share * WIDTH / 2, HEIGHT - share * HEIGHT / 2)
            seen = resize(picture, box, np.empty_like(picture)) + rng.normal(0, 3, picture.shape).astype(np.float32)
            frame = av.VideoFrame.from_ndarray(np.clip(seen, 0, 255).astype(np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def measure(options: argparse.Namespace) -> list[Row]:
    """All rows."""
    import torch

    torch.set_num_threads(1)
    source, inputs = frames()
    rounds = 5 if options.quick else 25
    rows = tensor_rows(source, inputs, rounds) + view_rows(source, inputs, rounds)
    return rows + cosine_rows(source, inputs) + video_rows(source, inputs, 3 if options.quick else 9)


if __name__ == "__main__":
    run("decode", measure)
