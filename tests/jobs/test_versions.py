"""Libraries outside of the tested range are told, by the ranges of the package's own requirements."""

from __future__ import annotations

import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from jobs.versions import loaded, untested

REQUIREMENTS = ["ray[data]<2.62,>=2.60", "numpy>=2.0", "pylance<15,>=14", "numpydoc>=9", 'ray[default]<1; extra == "x"']


@pytest.mark.parametrize(
    ("versions", "told"),
    [
        ({"ray": "2.60.1", "pylance": "14.0.0", "numpy": "2.3"}, []),
        ({"ray": "2.62.0", "pylance": "14.0.0", "numpy": "2.3"}, ["ray 2.62.0 was not tested, ray<2.62,>=2.60 was"]),
        ({"ray": "2.61", "pylance": "15.0.0", "numpy": "1.26"}, ["numpy 1.26 was", "pylance 15.0.0 was"]),
        ({"pylance": "14.2.0b3"}, []),
        ({"numpy": "of my own making"}, ["numpy of my own making was not tested"]),
        ({}, []),
    ],
)
def test_each_library_out_of_range_is_a_line(versions: dict[str, str], told: list[str]) -> None:
    lines = sorted(untested(versions, lambda package: REQUIREMENTS))
    assert len(lines) == len(told) and all(line.startswith(part) for line, part in zip(lines, told, strict=True))


def test_what_is_installed_here_is_in_range() -> None:
    import lance

    assert loaded()["pylance"] == lance.__version__
    assert untested() == []
    assert len(untested({"ray": "1.0", "pylance": "1.0", "numpy": "1.0"})) == 3  # so the ranges are those of pyproject


def test_without_the_package_nothing_is_told() -> None:
    def missing(package: str) -> list[str]:
        raise PackageNotFoundError(package)

    assert untested({"ray": "1.0"}, missing) == []


def test_it_is_cheap() -> None:
    untested()
    assert "packaging" in sys.modules
    best = min(_seconds() for _ in range(5))
    assert best < 0.005


def _seconds() -> float:
    started = time.perf_counter()
    untested()
    return time.perf_counter() - started


def test_a_job_that_writes_tells_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.config import JobConfig
    from jobs.run import Listener, open_lake

    told: list[str] = []
    config = JobConfig(lake=str(tmp_path / "lake"), executor="local")
    open_lake(config, Listener(notify=told.append), new=True)
    assert told == []
    import numpy

    monkeypatch.setattr(numpy, "__version__", "1.26.0")
    open_lake(config, Listener(notify=told.append))
    assert len(told) == 1 and told[0].startswith("numpy 1.26.0 was not tested")
