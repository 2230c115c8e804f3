"""Pipelines that are simulated, station by station, with a bottleneck planted in each: what `tune` is judged by.

A block is handed out by the driver, read from a source of limited bandwidth, decoded by one of `decode_workers`, handed
over through the object store, encoded in batches by one of the workers that share the GPU, and committed. Decoders and
workers share the machine's CPUs; weights and batches need the GPU's memory.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from jobs.scale.stations import Room, Station, passage
from jobs.tune.model import HAND_OVER, Outcome
from jobs.tune.space import Knob, Setting, Space

CPUS = 16
GPU_GB = 16.0
SPACE = Space(
    (
        Knob("batch_size", (16, 32, 64, 128), strain=1),
        Knob("block_size", (128, 256, 512, 1024)),
        Knob("num_gpus", (0.125, 0.25, 0.5, 1.0), strain=-1),
        Knob("decode_workers", (2, 4, 8, 16)),
        Knob("object_store_gb", (0.5, 1.0, 2.0)),
    ),
    {
        "driver": {"block_size": 1},
        "decode": {"decode_workers": 1},
        "workers": {"batch_size": 1, "num_gpus": -1},
        "commit": {"block_size": 1},
        HAND_OVER: {"object_store_gb": 1, "block_size": -1},
    },
)
START: Setting = {"batch_size": 32, "block_size": 256, "num_gpus": 1.0, "decode_workers": 8, "object_store_gb": 1.0}


@dataclass(frozen=True)
class Pipeline:
    """Costs in seconds; by default none stands out."""

    driver_s: float = 0.004  # per block
    read_s: float = 0.0002  # per unit, one after the other
    decode_s: float = 0.004  # per unit, of one CPU
    launch_s: float = 0.010  # per batch, of a worker, while the GPU is free for others
    gpu_s: float = 0.0006  # per unit, of the GPU
    commit_s: float = 0.012  # per block
    unit_gb: float = 0.0006
    weights_gb: float = 1.2
    noise: float = 0.04
    seed: int = 0

    def rate(self, setting: Setting, units: int = 16384) -> float:
        """Units per second without noise; 0 where the GPU's memory does not suffice."""
        return replace(self, noise=0.0).trial(setting, units).rate

    def trial(self, setting: Setting, units: int) -> Outcome:
        """Simulate a run."""
        workers = round(1 / setting["num_gpus"])
        if workers * (self.weights_gb + setting["batch_size"] * 0.012) > GPU_GB:
            return Outcome(setting, units, 0.0, {}, 1.0, "CUDA out of memory")
        block = min(int(setting["block_size"]), units)
        blocks = -(-units // block)
        line = passage(self._stations(setting, workers, block), blocks, self._rooms(setting, workers, block))
        noise = random.Random(f"{self.seed} {sorted(setting.items())} {units}")
        rate = units / line.seconds * (1 + noise.gauss(0, self.noise))
        busy = {name: share * (1 + noise.gauss(0, self.noise)) for name, share in line.busy.items()}
        return Outcome(setting, units, rate, busy, line.seconds)

    def _stations(self, setting: Setting, workers: int, block: int) -> Sequence[Station]:
        decoders = int(setting["decode_workers"])
        shared = max(1.0, (decoders + workers * 0.5) / CPUS)  # more threads than CPUs: each is slower
        batches = -(-block // int(setting["batch_size"]))
        spread = random.Random(self.seed)

        def constant(seconds: float) -> Station:
            return Station("", 1, lambda block, now_s: seconds * spread.uniform(0.9, 1.1))

        return (
            replace(constant(self.driver_s), name="driver"),
            replace(constant(self.read_s * block), name="read"),
            replace(constant(self.decode_s * block * shared), name="decode", servers=decoders),
            replace(constant(self.launch_s * batches * shared), name="workers", servers=workers),
            replace(constant(self.gpu_s * block), name="gpu"),
            replace(constant(self.commit_s), name="commit"),
        )

    def _rooms(self, setting: Setting, workers: int, block: int) -> Sequence[Room]:
        held = max(int(setting["object_store_gb"] / (block * self.unit_gb)), 1)
        return (Room("decode", "gpu", held), Room("workers", "gpu", workers))


PLANTED = {
    "driver": {"driver_s": 3.0},
    "read": {"read_s": 0.005},
    "decode": {"decode_s": 0.030},
    "workers": {"launch_s": 1.5},
    "gpu": {"gpu_s": 0.006},
    "commit": {"commit_s": 3.0},
    HAND_OVER: {"unit_gb": 0.004, "gpu_s": 0.003, "decode_s": 0.012},
}


def planted(stage: str, seed: int) -> Pipeline:
    """A pipeline whose other costs differ from seed to seed by up to a quarter, either way."""
    vary = random.Random(seed).uniform
    usual = {each.name: each.default * vary(0.8, 1.25) for each in fields(Pipeline) if each.name.endswith("_s")}
    return Pipeline(**{**usual, **PLANTED[stage]}, seed=seed)
