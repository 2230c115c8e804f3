"""Duplicates in a lake: by bytes, by pictures, by vectors; what is kept; and what the table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kernels.thinning import NO_EDGES, Space
from miner.dedup import Rule, removed_ids
from miner.errors import MinerError, UsageError
from miner.lake import Lake
from miner.pictures import Pictures, exact_pairs, recoded_pairs
from miner.schema import ASSETS, DUPLICATES, check
from miner.semdedup import semdedup
from miner.store import Store
from tests.footages import around, unit
from tests.miner.test_rare import lake_of as lake_without_assets
from tests.miner.test_rare import made

ROWS = made()


def lake_of(folder: Path, **changed: dict[str, Any]) -> Store:
    """The small lake, every reading with an asset of its own; `changed` by scene number: columns of its assets."""
    store = lake_without_assets(folder, ROWS)
    scenes = {scene["scene_id"]: number for number, scene in enumerate(ROWS["scenes"])}
    rows = []
    for number, reading in enumerate(ROWS["sample_data"]):
        own = scenes[reading["scene_id"]]
        place = sum(other["scene_id"] == reading["scene_id"] for other in ROWS["sample_data"][:number])
        facts = {"sha256": f"{number:064d}", "phash": hash((own, place, "picture")), "sharpness": 100.0 + own}
        facts |= {key: value(place) for key, value in changed.get(f"scene_{own}", {}).items()}
        key = {name: reading[name] for name in ("sample_data_id", "scene_id", "modality")}
        rows.append(key | facts | {"num_bytes": 1, "flags": []})
    store.ensure("assets")
    store.append("assets", check(pa.Table.from_pylist(rows, ASSETS), ASSETS))
    return store


def clips_of(number: int) -> list[str]:
    scene = ROWS["scenes"][number]["scene_id"]
    return [clip["clip_id"] for clip in ROWS["clips"] if clip["scene_id"] == scene]


def test_same_bytes_and_same_pictures(tmp_path: Path) -> None:
    bytes_of = {"sha256": lambda place: f"same {place}"}
    pictures = {"phash": lambda place: 0x123456789ABCDEF * (place + 1) % 2**62}
    nearly = {"phash": lambda place: 0x123456789ABCDEF * (place + 1) % 2**62 ^ 0b101}
    store = lake_of(tmp_path / "lake", scene_0=bytes_of, scene_1=bytes_of, scene_2=pictures, scene_3=nearly)
    done = Lake(store).dedup(eps=0.0)
    rows = {row["clip_id"]: row for row in store.scan("duplicates").to_pylist()}
    assert {name: (rows[name]["kept_id"], rows[name]["kind"]) for name in clips_of(0) + clips_of(2)} == {
        **{name: (kept, "exact") for name, kept in zip(clips_of(0), clips_of(1), strict=True)},
        **{name: (kept, "near") for name, kept in zip(clips_of(2), clips_of(3), strict=True)},
    }, "the sharper one stands for the other"
    assert set(rows) == set(removed_ids(store).to_pylist()) == {*clips_of(0), *clips_of(2)}
    assert done.to_dict()["removed"] == {"exact": 3, "near": 3, "semantic": 0}
    assert done.to_dict()["guarantee"]["holds"]


def test_semantic_duplicates_and_who_is_kept(tmp_path: Path) -> None:
    store = lake_of(tmp_path / "lake")
    lake = Lake(store)
    everything = lake.dedup(eps=0.99, dry_run=True)
    assert not store.exists("duplicates") and everything.kept.kept.sum() == 1
    sharpest = everything.footage.clip_ids[int(np.flatnonzero(everything.kept.kept)[0])].as_py()
    assert sharpest in clips_of(len(ROWS["scenes"]) - 1)
    first = lake.dedup(eps=0.99, keep="first", dry_run=True)
    assert first.kept.kept[0] and first.kept.kept.sum() == 1
    done = lake.dedup(eps=0.02)
    assert 0 < done.rows().num_rows < len(ROWS["clips"]) and done.rows().schema.equals(DUPLICATES)
    assert (done.rows()["distance"].to_numpy() <= 0.02 + 1e-5).all()
    assert store.scan("duplicates").sort_by("clip_id").equals(done.rows().sort_by("clip_id"))


def test_another_eps_makes_the_table_anew_the_same_does_not(tmp_path: Path) -> None:
    store = lake_of(tmp_path / "lake")
    lake = Lake(store)
    lake.dedup(eps=0.02)
    version, rows = store.version("duplicates"), store.count("duplicates")
    lake.dedup(eps=0.02)
    assert store.version("duplicates") == version
    lake.dedup(eps=0.3)
    assert store.version("duplicates") > version and store.count("duplicates") > rows
    assert store.count("clips") == len(ROWS["clips"]), "no clip goes"


def test_the_table_is_what_is_told_and_checked(tmp_path: Path) -> None:
    store = lake_of(tmp_path / "lake")
    lake = Lake(store)
    judged, told = lake.dedup(eps=0.02, dry_run=True), lake.dedup(eps=0.02)
    assert told.to_dict() == judged.to_dict() and told.rows().equals(judged.rows())
    kept = store.scan("duplicates")
    swapped = kept.set_column(kept.column_names.index("kept_id"), "kept_id", kept["clip_id"])
    store.replace("duplicates", swapped, "false", {})  # no run of ours: the rows stay up to date as far as is known
    store.delete("duplicates", "clip_id != kept_id")
    with pytest.raises(MinerError, match="broke its promise"):
        lake.dedup(eps=0.02)


def test_labels_decide_if_asked(tmp_path: Path) -> None:
    store = lake_of(tmp_path / "lake")
    done = Lake(store).dedup(eps=0.99, keep="labels", dry_run=True)
    assert done.kept.kept.sum() == 1


@pytest.mark.parametrize("wrong", [{"eps": -0.1}, {"eps": 1.0}, {"eps": float("nan")}, {"keep": "best"}])
def test_limits(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Rule(**wrong)


def test_semdedup_leaves_drifting_frames_without_a_representative() -> None:
    """60 frames that drift slowly: its rule keeps few, and most of the removed have no kept one near."""
    angles = np.linspace(0, 2, 60)
    frames = unit(np.column_stack([np.cos(angles), np.sin(angles)]))
    found = semdedup([Space(frames, float(np.cos(0.15)))], NO_EDGES, np.arange(60))
    assert found.clips == 60 and found.removed == 59 and found.uncovered > 0.8 * 59
    apart = around(unit(np.eye(8)), 0.0, np.random.default_rng(0))
    assert semdedup([Space(apart, 0.9)], NO_EDGES, np.arange(8)) == (8, 0, 0)


def test_hashes_of_other_pictures_do_not_meet() -> None:
    hashes = [(5,), (5 ^ 0b111,), (5 ^ 0b1111,), (0,), (0,), (5, 6), (-1,), (-1 ^ 2,), ()]
    pictures = Pictures([""] * 9, hashes, np.zeros(9), np.zeros(9, np.bool_))
    found = recoded_pairs(pictures)
    assert set(zip(found.left.tolist(), found.right.tolist(), strict=True)) == {(0, 1), (1, 2), (6, 7)}
    digests = Pictures(["a", "b", "a", "", "", "a"], hashes, np.zeros(9), np.zeros(9, np.bool_))
    same = exact_pairs(digests)
    assert list(zip(same.left.tolist(), same.right.tolist(), strict=True)) == [(0, 2), (0, 5)]
