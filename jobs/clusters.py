"""The commands for clusters: submit a command as a job, look after jobs, write cluster files, examine the machine."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import cluster_text
from jobs.interrupts import INTERRUPTED
from jobs.options import ELSEWHERE, AsJson, DryRun, in_a_folder, say
from miner.errors import UsageError

if TYPE_CHECKING:
    from jobs.job_server import Job, JobServer

app = typer.Typer()
cluster = typer.Typer(
    help="Files that start a cluster, and a dashboard that shows runs on it.",
    epilog="Example: **miner cluster init kuberay**",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(cluster, name="cluster")

Address = Annotated[
    str | None, typer.Option(help="URL of the cluster's dashboard, http://HEAD:8265. [$RAY_API_SERVER_ADDRESS]")
]
ClusterFile = Annotated[
    Path | None, typer.Option("--cluster", help="The cluster.yaml it was started with; a tunnel to it is opened.")
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job.", show_default=False)]


@app.command(
    epilog="Example: **miner submit --address http://head:8265 --follow -- ingest s3://fleet/drives --lake s3://fleet/lake**",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def submit(
    command: Annotated[list[str], typer.Argument(metavar="-- VERB [ARGS]...", help="Any miner command.")],
    address: Address = None,
    cluster_file: ClusterFile = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show the job's log; end with its exit code.")] = False,
    id_: Annotated[
        str | None, typer.Option("--id", help="Id of the job; if there is one of it already, that is followed.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(help="NAME of a variable of this shell that the job is to have.")
    ] = None,
    pip: Annotated[
        list[str] | None,
        typer.Option(help="A requirement to install for the job; 'project': all that this package needs."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="Container image to run in; without, that of the nodes.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run a command as a job of a Ray cluster: the one that ran here, unchanged.

    Code and the config files it names travel, nothing else. Submitted twice it runs once.
    """
    from jobs.submit import Submission, check, own_requirements, plan
    from jobs.submit import submit as start

    wanted = [each for name in pip or () for each in (own_requirements() if name == "project" else [name])]
    submission = Submission(tuple(command), id_, tuple(env or ()), tuple(wanted), image)
    need = check(submission, _parsed(command))
    submission.variables()
    with _server(address, cluster_file) as server:
        if dry_run:
            say(plan(server, submission, need), as_json, cluster_text.submission_text)
            return
        for note in submission.notes():
            _note(note)
        done = start(server, submission, need)
        said: dict[str, Any] = {
            "job": "submit",
            "address": server.address,
            "submission_id": done.id,
            "entrypoint": done.entrypoint,
        }
        said |= {"attached": done.attached}
        if follow:
            _note(cluster_text.started(said))
            _end(server, done.id, said, as_json)
        said |= {"status": server.job(done.id).status, "option": server.option}
        say(said, as_json, cluster_text.submitted_text)


@app.command(epilog="Example: **miner jobs --address http://head:8265**")
def jobs(address: Address = None, cluster_file: ClusterFile = None, as_json: AsJson = False) -> None:
    """The jobs of a cluster, newest first."""
    with _server(address, cluster_file) as server:
        found = [vars(job) for job in server.jobs()]
        say({"address": server.address, "jobs": found}, as_json, cluster_text.jobs_text)


@app.command(epilog="Example: **miner logs miner-ingest-5f1d0c9b7a --follow**")
def logs(
    id_: JobId,
    address: Address = None,
    cluster_file: ClusterFile = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends, and with its exit code.")] = False,
    as_json: AsJson = False,
) -> None:
    """What a job has printed."""
    with _server(address, cluster_file) as server:
        job = server.job(id_)
        if follow:
            _end(server, id_, {"job": "logs", "address": server.address, "submission_id": id_}, as_json)
        said = {"address": server.address, **vars(job), "log": server.logs(id_)}
        say(said, as_json, lambda document: str(document["log"]).rstrip("\n"))


@app.command(epilog="Example: **miner stop miner-ingest-5f1d0c9b7a**")
def stop(id_: JobId, address: Address = None, cluster_file: ClusterFile = None, as_json: AsJson = False) -> None:
    """End a job. What it has committed stays; the same command submitted again goes on from there."""
    with _server(address, cluster_file) as server:
        ended = server.job(id_).ended
        stopped = not ended and server.stop(id_)
        said = {"address": server.address, "submission_id": id_, "stopped": stopped, "status": server.job(id_).status}
        say(said, as_json, cluster_text.stopped_text)


