from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from embeddings.encoder import PlacedEncoder, WeightsMissing, encode_all, load_encoder
from embeddings.openclip import Device, OpenClipEncoder, Precision, auto_precision, split_precision, this_device
from tests.pictures import noise, picture

WEIGHTS = os.environ.get("MINER_TEST_WEIGHTS")
TEXTS = ["a red truck", "driving at night in the rain", "naïve café", ""]
FRAMES = [np.ascontiguousarray(frame) for frame in (picture(), picture()[::-1], noise(), noise(90, 160))]
needs_weights = pytest.mark.skipif(WEIGHTS is None, reason="MINER_TEST_WEIGHTS points to no local-dir model")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small vision transformer, CLIP's own text tower."""
    vision = {"image_size": 64, "layers": 3, "width": 128, "head_width": 32, "patch_size": 16}
    return _saved(tmp_path_factory.mktemp("vit"), vision)


def _saved(folder: Path, vision: dict[str, Any]) -> str:
    """A model with random weights in a folder as open_clip keeps models."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    text = {"width": 64, "heads": 2, "layers": 2}
    config = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
    settings = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": settings}))
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


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


@pytest.mark.parametrize(("precision", "lowest"), [("fp32", 0.9999), ("bf16", 0.999), ("fp16", 0.999), ("int8", 0.999)])
def test_equals_open_clip_with_squash(vit: str, precision: Precision, lowest: float) -> None:
    _assert_equals_open_clip(vit, f"@{precision}", lowest)


@needs_weights
def test_a_convolutional_model_equals_open_clip() -> None:
    assert OpenClipEncoder(f"local-dir:{WEIGHTS}").precision == "fp32"
    _assert_equals_open_clip(f"local-dir:{WEIGHTS}", "", 0.9999)


def _assert_equals_open_clip(model: str, suffix: str, lowest: float) -> None:
    """Vectors of frames cut by miner.decode and of texts, against open_clip's own of the same pixels and words."""
    import open_clip
    import torch
    from PIL import Image

    from miner.decode.views import crop_views

    encoder = OpenClipEncoder(model + suffix)
    views = np.concatenate([crop_views(frame, [None], encoder.input.size) for frame in FRAMES])
    theirs, _, preprocess = open_clip.create_model_and_transforms(model, image_resize_mode="squash")
    theirs.eval()
    with torch.inference_mode():
        inputs = torch.stack([preprocess(Image.fromarray(frame)) for frame in FRAMES])
        images = theirs.encode_image(inputs, normalize=True).numpy()
        words = theirs.encode_text(open_clip.get_tokenizer(model)(TEXTS), normalize=True).numpy()
    assert _cosines(encode_all(encoder, views), images).min() >= lowest
    assert _cosines(encoder.encode_text(TEXTS), words).min() >= lowest
    assert _highest_of_different(images) < lowest and _highest_of_different(words) < lowest, "nothing to tell apart"


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray((left * right).sum(axis=1))


def _highest_of_different(vectors: np.ndarray) -> float:
    return float(np.tril(vectors @ vectors.T, -1).max())


@pytest.mark.parametrize("precision", get_args(Precision))
def test_same_bits_whatever_else_is_in_the_batch(vit: str, precision: Precision) -> None:
    encoder = OpenClipEncoder(f"{vit}@{precision}")
    size, count = encoder.input.size, encoder.input.batch + 5
    frames = np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    vectors = encode_all(encoder, frames)
    order = np.random.default_rng(2).permutation(count)
    np.testing.assert_array_equal(encode_all(encoder, frames[order]), vectors[order])
    np.testing.assert_array_equal(
        np.concatenate([encode_all(encoder, part) for part in (frames[:3], frames[3:])]), vectors
    )


