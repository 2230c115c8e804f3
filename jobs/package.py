"""What a job takes along to a cluster: the packages of this product and the config files its command names.

Nothing else can travel: no data, no history, no environment file that happens to lie in the checkout.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("kernels", "embeddings", "miner", "jobs")
CONFIGS = "configs"
_LEFT_OUT = {"__pycache__"}
_LEFT_OUT_SUFFIXES = {".pyc", ".nbi", ".nbc"}


def package_files() -> list[tuple[str, Path]]:
    """The files of our packages: their path in the working directory of the job, and here. Sorted."""
    return sorted((f"{name}/{path.relative_to(root)}", path) for name, root in _roots() for path in _files(root))


def _roots() -> Iterator[tuple[str, Path]]:
    import embeddings  # noqa: F401  its import makes `kernels` ours, beside another package of that name

    for name in PACKAGES:
        spec = find_spec(name)
        assert spec is not None and spec.submodule_search_locations
        roots = [Path(each) for each in spec.submodule_search_locations]
        yield name, next(root for root in roots if (root / "py.typed").exists())


def _files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_file() and path.suffix not in _LEFT_OUT_SUFFIXES and not _LEFT_OUT & {*path.parts}:
            yield path


def with_configs(args: Sequence[str]) -> tuple[list[str], dict[str, Path]]:
    """A command's words with `--config FILE` naming the copy that travels, and these files by their new names."""
    words, files = list(args), dict[str, Path]()
    for place, word in enumerate(args):
        option, equals, value = word.partition("=")
        if option != "--config" or (not equals and place + 1 == len(args)):
            continue
        file = Path(value if equals else args[place + 1])
        name = f"{CONFIGS}/{len(files)}-{file.name}"
        files[name] = file
        if equals:
            words[place] = f"--config={name}"
        else:
            words[place + 1] = name
    return words, files


def staged(folder: Path, configs: Mapping[str, Path]) -> str:
    """Copy code and configs into an empty folder; gives the digest of all of it, the same for the same content."""
    digest = hashlib.blake2b(digest_size=16)
    for name, path in [*package_files(), *sorted(configs.items())]:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        content = target.read_bytes()
        digest.update(f"{len(name)}:{name}:{len(content)}:".encode() + content)
    return digest.hexdigest()
