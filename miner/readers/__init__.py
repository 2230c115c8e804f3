"""Dataset formats: what a reader is, and how the right one is found for a source.

A reader gives metadata only. It lists files, and reads the tables of a container (a video, an MCAP file) to know where
its readings lie; frames and sweeps are read once, later, by embed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import pyarrow as pa

from embeddings.plugins import load_plugin, plugin_names
from miner.errors import UsageError
from miner.object_store import is_remote
from miner.readers.places import AnyPath, place_of


class SceneRef(NamedTuple):
    """One scene of a source: the id its row will have, and the name `read` takes."""

    scene_id: str
    name: str


@dataclass(frozen=True)
class SceneTables:
    """One scene as rows of `miner.schema`: `scenes` has exactly one row; the others may be empty."""

    scenes: pa.Table
    sample_data: pa.Table
    annotations: pa.Table


class Reader(Protocol):
    """A dataset format. Constructed as `Reader(source, dataset=None)`; picklable; deterministic.

    One with options takes them as a third argument, a text: what the user writes behind the name, `video:rate=5`.

    `looks_for` says in a few words what `matches` looks for. A `fallback` reader is asked only if no other matches.
    """

    name: ClassVar[str]
    looks_for: ClassVar[str]
    fallback: ClassVar[bool]
    source: str
    dataset: str

    def __init__(self, source: str, dataset: str | None = None) -> None: ...

    @staticmethod
    def matches(source: str | AnyPath) -> bool:
        """Whether `source` (a folder; for one in an object store its `ObjectPath`) looks like this format, by names."""
        ...

    def scenes(self) -> Iterable[SceneRef]:
        """All scenes of the source, in a stable order, each name once."""
        ...

    def read(self, scene: str) -> SceneTables:
        """The rows of one scene. Raises BadInput naming file and cause where the scene cannot be read."""
        ...


def find_reader(source: str) -> type[Reader]:
    """The reader class whose format `source` has.

    Raises UsageError listing what was looked for when none matches, or the matching names when more than one does.
    """
    place = place_of(source) if is_remote(source) else source  # listed once for all of them
    readers: list[type[Reader]] = [load_plugin("miner.readers", name) for name in plugin_names("miner.readers")]
    for fallback in (False, True):
        found = [reader for reader in readers if reader.fallback is fallback and reader.matches(place)]
        if len(found) > 1:
            names = ", ".join(reader.name for reader in found)
            raise UsageError(f"{source}: more than one reader fits: {names}", "Choose one with --reader NAME.")
        if found:
            return found[0]
    sought = "\n".join(f"  {reader.name}: {reader.looks_for}" for reader in readers)
    raise UsageError(f"{source}: no reader knows this format", f"Looked for:\n{sought}\nChoose one with --reader NAME.")
