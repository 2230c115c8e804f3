"""Batches to a torch device and vectors back, so that a GPU never waits for the host to copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Floats = NDArray[np.float32]


def sees_gpu() -> bool:
    """Whether torch has a GPU in this process."""
    import torch

    return torch.cuda.is_available()


class BatchStream:
    """One batch after the other through a device, in order.

    On a GPU a batch is copied from pinned memory by a stream of its own while the one before is computed, and what
    comes out is copied back to pinned memory; nothing waits until the result of a batch is asked for. `ahead` is how
    many batches to begin before the first is asked for: 1 on a GPU, 0 on a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._copying: Any = None
        if device.type == "cuda":
            self._copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.ahead = 1 if self._copying else 0

    def begin(self, batch: NDArray[np.uint8], work: Callable[[Tensor], Tensor]) -> Callable[[], Floats]:
        """Begin `work` on a batch; what is returned waits for it and gives the result as float32 of the host."""
        import torch

        with torch.inference_mode():
            if self._copying is None:
                vectors: Floats = work(torch.from_numpy(_writable(batch))).numpy()
                return lambda: vectors
            return self._begin_on_gpu(batch, work, self._copying)

    def _begin_on_gpu(
        self, batch: NDArray[np.uint8], work: Callable[[Tensor], Tensor], copying: torch.cuda.Stream
    ) -> Callable[[], Floats]:
        import torch

        host = torch.empty(batch.shape, dtype=torch.uint8, pin_memory=True)
        host.numpy()[:] = batch
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(copying):
            pixels = host.to(self._device, non_blocking=True)
        computing.wait_stream(copying)
        pixels.record_stream(computing)  # its memory is the copying stream's, which must not reuse it before
        result = work(pixels)
        found = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        found.copy_(result, non_blocking=True)
        done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(computing)

        def wait() -> Floats:
            done.synchronize()
            vectors: Floats = found.numpy()
            return vectors

        return wait


def _writable(batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The batch as it is, or a copy of one that is in memory that others see: torch wants to own what it works on."""
    return batch if batch.flags.writeable and batch.flags.c_contiguous else batch.copy()
