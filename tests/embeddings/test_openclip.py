from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embeddings.encoder import WeightsMissing, encode_all, load_encoder
from embeddings.openclip import OpenClipEncoder

WEIGHTS = os.environ.get("MINER_TEST_WEIGHTS")
needs_weights = pytest.mark.skipif(WEIGHTS is None, reason="MINER_TEST_WEIGHTS points to no local-dir model")


def test_weights_that_must_be_fetched(tmp_path: Path) -> None:
    """In a fresh process with an empty cache: no network, an answer in seconds, and the ways out of it."""
    code = (
        "import sys, time; from embeddings.encoder import WeightsMissing, load_encoder; import open_clip\n"
        "for name in sys.argv[1:]:\n"
        "    start = time.perf_counter()\n"
        "    try: load_encoder(name)\n"
        "    except WeightsMissing as error: print(time.perf_counter() - start, error, end='\\0')"
    )
    env = {key: value for key, value in os.environ.items() if key not in ("MINER_ALLOW_DOWNLOADS", "HF_HUB_OFFLINE")}
    names = ["openclip:ViT-B-32/laion2b_s34b_b79k", "openclip:hf-hub:nobody/nothing"]
    command = [sys.executable, "-c", code, *names]
    out = subprocess.run(command, capture_output=True, text=True, env=env | {"HF_HOME": str(tmp_path)})
    answers = out.stdout.split("\0")[:-1]
    assert len(answers) == len(names), out.stderr
    for name, answer in zip(names, answers, strict=True):
        seconds, _, message = answer.partition(" ")
        assert float(seconds) < 5
        for hint in (
            name.removeprefix("openclip:"),
            "MINER_ALLOW_DOWNLOADS=1",
            "local-dir:",
            "/path/to/weights",
            "lite",
        ):
            assert hint in message


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"open_clip_config\.json"):
        load_encoder(f"openclip:local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(WeightsMissing, match=r"open_clip_model\.safetensors"):
        load_encoder(f"openclip:local-dir:{tmp_path}")
    with pytest.raises(WeightsMissing, match="no file"):
        load_encoder(f"openclip:ViT-B-32/{tmp_path}/none.pt")


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ValueError, match="ViT-B-32"):
        load_encoder("openclip:ViT-B-31/openai")
    with pytest.raises(ValueError, match="laion2b_s34b_b79k"):
        load_encoder("openclip:ViT-B-32")


@needs_weights
def test_equals_open_clip_with_squash() -> None:
    """Vectors of frames cut by miner.decode against open_clip's own preprocessing, both from the same pixels."""
    import open_clip
    import torch
    from PIL import Image

    from miner.decode.views import crop_views

    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8).repeat(50, axis=0).repeat(50, axis=1)
    encoder = OpenClipEncoder(f"local-dir:{WEIGHTS}")
    found = encode_all(encoder, crop_views(frame, [None], encoder.input.size))[0]
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{WEIGHTS}", image_resize_mode="squash")
    with torch.inference_mode():
        expected = model.eval().encode_image(preprocess(Image.fromarray(frame))[None], normalize=True)[0].numpy()
        words = open_clip.get_tokenizer(f"local-dir:{WEIGHTS}")(["a red truck"])
        text = model.encode_text(words, normalize=True)[0].numpy()
    assert found @ expected > 0.999
    np.testing.assert_allclose(encoder.encode_text(["a red truck"])[0], text, atol=1e-5)


@needs_weights
def test_other_weights_are_another_version(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    assert WEIGHTS is not None
    copy = shutil.copytree(WEIGHTS, tmp_path / "copy")
    one, two = OpenClipEncoder(f"local-dir:{WEIGHTS}"), OpenClipEncoder(f"local-dir:{copy}")
    assert json.loads((copy / "open_clip_config.json").read_text()) and one.version == two.version
    (weights,) = copy.glob("*.safetensors")
    tensors = load_file(weights)
    tensors["visual.head.mlp.fc1.bias"] += 1
    weights.unlink()
    save_file(tensors, weights)
    assert OpenClipEncoder(f"local-dir:{copy}").version != one.version
