"""Every reader on an object store: the same rows as from a folder, from listings and metadata alone."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pyarrow as pa
import pytest

from embeddings.plugins import load_plugin, plugin_names
from miner.errors import BadInput, MinerError, NotFound, UsageError
from miner.lake import open_source
from miner.readers import Reader, SceneTables, find_reader
from miner.readers.places import ObjectPath, place_of, relative, scan, walk
from tests.miner.readers.test_readers_contract import _SOURCES
from tests.s3 import Cloud, Fault, cloud, s3_server  # noqa: F401  fixtures

_RECORDING = re.compile(r"GET /\S+\.(?:jpe?g|png|bin)$")


def rows(tables: SceneTables, moved: tuple[str, str] = ("", "")) -> list[list[dict[str, object]]]:
    """All rows, with the folder of the source replaced; sizes are not told of every object."""
    parts = [tables.scenes, tables.sample_data, tables.annotations]
    if moved[0]:
        place = tables.sample_data.schema.get_field_index("uri")
        uris = pa.array([uri.replace(*moved, 1) for uri in tables.sample_data["uri"].to_pylist()], pa.string())
        parts[1] = tables.sample_data.set_column(place, "uri", uris)
    return [part.drop_columns([c for c in ("num_bytes",) if c in part.column_names]).to_pylist() for part in parts]


@pytest.mark.parametrize("name", plugin_names("miner.readers"))
def test_a_reader_gives_the_same_from_a_store(name: str, cloud: Cloud, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "source"
    folder.mkdir()
    _SOURCES[name](folder)
    uri = cloud.bucket.put(folder, "all/source")
    kind: type[Reader] = load_plugin("miner.readers", name)
    assert find_reader(uri) is find_reader(str(folder)) is kind
    local, remote = kind(str(folder)), open_source(f"{uri}/", name)
    assert isinstance(remote, kind) and list(remote.scenes()) == list(local.scenes())
    for scene in local.scenes():
        assert rows(remote.read(scene.name), (uri, str(folder))) == rows(local.read(scene.name))
    assert not [request for request in cloud.proxy.requests if _RECORDING.match(request)]
    again = pickle.loads(pickle.dumps(remote))
    assert list(again.scenes()) == list(remote.scenes())
    with pytest.raises(BadInput, match="unknown-scene"):
        remote.read("no such scene")


@pytest.fixture
def tree(cloud: Cloud) -> ObjectPath:  # noqa: F811
    for key in ("top/a/1.txt", "top/a/b/é #1.txt", "top/a/b/2 3.txt", "top/c.txt", "topper/d.txt"):
        cloud.bucket.put_bytes(key, key.encode())
    found = place_of(f"{cloud.uri}/top")
    assert isinstance(found, ObjectPath)
    return found


def test_places_as_pathlib_has_them(tree: ObjectPath) -> None:
    assert [relative(path, tree) for path in tree.iterdir()] == ["a", "c.txt"]
    assert sorted(relative(path, tree) for path in tree.glob("*/*.txt")) == ["a/1.txt"]
    assert [relative(path, tree) for path in tree.glob("*/*/")] == ["a/b"]
    odd = tree / "a/b/é #1.txt"
    assert odd.is_file() and odd.exists() and not odd.is_dir() and not odd.is_symlink()
    assert (odd.name, odd.stem, odd.suffix, odd.parent.name) == ("é #1.txt", "é #1", ".txt", "b")
    assert odd.stat().st_size == len("top/a/b/é #1.txt".encode()) and str(odd).endswith("/top/a/b/é #1.txt")
    assert tree / str(odd) == odd and odd in {odd} and odd.with_name("2 3.txt").is_file()
    assert not (tree / "none").exists() and tree.parent.is_dir() and not (tree / "top").exists()
    with odd.opened() as file:
        assert file.read() == b"top/a/b/\xc3\xa9 #1.txt"
    with pytest.raises(FileNotFoundError), scan(tree / "none"):
        pass


def test_a_tree_is_listed_once(cloud: Cloud, tree: ObjectPath) -> None:  # noqa: F811
    cloud.proxy.requests.clear()
    for _ in range(3):
        found = [(relative(folder, tree), subfolders, names) for folder, subfolders, names in walk(tree)]
    assert found == [(".", ["a"], ["c.txt"]), ("a", ["b"], ["1.txt"]), ("a/b", [], ["2 3.txt", "é #1.txt"])]
    assert len(cloud.proxy.requests) == 1
    for folder, subfolders, _ in walk(tree):
        subfolders.clear()
        assert folder == tree


def test_no_such_source(cloud: Cloud) -> None:  # noqa: F811
    for uri in (f"{cloud.uri}/none", "s3://no-such-bucket-here/drives"):
        with pytest.raises(NotFound, match="no such source"):
            open_source(uri)


def test_a_source_that_is_closed_to_us(cloud: Cloud) -> None:  # noqa: F811
    cloud.proxy.faults.append(Fault("", 403))
    with pytest.raises(MinerError, match=r"access denied at http://127.*AWS_ACCESS_KEY_ID of the environment"):
        open_source(f"{cloud.uri}/drives")


@pytest.mark.parametrize("uri", ["ftp://host/drives", "http://host/drives", "hf://datasets/x", "memory://x"])
def test_other_schemes_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match=r"file://, s3://, gs://, az://"):
        open_source(uri)


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.170.2", "0xa9fea9fe", "2852039166", "[fd00:ec2::254]", "metadata.google.internal"],
)
def test_metadata_services_are_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="serves the machine's own credentials"):
        open_source(f"s3://{host}/latest")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        with monkeypatch.context() as patch:
            patch.setenv(name, f"http://{host}:80/")
            with pytest.raises(UsageError, match="serves the machine's own credentials"):
                open_source("s3://bucket/drives")


def test_a_file_uri_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    _SOURCES["images"](folder)
    assert open_source(folder.as_uri()).source == str(folder)
