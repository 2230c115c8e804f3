"""Nine real excerpts into one lake: the tables hold exactly what the datasets' own files say, counted here anew."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from miner.executor import LocalExecutor
from miner.lake import Lake, create


@dataclass
class Counts:
    """Rows of one dataset."""

    scenes: int = 0
    readings: Counter[str] = field(default_factory=Counter)  # by modality
    annotations: Counter[str] = field(default_factory=Counter)  # by category


def pictures(folder: Path, *suffixes: str) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names if name.lower().endswith(suffixes))


def count_nuscenes(folder: Path) -> Counts:
    tables = {path.stem: json.loads(path.read_text()) for path in folder.glob("v1.0-*/*.json")}
    rows = {row["token"]: row for table in tables.values() for row in table}
    sensors = [rows[row["calibrated_sensor_token"]]["sensor_token"] for row in tables["sample_data"]]
    categories = [rows[rows[row["instance_token"]]["category_token"]]["name"] for row in tables["sample_annotation"]]
    return Counts(len(tables["scene"]), Counter(rows[token]["modality"] for token in sensors), Counter(categories))


def count_drivelm(folder: Path) -> Counts:
    """Cameras are channels of one scene, so all pictures are of one."""
    [scene] = json.loads((folder / "train_sample.json").read_text()).values()
    objects = [each for frame in scene["key_frames"].values() for each in frame["key_object_infos"].values()]
    there = {"/".join(path.parts[-2:]) for path in pictures(folder / "nuscenes", ".jpg")}
    named = [path for frame in scene["key_frames"].values() for path in frame["image_paths"].values()]
    assert {"/".join(Path(path).parts[-2:]) for path in named} <= there, "objects of pictures that are not here"
    return Counts(1, Counter(camera=len(there)), Counter(each["Category"] for each in objects))


def count_bdd100k(folder: Path) -> Counts:
    """A folder is a scene. A label file of a video holds its frames, the other one those of the split in its name."""
    found = Counts(len({path.parent for path in pictures(folder / "images", ".jpg")}))
    found.readings["camera"] = sum(1 for _ in pictures(folder / "images", ".jpg"))
    for file in pictures(folder / "labels", ".json"):
        of_video = {path.name for path in pictures(folder / "images/track", ".jpg") if path.parent.name == file.stem}
        single = {path.name for path in pictures(folder / "images/100k/train", ".jpg")}
        for frame in _frames(json.loads(file.read_text())):
            if Path(frame["name"]).name in (of_video or single):
                found.annotations.update(label["category"] for label in frame.get("labels") or [])
                found.annotations.update(list(frame.get("attributes") or {}))
    return found


def _frames(document: Any) -> list[dict[str, Any]]:
    return list(document["frames"] if isinstance(document, dict) else document)


def count_tracon(folder: Path) -> Counts:
    lines = [line for path in pictures(folder / "labels", ".txt") for line in path.read_text().splitlines() if line]
    frames = sum(1 for _ in pictures(folder / "images", ".jpg", ".png", ".jpeg"))
    return Counts(1, Counter(camera=frames), Counter(f"class_{line.split()[0]}" for line in lines))


def count_camvid(folder: Path) -> Counts:
    splits = [split for split in folder.iterdir() if split.is_dir() and not split.name.endswith("annot")]
    return Counts(len(splits), Counter(camera=sum(1 for split in splits for _ in pictures(split, ".png"))))


def count_cityscapes(folder: Path) -> Counts:
    frames = list(pictures(folder / "leftImg8bit", "_leftimg8bit.png"))
    return Counts(len({path.parent for path in frames}), Counter(camera=len(frames)))


def count_kitti_raw(folder: Path) -> Counts:
    [drive] = folder.glob("*/*_sync")
    boxes = [line.split()[0] for file in pictures(drive, ".txt") for line in file.read_text().splitlines()]
    sweeps = sum(1 for _ in pictures(drive / "velodyne_points", ".bin"))
    return Counts(1, Counter(camera=sum(1 for _ in pictures(drive, ".png")), lidar=sweeps), Counter(boxes))


def count_kitti_object(folder: Path) -> Counts:
    """Each frame is a drive of its own."""
    names = {path.stem for path in pictures(folder / "training/image_2", ".png")}
    labels = (file for file in pictures(folder, ".txt") if file.parent.name == "label_2")
    boxes = [line.split()[0] for file in labels for line in file.read_text().splitlines()]
    sweeps = sum(1 for _ in pictures(folder / "training/velodyne", ".bin"))
    return Counts(len(names), Counter(camera=len(names), lidar=sweeps), Counter(boxes))


def count_video(folder: Path) -> Counts:
    """A file is a scene; all frames, decoded one by one."""
    import av

    found = Counts(scenes=2)
    for path in pictures(folder, ".mp4"):
        with av.open(str(path)) as video:
            found.readings["camera"] += sum(1 for _ in video.decode(video=0))
    return found


COUNTS: dict[str, Callable[[Path], Counts]] = {
    "nuscenes": count_nuscenes,
    "drivelm_nuscenes": count_drivelm,
    "bdd100k": count_bdd100k,
    "camvid": count_camvid,
    "cityscapes": count_cityscapes,
    "tracon": count_tracon,
    "kitti_raw": count_kitti_raw,
    "kitti_object": count_kitti_object,
    "dashcam_video": count_video,
}
READERS = {"dashcam_video": "video:all"}


@pytest.fixture(scope="module")
def lake(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """All of them, one after the other, then cut, embedded and indexed together."""
    lake = create(tmp_path_factory.mktemp("real") / "lake", LocalExecutor(threads=2))
    for dataset in COUNTS:
        lake.ingest(test_data / dataset, READERS.get(dataset))
    lake.cut()
    lake.embed(["hashing", "descriptor"])
    lake.index()
    return lake


def found_in(lake: Lake, dataset: str) -> Counts:
    """The rows of one dataset, from the tables alone."""
    scene_ids = lake.store.scan("scenes", ["scene_id"], f"dataset = '{dataset}'")["scene_id"]

    def column(table: str, name: str) -> Counter[str]:
        rows = lake.store.scan(table, ["scene_id", name])
        return Counter(rows.filter(pc.is_in(rows["scene_id"], scene_ids))[name].to_pylist())

    return Counts(len(scene_ids), column("sample_data", "modality"), column("annotations", "category"))


@pytest.mark.parametrize("dataset", COUNTS)
def test_the_tables_hold_what_the_files_say(lake: Lake, test_data: Path, dataset: str) -> None:
    expected = COUNTS[dataset](test_data / dataset)
    assert expected.scenes and expected.readings["camera"]
    assert found_in(lake, dataset) == expected


def test_there_is_something_to_compare(test_data: Path) -> None:
    """The counts above are no zeros met by zeros."""
    counts = {dataset: count(test_data / dataset) for dataset, count in COUNTS.items()}
    assert all(counts[name].annotations.total() > 0 for name in ("nuscenes", "drivelm_nuscenes", "bdd100k", "tracon"))
    assert counts["nuscenes"].readings["lidar"] > 0


def test_nothing_is_lost_on_the_way(lake: Lake, test_data: Path) -> None:
    readings = sum((COUNTS[dataset](test_data / dataset).readings for dataset in COUNTS), Counter[str]())
    embedded = {encoder["modality"]: encoder["readings"] for encoder in lake.describe()["encoders"]}
    assert embedded == readings and lake.store.count("assets") == readings.total()
    assert lake.store.count("quarantine") == 0
    assert [check for check in lake.verify() if not check.ok] == []
    cut = lake.store.scan("clips", ["scene_id"])["scene_id"].to_pylist()
    assert set(cut) == set(lake.store.scan("scenes", ["scene_id"])["scene_id"].to_pylist())


def test_the_same_again_changes_nothing(lake: Lake, test_data: Path) -> None:
    versions = {table: lake.store.version(table) for table in lake.store.tables()}
    reports = [lake.ingest(test_data / dataset, READERS.get(dataset)) for dataset in COUNTS]
    reports += [lake.cut(), lake.embed(["hashing", "descriptor"]), *lake.index()]
    assert not any(report.changed for report in reports)
    assert versions == {table: lake.store.version(table) for table in lake.store.tables()}


def test_a_frame_finds_itself(lake: Lake, test_data: Path) -> None:
    """A picture of the excerpt, given as a query, is the best hit."""
    [picture] = (test_data / "nuscenes" / "samples" / "CAM_FRONT").iterdir()
    best = lake.search(images=str(picture), k=1, per="frame", where="dataset = 'nuscenes'")[0]
    assert (best.uri, best.channel) == (str(picture), "CAM_FRONT")
    assert best.score > 0.999


def test_a_video_frame_is_found_by_its_byte_range(lake: Lake) -> None:
    """A frame's vector is that of its pixels, read again from the range its row names."""
    row = lake.store.scan("sample_data", filter="fileformat = 'mp4'").sort_by("timestamp_ns").to_pylist()[-1]
    best = lake.search(like=row["sample_data_id"], k=1, per="frame", where="dataset = 'dashcam_video'")[0]
    assert best.fileformat == "mp4" and best.offset is not None and best.score > 0.1
    assert best.show()._repr_png_().startswith(b"\x89PNG")


def test_a_sweep_finds_itself_and_its_drive(lake: Lake, test_data: Path) -> None:
    sweeps = sorted(pictures(test_data / "kitti_raw", ".bin"))
    hits = lake.search(lidar=str(sweeps[3]), k=len(sweeps), per="frame")
    assert hits.encoder == "descriptor" and hits[0].uri == str(sweeps[3]) and hits[0].score > 0.9999
    assert {hit.uri for hit in hits} == {str(sweep) for sweep in sweeps}
    again = lake.search(like=hits[0].sample_data_id, k=3, per="frame")
    assert again.encoder == "descriptor" and len(again) == 3
    assert not {hit.uri for hit in again} & {hit.uri for hit in hits}, "its own clip is no answer"
