"""The command `miner tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.interrupts import INTERRUPTED, interruptible
from jobs.options import (
    AsJson,
    ConfigFile,
    DryRun,
    Encoders,
    ExecutorOpt,
    Gpus,
    Settings,
    Views,
    file_to_write,
    listener,
    resolved,
    say,
)
from miner.errors import UsageError

app = typer.Typer()


@app.command(epilog="Example: **miner tune /data/nuscenes --out tuned.yaml**")
def tune(
    source: Annotated[str | None, typer.Argument(help="Folder of recordings.", show_default=False)] = None,
    reader: Annotated[str | None, typer.Option(help="Dataset format; detected if not given.")] = None,
    encoder: Encoders = None,
    views: Views = None,
    executor: ExecutorOpt = None,
    num_gpus: Gpus = None,
    config: ConfigFile = None,
    set_: Settings = None,
    readings: Annotated[
        int, typer.Option(min=8, help="Readings of the longest trials; the first have a quarter.")
    ] = 512,
    trials: Annotated[int, typer.Option(min=1, help="How many trials at most.")] = 28,
    scratch: Annotated[
        Path | None, typer.Option(help="Where trial lakes are made; on a cluster a shared folder.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The config file to write, for ingest and embed.", callback=file_to_write)
    ] = Path("tuned.yaml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Find the settings that embed a source fastest here: batch and block size, workers, GPU share, object store.

    Trials embed a sample in lakes that are thrown away. Each says what limits it; the next ones relieve that. Ctrl-C
    keeps the best so far. --num-gpus 1 tunes with GPUs.
    """
    from jobs.config import stated
    from jobs.ingest import IngestConfig
    from jobs.tune import run as job
    from jobs.tune.text import plan_text, tuned_text

    if out.exists() and not dry_run:
        raise UsageError(f"{out} is there already", "Name another file with --out, or remove it.")
    given: dict[str, Any] = {"source": source, "reader": reader, "encoder": encoder, "views": views}
    given |= {"executor": executor, "num_gpus": num_gpus}
    settled = resolved(IngestConfig, config, set_, {**given, "lake": "trial"}, "tune")
    wish = job.Wish(settled, readings, trials, scratch)
    if dry_run:
        say(job.plan(wish), as_json, plan_text)
        return
    with listener("tune") as watching, interruptible():
        document = job.run(wish, watching)
    job.save(document, stated(config, set_ or (), given), out)
    say({**document, "file": str(out)}, as_json, tuned_text)
    if document["interrupted"]:
        raise typer.Exit(INTERRUPTED)
