"""One Ray cluster for the whole session: starting one takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.engine import RayExecutor
from miner.executor import Executor, LocalExecutor
from tests.jobs.command import miner  # noqa: F401  a fixture


@pytest.fixture(scope="session")
def ray_executor() -> Iterator[RayExecutor]:
    """An executor over a cluster of its own with two CPUs and a GPU, if only in Ray's books.

    Workers can import the tests' stages.
    """
    import ray

    root = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    executor = RayExecutor(num_cpus=2, num_gpus=1)
    assert executor.workers == 2  # starts the cluster, which every command that a test runs in this process then uses
    yield executor
    ray.shutdown()


@pytest.fixture(params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    """Both executors, one after the other."""
    return LocalExecutor(threads=2) if request.param == "local" else request.getfixturevalue("ray_executor")
