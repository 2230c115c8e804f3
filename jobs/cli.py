"""The command `miner`: parse, call, print. Results go to stdout, progress and messages to stderr.

Everything heavy is imported inside the commands: `miner --help` answers at once.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import clusters, concepts, datasets, mining, serve, text, upkeep
from jobs.bench import command as bench
from jobs.interrupts import INTERRUPTED
from jobs.options import (
    AsJson,
    Calibrate,
    ClipSeconds,
    ConfigFile,
    ConfigLake,
    DryRun,
    Encoders,
    ExecutorOpt,
    Gpus,
    LakeArg,
    LakeOpt,
    MaxBad,
    MemoryGb,
    NoServer,
    NoWait,
    Retry,
    Settings,
    UnitTimeout,
    Views,
    WaitNodes,
    engine_options,
    file_to_write,
    go,
    listener,
    resolved,
    say,
    warn,
)
from jobs.tune import command as tune
from miner.errors import MinerError, NotFound, UsageError

app = typer.Typer(
    name="miner",
    help="Mine driving data: recordings in; text-to-scene search, rare scenes and training sets out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(mining.app)
app.add_typer(upkeep.app)
app.add_typer(concepts.app, name="concepts")
app.add_typer(datasets.app)
app.add_typer(clusters.app)
app.add_typer(serve.app)
app.add_typer(tune.app)
app.add_typer(bench.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        import miner

        sys.stdout.write(f"scene-miner {miner.__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Mine driving data: recordings in; text-to-scene search, rare scenes and training sets out."""


@app.command(epilog="Example: **miner ingest /data/nuscenes --lake lake**")
def ingest(
    source: Annotated[str | None, typer.Argument(help="Folder of recordings.", show_default=False)] = None,
    lake: LakeOpt = None,
    reader: Annotated[str | None, typer.Option(help="Dataset format; detected if not given.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset in the lake.")] = None,
    on_conflict: Annotated[
        str | None,
        typer.Option(help="Scenes that are in the lake: keep (not read), check (compare) or replace them. [keep]"),
    ] = None,
    encoder: Encoders = None,
    views: Views = None,
    clip_seconds: ClipSeconds = None,
    executor: ExecutorOpt = None,
    config: ConfigFile = None,
    set_: Settings = None,
    num_gpus: Gpus = None,
    memory_gb: MemoryGb = None,
    wait_nodes: WaitNodes = None,
    unit_timeout: UnitTimeout = None,
    no_wait: NoWait = False,
    retry_quarantined: Retry = False,
    max_bad: MaxBad = None,
    dry_run: DryRun = False,
    calibrate: Calibrate = None,
    as_json: AsJson = False,
) -> None:
    """Recordings to a searchable lake: ingest, cut, embed, index. The same command again resumes."""
    from jobs import ingest as job

    given: dict[str, Any] = {
        "source": source,
        "lake": lake,
        "reader": reader,
        "dataset": dataset,
        "on_conflict": on_conflict,
        "encoder": encoder,
        "views": views,
    }
    given |= {"clip_seconds": clip_seconds, "num_gpus": num_gpus}
    limits = {"memory_gb": memory_gb, "wait_nodes_s": wait_nodes, "unit_timeout_s": unit_timeout}
    given |= engine_options(executor, no_wait, max_bad, retry_quarantined, **limits)
    go(resolved(job.IngestConfig, config, set_, given), (job.plan, job.run), dry_run, as_json, calibrate)


@app.command(epilog="Example: **miner cut lake --clip-seconds 5**")
def cut(
    lake: ConfigLake = None,
    clip_seconds: ClipSeconds = None,
    executor: ExecutorOpt = None,
    config: ConfigFile = None,
    set_: Settings = None,
    no_wait: NoWait = False,
    retry_quarantined: Retry = False,
    dry_run: DryRun = False,
    calibrate: Calibrate = None,
    as_json: AsJson = False,
) -> None:
    """Cut scenes into clips, the unit of mining."""
    from jobs import cut as job

    given = {"lake": lake, "clip_seconds": clip_seconds, **engine_options(executor, no_wait, None, retry_quarantined)}
    go(resolved(job.CutConfig, config, set_, given), (job.plan, job.run), dry_run, as_json, calibrate)


