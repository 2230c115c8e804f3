"""Any model of open_clip: `openclip:<model>/<tag or file>`, `openclip:local-dir:PATH`, `openclip:hf-hub:ORG/NAME`.

The network is not touched unless MINER_ALLOW_DOWNLOADS=1: without weights at hand, making the encoder fails within
seconds and says what to do. Frames come squashed to the model's square (`miner.decode`), as open_clip's own
preprocessing does with `resize_mode="squash"`.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import InputSpec, WeightsMissing

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]

_LOCAL, _HUB = "local-dir:", "hf-hub:"
_METHOD = 1  # counts up whenever vectors change for another reason than the weights
_WHAT_TO_DO = """What to do:
  - a file you have:      openclip:ViT-B-32//path/to/weights.safetensors
  - a folder you have:    openclip:local-dir:/path/to/folder (open_clip_config.json and weights)
  - let it be downloaded: MINER_ALLOW_DOWNLOADS=1, then openclip:ViT-B-32/laion2b_s34b_b79k
  - without weights:      lite (the default) needs none"""


class OpenClipEncoder:
    """Made from the model's name: finds weights and settings; the model itself is loaded when first used.

    Loading it sets torch to one thread, as every encoder here does. A pickle carries the name, not the weights. Raises
    WeightsMissing when weights cannot be had and ValueError for a name that open_clip does not know.
    """

    def __init__(self, model: str) -> None:
        _forbid_downloads()
        self._argument = model
        self.name = f"openclip:{model}"
        self._model_name, self._weights, config = _find(model)
        self.dim = int(config["embed_dim"])
        size = config["vision_cfg"].get("image_size", 224)
        self.input = InputSpec("camera", int(size if isinstance(size, int) else min(size)), 8)
        self.version = f"{_METHOD}-{_digest(self._weights, config)}"

    def __reduce__(self) -> tuple[type[OpenClipEncoder], tuple[str]]:
        return type(self), (self._argument,)

    def encode(self, batch: NDArray[np.uint8]) -> Floats:
        """uint8 (n, size, size, 3) to unit float32 (n, dim). Normalised with the model's own mean and deviation."""
        import torch

        model, mean, deviation = self._model
        with torch.inference_mode():
            x = torch.from_numpy(np.array(batch, order="C")).to(mean.device).permute(0, 3, 1, 2).float().div(255.0)
            return _unit(model.encode_image((x - mean) / deviation))

    def encode_text(self, texts: list[str]) -> Floats:
        """Texts to unit float32 (len(texts), dim), each by itself."""
        import torch

        model, mean, _ = self._model
        vectors = np.empty((len(texts), self.dim), np.float32)
        with torch.inference_mode():
            for row, text in zip(vectors, texts, strict=True):
                row[:] = _unit(model.encode_text(self._tokenizer([text]).to(mean.device)))[0]
        return vectors

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        return open_clip.get_tokenizer(self._model_name)

    @cached_property
    def _model(self) -> tuple[Any, Tensor, Tensor]:
        """The model on the device; mean and deviation of its input, float32 (3, 1, 1)."""
        import open_clip
        import torch

        torch.set_num_threads(1)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tag = None if self._model_name.startswith((_LOCAL, _HUB)) else self._argument.partition("/")[2]
        model = open_clip.create_model(self._model_name, tag, device=device, require_pretrained=True).eval()
        settings = open_clip.get_model_preprocess_cfg(model)
        mean, deviation = (torch.tensor(settings[key], device=device).view(3, 1, 1) for key in ("mean", "std"))
        return model, mean, deviation


def _find(argument: str) -> tuple[str, Path, dict[str, Any]]:
    """The name open_clip takes, the file of weights and the model's settings."""
    if argument.startswith(_LOCAL):
        return _find_folder(argument)
    if argument.startswith(_HUB):
        return _find_in_hub(argument)
    import open_clip

    model, _, pretrained = argument.partition("/")
    config = open_clip.get_model_config(model)
    if config is None:
        raise ValueError(f"open_clip knows no model {model!r}. Known: {', '.join(open_clip.list_models())}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not pretrained:
        raise ValueError(f"which weights? openclip:{model}/<tag or file>. Tags: {', '.join(tags)}")
    if Path(pretrained).is_file():
        return model, Path(pretrained), config
    if not open_clip.is_pretrained_cfg(model, pretrained):
        raise WeightsMissing(f"no file {pretrained}, and no such tag of {model} ({', '.join(tags)}).\n{_WHAT_TO_DO}")
    try:
        return model, Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(model, pretrained))), config
    except (OSError, RuntimeError) as error:
        raise WeightsMissing(f"no weights of {argument} on this machine: {error}\n{_WHAT_TO_DO}") from error


def _find_folder(argument: str) -> tuple[str, Path, dict[str, Any]]:
    folder = Path(argument.removeprefix(_LOCAL)).resolve()
    settings = folder / "open_clip_config.json"
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
    weights = [folder / name for name in names if (folder / name).is_file()]
    if not settings.is_file() or not weights:
        sought = "open_clip_config.json" if not settings.is_file() else " or ".join(names)
        raise WeightsMissing(f"{folder} holds no {sought}.\n{_WHAT_TO_DO}")
    return f"{_LOCAL}{folder}", weights[0], json.loads(settings.read_text())["model_cfg"]


def _find_in_hub(argument: str) -> tuple[str, Path, dict[str, Any]]:
    import open_clip
    from open_clip.pretrained import download_pretrained_from_hf

    try:
        config = open_clip.get_model_config(argument)
        return argument, Path(download_pretrained_from_hf(argument.removeprefix(_HUB))), config
    except (OSError, RuntimeError) as error:
        raise WeightsMissing(f"no weights of {argument} on this machine: {error}\n{_WHAT_TO_DO}") from error


def _forbid_downloads() -> None:
    """Hub look-ups answer from the local cache at once, unless the user allows downloads."""
    if os.environ.get("MINER_ALLOW_DOWNLOADS") == "1":
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True  # read once, when the module is imported, which others may have done before


def _digest(weights: Path, config: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    with weights.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _unit(rows: Tensor) -> Floats:
    vectors: Floats = (rows / rows.norm(dim=1, keepdim=True)).float().cpu().numpy()
    return vectors
