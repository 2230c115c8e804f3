"""What machines cost, as the user knows it, and what a stage cost by that."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

_HOUR_S = 3600.0
_GB = 1e9


@dataclass(frozen=True)
class Prices:
    """Prices of an hour of one CPU core and of one GPU, and of a GB (10^9 bytes) read of recordings or written to the
    lake. CPUs are paid for where they were used, GPUs as long as a worker had them. Raises ValueError for what is no
    price."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  part of job configs, which are strict

    cpu_hour: float = 0.0
    gpu_hour: float = 0.0
    gb_read: float = 0.0
    gb_written: float = 0.0
    currency: str = "USD"

    def __post_init__(self) -> None:
        for price in (self.cpu_hour, self.gpu_hour, self.gb_read, self.gb_written):
            if not 0 <= price < math.inf:
                raise ValueError(f"a price of {price}: expected a number from 0")

    @property
    def known(self) -> bool:
        """Whether anything has a price."""
        return any((self.cpu_hour, self.gpu_hour, self.gb_read, self.gb_written))

    def bill(self, cost: Cost) -> Bill | None:
        """What that costs; None where nothing has a price."""
        if not self.known:
            return None
        parts = (
            self.cpu_hour * cost.cpu_s / _HOUR_S,
            self.gpu_hour * cost.gpu_s / _HOUR_S,
            self.gb_read * cost.bytes_read / _GB,
            self.gb_written * cost.bytes_written / _GB,
        )
        return Bill(sum(parts), *parts, self.currency)


@dataclass(frozen=True)
class Bill:
    """Money, in all and by what it was for."""

    total: float
    cpu: float
    gpu: float
    read: float
    written: float
    currency: str


@dataclass(frozen=True)
class Cost:
    """What some work takes: CPU-seconds, GPU-seconds (held by a worker, in use or not), bytes of recordings read and of
    data files written."""

    cpu_s: float = 0.0
    gpu_s: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> Cost:
        return Cost(*(factor * each for each in astuple(self)))
