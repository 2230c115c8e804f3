"""Where the tables of a lake are, and their Lance datasets opened: there, not there, damaged, or out of reach."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath

import lance
from lance.file import LanceFileSession

from miner.errors import Damaged
from miner.lance_errors import is_damage
from miner.object_store import is_of_store, is_remote, told
from miner.transactions import Options, as_options


def path_of(uri: str, table: str) -> str:
    """The place of a table of the lake at `uri`."""
    return f"{uri}/{table}.lance"


def folders(uri: str, prefix: str, options: Options) -> list[str]:
    """Names of the folders of a lake, or of its folder `prefix`, as Lance sees them: every store it knows."""
    if not is_remote(uri):
        folder = Path(uri, prefix)
        return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    with told(uri, options):
        session = LanceFileSession(uri, **as_options(options))
        return [PurePosixPath(path).name for path in session.list_with_delimiter(prefix).common_prefixes]


def open_table(uri: str, table: str, version: int | None, options: Options) -> lance.LanceDataset | None:
    """The dataset of a table, None where there is none. Raises Damaged, and MinerError for a store out of reach."""
    with told(uri, options):
        try:
            found = lance.dataset(path_of(uri, table), version=version, **as_options(options))
        except BaseException as error:
            if is_damage(error):
                raise _damaged(uri, table, str(error).partition(", /")[0]) from error
            missing = isinstance(error, ValueError) and "not found" in str(error).lower()
            if missing and not (is_remote(uri) and is_of_store(error)):
                return None
            raise
    if not found.version:  # so Lance takes a manifest of zeros
        raise _damaged(uri, table, "its newest manifest is empty")
    return found


def _damaged(uri: str, table: str, cause: str) -> Damaged:
    return Damaged(
        f"table {table!r} of {uri} is damaged: {cause}",
        f"See the versions it can go back to: miner restore {shlex.quote(uri)} --table {table}",
    )
