"""Whether the libraries that hold our tables and run our tasks are of versions we have tested.

The ranges are those of the installed package's own requirements, so they are written once, in pyproject.toml.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires

PACKAGE = "scene-miner"
MODULES = {"ray": "ray", "pylance": "lance", "numpy": "numpy"}  # by the name they are installed by


def loaded() -> dict[str, str]:
    """The versions of the watched libraries that this process has imported, by the names they are installed by."""
    modules = {name: sys.modules.get(module) for name, module in MODULES.items()}
    return {name: str(getattr(module, "__version__", "")) for name, module in modules.items() if module is not None}


def untested(
    versions: Mapping[str, str] | None = None, requirements: Callable[[str], Iterable[str] | None] = requires
) -> list[str]:
    """A line for each of `versions` (those loaded, if not given) outside of the range that is tested.

    Empty where the ranges are not known: under a Ray `working_dir` no package of ours is installed.
    """
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion

    found = loaded() if versions is None else versions
    try:
        stated = [text for text in requirements(PACKAGE) or () if text.startswith(tuple(MODULES))]
    except PackageNotFoundError:
        return []
    lines = []
    for requirement in (Requirement(text) for text in stated if "extra ==" not in text):
        version = found.get(requirement.name)
        try:
            tested = version is None or requirement.specifier.contains(version, prereleases=True)
        except InvalidVersion:
            tested = False
        if not tested:
            wanted = f"{requirement.name}{requirement.specifier}"
            lines.append(f"{requirement.name} {version} was not tested, {wanted} was; if something fails, install that")
    return lines