def test_precision_is_part_of_the_version(vit: str) -> None:
    auto, *named = (OpenClipEncoder(vit + suffix) for suffix in ("", "@auto", "@fp32", "@bf16", "@fp16", "@int8"))
    ends = ["auto", *get_args(Precision)]
    assert [each.name for each in named] == [f"openclip:{vit}@{end}" for end in ends]
    assert auto.version == named[0].version and auto.precision == this_device().fast
    assert [each.version.rpartition("-")[2] for each in named[1:]] == ends[1:]
    assert len({each.version.rpartition("-")[0] for each in named}) == 1


def test_one_precision_for_all_workers_of_a_run(vit: str) -> None:
    """What `auto` meant where the encoder was made goes with its pickle, and can be asked for by a version."""
    here = OpenClipEncoder(vit)
    elsewhere: Precision = "fp16" if here.precision == "fp32" else "fp32"
    made = pickle.loads(pickle.dumps(OpenClipEncoder(vit, elsewhere)))
    assert (made.name, made.precision) == (here.name, elsewhere) and made.version != here.version
    assert here.as_version(made.version).version == made.version and here.as_version(made.version).name == here.name
    assert here.as_version(here.version) is here
    assert here.as_version("2-000000000000-fp16") is here and here.as_version("imported") is here
    named = OpenClipEncoder(f"{vit}@bf16")
    assert named.as_version(made.version) is named


def test_a_worker_without_a_gpu_leaves_that_of_its_machine_alone(vit: str) -> None:
    import torch

    here = OpenClipEncoder(vit)
    assert here.on("any") is here
    cpu, gpu = here.on("cpu"), here.on("gpu")
    assert isinstance(cpu, PlacedEncoder) and cpu._device == this_device("cpu") and cpu._device.kind == "cpu"
    assert gpu.precision in ("bf16", "fp16") and OpenClipEncoder(f"{vit}@fp32").on("gpu").precision == "fp32"
    assert gpu.version.rpartition("-")[0] == here.version.rpartition("-")[0]
    again = pickle.loads(pickle.dumps(cpu))
    assert (again.version, again._device) == (cpu.version, cpu._device)
    if not torch.cuda.is_available():
        same = cpu.as_version(gpu.version)
        assert isinstance(same, OpenClipEncoder)
        np.testing.assert_array_equal(gpu.encode_text(["a van"]), same.encode_text(["a van"]))


def test_int8_is_for_cpus(vit: str) -> None:
    encoder = OpenClipEncoder(f"{vit}@int8")
    assert encoder._device.kind == "cpu" and encoder.on("cpu") is encoder.on("any") is encoder
    with pytest.raises(ValueError, match="@int8 computes on CPUs"):
        encoder.on("gpu")
    plain = OpenClipEncoder(vit)
    assert plain.as_version(encoder.version).version == encoder.version
    for_gpu = plain.on("gpu")
    assert for_gpu.as_version(encoder.version) is for_gpu
    np.testing.assert_array_equal(encoder.encode_text(TEXTS), OpenClipEncoder(f"{vit}@fp32").encode_text(TEXTS))


def test_a_model_that_int8_is_not_for_says_so_when_loaded(tmp_path: Path) -> None:
    """A ResNet of CLIP's reads the weights of its last layers itself."""
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "patch_size": None}
    model = _saved(tmp_path, vision)
    with pytest.raises(ValueError, match="leave out @int8"):
        OpenClipEncoder(f"{model}@int8").load()
    OpenClipEncoder(f"{model}@fp32").load()


@pytest.mark.slow
def test_int8_is_refused_where_products_of_bytes_are_not_exact(vit: str) -> None:
    """oneDNN can be held to older instructions; on another CPU, and in another library, this shows nothing."""
    code = (
        "import sys, torch; from embeddings.openclip import OpenClipEncoder\n"
        "most = torch.full((32, 256), 127, dtype=torch.int8)\n"
        "assert (torch._int_mm(most, most.t()) != 256 * 127**2).any(), 'exact'\n"
        "OpenClipEncoder(sys.argv[1]).load()"
    )
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code, f"{vit}@int8"], capture_output=True, text=True, env=env)
    if "AssertionError: exact" in done.stderr:
        pytest.skip("products of bytes are exact here without VNNI, too")
    assert "ValueError" in done.stderr and "no VNNI" in done.stderr and "leave out @int8" in done.stderr, done.stderr


