"""Claim: on a CPU, `openclip` embeds at least four times as many images a second as open_clip's own path does.

ViT-B-32 with random weights (speed does not depend on them), one thread, images per second of CPU time. The rival is
what open_clip's README shows: float32, each picture preprocessed and encoded by itself; beside it, its tower on batches
of ours. The limit is the products with weights of the image tower alone, as bare torch calls in the same precision.
Target and judgement are for machines with fast bfloat16, where `auto` takes it.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row, run
from embeddings.openclip import OpenClipEncoder
from miner.decode.views import crop_views

MODEL = "ViT-B-32"
TOKENS, WIDTH, HIDDEN, LAYERS, PATCH = 50, 768, 3072, 12, 32  # of its image tower: 7 x 7 patches and the class token
FRAME = (900, 1600, 3)  # decoded pixels of a camera frame
UNIT = "images/cpu-s"

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

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    shapes = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, HIDDEN), (HIDDEN, WIDTH)]
    layer = [(torch.randn(rows * TOKENS, k, dtype=dtype), torch.nn.Linear(k, n, dtype=dtype)) for k, n in shapes]
    patches = torch.randn(rows * (TOKENS - 1), 3 * PATCH**2, dtype=dtype)
    projection = torch.nn.Linear(3 * PATCH**2, WIDTH, bias=False, dtype=dtype)

    def work() -> None:
        with torch.inference_mode():
            projection(patches)
            for _ in range(LAYERS):
                for states, linear in layer:
                    linear(states)

    return work


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
        encoder = OpenClipEncoder(f"{MODEL}/{path}")
        rows, size, precision = encoder.input.batch, encoder.input.size, encoder.precision
        frames = np.random.default_rng(0).integers(0, 256, (rows, *FRAME), dtype=np.uint8)
        squares = np.concatenate([crop_views(frame, [None], size) for frame in frames])
        ours = encoder.encode(squares)
        model, _, preprocess = open_clip.create_model_and_transforms(MODEL, str(path), image_resize_mode="squash")
    model.eval()
    inputs = torch.from_numpy((squares / 255).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    readme, batched, limit = "open_clip, one by one", "open_clip, fp32 batch", f"{precision} products"
    ways: dict[str, Work] = {
        "frames": lambda: encoder.encode(np.concatenate([crop_views(frame, [None], size) for frame in frames])),
        "squares": lambda: encoder.encode(squares),
        readme: lambda: one_by_one(model, preprocess, frames),
        batched: lambda: model.encode_image(inputs),
        limit: products(rows, precision),
    }
    with torch.inference_mode():
        found = rates(ways, rows, 3 if options.quick else 15)
    judged = precision == "bf16"
    case = f"{MODEL} {precision}, batch {rows}"
    lowest = float(np.einsum("nd,nd->n", ours, one_by_one(model, preprocess, frames)).min())
    return [
        found.row(f"{case}, from 1600 x 900 pixels", "frames", readme, 4.0 if judged else None),
        found.row(f"{case}, from squares", "squares", batched, 4.0 if judged else None),
        found.row(f"{case}, from squares, of the limit", "squares", limit, 0.85 if judged else None),
        Row(
            f"{case}, same frames",
            "lowest cosine",
            "1",
            lowest,
            1.0,
            "open_clip, fp32",
            None,
            ">= 0.999",
            lowest >= 0.999,
        ),
    ]


if __name__ == "__main__":
    run("embed", measure)
