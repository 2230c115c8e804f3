"""Every file of a lake has its digest, whatever died when; what does not hold is not answered from."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import lance
import pyarrow.compute as pc
import pytest

from miner.digests import GONE, Digest, load_digests, manifest, problem, seal, version_of
from miner.errors import Damaged
from miner.executor import LocalExecutor
from miner.indexes.flat import FlatIndex
from miner.key_indexes import index_keys
from miner.lake import Lake, create, open
from miner.schema import DIGESTS
from miner.sound import Sound
from miner.store import one_of
from miner.verify import verify_deep
from tests.recordings import write_drives

VECTORS = "embeddings/hashing"
MUTABLE = {"latest_version_hint.json"}


def fill(folder: Path) -> Lake:
    lake = create(folder / "lake", LocalExecutor(threads=2))
    lake.ingest(write_drives(folder / "source", scenes=4, frames=4))
    lake.cut(2)
    lake.embed(["hashing"])
    lake.index()
    return lake


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return fill(tmp_path_factory.mktemp("digests"))


@pytest.fixture
def lake(good: Lake, tmp_path: Path) -> Lake:
    """A copy to damage."""
    shutil.copytree(good.uri, tmp_path / "copy")
    return open(tmp_path / "copy", LocalExecutor(threads=2))


def files(lake: Lake) -> dict[str, Path]:
    """Every file of the lake's tables that never changes, by its path below the lake."""
    root = Path(lake.uri)
    found = {
        str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file() and "_refs" not in path.parts
    }
    own = ("leases.lance", "digests.lance", "_logs")
    return {name: path for name, path in found.items() if path.name not in MUTABLE and not name.startswith(own)}


def damage(path: Path, at: float = 0.5) -> None:
    """One bit, at a share of the file's length."""
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 4
    path.write_bytes(data)


def one_file(lake: Lake, table: str, inside: str) -> Path:
    return sorted(Path(lake.uri, f"{table}.lance").glob(inside))[0]


def test_every_file_is_sealed_as_it_is(good: Lake) -> None:
    sealed, there = load_digests(good.store), files(good)
    expected = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()}
    assert {name: each.sha256 for name, each in sealed.items()} == expected
    assert all(each.num_bytes == there[name].stat().st_size for name, each in sealed.items())
    assert all(name.startswith(f"{each.table}.lance/") for name, each in sealed.items())
    kinds = {name.removeprefix(f"{each.table}.lance/").split("/")[0] for name, each in sealed.items()}
    assert kinds == {"data", "_versions", "_transactions", "_indices"}


def test_nothing_new_is_sealed_twice(lake: Lake) -> None:
    before = lake.store.version("digests")
    assert seal(lake.store) == 0
    lake.embed(["hashing"])
    lake.index()
    assert lake.store.version("digests") == before


def test_the_newest_manifest_is_found_by_name(good: Lake) -> None:
    for table in good.store.tables():
        version = good.store.version(table)
        path = Path(good.uri, manifest(table, version))
        assert path.exists() and version_of(str(path)) == version
        assert path == min(path.parent.glob("*.manifest"))
    assert version_of("clips.lance/data/01.lance") == 0


def test_rows_have_digests_before_they_are_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINER_FAILPOINT", "commit:checked=error")
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    with pytest.raises(Exception, match="failpoint commit:checked"):
        lake.ingest(write_drives(tmp_path / "source", scenes=2, frames=2))
    written = {name for name in files(lake) if "/data/" in name}
    assert written and lake.store.count("sample_data") == 0
    assert written & load_digests(lake.store).keys() == {name for name in written if name.startswith("sample_data")}
    assert verify_deep(lake.store).ok


def test_a_run_that_dies_before_it_seals_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = create(tmp_path / "lake", LocalExecutor(threads=1))
    monkeypatch.setenv("MINER_FAILPOINT", "digests:before=error")
    with pytest.raises(Exception, match="failpoint digests:before"):
        lake.ingest(write_drives(tmp_path / "source", scenes=2, frames=2))
    monkeypatch.delenv("MINER_FAILPOINT")
    sealed = load_digests(lake.store).keys()
    assert {name for name in files(lake) if "/data/" in name} <= sealed
    verdict = verify_deep(lake.store)
    unsealed = [check for check in verdict.checks if "not sealed yet" in check.name]
    assert verdict.ok and unsealed[0].rows > 0
    lake.index()
    assert load_digests(lake.store).keys() == files(lake).keys()
    assert "not sealed yet" not in str(verify_deep(lake.store).checks)


