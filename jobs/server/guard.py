"""Who may ask, how much and how often; and what every answer says to browsers. Plain ASGI, around the app."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/", "/page.css", "/page.js", "/healthz")  # the page itself, which holds nothing and asks for the token
LIMITED = {"search": 1, "clips": 10, "thumbnails": 10}  # times the rate of searches: a page of hits asks for many
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True)
class Policy:
    """Limits of one way in. `token` None: whoever comes may ask. `hosts` None: by any name.

    `rate` is of searches a second and client, and ten times as many of clips and of pictures; `files` whether a request
    may name files of this machine.
    """

    token: str | None = None
    hosts: frozenset[str] | None = None
    rate: int = 100
    files: bool = False
    max_k: int = 1_000
    max_body: int = 1 << 20


class Guard:
    """Refuses what the policy forbids before the app sees it: 400, 401, 413, 429; every answer gets the headers."""

    def __init__(self, app: App, policy: Policy, version: str) -> None:
        self._app, self._policy = app, policy
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._rates = {first: RateLimitItemPerSecond(policy.rate * times) for first, times in LIMITED.items()}
        said = {**_HEADERS, "miner-version": version}
        self._said = [(name.encode(), value.encode()) for name, value in said.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in self._said if each[0] not in given)]
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await _refuse(marked, *refused)
            return
        await self._app(scope, _Limited(receive, self._policy.max_body), marked)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason, if a request is refused by its head."""
        heads = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self._policy.hosts is not None and _host(heads.get("host", "")) not in self._policy.hosts:
            return 400, "this server does not go by that name"  # else a page could rebind its own name to us
        if scope["path"] not in OPEN_PATHS and not self._admits(heads.get("authorization", "")):
            return 401, "a bearer token is required"
        length = heads.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > self._policy.max_body:
            return 413, f"the body is over {self._policy.max_body:,} bytes"
        first, client = scope["path"].split("/")[1], (scope.get("client") or ("local", 0))[0]
        rate = self._rates.get(first)
        if rate is not None and not self._limiter.hit(rate, client, first):
            return 429, f"over {rate.amount} requests for {first} a second"
        return None

    def _admits(self, authorization: str) -> bool:
        if self._policy.token is None:
            return True
        kind, _, token = authorization.partition(" ")
        same = hmac.compare_digest(token.strip().encode("latin-1"), self._policy.token.encode())
        return kind.lower() == "bearer" and same


class _Limited:
    """Receives as it is told, up to a limit of bytes: for bodies that do not say their length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left, self._limit = receive, limit, limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, f"the body is over {self._limit:,} bytes")
        return message


def _host(header: str) -> str:
    """The name in a Host header, without the port."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    return name.strip("[]").lower()


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": {"kind": "Refused", "message": message, "hint": "", "exit_code": 1}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += {401: [(b"www-authenticate", b"Bearer")], 429: [(b"retry-after", b"1")]}.get(status, [])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
