"""Who is let in, and how much and how often may be asked."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jobs.serve import LOOPBACK, Serving, token_of
from miner.errors import NotFound, UsageError
from tests.jobs.server.conftest import Client, Serve

TOKEN = "correct horse battery staple"


def test_a_token_is_wanted_where_there_is_one(serve: Serve) -> None:
    client = serve(token=TOKEN)
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
    ):
        for path in ("/search?texts=a", "/clips/a", "/thumbnails/a", "/metrics", "/openapi.json", "/nothing"):
            got = client(path, **headers)
            assert got.status == 401 and got.headers["www-authenticate"] == "Bearer", path
    assert client("/search?texts=a", authorization=f"Bearer {TOKEN}").status == 200
    assert client("/search?texts=a", authorization=f"bearer  {TOKEN}").status == 200
    assert [client(path).status for path in ("/", "/page.js", "/page.css", "/healthz")] == [200] * 4


def test_the_token_is_in_no_answer(serve: Serve) -> None:
    client = serve(token=TOKEN)
    for path in ("/search?texts=a", "/metrics", "/openapi.json", "/nothing", "/"):
        got = client(path, authorization=f"Bearer {TOKEN}")
        assert TOKEN.encode() not in got.body and TOKEN not in str(got.headers)


@pytest.mark.parametrize(
    "how",
    [{"host": "0.0.0.0"}, {"host": "::"}, {"token": "short"}, {"token": "ü" * 20}, {"port": -1}, {"rate": 0}],
)
def test_settings_that_are_not_safe_are_refused(how: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Serving(**how)  # type: ignore[arg-type]


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    (tmp_path / "token").write_text("of the file\n")
    assert token_of("SOME_TOKEN", None) == TOKEN and token_of("NO_TOKEN", None) is None
    assert token_of("SOME_TOKEN", tmp_path / "token") == "of the file"
    with pytest.raises(NotFound):
        token_of("SOME_TOKEN", tmp_path / "none")
    assert TOKEN not in repr(Serving(token=TOKEN))


def test_without_a_token_only_by_a_name_of_this_machine(serve: Serve) -> None:
    """Else a page could give its own name our address and read what its visitor's server says."""
    client = serve()
    assert client("/healthz", host="evil.example:8470").status == 400
    assert all(client("/healthz", host=f"{name}:1").status == 200 for name in (*LOOPBACK[::2], "[::1]"))
    assert serve(token=TOKEN)("/healthz", host="lake.example").status == 200


def test_every_answer_is_closed_to_other_pages(client: Client) -> None:
    paths = ("/", "/page.js", "/search?texts=a", "/search?texts=a&k=99", "/nothing", "/healthz")
    for got in (client(path, origin="http://evil.example") for path in paths):
        policy = got.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert got.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in got.headers if name.startswith("access-control")]
    page = client("/").body.decode()
    assert "<script>" not in page and "style=" not in page and "http://" not in page and "https://" not in page


def test_bodies_have_a_limit_said_or_not(client: Client) -> None:
    assert client("/search", b" " * ((1 << 20) + 1)).status == 413
    connection = http.client.HTTPConnection(urlsplit(client.url).netloc, timeout=30)
    chunks = (b" " * (1 << 16) for _ in range(20))
    connection.request("POST", "/search", chunks, {"content-type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert client("/search?texts=a").status == 200


def test_searches_have_a_rate(serve: Serve) -> None:
    client = serve(rate=3)
    got = [client("/search?texts=a") for _ in range(12)]
    refused = [each for each in got if each.status == 429]
    assert refused and got[0].status == 200 and refused[0].headers["retry-after"] == "1"
    assert client("/healthz").status == 200


@pytest.mark.parametrize("path", ["/clips/x", "/thumbnails/x"])
def test_pictures_and_clips_have_a_rate_of_their_own(path: str, serve: Serve) -> None:
    client = serve(rate=1)
    got = [client(path).status for _ in range(60)]
    assert got[0] == 404 and 429 in got and client("/search?texts=a").status == 200


def test_commands_are_for_this_machine_s_user_only(client: Client) -> None:
    assert client("/command", {"words": ["search", "lake", "a"], "folder": "/"}).status == 404