@pytest.mark.parametrize(
    ("table", "fill"),
    [
        ("clip_facts", lambda lake: lake.index()),  # what it was made from is read from its manifest
        ("clips", lambda lake: lake.cut(2)),
        (VECTORS, lambda lake: lake.embed(["hashing"])),
    ],
)
def test_no_row_is_built_on_a_damaged_manifest(lake: Lake, table: str, fill: Callable[[Lake], object]) -> None:
    """A new version would take over what the manifest says, and nobody would look at that one any more."""
    damage(Path(lake.uri, manifest(table, lake.store.version(table))), at=0.1)  # the table still opens
    before = {path: path.stat().st_mtime_ns for path in files(lake).values()}
    with pytest.raises(Damaged, match=table):
        fill(lake)
    assert {path: path.stat().st_mtime_ns for path in files(lake).values()} == before


def test_a_table_that_was_removed_by_hand_is_made_anew(lake: Lake) -> None:
    for table in (VECTORS, "assets", "quarantine"):
        shutil.rmtree(Path(lake.uri, f"{table}.lance"), ignore_errors=True)
    again = open(lake.uri, LocalExecutor(threads=2))
    again.embed(["hashing"])
    again.index()
    assert verify_deep(again.store).ok and len(again.search("a truck", k=3).hits) == 3
    assert load_digests(again.store).keys() == files(again).keys()


def test_two_that_seal_one_table_agree(good: Lake, tmp_path: Path) -> None:
    shutil.copytree(good.uri, tmp_path / "copy")
    store = open(tmp_path / "copy").store
    rows = store.scan("digests", DIGESTS.names)
    store.append("digests", rows)
    assert load_digests(store) == load_digests(good.store)
    assert verify_deep(store).ok


@pytest.mark.parametrize(
    ("num_bytes", "sha256", "said"),
    [(3, "a", ""), (3, "b", "sha256"), (4, "a", "4 bytes, 3 were written"), (0, GONE, "is gone")],
)
def test_what_a_file_lacks_is_said(num_bytes: int, sha256: str, said: str) -> None:
    found = problem(Digest("f", "t", 3, "a"), num_bytes, sha256)
    assert (said in found) if said else found == ""


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_vectors_of_a_damaged_file_are_left_out_and_said(lake: Lake, how: str) -> None:
    path = one_file(lake, VECTORS, "data/*")
    rows = len(FlatIndex.load(lake.store, VECTORS).rows)
    fragments = lance.dataset(f"{lake.uri}/{VECTORS}.lance").get_fragments()
    lost = next(each.count_rows() for each in fragments if each.metadata.files[0].path == path.name)
    if how == "flip":
        damage(path)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.unlink()
    index = FlatIndex.load(lake.store, VECTORS)
    assert len(index.rows) == rows - lost == len(index.matrix)
    assert (
        f"1 of {len(fragments)} data files of {VECTORS} is damaged: {lost} of {rows} vectors left out" in index.notes[0]
    )
    hits = lake.search("a truck", k=50)
    assert "verify" in hits.notes[0] and "--deep" in repr(hits) and "--deep" in hits.to_html()
    assert hits.to_dict()["notes"] == list(hits.notes)


def test_a_deletion_that_is_damaged_takes_its_rows_along(lake: Lake) -> None:
    victim = lance.dataset(f"{lake.uri}/{VECTORS}.lance").to_table(limit=1)["embedding_id"][0].as_py()
    lake.store.delete(VECTORS, one_of("embedding_id", [victim]))
    seal(lake.store)
    assert not FlatIndex.load(lake.store, VECTORS).notes
    damage(one_file(lake, VECTORS, "_deletions/*"))
    index = FlatIndex.load(lake.store, VECTORS)
    assert "1 of" in index.notes[0] and victim not in index.rows["embedding_id"].to_pylist()


def test_a_table_of_which_nothing_holds_is_empty(lake: Lake) -> None:
    for path in Path(lake.uri, "clips.lance", "data").iterdir():
        damage(path)
    sound = Sound(lake.store)
    assert len(sound.scan("clips", ["clip_id"])) == 0 and "are damaged" in sound.notes[0]


@pytest.mark.parametrize("table", [VECTORS, "clips", "sample_data", "scenes"])
def test_a_manifest_that_is_not_what_was_written_is_refused(lake: Lake, table: str) -> None:
    damage(one_file(lake, table, "_versions/*.manifest"), 0.9)
    with pytest.raises(Damaged, match=r"miner (verify|restore)"):
        lake.search("a truck")


