"""Any model of open_clip: `openclip:<model>/<tag or file>`, `openclip:local-dir:PATH`, `openclip:hf-hub:ORG/NAME`.

The network is not touched unless MINER_ALLOW_DOWNLOADS=1: without weights at hand, making the encoder fails within
seconds and says what to do. Frames come squashed to the model's square (`miner.decode`), as open_clip's own
preprocessing does with `resize_mode="squash"`.

A name may end in `@fp32`, `@bf16` or `@fp16`, what both towers compute in, or in `@auto`, the default: what this
machine is fast in, for models that bear it (`auto_precision`). In one precision vectors of different processors
differ by rounding only. Weights are converted, because autocast gains nothing on a CPU; float32 products stay exact,
because torch's switch to cheaper ones (`set_float32_matmul_precision`) would change the vectors of every other encoder
in the process. `@int8` is for CPUs that multiply bytes fast (VNNI) and bfloat16 no faster (no AMX), and has to be asked
for: linear layers of the image tower are of 8 bits, all else is float32 (`embeddings.int8`). It gains where these are
most of the work, as in vision transformers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from embeddings.device import BatchStream
from embeddings.encoder import InputSpec, Processor, WeightsMissing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Floats = NDArray[np.float32]
Precision = Literal["fp32", "bf16", "fp16", "int8"]

_LOCAL, _HUB = "local-dir:", "hf-hub:"
_METHOD = 2  # counts up whenever vectors change for another reason than the weights and the precision
_LAYER_NORMALISED = ("vit", "eva", "convnext", "swin")  # how timm names its families
_WHAT_TO_DO = """What to do:
  - a file you have:      openclip:ViT-B-32//path/to/weights.safetensors
  - a folder you have:    openclip:local-dir:/path/to/folder (open_clip_config.json and weights)
  - let it be downloaded: MINER_ALLOW_DOWNLOADS=1, then openclip:ViT-B-32/laion2b_s34b_b79k
  - without weights:      lite (the default) needs none"""


@dataclass(frozen=True)
class Device:
    """Where a model runs. `fast`: the precision it computes in faster than in float32, "fp32" where there is none."""

    kind: Literal["cpu", "cuda"]
    fast: Precision

    def batch(self, precision: Precision) -> int:
        """Rows a call: enough to feed the processor. More cost memory, and time where the last batch is padded."""
        if self.kind == "cuda":
            return 256
        return 8 if precision == "fp32" else 16  # matrix units repack the weights for each product


class OpenClipEncoder:
    """Made from the model's name: finds weights and settings; each tower is loaded by itself when first used.

    Loading sets torch to one thread, as every encoder here does. A GPU is used where one is visible, unless `processor`
    is "cpu": several processes can share it, each with a model of its own. A pickle carries the name and the
    `precision` chosen when the encoder was made, not the weights, so that all workers of a run compute alike. Raises
    WeightsMissing when weights cannot be had and ValueError for a name that open_clip does not know.
    """

    def __init__(self, model: str, precision: Precision | None = None, processor: Processor = "any") -> None:
        _forbid_downloads()
        self._argument = model
        self.name = f"openclip:{model}"
        self._source, named = split_precision(model)
        self._model_name, self._weights, config = _find(self._source)
        self._vision, self._fixed = config["vision_cfg"], precision or named
        self.dim = int(config["embed_dim"])
        self._digest = _digest(self._weights, config)
        self._settle(self._fixed, processor)

    def _settle(self, precision: Precision | None, processor: Processor) -> None:
        """What to compute in, and where."""
        if precision == "int8":
            if processor == "gpu":
                raise ValueError("@int8 computes on CPUs; for a GPU leave it out, or say @bf16 or @fp16")
            processor = "cpu"
        self._processor, self._device = processor, this_device(processor)
        self.precision: Precision = precision or auto_precision(self._vision, self._device)
        size = self._vision.get("image_size", 224)
        rows = self._device.batch(self.precision)
        self.input = InputSpec("camera", int(size if isinstance(size, int) else min(size)), rows)
        self.version = f"{_METHOD}-{self._digest}-{self.precision}"

    def _variant(self, precision: Precision | None, processor: Processor) -> OpenClipEncoder:
        """The same weights, used otherwise; their file is not read again."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        for loaded in ("_image_tower", "_text_tower"):
            other.__dict__.pop(loaded, None)
        other._settle(precision, processor)
        return other

    def __reduce__(self) -> tuple[type[OpenClipEncoder], tuple[str, str, str]]:
        return type(self), (self._argument, self.precision, self._processor)

    def on(self, processor: Processor) -> OpenClipEncoder:
        """The encoder for workers with, or without, a GPU: in what their processor is fast in, if nothing else is
        said."""
        if processor == self._processor or (self._fixed == "int8" and processor != "gpu"):
            return self
        return self._variant(self._fixed, processor)

    def as_version(self, version: str) -> OpenClipEncoder:
        """The encoder of these weights that makes vectors of `version`; itself if no other precision does.

        So a lake embedded where bf16 is fast is searched, and continued, where it is not. A precision that the name
        gives stays.
        """
        stamp, _, precision = version.rpartition("-")
        others = {*get_args(Precision)} - {self.precision}
        named = split_precision(self._argument)[1]
        if self._processor == "gpu":
            others.discard("int8")
        if named or precision not in others or stamp != self.version.rpartition("-")[0]:
            return self
        return self._variant(cast(Precision, precision), self._processor)

    def load(self, compiled: bool = False) -> None:
        """Load the image tower; with `compiled` it is run by torch.compile."""
        model, *_ = self._image_tower
        if compiled:
            model.visual.compile()

    def encode(self, batch: NDArray[np.uint8]) -> Floats:
        """uint8 (n, size, size, 3) to unit float32 (n, dim). Normalised with the model's own mean and deviation."""
        [vectors] = self.encode_stream([batch])
        return vectors

    def encode_stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Floats]:
        """What `encode` gives of each batch, in order; a GPU has the next one while it computes, and is not waited for
        in between."""
        model, scale, bias = self._image_tower
        stream = BatchStream(scale.device)
        begun: deque[Callable[[], Floats]] = deque()
        for batch in batches:
            begun.append(
                stream.begin(
                    batch, lambda pixels: _unit(model.encode_image(_normalised(pixels, scale, bias, self._dtype)))
                )
            )
            if len(begun) > stream.ahead:
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()

    def encode_text(self, texts: list[str]) -> Floats:
        """Texts to unit float32 (len(texts), dim), each by itself."""
        import torch

        vectors = np.empty((len(texts), self.dim), np.float32)
        with torch.inference_mode():
            for row, text in zip(vectors, texts, strict=True):
                row[:] = _unit(self._text_tower.encode_text(self._tokenizer([text]).to(self._device.kind)))[0].cpu()
        return vectors

    @property
    def _dtype(self) -> torch.dtype:
        import torch

        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        return open_clip.get_tokenizer(self._model_name)

    @cached_property
    def _text_tower(self) -> Any:
        """The model without its image tower."""
        model = self._load()
        del model.visual
        return model

    @cached_property
    def _image_tower(self) -> tuple[Any, Tensor, Tensor]:
        """The model without its text tower; `scale` and `bias` of its pixels, float32 (size * 3,): see _normalised."""
        import open_clip
        import torch

        model = self._load()
        settings = open_clip.get_model_preprocess_cfg(model)
        for name in [name for name, _ in model.named_children() if name != "visual"]:
            delattr(model, name)
        if self.precision == "int8":
            self._quantize(model)
        mean, deviation = (torch.tensor(settings[key], device=self._device.kind) for key in ("mean", "std"))
        scale, bias = 1 / (255 * deviation), -mean / deviation
        return model, scale.repeat(self.input.size), bias.repeat(self.input.size)

    def _quantize(self, model: Any) -> None:
        """Raises ValueError where the CPU or the layers of the model are not made for it."""
        import torch

        from embeddings.int8 import quantize

        try:
            quantize(model.visual)
            with torch.inference_mode():
                model.encode_image(torch.zeros(1, 3, self.input.size, self.input.size))
        except (AttributeError, ValueError) as error:  # some read the weights of their layers themselves
            raise ValueError(f"{self.name}: leave out @int8, or say @fp32: {error}") from error

    def _load(self) -> Any:
        """The whole model in its precision on its device. The checkpoint is converted while it is copied in."""
        import open_clip
        import torch

        torch.set_num_threads(1)
        tag = None if self._model_name.startswith((_LOCAL, _HUB)) else self._source.partition("/")[2]
        precision = f"pure_{self.precision}" if self.precision in ("bf16", "fp16") else "fp32"
        model = open_clip.create_model(
            self._model_name, tag, precision=precision, device=self._device.kind, require_pretrained=True
        )
        return model.eval().to(memory_format=torch.channels_last)


