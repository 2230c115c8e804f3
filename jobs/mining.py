"""The commands that choose: rare events, the long tail, duplicates."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import text
from jobs.options import (
    AsJson,
    DryRun,
    LakeArg,
    NoWait,
    engine_options,
    file_to_write,
    listener,
    resolved,
    say,
    warn,
)
from miner.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from miner.lake import Lake

app = typer.Typer()

Where = Annotated[str | None, typer.Option(help="Filter, as for search.")]
EncodersOf = Annotated[list[str] | None, typer.Option("--encoder", help="Whose vectors; all sensors' if not given.")]
Threads = Annotated[str | None, typer.Option("--executor", help="ray, or local: threads of this process. [local]")]
Page = Annotated[Path | None, typer.Option(help="Also write a page with pictures.", callback=file_to_write)]


@app.command(epilog="Example: **miner rare lake -k 10 --html rare.html**")
def rare(
    lake: LakeArg,
    k: Annotated[int, typer.Option("-k", help="How many are listed.")] = 20,
    by: Annotated[str, typer.Option(help="What is listed: event, clip, cluster (scenarios) or label.")] = "event",
    where: Where = None,
    encoder: EncodersOf = None,
    reference: Annotated[
        str | None, typer.Option(help="Relative to a stored reference, not to the lake: NAME, or LAKE#NAME.")
    ] = None,
    versus: Annotated[str | None, typer.Option(help="Only what this dataset version has none of.")] = None,
    fix_reference: Annotated[
        str | None, typer.Option(help="Store the lake's events as they are now as a reference of this name.")
    ] = None,
    html: Page = None,
    png: Annotated[
        Path | None,
        typer.Option(help="With --by cluster or label: also draw the rank-frequency plot.", callback=file_to_write),
    ] = None,
    executor: Threads = None,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Events that are unlike all others, and why. Keeps a score per clip, `rarity`, in the table `scores`."""
    from miner.rare import BY
    from miner.tail import TAIL_BY

    if by not in (*BY, *TAIL_BY):
        raise UnknownName.of("by", by, (*BY, *TAIL_BY))
    listed = by in TAIL_BY
    if listed and k < 1:
        raise UsageError(f"-k {k}: expected a whole number from 1")
    if listed and any((where, encoder, reference, versus)):
        raise UsageError(f"--by {by} is of the whole lake", "Leave out --where, --encoder, --reference and --versus.")
    if png is not None and not listed:
        raise UsageError("--png draws the long tail: it needs --by cluster or --by label")
    opened = _opened(lake, "rare", executor, no_wait)
    if dry_run:
        say(_foreseen(opened, encoder or (), by), as_json, text.plan_text)
        return
    if fix_reference is not None:
        opened.fix_reference(fix_reference)
    if listed:
        _tail(opened, by, k, html, png, as_json)
        return
    hits = opened.rare(k, by=by, where=where, encoder=encoder or (), reference=reference, versus=versus)
    warn(hits)
    if html is not None:
        hits.to_html(html)
    say(hits.to_dict(), as_json, lambda _: repr(hits))


def _tail(lake: Lake, by: str, k: int, html: Path | None, png: Path | None, as_json: bool) -> None:
    """The long tail of a lake, as text (`k` of it), page and plot."""
    from jobs.tail_page import chart, page, tail_text

    tail = lake.tail(by)
    warn(tail)
    if html is not None:
        html.write_text(page(lake.store, tail), encoding="utf-8")
    if png is not None:
        png.write_bytes(chart(tail))
    say(tail.to_dict(), as_json, partial(tail_text, most=k))


@app.command(epilog="Example: **miner dedup lake --eps 0.02 --html duplicates.html**")
def dedup(
    lake: LakeArg,
    eps: Annotated[
        float | None, typer.Option(help="Cosine distance of duplicates; what is near to each encoder if not given.")
    ] = None,
    keep: Annotated[str, typer.Option(help="Of duplicates: the best quality, most labels, or the first.")] = "quality",
    html: Page = None,
    executor: Threads = None,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Which clips stand for which, in the table `duplicates`: same bytes, same pictures, same to the encoders.

    Nothing is deleted. Every clip that another stands for has a kept duplicate, no two kept are duplicates: checked and
    printed each time.
    """
    from jobs.dedup_page import page, report_text

    opened = _opened(lake, "dedup", executor, no_wait)
    done = opened.dedup(eps, keep, dry_run)  # type: ignore[arg-type]
    if html is not None:
        html.write_text(page(opened.store, done), encoding="utf-8")
    document = {"lake": opened.uri, "dry_run": dry_run, **done.to_dict(), "duplicates": done.rows().to_pylist()}
    say(document, as_json, report_text)


def _opened(lake: str, verb: str, executor: str | None, no_wait: bool) -> Lake:
    """The lake with an executor: threads of this process unless Ray is asked for, as a job of Ray's takes as long to
    start as most lakes take to score."""
    from jobs.config import JobConfig
    from jobs.run import open_lake

    given: dict[str, Any] = {"lake": lake, **engine_options(executor or "local", no_wait, None, False)}
    with listener(verb) as watching:
        return open_lake(resolved(JobConfig, None, None, given, verb), watching)


def _foreseen(lake: Lake, encoders: list[str] | tuple[str, ...], by: str) -> dict[str, Any]:
    """Which tables a run would make anew."""
    from miner.executor import is_stale
    from miner.footage import mined_tables
    from miner.rarity import EventsReduction, RarityReduction, scorer_name
    from miner.taxonomy import ClustersReduction, MembersReduction

    tables = tuple(mined_tables(lake.store, encoders))
    parts = [RarityReduction(tables, scorer_name(tuple(encoders)), kept=not encoders)]
    events = [] if encoders else [EventsReduction(tables)]
    scenarios = [MembersReduction(tables), ClustersReduction(tables)] if by == "cluster" else []
    stale = {each.name: is_stale(each, lake.store) for each in (*events, *parts, *scenarios)}
    stages = [{"stage": name, "units": 1, "pending": int(pending)} for name, pending in stale.items()]
    return {"job": "rare", "lake": lake.uri, "stages": stages}
