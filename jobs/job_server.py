"""The job server of a Ray cluster, asked over HTTP: what the cluster has; jobs submitted, followed, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from miner.errors import MinerError, NotFound, UsageError

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own variable for the URL of the job server
_POLL_S = 1.0
_STARTS_S = 60.0
_ENDED = {"SUCCEEDED", "FAILED", "STOPPED"}


@dataclass(frozen=True)
class Job:
    """A job as the server knows it. Times are milliseconds since 1970; `exit_code` is that of its process."""

    id: str
    status: str
    entrypoint: str
    message: str
    exit_code: int | None
    start_ms: int | None
    end_ms: int | None

    @property
    def ended(self) -> bool:
        """Whether it will run no further."""
        return self.status in _ENDED

    @property
    def code(self) -> int:
        """The exit code to end with: that of the job's process; 1 where it was stopped or never ran."""
        return self.exit_code if self.exit_code is not None else 0 if self.status == "SUCCEEDED" else 1


class JobServer:
    """The job server at the URL of a cluster's dashboard, which listens on port 8265 of the head.

    Ray sends the token of `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH` along. Every method raises MinerError where nobody
    answers or the token is refused.
    """

    def __init__(self, address: str | None, option: str | None = None) -> None:
        """`option` is how a command names the cluster, if not by its address, which may be that of a tunnel of ours.

        Raises UsageError where neither `address` nor the environment names a cluster.
        """
        self.address = _url(address or os.environ.get(ADDRESS, ""))
        self.option = option or f"--address {self.address}"
        os.environ[ADDRESS] = self.address  # Ray takes what the variable says rather than an address it is given
        with self._told():
            try:
                from ray.job_submission import JobSubmissionClient
            except ImportError as error:
                raise _not_installed() from error
            logging.getLogger("ray").setLevel(logging.ERROR)  # it tells of every upload and closed connection
            self._client = JobSubmissionClient(self.address)

    def nodes(self) -> list[dict[str, float]]:
        """What each living node has, by Ray's names of resources: CPU, GPU, memory (bytes), object_store_memory."""
        from ray.util.state import list_nodes

        with self._told():
            found = list_nodes(address=self.address, detail=True, filters=[("state", "=", "ALIVE")])
        return [dict(node.resources_total) for node in found]

    def find(self, id: str) -> Job | None:
        """The job of that id, if there is one."""
        return next((job for job in self.jobs() if job.id == id), None)

    def job(self, id: str) -> Job:
        """The same. Raises NotFound with the ids there are."""
        job = self.find(id)
        if job is None:
            known = ", ".join(each.id for each in self.jobs()[:5]) or "none"
            raise NotFound(f"no job {id!r} at {self.address}", f"Jobs there, newest first: {known}")
        return job

    def jobs(self) -> list[Job]:
        """The submitted jobs, newest first."""
        with self._told():
            listed = [each for each in self._client.list_jobs() if each.submission_id]
        listed.sort(key=lambda each: each.start_time or 0, reverse=True)
        return [_job(each) for each in listed]

    def submit(self, id: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Start a job, unless one of this id was started at the same time: then there is one, as wanted.

        A head that is still starting has nobody yet to run it, and is waited for.
        """
        what = {"submission_id": id, "entrypoint": entrypoint, "metadata": dict(metadata)}
        deadline = time.monotonic() + _STARTS_S
        while True:
            try:
                with self._told():
                    self._client.submit_job(runtime_env=dict(runtime_env), **what)
                return
            except MinerError as error:
                if self.find(id) is not None:
                    return
                if "No available agent" not in error.message or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)

    def stop(self, id: str) -> bool:
        """Ask a job to stop; whether there was anything to stop."""
        with self._told():
            return bool(self._client.stop_job(id))

    def logs(self, id: str) -> str:
        """All that a job has printed."""
        with self._told():
            return str(self._client.get_job_logs(id))

    def follow(self, id: str, show: Callable[[str], None]) -> Job:
        """Give what a job prints to `show`, as it comes, until it has ended; how it did.

        A connection that breaks is taken up again where it was.
        """
        with self._told():
            asyncio.run(self._follow(id, show))
            return self.job(id)

    async def _follow(self, id: str, show: Callable[[str], None]) -> None:
        shown = 0
        while True:
            seen = 0
            try:
                async for text in self._tail(id):
                    new = text[max(0, shown - seen) :]
                    seen += len(text)
                    if new:
                        shown = seen
                        show(new)
            except RuntimeError:  # what Ray raises for a connection that breaks; the job goes on
                await asyncio.sleep(_POLL_S)
            if self.job(id).ended:
                return
            await asyncio.sleep(_POLL_S)

    async def _tail(self, id: str) -> AsyncIterator[str]:
        async for text in self._client.tail_job_logs(id):
            yield text

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Ray's errors as ours: who does not answer, who refuses, and what to do."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise _unknown_token(self.address) from error
        except OSError as error:
            raise _unreachable(self.address) from error
        except RuntimeError as error:
            raise _refused(self.address, error) from error


def _url(address: str) -> str:
    """`head:8265` as `http://head:8265`; other schemes are refused."""
    if not address:
        raise UsageError(
            "no cluster is named",
            f"Give --address http://HEAD:8265 or --cluster cluster.yaml, or set {ADDRESS}.",
        )
    scheme, colon, _ = address.partition("://")
    if colon and scheme not in ("http", "https"):
        raise UsageError(f"--address {address}: expected the URL of the cluster's dashboard, http://HEAD:8265")
    return (address if colon else f"http://{address}").rstrip("/")


def _job(found: Any) -> Job:
    return Job(
        id=found.submission_id,
        status=str(getattr(found.status, "value", found.status)),
        entrypoint=found.entrypoint,
        message=found.message or "",
        exit_code=found.driver_exit_code,
        start_ms=found.start_time,
        end_ms=found.end_time,
    )


def _unreachable(address: str) -> MinerError:
    return MinerError(
        f"no Ray job server answers at {address}",
        "Is the cluster up (ray up cluster.yaml), and its port 8265 forwarded (ray dashboard cluster.yaml)?",
    )


def _unknown_token(address: str) -> MinerError:
    return MinerError(
        f"the cluster at {address} refuses the token",
        "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with the cluster's token (ray get-auth-token).",
    )


def _refused(address: str, error: RuntimeError) -> MinerError:
    """A RuntimeError of Ray's client: its dashboard libraries are not there, or an answer that is no good."""
    if "ray[default]" in str(error):
        return _not_installed()
    return MinerError(f"the cluster at {address} says: {str(error).strip().splitlines()[-1]}")


def _not_installed() -> MinerError:
    return MinerError("jobs need Ray's dashboard libraries", "Install them: pip install 'scene-miner[cluster]'")