@app.command(epilog="Example: **miner embed lake --encoder openclip:ViT-B-32/laion2b_s34b_b79k**")
def embed(
    lake: ConfigLake = None,
    encoder: Encoders = None,
    views: Views = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Vectors you have: .parquet or .npy.")] = None,
    executor: ExecutorOpt = None,
    config: ConfigFile = None,
    set_: Settings = None,
    num_gpus: Gpus = None,
    memory_gb: MemoryGb = None,
    wait_nodes: WaitNodes = None,
    unit_timeout: UnitTimeout = None,
    no_wait: NoWait = False,
    retry_quarantined: Retry = False,
    max_bad: MaxBad = None,
    dry_run: DryRun = False,
    calibrate: Calibrate = None,
    as_json: AsJson = False,
) -> None:
    """Frames to vectors, with an encoder or from a file of vectors you already have.

    A parquet file has a column `vector`, and `sample_data_id` or `uri` to say which reading each row is of. An npy file
    has one row per camera reading, in order of scene_id, channel, timestamp_ns, sample_data_id.
    """
    from jobs import embed as job

    limits = {"memory_gb": memory_gb, "wait_nodes_s": wait_nodes, "unit_timeout_s": unit_timeout}
    given: dict[str, Any] = {"lake": lake, "encoder": encoder}
    given |= engine_options(executor, no_wait, max_bad, retry_quarantined, **limits)
    if from_ is None:
        given |= {"views": views, "num_gpus": num_gpus}
        go(resolved(job.EmbedConfig, config, set_, given), (job.plan, job.run), dry_run, as_json, calibrate)
        return
    if views is not None or num_gpus is not None:
        raise UsageError("--from takes vectors as they are: --views and --num-gpus have no meaning")
    settled = resolved(job.ImportConfig, config, set_, {**given, "file": from_})
    go(settled, (job.plan_import, job.run_import), dry_run, as_json, calibrate)