@cluster.command(epilog="Example: **miner cluster init kuberay --out ray.yaml**")
def init(
    kind: Annotated[str, typer.Argument(help="aws (Ray's cluster launcher), or kuberay (RayCluster and RayJob).")],
    out: Annotated[Path | None, typer.Option(help="Where to write it; to the terminal if not given.")] = None,
    image: Annotated[str | None, typer.Option(help="Container image with this package, for kuberay.")] = None,
    max_gpus: Annotated[int, typer.Option(min=0, help="GPU machines at most; 0: none.")] = 8,
) -> None:
    """Write a cluster file with comments: what to change is marked."""
    from jobs.cluster_files import cluster_file

    _write(cluster_file(kind, image, max_gpus), out)


@cluster.command(epilog="Example: **miner cluster dashboard --out miner.json**")
def dashboard(
    out: Annotated[Path | None, typer.Option(help="Where to write it; to the terminal if not given.")] = None,
) -> None:
    """Write a Grafana dashboard of the metrics that runs on Ray export: import it beside Ray's own."""
    from jobs.cluster_files import dashboard as text

    _write(text(), out)


@app.command(epilog="Example: **miner doctor s3://fleet/lake**")
def doctor(
    lake: Annotated[str | None, typer.Argument(help="A lake to be reached, too.", show_default=False)] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Examine this machine, and a cluster and a lake if named: each line is ok, warn, or fix with what to do."""
    from jobs.doctor import examine

    findings = examine(lake, address)
    document = {"ok": all(each.state != "fix" for each in findings), "findings": [vars(each) for each in findings]}
    say(document, as_json, cluster_text.doctor_text)
    if not document["ok"]:
        raise typer.Exit(1)


def _parsed(command: list[str]) -> dict[str, Any]:
    """The parameters of a command as it would parse them there. Raises what it would raise."""
    from jobs.cli import app as whole

    words, group = list(command), typer.main.get_command(whole)
    while (commands := getattr(group, "commands", None)) is not None:
        name = words.pop(0) if words else ""
        if name not in commands:
            raise UsageError(f"no such command: {name or '(none)'}", f"Commands: {', '.join(sorted(commands))}")
        group = commands[name]
    return dict(group.make_context(command[0], words, obj=ELSEWHERE).params)


@contextmanager
def _server(address: str | None, cluster_file: Path | None) -> Iterator[JobServer]:
    from jobs.job_server import JobServer

    if cluster_file is None:
        yield JobServer(address)
        return
    if address is not None:
        raise UsageError("--address and --cluster name the cluster twice")
    from jobs.tunnel import tunnel

    with tunnel(cluster_file) as url:
        yield JobServer(url, f"--cluster {shlex.quote(str(cluster_file))}")


def _end(server: JobServer, id: str, said: dict[str, Any], as_json: bool) -> None:
    """Follow a job to its end, say how it ended, and end with its exit code."""
    job = _followed(server, id, sys.stderr if as_json else sys.stdout)
    said |= {"status": job.status, "exit_code": job.code, "message": job.message}
    if as_json:
        say(said, True, cluster_text.submitted_text)
    elif job.code:
        _note(cluster_text.ended(said))
    raise typer.Exit(job.code)


def _followed(server: JobServer, id: str, stream: Any) -> Job:
    """The job when it has ended. Ctrl-C leaves it alone, or stops it if the user says so."""

    def show(text: str) -> None:
        stream.write(text)
        stream.flush()

    try:
        return server.follow(id, show)
    except KeyboardInterrupt:
        where = f"miner logs {id} --follow {server.option}"
        if sys.stdin.isatty() and typer.confirm("\nStop the job, too?", default=False, err=True):
            server.stop(id)
            _note("stopped; what it has committed is kept")
        else:
            _note(f"the job goes on: {where}")
        raise typer.Exit(INTERRUPTED) from None


def _write(text: str, out: Path | None) -> None:
    """To a file that is not there yet, or to the terminal."""
    if out is None:
        sys.stdout.write(text)
        return
    if out.exists():
        raise UsageError(f"{out} is there already", "Give another --out, or remove it.")
    in_a_folder(out)
    out.write_text(text)
    _note(f"written: {out}")


def _note(line: str) -> None:
    sys.stderr.write(f"{line}\n")
