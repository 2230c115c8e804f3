"""Shared fixtures. Real driving data is read only from the folder MINER_TEST_DATA names; nothing of it is kept here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

import embeddings  # noqa: F401  its import makes the namespace folder `kernels` ours, so it comes before any test module

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
