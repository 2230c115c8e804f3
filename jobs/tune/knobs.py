"""The knobs of this engine on some machine, and what relieves which of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.tune.model import HAND_OVER
from jobs.tune.space import Knob, Space, Value

_BATCHES = (8, 16, 32, 64, 128, 256)
_BLOCKS = (64, 128, 256, 512, 1024, 2048)  # smaller ones cost a long run more, in commits, than a trial can show
_SHARES = (0.125, 0.25, 0.5, 1.0)  # of a GPU, for each worker
_STORES_GB = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_STORE_SHARE = 0.4  # of the memory, at most
_BLOCKS_PER_WORKER = 2  # in the shortest trial: of fewer nothing can be told
RELIEF: Mapping[str, Mapping[str, int]] = {
    "prepare": {"decode_workers": 1, "num_workers": 1},
    "apply": {"batch_size": 1, "num_gpus": -1, "num_workers": 1},
    "write": {"block_size": 1},
    "commit": {"block_size": 1},
    HAND_OVER: {"object_store_gb": 1, "num_workers": 1, "block_size": -1},
}


@dataclass(frozen=True)
class Machine:
    """What runs the trials: CPUs, whether workers have GPUs, and memory for Ray's object store (None: not ours)."""

    cpus: int
    gpu: bool = False
    memory_gb: float | None = None


def knobs(machine: Machine, units: int) -> Space:
    """What can be set there; the shortest trial has `units` units."""
    workers = _doubled(machine.cpus)
    blocks = [size for size in _BLOCKS if size * _BLOCKS_PER_WORKER <= units]
    batches = [size for size in _BATCHES if size * _BLOCKS_PER_WORKER <= units] or [_BATCHES[0]]
    found = [Knob("batch_size", batches, strain=1)]
    found += [Knob("block_size", blocks)] if len(blocks) > 1 else []
    if not machine.gpu:
        return Space((*found, Knob("num_workers", workers, strain=1)), RELIEF)
    found += [Knob("num_gpus", _SHARES, strain=-1), Knob("decode_workers", workers)]
    stores = [size for size in _STORES_GB if machine.memory_gb and size <= machine.memory_gb * _STORE_SHARE]
    return Space((*found, Knob("object_store_gb", stores)) if len(stores) > 1 else tuple(found), RELIEF)


def start(space: Space, machine: Machine, batch_size: int) -> dict[str, Value]:
    """Where the search starts: what a run without any settings does, as near as the grid has it."""
    wanted = {"batch_size": batch_size, "block_size": 4 * batch_size, "num_gpus": 1.0, "num_workers": machine.cpus}
    return space.nearest({**wanted, "decode_workers": machine.cpus})


def _doubled(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    return sorted({*(1 << power for power in range(most.bit_length()) if 1 << power <= most), most})
