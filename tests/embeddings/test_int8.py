"""Transformers with products in 8 bits, beside what they are in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from embeddings.int8 import Int8Linear, Int8SelfAttention, quantize
from embeddings.minilm import MiniLM

Floats = NDArray[np.float32]
TEXTS = [
    "a red truck in the rain",
    "night driving on a motorway",
    "an empty tunnel",
    "two cyclists beside a parked car",
]


def cosine(left: torch.Tensor, right: torch.Tensor) -> float:
    return float(nn.functional.cosine_similarity(left.flatten(), right.flatten(), 0))


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer(bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(192, 40, bias=bias), torch.randn(2, 5, 192)
    with torch.inference_mode():
        assert cosine(Int8Linear(layer.weight, layer.bias)(x), layer(x)) > 0.9998


def test_self_attention() -> None:
    torch.manual_seed(1)
    attention, x = nn.MultiheadAttention(64, 4, batch_first=True).eval(), torch.randn(3, 17, 64)
    with torch.inference_mode():
        assert cosine(Int8SelfAttention(attention)(x, x, x, need_weights=False)[0], attention(x, x, x)[0]) > 0.999


def test_what_is_replaced() -> None:
    """Layers and the self-attention of blocks; attention to something else, and layers of a kind of their own, stay."""
    from open_clip.transformer import ResidualAttentionBlock

    pooling = nn.MultiheadAttention(32, 2, batch_first=True)
    model = nn.ModuleDict(
        {
            "block": ResidualAttentionBlock(32, 2),
            "crossed": ResidualAttentionBlock(32, 2, is_cross_attention=True),
            "pool": pooling,
            "head": nn.Linear(32, 8),
        }
    )
    quantize(model)
    assert isinstance(model["head"], Int8Linear) and isinstance(model["block"].attn, Int8SelfAttention)
    assert isinstance(model["crossed"].attn, nn.MultiheadAttention) and isinstance(model["crossed"].mlp[0], Int8Linear)
    assert model["pool"] is pooling and isinstance(pooling.out_proj, nn.Linear)


def test_a_trained_transformer_bears_it() -> None:
    """Trained ones have a few large numbers in each token, which random weights have not."""

    class Rounded(MiniLM):
        def _linear(self, states: Floats, name: str) -> Floats:
            weight, bias = (torch.from_numpy(self._weights[f"{name}.{part}"]) for part in ("weight", "bias"))
            product: Floats = Int8Linear(weight, bias)(torch.from_numpy(np.ascontiguousarray(states))).numpy()
            return product

    exact, rounded = MiniLM().encode(TEXTS), Rounded().encode(TEXTS)
    assert np.einsum("nd,nd->n", exact, rounded).min() > 0.999
    assert np.tril(exact @ exact.T, -1).max() < 0.9, "nothing to tell apart"
