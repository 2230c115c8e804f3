"""What a server answers is what the command prints; it follows its lake, and every refusal says why."""

from __future__ import annotations

import inspect
import re
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from jobs.server.asked import Answer, SearchRequest
from miner.decode.image import decode_image
from miner.lake import Lake
from miner.simulation import record
from tests.jobs.server.conftest import SPEC, Client, Serve, filled

QUERY = {"texts": ["a truck"], "k": 4, "where": "num_frames > 0", "per": "frame"}


def timeless(document: dict) -> dict:  # type: ignore[type-arg]
    return {name: value for name, value in document.items() if name != "elapsed_ms"}


def test_the_fields_are_those_of_the_lake() -> None:
    parameters = inspect.signature(Lake.search).parameters
    defaults = {"texts" if name == "text" else name: each.default for name, each in parameters.items()}
    fields = {name: field.default for name, field in SearchRequest.model_fields.items()}
    assert {"texts", "images", "like", "k", "per", "where", "encoder"} <= fields.keys()
    assert [name for name, value in fields.items() if (value or None) != (defaults[name] or None)] == []


def test_search_both_ways_is_the_lake_s(client: Client, lake: Lake) -> None:
    expected = lake.search(["a truck"], 4, where="num_frames > 0", per="frame").to_dict()
    for got in (client("/search", QUERY), client(f"/search?{urlencode(QUERY, doseq=True)}")):
        assert got.status == 200 and timeless(got.json) == timeless(expected)
        Answer.model_validate(got.json)
    again = client("/search", expected["query"] | {"encoder": expected["encoder"]})
    assert again.json["hits"] == expected["hits"], "the query of an answer can be asked again"


def test_likeness_and_text_for_people(client: Client, lake: Lake) -> None:
    [best] = lake.search("a truck", 1)
    got = client("/search", {"like": [best.sample_data_id], "not_texts": ["rain"], "k": 2})
    assert got.json["hits"] == lake.search(like=best.sample_data_id, not_texts="rain", k=2).to_dict()["hits"]
    shown = client("/search?texts=a+truck&k=2", accept="text/plain").body.decode()
    assert shown == repr(lake.search("a truck", 2)) and shown.startswith("2 clips for a truck")


@pytest.mark.parametrize(
    ("body", "status", "kind", "said"),
    [
        ({"texts": ["a"], "k": 0}, 400, "UsageError", "k = 0"),
        ({"texts": ["a"], "k": 51}, 400, "UsageError", "at most 50"),
        ({"texts": ["a" * 1001]}, 400, "UsageError", "1,001 characters"),
        ({"texts": [""]}, 400, "UsageError", "empty"),
        ({}, 400, "UsageError", "nothing to search for"),
        ({"texts": ["a"], "where": "colour = 'red'"}, 400, "UsageError", "colour"),
        ({"texts": ["a"], "where": "1 = 1; drop"}, 400, "UsageError", ""),
        ({"texts": ["a"], "encoder": "nothing"}, 404, "NotFound", "nothing"),
        ({"like": ["0" * 32]}, 404, "NotFound", "0000"),
        ({"texts": ["a"], "images": ["/etc/passwd"]}, 400, "UsageError", "reads no files"),
        ({"lidar": ["http://169.254.169.254/latest"]}, 400, "UsageError", "reads no files"),
        ({"query": 'night + image("/etc/passwd")'}, 400, "UsageError", "reads no files"),
        ({"texts": ["a"], "textes": []}, 400, "UsageError", "textes"),
        ({"texts": "a"}, 400, "UsageError", "texts"),
        (b"{", 400, "UsageError", "JSON"),
    ],
)
def test_refusals_are_json_with_the_exit_code(client: Client, body: object, status: int, kind: str, said: str) -> None:
    got = client("/search", body, content_type="application/json")
    error = got.json["error"]
    assert (got.status, error["kind"]) == (status, kind) and said in error["message"]
    assert error["exit_code"] == {400: 2, 404: 4}[status]


