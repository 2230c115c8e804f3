"""The HTTP interface of one lake: search, clips, thumbnails, metrics, and a page for people."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from jobs.server.asked import Answer, Refusal, SearchRequest
from jobs.server.command import Command, answer
from jobs.server.guard import App, Guard, Policy
from jobs.server.metrics import Metrics
from miner import __version__
from miner.errors import BadInput, Conflict, MinerError, NotFound, UsageError
from miner.masking import masked
from miner.runlog import one_line

if TYPE_CHECKING:
    from jobs.server.answers import Answers

_STATUS = ((UsageError, 400), (NotFound, 404), (Conflict, 409), (BadInput, 422))
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_ID = r"^[A-Za-z0-9._-]{1,128}$"


def build_app(answers: Answers, policy: Policy, metrics: Metrics) -> App:
    """The guarded app for one way in. Errors are JSON: `{"error": {"kind", "message", "hint", "exit_code"}}`."""
    refusals: dict[int | str, dict[str, Any]] = {code: {"model": Refusal} for code in (400, 401, 404, 429)}
    app = FastAPI(title="scene-miner", version=__version__, docs_url=None, redoc_url=None, responses=refusals)
    _add_errors(app)
    _add_search(app, answers, policy)
    _add_lookups(app, answers, metrics)
    _add_page(app)
    if policy.files:
        _add_command(app, answers)
    return Guard(metrics.watching(app), policy, __version__)


def _add_search(app: FastAPI, answers: Answers, policy: Policy) -> None:
    def answered(asked: SearchRequest, request: Request) -> Response:
        hits = answers.search(asked.checked(policy.max_k, policy.files))
        if "text/plain" in request.headers.get("accept", ""):
            return _response(repr(hits).encode(), "text/plain; charset=utf-8")
        return _json(hits.to_dict())

    @app.get("/search", response_model=Answer)
    def search(asked: Annotated[SearchRequest, Query()], request: Request) -> Response:
        """The best clips or frames, as `miner search --json` prints them; as text where text/plain is accepted."""
        return answered(asked, request)

    @app.post("/search", response_model=Answer)
    def search_posted(asked: SearchRequest, request: Request) -> Response:
        """The same, with the question as a JSON body."""
        return answered(asked, request)


def _add_lookups(app: FastAPI, answers: Answers, metrics: Metrics) -> None:
    @app.get("/clips/{clip_id}")
    def clip(clip_id: Annotated[str, Path(pattern=_ID)]) -> Response:
        """All that is known of one clip, as `miner show --json` prints it."""
        return _json(answers.clip(clip_id))

    @app.get("/thumbnails/{sample_data_id}")
    def thumbnail(sample_data_id: Annotated[str, Path(pattern=_ID)]) -> Response:
        """A reading as a small JPEG: a frame as it is, a sweep from above."""
        return _response(answers.picture(sample_data_id), "image/jpeg", "private, max-age=3600")

    @app.get("/metrics")
    def counted() -> Response:
        """Counters in Prometheus's text format."""
        return _response(metrics.text(), "text/plain; version=0.0.4; charset=utf-8")

    @app.get("/healthz")
    def health() -> Response:
        """Whether the server answers, and follows its lake."""
        return _json({"status": "stale" if answers.trouble else "ok", "version": __version__})


def _add_command(app: FastAPI, answers: Answers) -> None:
    @app.post("/command", include_in_schema=False)
    def command(asked: Command) -> Response:
        """A command line of this machine's user; 501 for what it has to do by itself."""
        printed = answer(asked, answers)
        return Response(status_code=501) if printed is None else _json(printed.model_dump())


def _add_page(app: FastAPI) -> None:
    def serve(path: str, content: bytes, kind: str) -> None:
        @app.get(path, include_in_schema=False)
        async def page() -> Response:
            return _response(content, kind, "no-cache")

    for path, (name, kind) in _PAGE.items():
        serve(path, files("jobs.server").joinpath("page", name).read_bytes(), kind)


def _add_errors(app: FastAPI) -> None:
    """The tree of `miner.errors` as statuses; what nobody foresaw as 500, with its cause on stderr only."""

    @app.exception_handler(MinerError)
    async def told(request: Request, error: MinerError) -> Response:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return _refusal(status, type(error).__name__, error.message, error.hint, error.exit_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return _refusal(400, "UsageError", f"{where or 'body'}: {first['msg']}", "See /openapi.json", 2)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return _refusal(error.status_code, "Refused", str(error.detail), "", 1)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        sys.stderr.write(f"miner: {masked(one_line(error))}\n")
        return _refusal(500, "MinerError", "the server failed; its own output says why", "", 1)


def _refusal(status: int, kind: str, message: str, hint: str, exit_code: int) -> Response:
    error = {"kind": kind, "message": masked(message), "hint": masked(hint), "exit_code": exit_code}
    return _json({"error": error}, status)


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return _response(json.dumps(document, default=str).encode(), "application/json", "no-store", status)


def _response(body: bytes, kind: str, cache: str = "no-store", status: int = 200) -> Response:
    return Response(body, status, {"cache-control": cache}, kind)
