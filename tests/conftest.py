"""Shared fixtures. Real driving data is read only from the folder MINER_TEST_DATA names; nothing of it is kept here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import embeddings  # noqa: F401  its import makes the namespace folder `kernels` ours, so it comes before any test module


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
