"""Shared fixtures. Real driving data is read only from the folder MINER_TEST_DATA names; nothing of it is kept here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import embeddings  # noqa: F401  its import makes the namespace folder `kernels` ours, so it comes before any test module

ROOT = Path(__file__).resolve().parents[1]
LONG = ("tests/faults", "tests/jobs", "tests/notebooks")

# How long an example takes says something about the load of the machine, nothing about the law.
settings.register_profile("miner", deadline=None)
settings.load_profile("miner")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real excerpts (nuscenes, bdd100k, ...); the test is skipped where there is none."""
    folder = os.environ.get("MINER_TEST_DATA", "")
    if not folder:
        pytest.skip("MINER_TEST_DATA is not set")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"MINER_TEST_DATA={folder} is no folder")
    return path


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for the whole suite; for some files none beside this one, for starting them would take longer."""
    return 2 if config.args == config.getini("testpaths") else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.fixture(autouse=True)
def _no_litter() -> Iterator[None]:
    """Tests write below their own folders, not where they happen to run."""
    before = {*os.listdir(ROOT)}
    yield
    new = {name for name in {*os.listdir(ROOT)} - before if not name.startswith(".")}
    assert not new, f"left in {ROOT}: {sorted(new)}"
