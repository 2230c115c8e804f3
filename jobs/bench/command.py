"""The command `miner bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jobs.options import AsJson, file_to_write, listener, say
from miner.errors import UsageError

app = typer.Typer()


@app.command(epilog="Example: **miner bench kernels decode --out now.json**")
def bench(
    groups: Annotated[
        list[str] | None,
        typer.Argument(metavar="GROUP", help="kernels, decode, encode, pipeline, search, select; all if not given."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also keep the result as JSON.", callback=file_to_write)] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="OLD.json NEW.json", help="Two results, instead of measuring.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the result, as PNG.", callback=file_to_write)] = None,
    as_json: AsJson = False,
) -> None:
    """How fast this machine decodes, encodes, searches, chooses: each within a minute.

    A number is the median of repeats, with the quartiles beside it. --compare tells what is faster or slower by more
    than repeats differ anyway.
    """
    from jobs.bench import run as job
    from jobs.bench.plot import check_plots, write_plot
    from jobs.bench.text import difference_text, result_text

    if compare is not None:
        if groups or out or plot:
            raise UsageError("--compare takes two results and nothing else")
        say(job.difference(*compare), as_json, difference_text)
        return
    if plot is not None:
        check_plots()
    with listener("bench") as watching:
        document = job.run(groups or (), watching.notify)
    if out is not None:
        out.write_text(json.dumps(document, indent=1) + "\n")
    if plot is not None:
        write_plot(document, plot)
    say(document, as_json, result_text)
