"""The images reader on made-up trees for every rule, and on real excerpts against a plain count of their files."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from miner.errors import BadInput, NotFound
from miner.readers import find_reader
from miner.readers.images import ImagesReader


def _tree(root: Path, *names: str) -> str:
    """Empty files: the reader looks at names only."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return str(root)


def _frames(source: str | Path) -> dict[str, list[tuple[str, str]]]:
    """By scene the (channel, file) pairs in order of time."""
    reader = ImagesReader(str(source))
    found = {}
    for ref in reader.scenes():
        data = reader.read(ref.name).sample_data
        names = [os.path.relpath(uri, source) for uri in data["uri"].to_pylist()]
        found[ref.name] = list(zip(data["channel"].to_pylist(), names, strict=True))
    return found


def test_a_folder_with_pictures_is_a_scene(tmp_path: Path) -> None:
    source = _tree(tmp_path, "top.jpg", "b/2.png", "b/10.JPEG", "b/deep/er/x.tif", "a 1/é.webp", "empty/readme.txt")
    assert _frames(source) == {
        ".": [("CAM", "top.jpg")],
        "a 1": [("CAM", "a 1/é.webp")],
        "b": [("CAM", "b/2.png"), ("CAM", "b/10.JPEG")],
        "b/deep/er": [("CAM", "b/deep/er/x.tif")],
    }


def test_the_columns(tmp_path: Path) -> None:
    source = _tree(tmp_path / "my set", "drive/f_1.jpeg", "drive/f_2.TIF")
    (tmp_path / "my set/drive/f_2.TIF").write_bytes(b"12345")
    tables = ImagesReader(source).read("drive")
    (scene,), (first, second) = tables.scenes.to_pylist(), tables.sample_data.to_pylist()
    assert (scene["dataset"], scene["name"]) == ("my set", "drive")
    assert (scene["start_ns"], scene["end_ns"]) == (0, 10**9 + 1)
    assert first["fileformat"] == "jpg" and second["fileformat"] == "tiff"
    assert first["num_bytes"] == 0 and second["num_bytes"] == 5
    assert first["uri"] == str(tmp_path / "my set" / "drive" / "f_1.jpeg")
    assert first["modality"] == "camera" and first["is_key_frame"] and first["intrinsic"] is None


@pytest.mark.parametrize(
    "channel",
    [
        *("CAM_FRONT", "cam0", "CAM_BACK_LEFT", "camera_front", "CAMERA_01", "camera1", "cam-2", "front_camera"),
        *(
            "back_left_camera",
            "image_00",
            "image_03",
            "image_2",
            "zed_left",
            "left",
            "Right",
            "front_left",
            "ring_side_left",
        ),
        "stereo_front_right",
    ],
)
def test_folders_named_like_cameras_are_channels(tmp_path: Path, channel: str) -> None:
    source = _tree(tmp_path, f"drive/{channel}/1.jpg", f"drive/{channel}/2.jpg")
    assert _frames(source) == {"drive": [(channel, f"drive/{channel}/1.jpg"), (channel, f"drive/{channel}/2.jpg")]}


@pytest.mark.parametrize(
    "folder", ["camvid", "campus", "lefthand", "image_04", "images", "image_020", "data", "street"]
)
def test_other_folders_are_scenes(tmp_path: Path, folder: str) -> None:
    assert _frames(_tree(tmp_path, f"drive/{folder}/1.jpg")) == {f"drive/{folder}": [("CAM", f"drive/{folder}/1.jpg")]}


def test_kitti_data_folders_are_looked_through(tmp_path: Path) -> None:
    names = [f"day/drive/image_0{camera}/data/00000000{frame}.png" for camera in (2, 3) for frame in (11, 12)]
    source = _tree(tmp_path, *names, "data/1.jpg", "day/drive/loose.jpg")
    assert _frames(source) == {
        "data": [("CAM", "data/1.jpg")],
        "day/drive": [
            *(("image_02", names[0]), ("image_03", names[2]), ("image_02", names[1]), ("image_03", names[3])),
            ("CAM", "day/drive/loose.jpg"),
        ],
    }


