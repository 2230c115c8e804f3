"""Real excerpts: a burst of fog is one rare event, frames of a car that stands in a jam are few, rare classes lead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from miner.lake import Lake, create


@pytest.fixture(scope="module")
def lake(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A clip a frame, of fog, a jam, and roads of four datasets."""
    folder = tmp_path_factory.mktemp("real")
    for camera in ("zed_left", "zed_right"):
        shutil.copytree(test_data / "radiate" / "fog_6_0" / camera, folder / "fog" / camera)
    made = create(folder / "lake")
    sources = {"fog": folder / "fog", "jam": test_data / "kitti_raw", "kitti": test_data / "kitti_object"}
    sources |= {"bdd": test_data / "bdd100k" / "images", "camvid": test_data / "camvid" / "train"}
    for name, source in sources.items():
        made.ingest(source, dataset=name)
    made.cut(0.1)
    made.embed(views="whole")
    made.index()
    return made


def events_of(lake: Lake, dataset: str) -> tuple[set[str], int]:
    """The events of a dataset, and how many clips it has."""
    clips = {row["clip_id"] for row in lake.store.scan("clip_facts", filter=f"dataset = '{dataset}'").to_pylist()}
    of = {row["clip_id"]: row["event_id"] for row in lake.store.scan("events").to_pylist()}
    return {of[clip] for clip in clips}, len(clips)


@pytest.mark.slow
def test_a_burst_of_fog_is_one_rare_event(lake: Lake) -> None:
    hits = lake.rare(200)
    events, clips = events_of(lake, "fog")
    assert (len(events), clips) == (1, 15)
    [place] = [hit.rank for hit in hits if hit.clip_id in events]
    assert place <= 0.1 * len(hits) and "15 clips of one event" in hits[place - 1].why


@pytest.mark.slow
def test_a_jam_is_few_events(lake: Lake) -> None:
    lake.rare(1)
    events, clips = events_of(lake, "jam")
    assert len(events) <= 3 and clips == 11


@pytest.mark.slow
def test_the_rarest_classes_lead(lake: Lake) -> None:
    entries = lake.tail("label").entries
    counts = [entry["events"] for entry in entries]
    assert counts == sorted(counts) and counts[0] == 1 and len(entries) > 5
    assert "Car" in [entry["name"] for entry in entries][-3:]
