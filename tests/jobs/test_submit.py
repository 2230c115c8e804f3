"""Jobs on a cluster behind a token: submitted, followed, attached to, refused; and what a job takes along."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.clusters import _parsed
from jobs.job_server import Job
from jobs.package import PACKAGES, package_files, staged, with_configs
from jobs.submit import Submission, _free_id, check
from miner.errors import UsageError
from miner.store import Store
from tests.jobs.command import Done, Miner
from tests.jobs.ray_head import ROOT, Head, ray_head
from tests.recordings import write_drives

# -- what needs no cluster ---------------------------------------------------------------------------------------------


def test_only_code_and_named_configs_travel(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("encoder: [hashing]\n")
    words, configs = with_configs(["ingest", "--config", str(config), "--max-bad=0.5"])
    assert words == ["ingest", "--config", "configs/0-run.yaml", "--max-bad=0.5"]
    assert with_configs([f"--config={config}"])[0] == ["--config=configs/0-run.yaml"]
    target = tmp_path / "staged"
    target.mkdir()
    digest = staged(target, configs)
    names = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert names == {name for name, _ in package_files()} | {"configs/0-run.yaml"}
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, "configs"}
    assert not [name for name in names if name.endswith(".pyc")]
    run = "import jobs.cli, kernels.se3, sys; sys.exit(kernels.se3.__file__ is None)"
    subprocess.run([sys.executable, "-c", run], cwd=target, check=True, env={**os.environ, "PYTHONPATH": str(target)})
    again = tmp_path / "again"
    again.mkdir()
    assert staged(again, configs) == digest
    config.write_text("encoder: [lite]\n")
    other = tmp_path / "other"
    other.mkdir()
    assert staged(other, configs) != digest


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["ingest", "drives", "--lake", "s3://bucket/lake"], "source drives: a job has a folder of its own"),
        (["ingest", "/drives", "--lake", "lake"], "lake lake: a job has a folder of its own"),
        (["embed", "lake"], "lake lake"),
        (["rare", "/lake", "--html", "rare.html"], "html rare.html: a job has a folder of its own"),
        (["tune", "/drives"], "out tuned.yaml: a job has a folder of its own"),
        (["submit", "--", "ls", "/lake"], "runs here"),
        (["export", "/lake", "v@1", "out", "--to", "jsonl"], "destination out: a job has a folder of its own"),
        (["demo"], "miner demo runs here"),
        (["ingest", "s3://user:word@host/drives", "--lake", "/lake"], "carries credentials"),
    ],
)
def test_what_means_something_else_there_is_refused(args: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        check(Submission(tuple(args)), _parsed(args))


def test_folders_of_the_cluster_need_not_be_here() -> None:
    args = ["rare", "/lake", "--html", "/nowhere/here/rare.html"]
    assert check(Submission(tuple(args)), _parsed(args)) == {"CPU": 1}


def test_what_a_worker_needs_comes_from_options_settings_and_configs(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("num_gpus: 0.5\nmemory_gb: 2\n")
    command = ["ingest", "/drives", "--lake", "/lake"]

    def need(*more: str) -> dict[str, float]:
        args = [*command, *more]
        return dict(check(Submission(tuple(args)), _parsed(args)))

    assert need() == {"CPU": 1}
    assert need("--num-gpus", "1") == {"CPU": 1, "GPU": 1}
    assert need("--config", str(config)) == {"CPU": 1, "GPU": 0.5, "memory": 2e9}
    assert need("--config", str(config), "--set", "num_gpus=0.25") == {"CPU": 1, "GPU": 0.25, "memory": 2e9}
    assert need("--num-gpus", "1", "--wait-nodes", "60") == {}  # nodes may come that have it


def test_variables_go_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINER_ALLOW_DOWNLOADS", "1")
    monkeypatch.setenv("SOME_SECRET_KEY", "canary-41")
    assert Submission(("ls",), env=("MINER_ALLOW_DOWNLOADS",)).variables() == {"MINER_ALLOW_DOWNLOADS": "1"}
    [note] = Submission(("ls",), env=("SOME_SECRET_KEY", "MINER_ALLOW_DOWNLOADS")).notes()
    assert "SOME_SECRET_KEY" in note and "canary" not in note and "DOWNLOADS" not in note
    with pytest.raises(UsageError, match="no such variable") as missing:
        Submission(("ls",), env=("NOT_SET_ANYWHERE",)).variables()
    with pytest.raises(UsageError, match="name only") as written:
        Submission(("ls",), env=("SOME_SECRET_KEY=canary-41",)).variables()
    assert "canary" not in str(missing.value) + str(written.value)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["submit", "--", "ls", "/lake"], 2, "no cluster is named"),
        (["submit", "--address", "ray://head:10001", "--", "ls", "/lake"], 2, "http://HEAD:8265"),
        (["submit", "--address", "http://127.0.0.1:1", "--", "ls", "/lake"], 1, "no Ray job server answers"),
        (["submit", "--address", "http://127.0.0.1:1", "--", "lst", "/lake"], 2, "no such command: lst"),
        (["submit", "--address", "http://127.0.0.1:1", "--", "ls", "/lake", "--bad"], 2, "No such option"),
        (["submit", "--cluster", "missing.yaml", "--", "ls", "/lake"], 4, "no cluster file"),
        (["jobs", "--address", "http://127.0.0.1:1"], 1, "ray up cluster.yaml"),
    ],
)
def test_errors_say_what_to_do(
    miner: Miner, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, said: str
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    done = miner(*args)
    assert done.code == code and said in done.err and "Traceback" not in done.err


def test_an_id_is_free_though_older_jobs_were_deleted() -> None:
    """Ray forgets jobs on request: numbers are not counts."""

    class Listing:
        def __init__(self, *jobs: Job) -> None:
            self.listed = [*jobs]

        def jobs(self) -> list[Job]:
            return self.listed

    def ended(id: str) -> Job:
        return Job(id, "SUCCEEDED", "", "", 0, 0, 1)

    submission = Submission(("ls", "/lake"))
    base, active = _free_id(Listing(), submission, "digest", "entry")  # type: ignore[arg-type]
    assert active is None
    left = Listing(ended(f"{base}-2"))
    assert _free_id(left, submission, "digest", "entry") == (base, None)  # type: ignore[arg-type]
    left.listed.append(ended(base))
    assert _free_id(left, submission, "digest", "entry") == (f"{base}-3", None)  # type: ignore[arg-type]


# -- on a cluster ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as started:
        yield started


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives of four frames; one of the eight is broken."""
    folder = write_drives(tmp_path_factory.mktemp("jobs") / "drives", scenes=2, frames=4)
    (folder / "drive_01" / "frame_000002.jpg").write_bytes(b"")
    return folder