def test_a_source_that_is_a_camera_folder(tmp_path: Path) -> None:
    assert _frames(_tree(tmp_path / "CAM_FRONT", "1.jpg")) == {".": [("CAM", "1.jpg")]}
    assert _frames(_tree(tmp_path / "samples", "CAM_FRONT/1.jpg")) == {".": [("CAM_FRONT", "CAM_FRONT/1.jpg")]}


@pytest.mark.parametrize(
    "name",
    [
        *("trainannot/1.png", "gtFine/train/aachen/a_gtFine_color.png", "masks/1.png", "labels/drivable/1.png"),
        *("annotations/1.png", "SegmentationClass/1.png", "gt/1.png", "lane_masks/1.png", "depth/1.png"),
        *("all/a_gtFine_labelIds.png", "all/a_gtFine_instanceIds.png", "all/a_gtFine_color.png", "all/1_mask.png"),
        *("all/.hidden.jpg", ".cache/1.jpg", "all/._1.jpg", "__MACOSX/1.jpg", "thumbs/1.jpg", "all/Thumbs.db"),
        *("all/README", "all/notes.txt", "all/clip.mp4", "all/jpg", "all/x.jpg.part"),
    ],
)
def test_what_is_no_frame(tmp_path: Path, name: str) -> None:
    source = _tree(tmp_path, "drive/frame.jpg", name)
    assert _frames(source) == {"drive": [("CAM", "drive/frame.jpg")]}
    shutil.rmtree(tmp_path / "drive")
    assert not ImagesReader.matches(source)


@pytest.mark.parametrize(
    "name", ["maskenball.jpg", "color.jpg", "frame_color.png", "label printer.jpg", "depths/1.png"]
)
def test_what_only_looks_like_a_label_map(tmp_path: Path, name: str) -> None:
    assert len(_frames(_tree(tmp_path, name))) == 1


def test_links_out_of_the_source_are_not_followed(tmp_path: Path) -> None:
    outside, inside = Path(_tree(tmp_path / "outside", "1.jpg", "d/2.jpg")), Path(_tree(tmp_path / "in", "a/own.jpg"))
    (inside / "a" / "stranger.jpg").symlink_to(outside / "1.jpg")
    (inside / "a" / "twin.jpg").symlink_to(inside / "a" / "own.jpg")
    (inside / "a" / "broken.jpg").symlink_to(inside / "a" / "none.jpg")
    (inside / "folder").symlink_to(outside / "d")
    (inside / "a" / "loop").symlink_to(inside)
    assert _frames(inside) == {"a": [("CAM", "a/own.jpg"), ("CAM", "a/twin.jpg")]}
    (tmp_path / "link").symlink_to(inside)  # the source itself may be a link
    assert len(_frames(tmp_path / "link")["a"]) == 2