def split_precision(argument: str) -> tuple[str, Precision | None]:
    """A model's name and the precision it ends in: `ViT-B-32/openai@bf16`. None for none and for `@auto`."""
    found = re.fullmatch(rf"(.+)@(auto|{'|'.join(get_args(Precision))})", argument)
    if found is None:
        return argument, None
    return found[1], None if found[2] == "auto" else cast(Precision, found[2])


def auto_precision(vision: dict[str, Any], device: Device) -> Precision:
    """What a model with these `vision_cfg` computes in on `device`.

    What the device is fast in, for transformers and ConvNeXts: their vectors keep a cosine of 0.999 and more. Nets of
    convolutions with batch norms (ResNets, EfficientNets, MobileCLIP) stay in float32: bfloat16 moves the vectors of a
    LiT over EfficientNet-Lite2 down to a cosine of 0.95, of which rounding the weights alone is 0.995.
    """
    trunk = vision.get("timm_model_name")
    steady = trunk.startswith(_LAYER_NORMALISED) if trunk else not isinstance(vision.get("layers"), list)
    return device.fast if steady else "fp32"


def this_device(processor: Processor = "any") -> Device:
    """The first visible GPU (CUDA_VISIBLE_DEVICES, which Ray sets for each worker), else the CPU.

    For `gpu` where there is none: this CPU, that computes in what a GPU would.
    """
    import torch

    if processor != "cpu" and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Device("cuda", "bf16")
        return Device("cuda", "fp16" if torch.cuda.get_device_capability() >= (7, 0) else "fp32")  # tensor cores
    if processor == "gpu":
        return Device("cpu", "bf16")
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases do not say
    return Device("cpu", "bf16" if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "fp32")


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


def _normalised(pixels: Tensor, scale: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 (n, height, width, 3) to `dtype` (n, 3, height, width) on the same device, channels last in memory.

    One pass makes value * scale + bias, in float32 and rounded once. `scale` and `bias` (width * 3,) repeat the three
    channels: a CPU is four times as fast over rows as over triples.
    """
    import torch

    n, height, width, _ = pixels.shape
    out = torch.empty((n, height, width * 3), dtype=dtype, device=scale.device)
    torch.addcmul(bias, pixels.view(out.shape), scale, out=out)
    return out.view(n, height, width, 3).permute(0, 3, 1, 2)


def _unit(rows: Tensor) -> Tensor:
    rows = rows.float()
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return unit
