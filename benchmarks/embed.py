"""Claim: on a CPU, `openclip` embeds several times as many images a second as open_clip's own path does.

ViT-B-32 with random weights (speed does not depend on them), one thread, images per second of CPU time. The rival is
what open_clip's README shows: float32, each picture preprocessed and encoded by itself; beside it, its tower on batches
of ours. Ours runs in what `auto` takes here and in int8, which is for CPUs that have VNNI and not AMX. The limit is the
products with weights of the image tower alone, as bare torch calls in the same precision.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row, run
from embeddings.encoder import encode_all
from embeddings.openclip import OpenClipEncoder
from miner.decode.views import crop_views

MODEL = "ViT-B-32"
TOKENS, WIDTH, HIDDEN, LAYERS, PATCH = 50, 768, 3072, 12, 32  # of its image tower: 7 x 7 patches and the class token
FRAME = (900, 1600, 3)  # decoded pixels of a camera frame
UNIT = "images/cpu-s"
ONE_BY_ONE, BATCHED = "open_clip, one by one", "open_clip, fp32 batch"

Work = Callable[[], Any]


@dataclass(frozen=True)
class Rates:
    """Images per CPU second, one a round, of ways that were run in turn."""

    rounds: dict[str, list[float]]

    def row(self, case: str, ours: str, rival: str, at_least: float | None) -> Row:
        """Medians side by side; judged by `ours / rival >= at_least`."""
        median, other = (float(np.median(self.rounds[way])) for way in (ours, rival))
        spread = (min(self.rounds[ours]), max(self.rounds[ours]))
        target = None if at_least is None else f">= {at_least:g} x"
        holds = None if at_least is None else median >= at_least * other
        return Row(case, "rate", UNIT, median, other, rival, spread, target, holds)


def saved_weights(folder: str) -> Path:
    """Random weights of the model as a file: 600 MB."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = Path(folder) / "weights.safetensors"
    save_file(open_clip.create_model(MODEL).state_dict(), path)
    return path


def products(rows: int, precision: str) -> Work:
    """The products with weights of the image tower for `rows` images, each of its own shape as a bare torch call."""
    import torch

    shapes = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, HIDDEN), (HIDDEN, WIDTH)]
    calls = [_product(rows * (TOKENS - 1), 3 * PATCH**2, WIDTH, "fp32" if precision == "int8" else precision)]
    calls += LAYERS * [_product(rows * TOKENS, k, n, precision) for k, n in shapes]

    def work() -> None:
        with torch.inference_mode():
            for call in calls:
                call()

    return work


def _product(n: int, k: int, m: int, precision: str) -> Work:
    """Random (n, k) times the weights of a layer from k to m."""
    import torch

    if precision == "int8":
        states, weights = (torch.randint(-127, 128, (size, k), dtype=torch.int8) for size in (n, m))
        return lambda: torch._int_mm(states, weights.t())
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    given, layer = torch.randn(n, k, dtype=dtype), torch.nn.Linear(k, m, dtype=dtype)
    return lambda: layer(given)


def one_by_one(model: Any, preprocess: Any, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """As open_clip's README: each picture preprocessed, encoded and normalised."""
    import torch
    from PIL import Image

    with torch.inference_mode():
        vectors = [model.encode_image(preprocess(Image.fromarray(frame))[None], normalize=True) for frame in frames]
        return torch.cat(vectors).numpy()


def rates(ways: dict[str, Work], images: int, rounds: int) -> Rates:
    """Each way once for warmth, then in turn, in CPU time of this thread: other work on the machine hardly counts."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, work in ways.items():
            started = time.thread_time()
            work()
            if number:
                found[way].append(images / (time.thread_time() - started))
    return Rates(found)


def measure(options: argparse.Namespace) -> list[Row]:
    """All ways in one process, in turn: 3 rounds of one batch each, or 15."""
    import open_clip
    import torch

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "QuickGELU mismatch")
        logging.disable(logging.WARNING)  # open_clip's, of random weights
        path = saved_weights(folder)
        auto = OpenClipEncoder(f"{MODEL}/{path}")
        encoders = {each.precision: each for each in (auto, OpenClipEncoder(f"{MODEL}/{path}", "int8"))}
        rows, size = max(each.input.batch for each in encoders.values()), auto.input.size  # whole batches of each
        frames = np.random.default_rng(0).integers(0, 256, (rows, *FRAME), dtype=np.uint8)
        squares = np.concatenate([crop_views(frame, [None], size) for frame in frames])
        vectors = {precision: encode_all(encoder, squares) for precision, encoder in encoders.items()}
        model, _, preprocess = open_clip.create_model_and_transforms(MODEL, str(path), image_resize_mode="squash")
    model.eval()
    inputs = torch.from_numpy((squares / 255).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    ways: dict[str, Work] = {
        ONE_BY_ONE: lambda: one_by_one(model, preprocess, frames),
        BATCHED: lambda: model.encode_image(inputs),
    }
    for precision, encoder in encoders.items():
        ways[f"{precision} frames"] = partial(_from_frames, encoder, frames)
        ways[f"{precision} squares"] = partial(encode_all, encoder, squares)
        ways[f"{precision} products"] = products(rows, precision)
    with torch.inference_mode():
        found = rates(ways, rows, 3 if options.quick else 15)
    exact = one_by_one(model, preprocess, frames)
    return [row for precision in vectors for row in rows_of(precision, found, vectors[precision], exact)]


def rows_of(precision: str, found: Rates, ours: NDArray[np.float32], exact: NDArray[np.float32]) -> list[Row]:
    """A precision beside its rivals; those that are quicker than fp32 have targets of speed."""
    case, judged = f"{MODEL} {precision}, batch {len(ours)}", precision != "fp32"
    lowest = float(np.einsum("nd,nd->n", ours, exact).min())
    against = [("from 1600 x 900 pixels", "frames", ONE_BY_ONE, 4.0), ("from squares", "squares", BATCHED, 4.0)]
    against.append(("from squares, of the limit", "squares", f"{precision} products", 0.85))
    rates = [
        found.row(f"{case}, {what}", f"{precision} {way}", rival, least if judged else None)
        for what, way, rival, least in against
    ]
    cosine = (lowest, 1.0, "open_clip, fp32", None, ">= 0.999", lowest >= 0.999)
    return [*rates, Row(f"{case}, same frames", "lowest cosine", "1", *cosine)]


def _from_frames(encoder: OpenClipEncoder, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    return encode_all(encoder, np.concatenate([crop_views(frame, [None], encoder.input.size) for frame in frames]))


if __name__ == "__main__":
    run("embed", measure)
