"""The commands that keep a lake sound: verify and what mends it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import text
from jobs.interrupts import interruptible
from jobs.options import (
    AsJson,
    DryRun,
    ExecutorOpt,
    LakeArg,
    MaxBad,
    NoWait,
    engine_options,
    listener,
    resolved,
    say,
)
from miner.errors import NotFound, UsageError

if TYPE_CHECKING:
    from jobs.run import Result
    from miner.lineage import Run
    from miner.quarantine import Chosen
    from miner.rerun import Rerun

app = typer.Typer()
quarantine = typer.Typer(
    help="Units that failed: which and why; try them again, or accept them as lost.",
    epilog="Example: **miner quarantine ls lake**",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(quarantine, name="quarantine")

Reason = Annotated[str | None, typer.Option(help="Only this reason, e.g. empty-file.")]
Stage = Annotated[str | None, typer.Option(help="Only this stage: ingest, cut, embed, ...")]
ReaderOf = Annotated[str | None, typer.Option("--reader", help="Only scenes that this reader read.")]
Since = Annotated[str | None, typer.Option(help="Only failures since then: 2d, 12h, 2026-11-20 (UTC).")]
SceneOf = Annotated[str | None, typer.Option("--scene", help="Only this scene, by name or id.")]
Key = Annotated[str | None, typer.Option(help="Only this unit.")]


@app.command(epilog="Example: **miner verify lake --deep**")
def verify(
    lake: LakeArg,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Read every file, and every recording embed has read, again; name the clips that damage hits.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a lake holds what it says; ends with 1 if it does not."""
    from miner.reporting import Progress
    from miner.store import Store
    from miner.verify import Verdict, verify_deep
    from miner.verify import verify as check

    store = Store.at(lake)  # to open it would trust the files that are to be checked
    if "lineage" not in store.listed():
        raise _no_lake(lake)
    if deep:
        with listener("verify") as watching:
            verdict = verify_deep(store, lambda what, done, total: watching.on_progress(Progress(what, done, total, 0)))
    else:
        verdict = Verdict(tuple(check(store)), ())
    found = {"checks": [vars(each) for each in verdict.checks], "damage": [vars(each) for each in verdict.damage]}
    say({"lake": store.uri, "job": "verify", "deep": deep, "ok": verdict.ok, **found}, as_json, text.checks_text)
    if not verdict.ok:
        raise typer.Exit(1)


