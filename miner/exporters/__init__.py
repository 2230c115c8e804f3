"""Training sets as files of a format; each format is one file of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Protocol

from embeddings.plugins import UnknownPlugin, load_plugin, plugin_names
from miner.errors import UnknownName
from miner.exporters.content import Content, Options

GROUP = "miner.exporters"


@dataclass(frozen=True)
class Part:
    """One file of an export: its path, and which clips it is of, by place in the order of ranks."""

    path: str
    first: int
    last: int  # exclusive


@dataclass(frozen=True)
class Written:
    """What went into a part: rows or samples, and readings that could not be read, with the reason."""

    rows: int
    left_out: Sequence[dict[str, str]] = ()


class Exporter(Protocol):
    """A format. It says which files an export has and writes each; where they go, that they are whole, resumed and
    listed in a manifest is the business of `miner.export`.

    `write` gives the same bytes for the same content. `part_clips` is how many clips a file has unless told.
    """

    name: ClassVar[str]
    part_clips: ClassVar[int]

    def parts(self, clips: int, options: Options) -> Sequence[Part]:
        """The files for a number of clips, in order."""
        ...

    def write(self, part: Part, content: Content, file: BinaryIO) -> Written:
        """Write one of them."""
        ...


def find_exporter(name: str) -> Exporter:
    """The exporter of a format. Raises UnknownName listing the known ones."""
    try:
        made: Exporter = load_plugin(GROUP, name)()
    except UnknownPlugin as error:
        raise UnknownName.of("format", name, plugin_names(GROUP)) from error
    return made


def numbered(clips: int, size: int, path: str) -> list[Part]:
    """Parts of `size` clips; `path` has a place for the number. There is one, if without a clip."""
    starts = range(0, max(clips, 1), size)
    return [Part(path.format(number), start, min(start + size, clips)) for number, start in enumerate(starts)]


def plain(value: Any) -> Any:
    """A row's value as JSON has it: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
