"""`miner submit`: the command that ran on this machine, as a job of a Ray cluster."""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain, count
from pathlib import Path
from typing import Any

from jobs.config import stated
from jobs.job_server import Job, JobServer
from jobs.package import package_files, staged, with_configs
from jobs.resources import Resources, places, too_small
from jobs.versions import PACKAGE
from miner.errors import NotFound, UsageError
from miner.masking import HIDDEN, is_secret_name, refuse_secrets
from miner.object_store import is_remote

NOT_REMOTE = ("submit", "jobs", "logs", "stop", "cluster", "doctor", "serve", "demo")
_PATHS = ("lake", "source", "destination", "out", "html", "png", "plot", "rrd")
_FILES = ("html", "png", "plot", "rrd")  # are written where the job runs, to no object store


@dataclass(frozen=True)
class Submission:
    """A command to run on a cluster: the verb and its arguments, and what its processes get.

    `id` is made of command, configs and code unless given. `env` are names of variables, whose values are those of this
    process; `pip` are requirements that Ray installs for the job, `image` a container it runs in.
    """

    args: tuple[str, ...]
    id: str | None = None
    env: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    image: str | None = None

    @property
    def verb(self) -> str:
        """The verb."""
        return self.args[0]

    def variables(self) -> dict[str, str]:
        """The named variables with their values here. Raises UsageError for one that is not set, or written out."""
        for name in self.env:
            if "=" in name:
                raise UsageError(f"--env {name.partition('=')[0]}={HIDDEN}: give the name only, set the value here")
            if name not in os.environ:
                raise UsageError(f"--env {name}: no such variable is set here")
        return {name: os.environ[name] for name in self.env}

    def notes(self) -> list[str]:
        """What is to be said of the variables."""
        secret = [name for name in self.env if is_secret_name(name)]
        who = "whoever may list the cluster's jobs can read it; a role of its machines is safer"
        return [f"{', '.join(secret)} goes into the job's description: {who}."] if secret else []


@dataclass(frozen=True)
class Submitted:
    """What became of a submission: the job, and whether it was there before (`attached`)."""

    id: str
    entrypoint: str
    attached: bool


def own_requirements() -> list[str]:
    """What our package needs, as pip takes it. Raises NotFound where it is not installed."""
    try:
        stated = requires(PACKAGE) or []
    except PackageNotFoundError as error:
        raise NotFound("--pip project: the package is not installed here", "Name the requirements.") from error
    return [each for each in stated if "extra ==" not in each and not each.startswith("ray[")]


def check(submission: Submission, params: dict[str, Any]) -> Resources:
    """What a worker of the command needs of its node; `params` are the parsed arguments of the verb.

    Raises UsageError for a verb that makes no sense there, or for a path that means another place there.
    """
    if submission.verb in NOT_REMOTE:
        raise UsageError(f"miner {submission.verb} runs here, not as a job of a cluster")
    values = stated(params.get("config"), params.get("set_") or (), params)
    refuse_secrets(each for each in submission.args)
    for name in _PATHS:
        path = values.get(name)
        if isinstance(path, str | Path) and not is_remote(str(path)) and not Path(path).is_absolute():
            raise UsageError(
                f"{name} {path}: a job has a folder of its own, where nothing stays",
                "Give a path that all machines of the cluster share, from the root on"
                + ("." if name in _FILES else ", or a URI such as s3://..."),
            )
    need = {"CPU": 1.0, "GPU": float(values.get("num_gpus") or 0)}
    if values.get("memory_gb"):
        need["memory"] = float(values["memory_gb"]) * 1e9
    return {} if values.get("wait_nodes") or values.get("wait_nodes_s") else {k: v for k, v in need.items() if v}


def assert_fits(server: JobServer, verb: str, need: Resources) -> None:
    """Raises MinerError where no node of the cluster has what a worker needs; a cluster without nodes still starts."""
    nodes = server.nodes() if need else []
    if nodes and not places(need, nodes):
        raise too_small(verb, need, nodes)


def plan(server: JobServer, submission: Submission, need: Resources) -> dict[str, Any]:
    """What `submit` would do, without doing it."""
    assert_fits(server, submission.verb, need)
    words, configs = with_configs(submission.args)
    files = [path for _, path in package_files()] + list(configs.values())
    return {
        "job": "submit",
        "address": server.address,
        "submission_id": submission.id,
        "entrypoint": _entrypoint(words),
        "env": sorted(submission.variables()),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }


def submit(server: JobServer, submission: Submission, need: Resources) -> Submitted:
    """Start the command as a job, unless a job of its id is there: one that runs, or any one of an id that was given.

    A command whose last job has ended gets a new one: that is how it resumes, or takes in what is new.
    """
    assert_fits(server, submission.verb, need)
    words, configs = with_configs(submission.args)
    entrypoint = _entrypoint(words)
    with tempfile.TemporaryDirectory() as folder:
        digest = staged(Path(folder), configs)
        id, there = _free_id(server, submission, digest, entrypoint)
        if there is not None:
            return Submitted(there.id, there.entrypoint, True)
        server.submit(id, entrypoint, _runtime_env(submission, folder), {"verb": submission.verb})
    return Submitted(id, entrypoint, False)


def _entrypoint(words: Sequence[str]) -> str:
    return "python -m jobs.cli " + shlex.join(words)


def _free_id(server: JobServer, submission: Submission, digest: str, entrypoint: str) -> tuple[str, Job | None]:
    """The id for a new job, or that of the job which is the one to attach to."""
    if submission.id:
        return submission.id, server.find(submission.id)
    mark = hashlib.blake2b(f"{digest} {entrypoint} {submission}".encode(), digest_size=5).hexdigest()
    base = f"miner-{submission.verb}-{mark}"
    same = [job for job in server.jobs() if job.id == base or job.id.startswith(f"{base}-")]
    active = next((job for job in same if not job.ended), None)
    taken, names = {job.id for job in same}, chain([base], (f"{base}-{number}" for number in count(2)))
    return next(name for name in names if name not in taken), active  # older ones may have been deleted


def _runtime_env(submission: Submission, folder: str) -> dict[str, Any]:
    env: dict[str, Any] = {"working_dir": folder}
    if submission.env:
        env["env_vars"] = submission.variables()
    if submission.pip:
        env["pip"] = list(submission.pip)
    if submission.image:
        env["image_uri"] = submission.image
    return env
