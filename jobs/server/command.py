"""Command lines of this machine's user, answered as `miner` would: parsed by the command's own parser."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from jobs.server.asked import query_of
from jobs.text import joined
from miner.errors import MinerError
from miner.hits import Hits
from miner.search import Query
from miner.store import Store

if TYPE_CHECKING:
    from jobs.server.answers import Answers

# Options by the names of a query, where those differ. With one that is no part of a query the command runs by itself.
_NAMES = {"not_": "not_texts", "image": "images"}
_QUERY = {each.name for each in fields(Query)}
_FILES = ("images", "lidar")


class Command(BaseModel):
    """The words of a command line after `miner`, and the folder it was given in."""

    model_config = ConfigDict(extra="forbid")

    words: list[str]
    folder: str


class Printed(BaseModel):
    """What the command would print, and its exit code."""

    stdout: str
    stderr: str
    exit_code: int


def answer(command: Command, answers: Answers) -> Printed | None:
    """What `miner search ...` prints; None for what is not for this server, or not right, which the command tells."""
    given = _parsed(command.words)
    if given is None or _uri(given.pop("lake"), command.folder) != answers.lake.uri:
        return None
    as_json = given.pop("as_json", False)
    asked = {_NAMES.get(name, name): value for name, value in given.items()}
    if asked.keys() - _QUERY:
        return None
    files = {name: [_path(each, command.folder) for each in asked.get(name, ())] for name in _FILES}
    try:
        if "query" in asked and query_of({"query": asked["query"]}).reads_files:
            return None  # its paths are relative to a folder that is not this server's
        hits = answers.search(query_of({**asked, **files}))
    except MinerError as error:
        return Printed(stdout="", stderr=joined(f"miner: {error}".split("\n")) + "\n", exit_code=error.exit_code)
    notes = "".join(f"miner: {note}\n" for note in hits.notes)
    return Printed(stdout=f"{_shown(hits, asked, as_json)}\n", stderr=notes, exit_code=0)


def _shown(hits: Hits, asked: dict[str, Any], as_json: bool) -> str:
    """The answer as the command prints it, with files as the user named them."""
    if not as_json:
        return repr(hits)
    document = hits.to_dict()
    document["query"] |= {name: list(asked.get(name, ())) for name in _FILES}
    return json.dumps(document, indent=1, default=str)


def _parsed(words: list[str]) -> dict[str, Any] | None:
    """The parameters that the words of `miner search` give, without those left at their default; None if wrong."""
    import typer
    from typer.main import get_command

    from jobs.cli import app

    group: Any = get_command(app)
    command = group.commands.get(words[0]) if words else None
    if command is None or command.name != "search":
        return None
    try:
        with command.make_context(command.name, list(words[1:])) as context:
            return {name: value for name, value in context.params.items() if _is_given(context, name)}
    except (typer.Exit, typer.Abort, MinerError):
        return None
    except Exception as error:
        if not hasattr(error, "show"):  # the parser's own errors, which its library does not name for others
            raise
        return None


def _is_given(context: Any, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _uri(lake: str, folder: str) -> str:
    """The lake's uri as the store writes it."""
    if "://" in lake:
        return Store.at(lake).uri if lake.startswith("file://") else lake.rstrip("/")
    return str(Path(folder, Path(lake).expanduser()).resolve())


def _path(file: str, folder: str) -> str:
    return file if "://" in file else os.path.abspath(os.path.join(folder, os.path.expanduser(file)))
