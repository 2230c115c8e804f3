"""The linear layers of a torch model in 8 bits, for CPUs: VNNI does four products where float32 has one.

Weights are rounded once, a step for each output, and what comes in with a step for each token, so that a vector
depends on its frame alone. All else, convolutions and what is between the products among it, stays float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.int8 import quantize_rows, scale_sums


class Int8Linear(nn.Module):
    """What `nn.Linear` with this weight (m, k) and bias (m,) gives of float32 (..., k): float32 (..., m)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        whole, self._steps = quantize_rows(weight.detach().contiguous().numpy())
        self._weight = torch.from_numpy(whole).t()
        self._bias = (torch.zeros(len(weight)) if bias is None else bias.detach()).numpy()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        whole, steps = quantize_rows(x.reshape(-1, x.shape[-1]).contiguous().numpy())
        sums = torch._int_mm(torch.from_numpy(whole), self._weight)
        scaled = scale_sums(sums.numpy(), steps, self._steps, self._bias)
        return torch.from_numpy(scaled).view(*x.shape[:-1], len(self._bias))


class Int8SelfAttention(nn.Module):
    """What `nn.MultiheadAttention` with batches first gives of one input (n, tokens, width), without a mask."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self._heads = attention.num_heads
        self._in = Int8Linear(attention.in_proj_weight, attention.in_proj_bias)
        self._out = Int8Linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(
        self, x: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        assert key is x and value is x and not need_weights and attn_mask is None
        n, tokens, width = x.shape
        heads = self._in(x).view(n, tokens, 3, self._heads, width // self._heads)
        seen = functional.scaled_dot_product_attention(*heads.permute(2, 0, 3, 1, 4))
        return self._out(seen.transpose(1, 2).reshape(n, tokens, width)), None


def quantize(model: nn.Module) -> None:
    """Replace, in place, the linear layers of a model and the self-attention of open_clip's blocks.

    Other attention of torch's stays as it is, with the layers inside it. Raises ValueError on a CPU whose products of
    bytes are not exact.
    """
    if not _is_exact():
        raise ValueError("products of bytes are not exact on this CPU (it has no VNNI)")
    _replace_layers(model)


def _replace_layers(model: nn.Module) -> None:
    from open_clip.transformer import ResidualAttentionBlock

    for name, child in model.named_children():
        if type(child) is nn.Linear:  # not a subclass that does something of its own
            setattr(model, name, Int8Linear(child.weight, child.bias))
        elif isinstance(child, nn.MultiheadAttention):
            if isinstance(model, ResidualAttentionBlock) and child.batch_first and not hasattr(model, "ln_1_kv"):
                setattr(model, name, Int8SelfAttention(child))
        else:
            _replace_layers(child)


def _is_exact() -> bool:
    """Without VNNI torch adds products up in 16 bits, which overflow without a word."""
    most = torch.full((32, 256), 127, dtype=torch.int8)
    return bool((torch._int_mm(most, most.t()) == 256 * 127**2).all())