@app.command(epilog="Example: **miner index lake --kind faiss:IVF-RaBitQ --target-recall 0.98**")
def index(
    lake: ConfigLake = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Index of vectors: auto, flat, faiss:IVF-RaBitQ, lance:IVF_RQ, ... [auto]"),
    ] = None,
    target_recall: Annotated[
        float | None, typer.Option(help="Share of the true nearest vectors that an index has to find. [0.95]")
    ] = None,
    memory_gb: Annotated[
        float | None, typer.Option(help="Memory for the codes of one index. [half of the machine's]")
    ] = None,
    executor: ExecutorOpt = None,
    config: ConfigFile = None,
    set_: Settings = None,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Bring indexes and clip facts up to the tables."""
    from jobs import index as job

    given: dict[str, Any] = {"lake": lake, "kind": kind, "target_recall": target_recall, "memory_gb": memory_gb}
    given |= engine_options(executor, no_wait, None, False)
    go(resolved(job.IndexConfig, config, set_, given), (job.plan, job.run), dry_run, as_json)


@app.command(epilog='Example: **miner search lake "a truck at night" -k 5 --where "dataset = \'nuscenes\'"**')
def search(
    lake: LakeArg,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="What to look for; several texts are fused.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    per: Annotated[str, typer.Option(help="One hit per clip, or per frame.")] = "clip",
    where: Annotated[
        str | None, typer.Option(help="Filter, e.g. \"count('vehicle.truck') >= 2 and split = 'mini'\".")
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            "--query", "-q", help="Concepts and sums: 'truck AND night NOT rain', '\"a van\"^2 + like(\"ID\")'."
        ),
    ] = None,
    query_file: Annotated[Path | None, typer.Option(help="The same as YAML.")] = None,
    not_: Annotated[list[str] | None, typer.Option("--not", help="What to keep away from.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="A picture that looks like it.")] = None,
    lidar: Annotated[list[str] | None, typer.Option(help="A LiDAR sweep that looks like it.")] = None,
    like: Annotated[list[str] | None, typer.Option(help="Id of a clip or reading that is like it.")] = None,
    not_like: Annotated[list[str] | None, typer.Option(help="Id of one that is not.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Whose vectors; the only ones if not given.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with pictures.", callback=file_to_write)] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Also tell how it was found, step by step.")] = False,
    no_server: NoServer = False,
    as_json: AsJson = False,
) -> None:
    """Find scenes by text, picture, LiDAR sweep or example, or by concepts joined with AND, OR, NOT.

    All that is given is added up; over cameras and LiDAR, per clip, in standard deviations above what is usual. What
    concepts there are: **miner concepts ls LAKE**.
    """
    from miner.executor import LocalExecutor
    from miner.lake import open

    asked: dict[str, Any] = {"not_texts": not_ or (), "images": image or (), "lidar": lidar or (), "like": like or ()}
    asked |= {"not_like": not_like or (), "query": _asked(query, query_file), "encoder": encoder, "explain": explain}
    hits = open(lake, LocalExecutor(notify=_told)).search(texts or (), k, where=where, per=per, **asked)
    warn(hits)
    if html is not None:
        hits.to_html(html)
    say(hits.to_dict(), as_json, lambda _: repr(hits))


def _asked(query: str | None, file: Path | None) -> Any:
    """The query of an option or of a YAML file."""
    if file is None:
        return query
    from miner.query.document import from_yaml

    if query is not None:
        raise UsageError("--query and --query-file say the same thing: give one")
    try:
        return from_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


@app.command(name="ls", epilog="Example: **miner ls lake --json**")
def list_(lake: LakeArg, as_json: AsJson = False) -> None:
    """What is in a lake: scenes, sensors, clips, encoders, quarantine."""
    from miner.describe import describe
    from miner.store import Store

    say(describe(Store.open(lake)), as_json, text.lake_text)


@app.command(epilog="Example: **miner show lake scene-0061 --png scene.png**")
def show(
    lake: LakeArg,
    name: Annotated[str, typer.Argument(help="Id of a clip, reading or scene, or a scene's name.", show_default=False)],
    png: Annotated[Path | None, typer.Option(help="Also draw cameras, bird's-eye view and timeline.")] = None,
    rrd: Annotated[Path | None, typer.Option(help="Also write a recording for the Rerun viewer.")] = None,
    as_json: AsJson = False,
) -> None:
    """All that is known of one scene, clip or reading; as a picture with --png."""
    from miner.describe import show as look
    from miner.store import Store

    store = Store.open(lake)
    document = look(store, name)
    if png is not None:
        from miner.moment import moment
        from miner.show import figure_png

        png.write_bytes(figure_png(moment(store, name)))
    if rrd is not None:
        from miner.rerun_log import write_rrd

        write_rrd(store, {"": name}, rrd)
    say(document, as_json, text.item_text)


@app.command(epilog="Example: **miner demo my-demo**")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put drives, lake and page.")] = Path("miner-demo"),
    scenes: Annotated[int, typer.Option(help="How many drives to simulate.")] = 12,
    seed: Annotated[int, typer.Option(help="Another seed, other drives.")] = 0,
    encoder: Annotated[str, typer.Option(help="Which encoder.")] = "lite",
    executor: ExecutorOpt = None,
    as_json: AsJson = False,
) -> None:
    """Simulate drives, ingest them, search them, and write a page to look at."""
    from jobs import demo as job

    given = {"folder": folder, "scenes": scenes, "seed": seed, "encoder": encoder, "executor": executor}
    settled = resolved(job.DemoConfig, None, None, given)
    with listener("demo") as watching:
        document = job.run(settled, watching)
    say(document, as_json, job.text)


def _told(message: str) -> None:
    sys.stderr.write(f"miner: {message}\n")


def main(args: list[str] | None = None) -> None:
    """Entry point: exit codes of the design, errors as what, where, why and next step."""
    try:
        code = app(args, standalone_mode=False)  # typer gives back the code of an Exit, 130 for an interrupt
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except MinerError as error:
        sys.stderr.write(text.joined(f"miner: {error}".split("\n")) + "\n")
        sys.exit(error.exit_code)
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # Lance, on damaged bytes
            raise
        show_usage = getattr(error, "show", None)  # typer's own usage errors know how to print themselves
        if show_usage is not None:
            show_usage()
            sys.exit(2)
        sys.stderr.write(f"miner: {_unforeseen(error)}\n")
        sys.exit(1)
    if code == INTERRUPTED:
        sys.stderr.write("interrupted; what was finished is kept. Run the same command again to go on.\n")
    sys.exit(code or 0)


def _unforeseen(error: BaseException) -> str:
    """What to tell of an exception that is no MinerError: one line, and where its trace is. Never the trace itself."""
    from miner.disk import explained
    from miner.masking import masked
    from miner.runlog import one_line
    from miner.sound import unreadable

    told = explained(error, "")
    if told is not None:
        return str(told)
    damaged = unreadable(error)
    if damaged is not None:
        return f"a table cannot be read: {masked(damaged)}\nWhich one, and what it hits: miner verify LAKE --deep"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="miner-", suffix=".log", delete=False) as file:
            file.write(masked("".join(traceback.format_exception(error))))
        where = f"Full trace: {file.name}"
    except OSError as second:
        where = f"The trace could not be kept: {second}"
    return f"{one_line(error)}\n{where}"


if __name__ == "__main__":
    from jobs.entry import main as entry

    entry()
