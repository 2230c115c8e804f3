"""The machine numbers were measured on: what they depend on."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "daft faiss-cpu hnswlib lancedb numba numpy open-clip-torch pillow pyarrow pylance pynndescent ray scann scipy "
    "simplejpeg timm torch"
).split()


def machine() -> dict[str, Any]:
    """CPU, cores, Python and the versions of the libraries that numbers depend on."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(), "libraries": versions}


def load() -> float:
    """How many processes wanted a core in the last minute, for each core there is."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _cpu() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()
