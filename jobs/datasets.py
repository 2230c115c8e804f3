"""The commands that make training sets and look at them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import dataset_text as text
from jobs.interrupts import interruptible
from jobs.options import AsJson, DryRun, LakeArg, MaxBad, NoWait, listener, say
from miner.errors import UsageError

if TYPE_CHECKING:
    from miner.lake import Lake

app = typer.Typer()
dataset = typer.Typer(
    help="Training sets that were made: list, show, compare, remove.",
    epilog="Example: **miner dataset ls lake**",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(dataset, name="dataset")

TOO_BAD = 3
Version = Annotated[str, typer.Argument(help="NAME@N, or NAME for its newest version.", show_default=False)]


@app.command(epilog="Example: **miner select lake spec.yaml --name night-rain**")
def select(
    lake: LakeArg,
    spec: Annotated[Path, typer.Argument(help="YAML file: budget, targets, quotas, ...", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Keep it as the next version of this dataset.")] = None,
    note: Annotated[str | None, typer.Option(help="A line to keep with it.")] = None,
    shortage: Annotated[
        bool, typer.Option("--shortage", help="Only list what the lake has too little of: what to collect next.")
    ] = False,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Choose a training set: so many clips, spread as wanted, none of them near the evaluation set."""
    if shortage:
        found = _opened(lake, no_wait).select(spec).selection
        _warn(found.report["notes"])
        document = {"lake": lake, "budget": found.report["budget"], "shortage": found.shortage}
        say(document, as_json, text.shortage_text)
        return
    if name is None and not dry_run:
        raise UsageError("the selection has no name", "--name NAME keeps it, --dry-run only shows it.")
    done = _opened(lake, no_wait).select(spec, None if dry_run else name, note=note)
    _warn(done.selection.report["notes"])
    say({"lake": lake, "dry_run": dry_run, **done.to_dict()}, as_json, text.selected_text)


@app.command(epilog="Example: **miner export lake night-rain@1 --to webdataset out/**")
def export(
    lake: LakeArg,
    version: Version,
    destination: Annotated[str, typer.Argument(help="Empty folder, or s3://BUCKET/PREFIX.", show_default=False)],
    to: Annotated[str, typer.Option(help="parquet, jsonl, webdataset, or a plugin's name.", show_default=False)],
    channel: Annotated[list[str] | None, typer.Option(help="Only readings of this channel; more than once.")] = None,
    key_frames: Annotated[bool, typer.Option("--key-frames", help="Only key frames.")] = False,
    per: Annotated[str, typer.Option(help="A WebDataset sample is a clip, or a frame.")] = "clip",
    part_clips: Annotated[int | None, typer.Option(help="Clips per file; else the format's own.")] = None,
    max_bad: MaxBad = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write a training set to files: deterministic, resumed by the same command, with a manifest of sha256 sums."""
    from miner.export import export as write
    from miner.exporters.content import Options

    options = Options(tuple(channel or ()), key_frames, per, part_clips)
    found = _opened(lake).dataset(version)
    with listener("export") as watching, interruptible():
        done = write(found, to, destination, options, watching.on_progress, dry_run)
    say(done.to_dict(), as_json, text.exported_text)
    files = done.manifest["files"]
    bad, good = len(done.left_out), sum(each["rows"] for each in files)
    if bad > (0.01 if max_bad is None else max_bad) * (bad + good):
        raise typer.Exit(TOO_BAD)


@app.command(epilog="Example: **miner report lake night-rain@1 --html report.html --against \"split = 'test'\"**")
def report(
    lake: LakeArg,
    version: Annotated[str | None, typer.Argument(help="NAME@N or NAME; the whole lake if not given.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page, and the numbers as JSON beside it.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Evaluation set to look for leaks to: a filter, or NAME@N.")
    ] = None,
    metres: Annotated[float, typer.Option(help="What is driven so near to it leaks.")] = 30.0,
    seconds: Annotated[float, typer.Option(help="What is recorded so near to it leaks.")] = 10.0,
    radius: Annotated[float, typer.Option(help="What looks so alike (cosine distance) leaks.")] = 0.02,
    odd: Annotated[list[str] | None, typer.Option(help="Axes of the table of conditions, e.g. weather.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Whose vectors; the only ones if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """How varied, representative, rare, complete and clean a training set is, or the whole lake."""
    from miner.report.measure import Asked

    asked = Asked(version, against, metres, seconds, radius, tuple(dict.fromkeys(odd or ())), encoder)
    document = _opened(lake).report(asked)
    if html is not None:
        from miner.report.page import write_page

        write_page(document, html)
    say(document, as_json, text.report_text)


@dataset.command(name="ls", epilog="Example: **miner dataset ls lake**")
def list_(lake: LakeArg, as_json: AsJson = False) -> None:
    """All dataset versions, by name and number."""
    found = [each.to_dict() for each in _opened(lake).datasets()]
    say({"lake": lake, "datasets": found}, as_json, text.datasets_text)


@dataset.command(epilog="Example: **miner dataset show lake night-rain@1**")
def show(lake: LakeArg, version: Version, as_json: AsJson = False) -> None:
    """One version: its clips and why, its spec, the table versions it is pinned to."""
    found = _opened(lake).dataset(version)
    document = {"lake": lake, **found.to_dict(), "clips": found.to_arrow().to_pylist()}
    say(document, as_json, text.dataset_text)


@dataset.command(epilog="Example: **miner dataset diff lake night-rain@1 night-rain@2**")
def diff(
    lake: LakeArg,
    before: Annotated[str, typer.Argument(help="NAME@N to compare with.", show_default=False)],
    after: Version,
    as_json: AsJson = False,
) -> None:
    """What a version has that another has not, and what changed in spec and tables."""
    opened = _opened(lake)
    say({"lake": lake, **opened.dataset(after).diff(before)}, as_json, text.diff_text)


@dataset.command(epilog="Example: **miner dataset rm lake night-rain@1 --yes**")
def rm(
    lake: LakeArg,
    version: Annotated[str, typer.Argument(help="NAME@N.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Forget a version: its clips stay in the lake, the table versions it pins may be cleaned away."""
    opened = _opened(lake, no_wait)
    if dry_run or not yes:
        found = opened.dataset(version)
        if not dry_run:
            raise UsageError(f"{found.version_id} of {lake} would be forgotten", "Add --yes to do it.")
        version = found.version_id
    else:
        version = opened.forget_dataset(version)
    say({"lake": lake, "dataset": version, "dry_run": dry_run}, as_json, text.removed_text)


def _opened(lake: str, no_wait: bool = False) -> Lake:
    from miner.executor import LocalExecutor
    from miner.lake import open

    return open(lake, LocalExecutor(wait=not no_wait, notify=_tell))


def _warn(notes: list[str]) -> None:
    for note in notes:
        _tell(f"miner: {note}")


def _tell(message: str) -> None:
    sys.stderr.write(f"{message}\n")
