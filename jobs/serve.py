"""`miner serve`: one lake answered over HTTP by a process that keeps encoder and vectors in memory."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.options import LakeArg
from jobs.warm import is_private, socket_of
from miner.errors import Conflict, MinerError, NotFound, UsageError

if TYPE_CHECKING:
    from jobs.server.answers import Answers
    from jobs.server.guard import App

app = typer.Typer()

LOOPBACK = ("127.0.0.1", "::1", "localhost")
TOKEN_ENV = "MINER_SERVE_TOKEN"
MIN_TOKEN = 16
_BACKLOG = 256
_NO_LIMIT = 1_000_000
_SETTINGS: dict[str, Any] = {
    "log_level": "critical",  # what fails the app answers and tells; no line a request: questions are private
    "access_log": False,
    "server_header": False,
    "lifespan": "off",
    "timeout_keep_alive": 30,
    "timeout_graceful_shutdown": 5,
    "limit_concurrency": 512,
}


@dataclass(frozen=True)
class Serving:
    """How a lake is served. `rate` is of searches a second and client; `every_s` how often the lake is looked at."""

    host: str = "127.0.0.1"
    port: int = 8470
    token: str | None = field(default=None, repr=False)
    rate: int = 100
    max_k: int = 1_000
    every_s: float = 1.0

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and self.token is None:
            hint = f"Put one of at least {MIN_TOKEN} characters into ${TOKEN_ENV}, or leave out --host."
            raise UsageError(f"--host {self.host}: others can reach it, so it needs a token", hint)
        if self.token is not None and (len(self.token) < MIN_TOKEN or not self.token.isascii()):
            raise UsageError(f"the token is too weak: at least {MIN_TOKEN} ASCII characters are wanted")
        if not (0 <= self.port < 65536 and self.rate >= 1 and self.max_k >= 1 and self.every_s > 0):
            raise UsageError("--port is 0 to 65535; --rate, --max-k and --every are above 0")


@app.command(epilog="Example: **miner serve lake --port 8470**")
def serve(
    lake: LakeArg,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")] = (
        Serving.host
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = Serving.port,
    token_env: Annotated[str, typer.Option(help="Variable that holds the bearer token.")] = TOKEN_ENV,
    token_file: Annotated[Path | None, typer.Option(help="File that holds the bearer token instead.")] = None,
    rate: Annotated[int, typer.Option(help="Searches a second of one client.")] = Serving.rate,
    max_k: Annotated[int, typer.Option(help="Most hits of one search.")] = Serving.max_k,
    every: Annotated[float, typer.Option(help="Seconds between looks for new rows.")] = Serving.every_s,
) -> None:
    """Answer searches over HTTP, with a page for people; `miner search` uses it, too, while it runs."""
    run(lake, Serving(host, port, token_of(token_env, token_file), rate, max_k, every))


def token_of(variable: str, file: Path | None) -> str | None:
    """The token of a file, else of a variable; None where there is none. It is never printed."""
    if file is not None:
        if not file.is_file():
            raise NotFound(f"no token file {file}")
        return file.read_text().strip()
    return os.environ.get(variable) or None


def run(uri: str, how: Serving) -> None:
    """Serve a lake until SIGINT or SIGTERM. Raises NotFound for no lake, MinerError for an address that is taken."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with serving(uri, how) as url:
        _say(f"serving {uri} at {url}" + (" (bearer token required)" if how.token else ""))
        over.wait()


@contextmanager
def serving(uri: str, how: Serving) -> Iterator[str]:
    """A lake, served while the block runs: over the network at the address this gives, and for this user's commands."""
    answers, app_for = _build(uri, how)
    with _listening(how.host, how.port) as reached, _own_socket(uri) as own:
        ways = [(app_for(False), reached)]
        if own is not None:
            ways.append((app_for(True), own))
        answers.start()
        try:
            with _running(ways):
                yield _url(reached)
        finally:
            answers.stop()


def _build(uri: str, how: Serving) -> tuple[Answers, Callable[[bool], App]]:
    """The lake kept warm, and what makes the app of the way in for others, or (True) for this machine's user."""
    try:
        from jobs.server.answers import Answers
        from jobs.server.app import build_app
        from jobs.server.guard import Policy
        from jobs.server.metrics import Metrics
    except ImportError as error:
        raise UsageError(f"serving needs another package: {error}", "pip install 'scene-miner[serve]'") from error
    from miner.executor import LocalExecutor
    from miner.lake import open

    hosts = None if how.token else frozenset({*LOOPBACK, how.host})
    answers = Answers(open(uri, LocalExecutor(notify=_say)), how.every_s)
    metrics, public = Metrics(answers), Policy(how.token, hosts, rate=how.rate, max_k=how.max_k)
    trusted = Policy(rate=_NO_LIMIT, files=True, max_k=_NO_LIMIT)
    return answers, lambda own: build_app(answers, trusted if own else public, metrics)


@contextmanager
def _running(ways: Sequence[tuple[App, socket.socket]]) -> Iterator[None]:
    """Each way in has a server in a thread of its own: there it leaves signals alone."""
    import uvicorn

    servers = [uvicorn.Server(uvicorn.Config(served, **_SETTINGS)) for served, _ in ways]
    threads = [
        threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        for server, (_, listener) in zip(servers, ways, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for server in servers:
            server.should_exit = True
        for thread in threads:
            thread.join(timeout=10)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # Connections inherit it, as asyncio does not set it for those of a listener it did not make: else the end of an
        # answer waits for the client to acknowledge the beginning, which it does after 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise MinerError(f"cannot listen on {host}:{port}: {error.strerror}", "--port 0 takes a free one.") from error
    with listener:
        yield listener


@contextmanager
def _own_socket(lake: str) -> Iterator[socket.socket | None]:
    """The socket that `miner search` looks for, removed at the end; None where another server of the lake has it."""
    place = socket_of(lake)
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.parent.chmod(0o700)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not is_private(place.parent):
            raise Conflict(f"{place.parent} is not this user's alone")
        _clear(place)
        listener.bind(str(place))
        listener.listen(_BACKLOG)
    except (OSError, Conflict) as error:
        _say(f"miner search will not use this server: {error}")
        listener.close()
        yield None
        return
    try:
        yield listener
    finally:
        listener.close()
        place.unlink(missing_ok=True)


def _clear(place: Path) -> None:
    """Remove the socket of a server that is gone. Raises Conflict where it still answers."""
    if not place.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(place))
        except OSError:
            place.unlink(missing_ok=True)
            return
    raise Conflict("another server of this lake runs")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
