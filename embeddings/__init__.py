"""Encoders: frames, sweeps and texts to vectors.

Importing this package also makes sure that `kernels` finds our modules: the name belongs to another distribution too
(ours is a namespace folder, theirs a regular package), and either may come first on the path.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_KERNELS = str(Path(__file__).resolve().parent.parent / "kernels")

_spec = find_spec("kernels")
if _spec is not None and _KERNELS not in list(_spec.submodule_search_locations or ()):
    import kernels

    kernels.__path__.append(_KERNELS)
