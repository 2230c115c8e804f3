"""An S3 server on this machine (moto, in a process of its own), and a proxy that adds a store's bad days to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest

_SERVER = """
import logging
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""
_ONE_AT_A_TIME = threading.Lock()  # moto looks whether an object is there and then writes it: S3 does both at once
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
_OWNER = "AWS4-HMAC-SHA256 Credential=owner/20260101/us-east-1/s3/aws4_request"  # moto looks at no signature
KEY, SECRET = "AKIACANARYCANARY", "canary/secret+key/of/the/tests"


def environment(endpoint: str) -> dict[str, str]:
    """The variables that name a server and who asks; nothing else of the machine's own settings is looked at."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@contextmanager
def server() -> Iterator[str]:
    """The address of an empty S3 server on a free port."""
    process = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Bucket:
    """A bucket of the server at `endpoint`, spoken to by plain HTTP: neither of the product's clients is in the way."""

    endpoint: str
    name: str

    def make(self) -> Bucket:
        self._ask("PUT", "")
        return self

    def put(self, folder: Path, prefix: str) -> str:
        """Upload a folder tree; its URI."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put_bytes(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"s3://{self.name}/{prefix}"

    def put_bytes(self, key: str, data: bytes) -> None:
        self._ask("PUT", key, data)

    def get(self, key: str) -> bytes:
        return self._ask("GET", key)

    def delete(self, key: str) -> None:
        self._ask("DELETE", key)

    def keys(self, prefix: str = "") -> list[str]:
        listing = self._ask("GET", f"?list-type=2&max-keys=100000&prefix={prefix}").decode()
        return re.findall(r"<Key>(.*?)</Key>", listing)

    def download(self, prefix: str, folder: Path) -> Path:
        """All objects below a prefix as files, for readers that know no store."""
        for key in self.keys(f"{prefix}/"):
            target = folder / key.removeprefix(f"{prefix}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.get(key))
        return folder

    def _ask(self, method: str, key: str, body: bytes = b"") -> bytes:
        connection = HTTPConnection(urlsplit(self.endpoint).netloc, timeout=30)
        try:
            path = f"/{self.name}/{key if key.startswith('?') else quote(key)}"
            connection.request(method, path, body, {"Authorization": _OWNER})
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status < 300, (method, key, answer.status, data)
            return data
        finally:
            connection.close()


@dataclass
class Fault:
    """Answers to requests `METHOD /path?query` that match: a status, or `hang_s` of silence; `times`, or for ever."""

    pattern: str
    status: int = 503
    times: int | None = None
    hang_s: float = 0.0
    hits: int = 0


@dataclass
class Proxy:
    """An S3 server behind a store's bad days; `requests` are those that came in, faults are tried in order."""

    upstream: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_for(self, request: str) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if re.search(fault.pattern, request) and (fault.times is None or fault.hits < fault.times):
                    fault.hits += 1
                    return fault
        return None


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy on a free port."""
    made = Proxy(upstream)
    handler = type("Handler", (_Handler,), {"proxy": made})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        http.block_on_close = False
        made.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            http.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm, wbufsize = True, -1  # else every answer waits 40 ms for an acknowledgement
    proxy: Proxy

    def _serve(self) -> None:
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        body = self._chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault_for(f"{self.command} {self.path}")
        if fault is None:
            self._forward(body)
        elif fault.hang_s:
            time.sleep(fault.hang_s)
            self.close_connection = True
        else:
            self._refuse(fault.status)

    def _chunks(self) -> bytes:
        """A body of no stated length, as Arrow uploads parts."""
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return body

    def _forward(self, body: bytes) -> None:
        connection = HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            with _ONE_AT_A_TIME if "If-None-Match" in self.headers else nullcontext():
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP and not (name.lower() == "content-length" and self.command != "HEAD"):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        finally:
            connection.close()

    def _refuse(self, status: int) -> None:
        code = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}.get(status, "InternalError")
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


class Cloud(NamedTuple):
    """What a test gets: an empty bucket, and the proxy between it and the product, which the environment names."""

    bucket: Bucket
    proxy: Proxy

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket.name}"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def cloud(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A bucket of its own for each test. Modules import this fixture together with `s3_server`."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with proxy(s3_server) as between:
        for name, value in environment(between.url).items():
            monkeypatch.setenv(name, value)
        yield Cloud(Bucket(s3_server, f"drives-{uuid.uuid4().hex[:8]}").make(), between)