@quarantine.command(name="ls", epilog="Example: **miner quarantine ls lake --reason empty-file --since 2d**")
def list_(
    lake: LakeArg,
    reason: Reason = None,
    stage: Stage = None,
    reader: ReaderOf = None,
    since: Since = None,
    scene: SceneOf = None,
    key: Key = None,
    limit: Annotated[int, typer.Option(help="How many records to show, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """The units that failed, by stage and reason, and the newest of them."""
    from miner.quarantine import choose, listing
    from miner.store import Store

    chosen = choose(reason=reason, stage=stage, reader=reader, since=since, scene=scene, key=key)
    say(listing(Store.open(lake), chosen, limit), as_json, text.quarantine_text)


@quarantine.command(epilog="Example: **miner quarantine show lake c5d3ebf4e419c021ad9f8e3a3f359f92**")
def show(
    lake: LakeArg,
    key: Annotated[str, typer.Argument(help="The unit's key.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """All that is known of one unit in quarantine, and how to try it again."""
    from miner.quarantine import show as look
    from miner.store import Store

    say(look(Store.open(lake), key), as_json, text.quarantined_text)


@quarantine.command(epilog="Example: **miner quarantine retry lake --reason timed-out**")
def retry(
    lake: LakeArg,
    reason: Reason = None,
    stage: Stage = None,
    reader: ReaderOf = None,
    since: Since = None,
    scene: SceneOf = None,
    key: Key = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Only take them out; the next run tries them.")] = False,
    executor: ExecutorOpt = None,
    max_bad: MaxBad = None,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take units out of quarantine and try them again.

    What was to be embedded is embedded right away, as by the run that failed. What was to be ingested needs its source:
    the command is told.
    """
    from miner.quarantine import changeable, choose, groups
    from miner.quarantine import retry as take_out
    from miner.rerun import reruns
    from miner.store import Store

    chosen = choose(reason=reason, stage=stage, reader=reader, since=since, scene=scene, key=key)
    store = Store.open(lake)
    store.assert_current()
    if dry_run:
        units = changeable(store, chosen, dropped=True)
    else:
        units = take_out(store, chosen, _run("quarantine retry", chosen), not no_wait, notify)
    todo = reruns(store, units.to_pylist())
    runs = [] if dry_run or no_run else [each for each in todo if each.encoders]
    done = [_embed(lake, each, engine_options(executor, no_wait, max_bad, False)) for each in runs]
    document = {"lake": store.uri, "job": "quarantine retry", "dry_run": dry_run, "units": len(units)}
    document |= {"groups": groups(units), "commands": [each.command for each in todo if each not in runs]}
    say({**document, "runs": [each.to_dict() for each in done]}, as_json, text.retried_text)
    if any(each.exit_code for each in done):
        raise typer.Exit(max(each.exit_code for each in done))


@quarantine.command(epilog="Example: **miner quarantine drop lake --reason empty-file --yes**")
def drop(
    lake: LakeArg,
    reason: Reason = None,
    stage: Stage = None,
    reader: ReaderOf = None,
    since: Since = None,
    scene: SceneOf = None,
    key: Key = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Accept units as lost: they are listed, counted and tried no more.

    `retry --reason dropped` takes it back.
    """
    from miner.quarantine import changeable, choose, groups
    from miner.quarantine import drop as accept
    from miner.store import Store

    chosen = choose(reason=reason, stage=stage, reader=reader, since=since, scene=scene, key=key)
    store = Store.open(lake)
    store.assert_current()
    units = changeable(store, chosen, dropped=False)
    if len(units) and not (dry_run or yes):
        raise UsageError(
            f"{len(units):,} unit{'' if len(units) == 1 else 's'} of {store.uri} would be accepted as lost",
            "Add --yes to do it. Which they are: miner quarantine ls LAKE",
        )
    if not dry_run:
        units = accept(store, chosen, _run("quarantine drop", chosen), not no_wait, notify)
    document = {"lake": store.uri, "job": "quarantine drop", "dry_run": dry_run, "units": len(units)}
    say({**document, "groups": groups(units)}, as_json, text.dropped_text)


@app.command(epilog="Example: **miner compact lake --retain 30d**")
def compact(
    lake: LakeArg,
    retain: Annotated[str, typer.Option(help="How long versions are kept: days, or an age such as 36h.")] = "7d",
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Merge small fragments; remove old versions and files that no version has. Rows stay as they are."""
    from dataclasses import asdict

    from miner.executor import LocalExecutor
    from miner.lake import open

    opened = open(lake, LocalExecutor(wait=not no_wait, notify=notify))
    tables = [asdict(each) for each in opened.compact(retain, table, dry_run)]
    done = {"lake": opened.uri, "job": "compact", "retain": retain, "dry_run": dry_run, "tables": tables}
    say(done, as_json, text.compacted_text)


@app.command(epilog="Example: **miner restore lake --table sample_data --version 12**")
def restore(
    lake: LakeArg,
    table: Annotated[str, typer.Option(help="Which table.", show_default=False)],
    version: Annotated[int | None, typer.Option(help="Which version to go back to; without, they are listed.")] = None,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Go back to an older version of a table, also where its newest one is damaged. Without --version: list them."""
    from dataclasses import asdict

    from miner.executor import LocalExecutor
    from miner.lake import Lake
    from miner.store import Store

    opened = Lake(Store.at(lake), LocalExecutor(wait=not no_wait, notify=notify))  # `lineage` may be what is damaged
    if not opened.store.listed():
        raise _no_lake(lake)
    head = {"lake": opened.uri, "job": "restore", "table": table}
    if version is None:
        say({**head, "versions": [asdict(each) for each in opened.versions(table)]}, as_json, text.versions_text)
        return
    done = {**head, "dry_run": dry_run, **asdict(opened.restore(table, version, dry_run))}
    say(done, as_json, text.restored_text)


@app.command(epilog="Example: **miner migrate lake --dry-run**")
def migrate(lake: LakeArg, no_wait: NoWait = False, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Bring a lake that an older release made up to this one; the same command again ends what was interrupted."""
    from miner.executor import LocalExecutor
    from miner.lake import open

    opened = open(lake, LocalExecutor(wait=not no_wait, notify=notify))
    say({"job": "migrate", **opened.migrate(dry_run).to_dict(), "dry_run": dry_run}, as_json, text.migration_text)


def _no_lake(lake: str) -> NotFound:
    return NotFound(f"no lake at {lake}", "Make one with: miner ingest SOURCE --lake LAKE")


def _run(job: str, chosen: Chosen) -> Run:
    import miner
    from miner.lineage import Run

    return Run(job, {"chosen": str(chosen)}, miner.__version__)


def _embed(lake: str, rerun: Rerun, options: dict[str, Any]) -> Result:
    """Embed as the run did whose units failed."""
    from jobs import embed as job
    from miner.disk import disk_errors

    options["executor"] = options["executor"] or ("local" if rerun.local else None)
    config = resolved(job.EmbedConfig, None, None, {"lake": lake, "encoder": list(rerun.encoders), **options})
    with listener("embed") as watching, interruptible(), disk_errors(lake):
        return job.run(config, watching)


def notify(message: str) -> None:
    """What is worth telling while a command is at work."""
    sys.stderr.write(f"{message}\n")