def test_ids_follow_names_not_places_or_content(tmp_path: Path) -> None:
    names = ("drive/CAM_FRONT/1.jpg", "drive/CAM_BACK/1.jpg", "drive/1.jpg", "other/1.jpg")
    here, there = ImagesReader(_tree(tmp_path / "x/set", *names)), ImagesReader(_tree(tmp_path / "y/set", *names))
    (tmp_path / "y/set/other/1.jpg").write_bytes(b"other content")

    def ids(reader: ImagesReader) -> list[str]:
        return [i for ref in reader.scenes() for i in reader.read(ref.name).sample_data["sample_data_id"].to_pylist()]

    assert list(here.scenes()) == list(there.scenes())
    assert ids(here) == ids(there) and len(set(ids(here))) == 4
    named = ImagesReader(str(tmp_path / "x/set"), "renamed")
    assert set(ids(named)).isdisjoint(ids(here))
    assert ids(pickle.loads(pickle.dumps(named))) == ids(named)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    assert not ImagesReader.matches(str(tmp_path / "none"))
    with pytest.raises(NotFound, match="no such folder"):
        ImagesReader(str(tmp_path / "none"))
    with pytest.raises(BadInput, match="no scene 'x'"):
        ImagesReader(str(tmp_path)).read("x")
    assert list(ImagesReader(str(tmp_path)).scenes()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = _tree(tmp_path, "a/1.jpg", "closed/2.jpg")
    (tmp_path / "closed").chmod(0)
    with caplog.at_level(logging.WARNING):
        assert list(_frames(source)) == ["a"]
    (tmp_path / "closed").chmod(0o700)
    assert "closed" in caplog.text


def test_names_that_are_no_text_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = _tree(tmp_path, "a/1.jpg")
    try:
        (tmp_path / "a" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
        (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with caplog.at_level(logging.WARNING):
        assert _frames(source) == {"a": [("CAM", "a/1.jpg")]}
    assert "not UTF-8" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "reader"),
    [
        ("nuscenes", "nuscenes"),
        *((name, "images") for name in ("drivelm_nuscenes", "bdd100k", "camvid", "cityscapes", "tracon")),
    ],
)
def test_real_sources_find_their_reader(test_data: Path, dataset: str, reader: str) -> None:
    assert find_reader(str(test_data / dataset)).name == reader


# ---- real excerpts, counted by hand-written walks over their files ----


def _listed(folder: Path, below: str, suffix: str) -> Counter[str]:
    """Files by the folder they are in, without the reader's code."""
    found: Counter[str] = Counter()
    for place, _, names in os.walk(folder / below):
        found[os.path.relpath(place, folder)] += sum(name.endswith(suffix) for name in names)
    return +found


@pytest.mark.parametrize(
    ("dataset", "below", "suffix"),
    [
        ("camvid", "train", ".png"),
        ("cityscapes", "leftImg8bit", ".png"),
        ("tracon", "images", "g"),
        ("bdd100k", "images", ".jpg"),
    ],
)
def test_real_counts(test_data: Path, dataset: str, below: str, suffix: str) -> None:
    expected = _listed(test_data / dataset, below, suffix)
    frames = _frames(test_data / dataset)
    assert Counter({scene: len(found) for scene, found in frames.items()}) == expected
    assert {channel for found in frames.values() for channel, _ in found} == {"CAM"}


def test_real_cameras_of_drivelm(test_data: Path) -> None:
    folder = test_data / "drivelm_nuscenes"
    expected = _listed(folder, "nuscenes", ".jpg")
    (scene, found), *others = _frames(folder).items()
    assert not others and scene == "nuscenes/samples"
    assert Counter(f"{scene}/{channel}" for channel, _ in found) == expected and len(expected) == 6
    times = ImagesReader(str(folder)).read(scene).sample_data["timestamp_ns"].to_pylist()
    written = [int(name.rpartition("__")[2].removesuffix(".jpg")) * 1000 for _, name in found]
    assert times == written == sorted(written)


def test_real_times_of_camvid_are_a_second_apart(test_data: Path) -> None:
    tables = ImagesReader(str(test_data / "camvid")).read("train")
    stems = [Path(uri).stem for uri in tables.sample_data["uri"].to_pylist()]
    times = [time_ns / 1e9 for time_ns in tables.sample_data["timestamp_ns"].to_pylist()]
    assert stems == sorted(stems)
    steps = [after - before for before, after in pairwise(times)]
    same_sequence = [before.split("_")[0] == after.split("_")[0] for before, after in pairwise(stems)]
    assert steps == [1 if same else 60 for same in same_sequence]
    assert same_sequence.count(False) == len({stem.split("_")[0] for stem in stems}) - 1


def test_every_excerpt_folder_is_read_or_refused(test_data: Path) -> None:
    """Whatever dataset it is, no picture is read twice and ids never collide."""
    for folder in sorted(path for path in test_data.iterdir() if path.is_dir()):
        if not ImagesReader.matches(str(folder)):
            continue
        reader = ImagesReader(str(folder))
        uris = [uri for ref in reader.scenes() for uri in reader.read(ref.name).sample_data["uri"].to_pylist()]
        assert uris and len(set(uris)) == len(uris), folder.name


def test_real_tables_are_plain_json(test_data: Path) -> None:
    tables = ImagesReader(str(test_data / "bdd100k")).read("images/track/train/00091078-875c1f73")
    assert all(isinstance(json.loads(text), dict) for text in tables.annotations["attributes"].to_pylist())
