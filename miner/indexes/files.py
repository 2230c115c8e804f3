"""Indexes in files: a folder each, `LAKE/_indexes/<table>/<build>`, named by a row of `indexes` and by nothing else.

A folder is written once and never changed. `index.json` in it says whose it is and has the sha256 of every other file;
the row has the sha256 of `index.json`. So a file that is damaged, cut off or of another index is seen before it is
read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miner.digests import measure
from miner.errors import Damaged
from miner.object_store import is_remote, local_path
from miner.store import Store

FOLDER = "_indexes"
ABOUT = "index.json"
_FORMAT = 3  # what files there are and what is in them, and by what their curves were measured


def home(store: Store, table: str) -> Path:
    """Where the folders of a table's indexes are; the lake is on a disk."""
    return Path(local_path(store.uri), FOLDER, table)


def takes_files(store: Store) -> bool:
    """Whether the lake is on a disk: an index in files is mapped into memory."""
    return not is_remote(store.uri)


def sealed(folder: Path, facts: Mapping[str, Any]) -> str:
    """Write `index.json`: facts about the index, size and sha256 of the files; gives its own sha256."""
    names = sorted(path.name for path in folder.iterdir() if path.name != ABOUT)
    files = {name: [size, sha256] for name, size, sha256 in measure(str(folder), None, names)}
    text = json.dumps({**facts, "format": _FORMAT, "files": files}, indent=1)
    (folder / ABOUT).write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def opened(store: Store, row: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The folder that a row of `indexes` names, and the facts in it, after every file was compared with its sha256.

    Raises Damaged for what is not what was written, or is of another table.
    """
    folder = Path(local_path(store.uri), row["uri"])
    about = folder / ABOUT
    if not about.is_file():
        raise Damaged(f"{row['uri']}/{ABOUT} is gone")
    text = about.read_bytes()
    if hashlib.sha256(text).hexdigest() != row["sha256"]:
        raise Damaged(f"{row['uri']}/{ABOUT} is not the one that was written (sha256)")
    facts: dict[str, Any] = json.loads(text)
    if facts.get("format") != _FORMAT:
        raise Damaged(f"{row['uri']} was built by another version of this program")
    if facts["table"] != row["table"]:
        raise Damaged(f"{row['uri']} is an index of {facts['table']}, not of {row['table']}")
    for name, size, sha256 in measure(str(folder), None, facts["files"]):
        if [size, sha256] != facts["files"][name]:
            raise Damaged(f"{row['uri']}/{name} is not what was written (sha256)")
    return folder, facts


def litter(store: Store) -> list[Path]:
    """The folders that no row of `indexes` names: of an index that was replaced, of a build that died or is at work."""
    place = Path(local_path(store.uri), FOLDER)
    if not takes_files(store) or not place.is_dir():
        return []
    rows = store.scan("indexes", ["uri"])["uri"].to_pylist() if store.exists("indexes") else []
    named = {uri for uri in rows if uri}
    builds = place.glob("*/*/*")  # _indexes/embeddings/<encoder>/<build>
    return sorted(path for path in builds if path.relative_to(place.parent).as_posix() not in named)


def sweep(store: Store) -> None:
    """Remove the litter. Only for the holder of the lease of `indexes`: a build fills a folder nothing names yet."""
    for folder in litter(store):
        shutil.rmtree(folder, ignore_errors=True)