def test_a_table_that_is_gone_is_refused(lake: Lake) -> None:
    shutil.rmtree(Path(lake.uri, "sample_data.lance"))
    with pytest.raises(Damaged, match="had a table 'sample_data'"):
        lake.search("a truck")


def test_a_hit_whose_reading_is_lost_is_no_hit(lake: Lake) -> None:
    for path in Path(lake.uri, "sample_data.lance", "data").iterdir():
        damage(path)
    with pytest.raises(Damaged, match=r"rows of the answer are not in table 'sample_data'(.|\n)*verify"):
        lake.search("a truck", k=50, per="frame")


def test_filters_say_what_they_do_not_know(lake: Lake, good: Lake) -> None:
    damage(one_file(lake, "clip_facts", "data/*"))
    assert len(good.search("a truck", where="num_frames > 0")) > 0
    hits = lake.search("a truck", where="num_frames > 0")
    assert len(hits) == 0 and "clip_facts" in hits.notes[0]
    assert not lake.search("a truck").notes or "clip_facts" in hits.notes[0]


def test_a_damaged_key_index_is_not_asked_and_made_anew(lake: Lake, good: Lake) -> None:
    for path in Path(lake.uri, "sample_data.lance", "_indices").glob("*/page_data.lance"):
        damage(path, 0.3)
    here, there = lake.search("a truck"), good.search("a truck")
    assert [hit.to_dict() for hit in here] == [hit.to_dict() for hit in there]
    verdict = verify_deep(lake.store)
    assert not verdict.ok and {each.what for each in verdict.damage} == {"key index of sample_data"}
    assert verdict.damage[0].next_step == f"miner index {lake.uri}"
    lake.index()
    assert verify_deep(lake.store).ok
    assert not index_keys(lake.store, "sample_data")


def test_a_run_with_nothing_to_do_reads_no_key_index(lake: Lake) -> None:
    """That a file of one is damaged is seen by who was asked to mend, or is about to write by it."""
    for path in Path(lake.uri, "sample_data.lance", "_indices").glob("*/page_data.lance"):
        damage(path, 0.3)
    assert not any(report.changed for report in lake.index(mend=False))
    assert not verify_deep(lake.store).ok
    lake.index()
    assert verify_deep(lake.store).ok


def test_damaged_digests_are_no_damage_to_answers(lake: Lake, good: Lake) -> None:
    damage(one_file(lake, "digests", "_versions/*.manifest"), 0.5)
    hits = lake.search("a truck")
    assert [hit.to_dict() for hit in hits] == [hit.to_dict() for hit in good.search("a truck")]
    assert "no file could be checked" in hits.notes[0]
    assert not verify_deep(lake.store).ok


def test_a_lake_without_digests_is_searched_and_sealed_by_index(lake: Lake) -> None:
    shutil.rmtree(Path(lake.uri, "digests.lance"))
    assert len(lake.search("a truck")) > 0
    assert not verify_deep(lake.store).ok
    lake.index()
    assert load_digests(lake.store).keys() == files(lake).keys()
    assert verify_deep(lake.store).ok


@pytest.mark.fault
@pytest.mark.slow
def test_a_damaged_key_index_has_nothing_written_twice(lake: Lake) -> None:
    scene = lake.store.scan(VECTORS, ["scene_id"])["scene_id"][0].as_py()
    own = one_of("scene_id", [scene])
    total = lake.store.count(VECTORS)
    readings = pc.unique(lake.store.scan(VECTORS, ["sample_data_id"], own)["sample_data_id"]).to_pylist()
    lake.store.delete(VECTORS, one_of("sample_data_id", readings[::2]))
    lake.index()
    assert lake.store.count(VECTORS, own) and _hides_rows(lake, own)
    lake.embed(["hashing"])
    assert lake.store.count(VECTORS) == total
    assert [check for check in verify_deep(lake.store).checks if not check.ok] == []


def _hides_rows(lake: Lake, filter: str) -> bool:
    """Keep those flips of bits in key indexes that hide some of these rows without a word, until all are hidden."""
    left = lake.store.count(VECTORS, filter)
    for path in Path(lake.uri, f"{VECTORS}.lance", "_indices").rglob("page_data.lance"):
        data = bytearray(path.read_bytes())
        for place in range(len(data)):
            data[place] ^= 1
            path.write_bytes(data)
            seen = left
            with suppress(BaseException):  # Lance panics on some
                seen = min(lake.store.count(VECTORS, filter), left)
            if seen == 0:
                return True
            if seen == left:
                data[place] ^= 1
            left = seen
        path.write_bytes(data)
    return False