def call(head: Head, *args: str | Path) -> Done:
    """The command in a process of its own, which may ask the head."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, args)]
    environment = {**os.environ, **head.environment, "RAY_API_SERVER_ADDRESS": head.url}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=240)
    return Done(done.returncode, done.stdout, done.stderr)


def test_ingest_as_a_job_ends_as_it_would_here(head: Head, drives: Path, tmp_path: Path) -> None:
    """Config by file, log followed, exit code passed on: 3 for too much in quarantine, 0 when that is allowed."""
    config = tmp_path / "ingest.yaml"
    config.write_text(f"source: {drives}\nlake: {tmp_path / 'lake'}\nencoder: [hashing]\nclip_seconds: 2\n")
    done = call(head, "submit", "--follow", "--", "ingest", "--config", config)
    assert done.code == 3, done.err
    assert "Ends with 3" in done.out and "empty-file" in done.out
    assert Store.open(str(tmp_path / "lake")).count("embeddings/hashing") > 0


@pytest.mark.slow
def test_a_command_submitted_again_resumes_in_a_new_job(head: Head, drives: Path, tmp_path: Path) -> None:
    command = ["submit", "--follow", "--json", "--", "ingest", drives, "--lake", tmp_path / "lake"]
    command += ["--encoder", "hashing", "--max-bad", "0.5"]
    first, again = call(head, *command), call(head, *command)
    assert first.code == again.code == 0 and first.document["status"] == again.document["status"] == "SUCCEEDED"
    assert again.document["submission_id"] == f"{first.document['submission_id']}-2"
    assert not again.document["attached"]  # the first has ended
    listed = call(head, "jobs", "--json").document["jobs"]
    assert {job["id"] for job in listed} >= {again.document["submission_id"]}
    assert "Nothing to do" in call(head, "logs", again.document["submission_id"]).out


@pytest.mark.slow
def test_a_job_of_the_same_id_is_attached_to_and_can_be_stopped(head: Head, drives: Path, tmp_path: Path) -> None:
    command = ["submit", "--id", "same", "--json", "--", "ls", str(tmp_path / "no-lake")]
    first = call(head, *command).document
    second = call(head, *command).document
    assert (first["attached"], second["attached"]) == (False, True)
    assert second["submission_id"] == "same"
    followed = call(head, "logs", "same", "--follow")
    assert followed.code == 4 and "no lake at" in followed.out
    stopped = call(head, "stop", "same", "--json").document
    assert not stopped["stopped"] and stopped["status"] == "FAILED"
    unknown = call(head, "logs", "other")
    assert unknown.code == 4 and "same" in unknown.err


@pytest.mark.slow
def test_what_the_cluster_lacks_is_refused_at_once(head: Head, drives: Path, tmp_path: Path) -> None:
    done = call(head, "submit", "--", "ingest", drives, "--lake", tmp_path / "lake", "--num-gpus", "1")
    assert done.code == 1 and "1 GPU a worker" in done.err and "2 CPU, 0 GPU" in done.err
    assert not (tmp_path / "lake").exists()


def test_without_the_token_nothing_runs(head: Head, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.touch(0o600)
    wrong.write_text("0" * 64)
    stranger = Head(head.url, {**head.environment, "RAY_AUTH_TOKEN_PATH": str(wrong)})
    done = call(stranger, "submit", "--", "ls", "/lake")
    assert done.code == 1 and "refuses the token" in done.err and "Traceback" not in done.err


@pytest.mark.slow
def test_dry_run_submits_nothing(head: Head) -> None:
    before = call(head, "jobs", "--json").document["jobs"]
    plan = call(head, "submit", "--dry-run", "--json", "--", "ls", "/lake").document
    assert plan["entrypoint"] == "python -m jobs.cli ls /lake" and plan["files"] > 100
    assert call(head, "jobs", "--json").document["jobs"] == before