def test_clips_and_thumbnails(client: Client, lake: Lake, drives: Path) -> None:
    [hit] = lake.search("a truck", 1)
    clip = client(f"/clips/{hit.clip_id}").json
    assert clip["kind"] == "clip" and clip["readings"] == lake.show(str(hit.clip_id))["readings"]
    for _ in range(2):
        got = client(f"/thumbnails/{hit.sample_data_id}")
        assert got.headers["content-type"] == "image/jpeg" and got.headers["x-content-type-options"] == "nosniff"
        assert decode_image(got.body, "jpg", "thumbnail").shape == (72, 128, 3)
    [sweep] = lake.store.scan("sample_data", ["sample_data_id"], "modality = 'lidar'")["sample_data_id"].to_pylist()[:1]
    assert decode_image(client(f"/thumbnails/{sweep}").body, "jpg", "sweep").shape == (360, 360, 3)
    assert client(f"/clips/{hit.sample_data_id}").json["error"]["message"].endswith("a reading, not a clip")


@pytest.mark.parametrize(
    "path",
    [
        "/thumbnails/..%2f..%2fetc%2fpasswd",
        "/thumbnails/http:%2f%2fhost",
        "/clips/a'%20or%20'1'='1",
        f"/clips/{'a' * 129}",
    ],
)
def test_only_ids_are_looked_up(client: Client, path: str) -> None:
    assert client(path).status in (400, 404)


def test_a_file_that_is_gone_is_said(tmp_path: Path, serve: Serve) -> None:
    record(SPEC, tmp_path / "drives")
    lake = filled(tmp_path / "lake", tmp_path / "drives")
    [hit] = lake.search("a truck", 1)
    Path(str(hit.uri)).unlink()
    got = serve(lake)(f"/thumbnails/{hit.sample_data_id}")
    assert got.status == 422 and "missing-file" in got.json["error"]["message"]


def test_metrics_health_and_openapi(serve: Serve) -> None:
    client = serve()
    for text in ("night", "night", "rain"):
        client(f"/search?texts={text}")
    assert client("/healthz").json["status"] == "ok" and client("/nothing").status == 404
    counted = client("/metrics").body.decode()
    value = {name: float(number) for name, number in re.findall(r"^(\S+) (\S+)$", counted, re.MULTILINE)}
    assert value['miner_requests_total{route="/search",status="200"}'] == 3
    assert value['miner_requests_total{route="other",status="404"}'] == 1
    assert value["miner_texts_misses"] == 3 and value["miner_texts_hits"] == 1, "one is the server's own, at its start"
    assert value['miner_table_version{table="clips"}'] >= 1 and value["process_resident_memory_bytes"] > 1e7
    paths = client("/openapi.json").json["paths"]
    assert {"/search", "/clips/{clip_id}", "/thumbnails/{sample_data_id}", "/metrics", "/healthz"} == set(paths)


def test_follows_the_lake_and_never_mixes(tmp_path: Path, drives: Path, serve: Serve) -> None:
    """Beside an ingest every answer is that of one version: as many frames as that version has, each with its file."""
    lake = filled(tmp_path / "lake", drives)
    client, over = serve(lake, every_s=0.05, rate=10_000), threading.Event()
    seen: list[tuple[int, int, int]] = []
    first = lake.store.version("embeddings/hashing")

    def keep_asking() -> None:
        while not over.is_set():
            got = client("/search", {"texts": ["a"], "k": 1000, "per": "frame"})
            seen.append((got.status, got.json.get("table_version", 0), len(got.json.get("hits", ()))))

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        record(SPEC, tmp_path / "more")
        lake.ingest(tmp_path / "more", dataset="more")
        lake.cut()
        lake.embed(["hashing"])
        lake.index()
        last, until = lake.store.version("embeddings/hashing"), time.monotonic() + 30
        while last not in {version for _, version, _ in seen} and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    rows = {version: lake.store.dataset("embeddings/hashing", version).count_rows() for _, version, _ in seen}
    assert {first, last} <= rows.keys() and rows[first] < rows[last]
    assert [each for each in seen if each[0] != 200 or each[2] != rows[each[1]]] == []
