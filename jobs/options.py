"""What the commands share: their options, and how a job is planned or run and its outcome printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import text
from jobs.interrupts import interruptible
from jobs.summary_text import summary_text
from miner.errors import UsageError

if TYPE_CHECKING:
    from jobs.run import Listener, Result
    from miner.hits import Hits
    from miner.tail import Tail

LakeArg = Annotated[str, typer.Argument(help="Folder or URI of the lake.", show_default=False)]
ConfigLake = Annotated[str | None, typer.Argument(help="Folder or URI of the lake.", show_default=False)]
LakeOpt = Annotated[str | None, typer.Option("--lake", help="Folder or URI of the lake.", show_default=False)]
Encoders = Annotated[
    list[str] | None,
    typer.Option("--encoder", help="lite, openclip:MODEL/WEIGHTS, descriptor (LiDAR), ... [lite, descriptor]"),
]
Views = Annotated[str | None, typer.Option("--views", help="What of a frame is embedded: whole, tiles or whole+tiles.")]
ClipSeconds = Annotated[float | None, typer.Option("--clip-seconds", help="Length of a clip. [10]")]
ExecutorOpt = Annotated[str | None, typer.Option("--executor", help="ray, or local: threads of this process. [ray]")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with the same keys.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE of the config (block_size=500, num_workers=4, ...); more than once."),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="End with 5 if another run holds the lake's tables.")]
NoServer = Annotated[bool, typer.Option("--no-server", help="Search in this process, also while miner serve runs.")]
MaxBad = Annotated[float | None, typer.Option("--max-bad", help="Share of bad units above which to end with 3. [0.01]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]
Calibrate = Annotated[
    int | None,
    typer.Option(help="With --dry-run: measure about so many units, to foresee what all will take; 256 is good."),
]
Retry = Annotated[bool, typer.Option("--retry-quarantined", help="Try again what is in quarantine.")]
Gpus = Annotated[float | None, typer.Option("--num-gpus", help="GPUs per worker; 0.25: four workers share one. [0]")]
UnitTimeout = Annotated[
    float | None, typer.Option("--unit-timeout", help="Seconds a file or scene may take to read. [300]")
]
WaitNodes = Annotated[
    float | None, typer.Option("--wait-nodes", help="Seconds to wait for a cluster's nodes that start on demand. [0]")
]
MemoryGb = Annotated[
    float | None, typer.Option("--memory-gb", help="Memory each Ray worker is given, not who decodes for it.")
]

ELSEWHERE = "elsewhere"  # what a context is about where a command is parsed that is to run on other machines


def file_to_write(context: typer.Context, path: Path | None) -> Path | None:
    """`in_a_folder`, for options; of a command that is to run elsewhere nothing is said, its folders are there."""
    return path if context.obj == ELSEWHERE else in_a_folder(path)


def in_a_folder(path: Path | None) -> Path | None:
    """A file to write, before hours are spent on what goes into it. Raises UsageError where it cannot be one."""
    if path is not None and path.is_dir():
        raise UsageError(f"{path} is a folder, not a file to write")
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to write {path.name} to", "Make it, or name another file.")
    return path


def engine_options(
    executor: str | None, no_wait: bool, max_bad: float | None, retry: bool, **more: float | None
) -> dict[str, Any]:
    """What the command line says of the engine, by the keys of the config."""
    flags = {"wait": False if no_wait else None, "retry_quarantined": retry or None}
    return {"executor": executor, "max_bad": max_bad, **flags, **more}


def resolved(model: Any, file: Path | None, settings: list[str] | None, given: dict[str, Any], verb: str = "") -> Any:
    from jobs.config import resolve

    return resolve(model, file, settings or (), given, verb=verb)


def listener(title: str) -> AbstractContextManager[Listener]:
    from jobs.progress import listening

    return listening(title)


def go(
    config: Any,
    verb: tuple[Callable[..., dict[str, Any]], Callable[[Any, Listener], Result]],
    dry_run: bool,
    as_json: bool,
    calibrate: int | None = None,
) -> None:
    """Plan or run a job (`verb` is both functions), print what came of it, end with its exit code."""
    plan, run = verb
    if dry_run:
        say(plan(config) if calibrate is None else plan(config, calibrate), as_json, text.plan_text)
        return
    if calibrate is not None:
        raise UsageError("--calibrate measures a sample to foresee the cost; it goes with --dry-run")
    from miner.disk import disk_errors

    with listener(run.__module__.rpartition(".")[2]) as watching, interruptible(), disk_errors(config.lake):
        result = run(config, watching)
    document = result.to_dict()
    if told := summary_text(document):
        sys.stderr.write(f"{told}\n")
    say(document, as_json, text.result_text)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def say(document: dict[str, Any], as_json: bool, shown: Callable[[dict[str, Any]], str]) -> None:
    sys.stdout.write((json.dumps(document, indent=1, default=str) if as_json else shown(document)) + "\n")


def warn(answer: Hits | Tail) -> None:
    """What an answer lacks, on stderr too where the answer goes to a program or file, which may not look for it."""
    for note in () if sys.stdout.isatty() else answer.notes:
        sys.stderr.write(f"miner: {note}\n")