def test_batches_in_a_row_give_what_each_gives(vit: str) -> None:
    encoder = OpenClipEncoder(vit)
    batches = np.random.default_rng(3).integers(0, 256, (3, *encoder.input.shape), dtype=np.uint8)
    batches.flags.writeable = False  # as those of Arrow are
    drawn: list[int] = []

    def drawing() -> Iterator[np.ndarray]:
        for number, batch in enumerate(batches):
            drawn.append(number)
            yield batch

    found = []
    for vectors in encoder.encode_stream(drawing()):
        assert len(drawn) <= len(found) + 2, "more batches in memory than the one at work and the next"
        found.append(vectors)
    np.testing.assert_array_equal(found, [encoder.encode(batch) for batch in batches])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_compiled_model_gives_nearly_the_same(vit: str, precision: Precision) -> None:
    plain, compiled = (OpenClipEncoder(f"{vit}@{precision}") for _ in range(2))
    compiled.load(compiled=True)
    frames = np.random.default_rng(4).integers(0, 256, plain.input.shape, dtype=np.uint8)
    np.testing.assert_allclose(compiled.encode(frames), plain.encode(frames), atol=1e-5)
    assert compiled.version == plain.version


def test_towers_are_loaded_apart_and_converted(vit: str) -> None:
    import torch

    encoder = OpenClipEncoder(f"{vit}@bf16")
    encoder.encode(np.zeros(encoder.input.shape, np.uint8))
    assert "_text_tower" not in vars(encoder)
    images, texts = encoder._image_tower[0], encoder._text_tower
    assert [name for name, _ in images.named_children()] == ["visual"] and not hasattr(texts, "visual")
    assert {tensor.dtype for tower in (images, texts) for tensor in tower.parameters()} == {torch.bfloat16}
    assert torch.get_num_threads() == 1 and torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("vision", "steady"),
    [
        ({"layers": 12}, True),
        ({}, True),
        ({"layers": [3, 4, 6, 3]}, False),
        ({"timm_model_name": "vit_so400m_patch14_siglip_384"}, True),
        ({"timm_model_name": "eva02_base_patch16_clip_224"}, True),
        ({"timm_model_name": "convnext_base"}, True),
        ({"timm_model_name": "fastvit_mci2"}, False),
        ({"timm_model_name": "tf_efficientnet_lite2"}, False),
    ],
)
@pytest.mark.parametrize("device", [Device("cpu", "bf16"), Device("cuda", "fp16"), Device("cpu", "fp32")])
def test_auto_is_the_fast_precision_of_models_that_bear_it(
    vision: dict[str, Any], steady: bool, device: Device
) -> None:
    assert auto_precision(vision, device) == (device.fast if steady else "fp32")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("ViT-B-32/openai", ("ViT-B-32/openai", None)),
        ("ViT-B-32/openai@auto", ("ViT-B-32/openai", None)),
        ("ViT-B-32/openai@bf16", ("ViT-B-32/openai", "bf16")),
        ("local-dir:/data/me@home/lit@fp32", ("local-dir:/data/me@home/lit", "fp32")),
        ("local-dir:/data/me@home", ("local-dir:/data/me@home", None)),
        ("@fp32", ("@fp32", None)),
    ],
)
def test_a_name_ends_in_a_precision(argument: str, expected: tuple[str, Precision | None]) -> None:
    assert split_precision(argument) == expected


def test_on_a_gpu(vit: str) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU is visible")
    encoder = OpenClipEncoder(vit)
    assert encoder.input.batch == 256 and encoder.precision != "fp32"
    assert all(tensor.is_cuda for tensor in encoder._image_tower[0].parameters())
    _assert_equals_open_clip(vit, "", 0.999)


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
