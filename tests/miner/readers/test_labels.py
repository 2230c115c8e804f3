"""Label files beside pictures: each format on made-up files, broken ones, and real excerpts against their own files."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miner.errors import BadInput
from miner.readers.images import ImagesReader
from miner.readers.labels import _SPLIT, parse_drivelm, parse_scalabel, parse_yolo, yolo_rows


def _picture(path: Path, size: tuple[int, int] = (200, 100)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _rows(root: Path) -> list[dict[str, Any]]:
    reader = ImagesReader(str(root))
    return [row for ref in reader.scenes() for row in reader.read(ref.name).annotations.to_pylist()]


# ---- YOLO ----


def test_yolo_lines() -> None:
    assert parse_yolo("") == [] and parse_yolo("\n \n") == []
    assert parse_yolo("0 0.5 0.5 0.2 0.4\n\n12 0 0 1 1\n") == [
        (0, pytest.approx([0.4, 0.3, 0.6, 0.7])),
        (12, pytest.approx([-0.5, -0.5, 0.5, 0.5])),
    ]
    assert parse_yolo("1 0.1 0.2 0.5 0.1 0.3 0.9") == [(1, [0.1, 0.1, 0.5, 0.9])]  # a triangle


@pytest.mark.parametrize(
    "line",
    ["0 0.5 0.5 0.2", "car 0.5 0.5 0.2 0.2", "0 0.5 0.5 0.2 nan", "-1 0 0 1 1", "0 .5 .5 .2 .2 .9", "0.5 0 0 1 1"],
)
def test_yolo_lines_that_are_none(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_yolo(f"0 0.5 0.5 0.2 0.2\n{line}")


def test_yolo_rows_in_pixels() -> None:
    rows = yolo_rows([(0, [0.25, 0.5, 0.5, 1.0]), (5, [0, 0, 1, 1])], {0: "cone"}, (200, 100))
    assert [(row["category"], row["bbox_xyxy"]) for row in rows] == [
        ("cone", [50, 50, 100, 100]),
        ("class_5", [0, 0, 200, 100]),
    ]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labels/train/classes.txt", "cone\nsign\n"),
        ("obj.names", "cone\nsign"),
        ("data.yaml", "names: [cone, sign]"),
        ("data.yaml", "nc: 2\nnames:\n  0: cone\n  1: sign\n"),
    ],
)
def test_yolo_class_names(tmp_path: Path, file: str, text: str) -> None:
    _picture(tmp_path / "images/train/a b [1].png")
    _text(tmp_path / "labels/train/a b [1].txt", "1 0.5 0.5 0.5 0.5\n7 0.5 0.5 1 1\n")
    _text(tmp_path / file, text)
    sign, unknown = _rows(tmp_path)
    assert (sign["category"], sign["bbox_xyxy"], sign["source"]) == ("sign", [50, 25, 150, 75], "yolo")
    assert unknown["category"] == "class_7"


def test_yolo_labels_follow_the_last_images_folder(tmp_path: Path) -> None:
    _picture(tmp_path / "images/set/images/1.png")
    _picture(tmp_path / "images/set/images/2.png")
    _text(tmp_path / "images/set/labels/1.txt", "0 0.5 0.5 1 1")
    (row,) = _rows(tmp_path)
    assert row["category"] == "class_0" and row["bbox_xyxy"] == [0, 0, 200, 100] and row["track_id"] is None


def test_a_label_of_a_picture_that_cannot_be_read_keeps_its_shares(tmp_path: Path) -> None:
    _text(tmp_path / "images/broken.jpg", "no picture")
    _picture(tmp_path / "images/fine.png")
    for stem in ("broken", "fine"):
        _text(tmp_path / f"labels/{stem}.txt", "0 0.5 0.5 0.5 0.5")
    broken, fine = _rows(tmp_path)
    assert broken["bbox_xyxy"] is None and fine["bbox_xyxy"] == [50, 25, 150, 75]
    assert json.loads(broken["attributes"]) == {
        "flags": ["no-picture-size"],
        "box_shares_xyxy": [0.25, 0.25, 0.75, 0.75],
    }


@pytest.mark.parametrize(
    ("file", "text"), [("labels/1.txt", "cone here"), ("data.yaml", "names: {a"), ("data.yaml", "[1]")]
)
def test_broken_yolo_files_name_the_file(tmp_path: Path, file: str, text: str) -> None:
    _picture(tmp_path / "images/1.png")
    _text(tmp_path / "labels/1.txt", "0 0.5 0.5 1 1")
    _text(tmp_path / file, text)
    with pytest.raises(BadInput, match="bad-labels") as error:
        _rows(tmp_path)
    assert str(tmp_path / file) in error.value.detail


# ---- Scalabel ----

_CAR = {"id": 7, "category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 30, "y2": 40}, "attributes": {"occluded": True}}


def test_scalabel_frames() -> None:
    lane = {"id": "1", "category": "lane", "poly2d": []}
    frame = {"name": "a.jpg", "attributes": {"weather": "rain"}, "labels": [_CAR, lane]}
    weather, car, without_box = parse_scalabel([frame]).rows["a.jpg"]
    assert weather == {"category": "weather", "attributes": {"value": "rain"}, "source": "scalabel"}
    assert car["bbox_xyxy"] == [1, 2, 30, 40] and car["attributes"] == {"occluded": True}
    assert car["track_id"] is None  # ids of single pictures start again in each
    assert without_box["category"] == "lane" and "bbox_xyxy" not in without_box
    (tracked,) = parse_scalabel([frame | {"videoName": "v", "attributes": None, "labels": [_CAR]}]).rows["v/a.jpg"]
    assert tracked["track_id"] == "7"
    assert parse_scalabel([{"name": "a.jpg", "labels": None}]).rows == {"a.jpg": []}


def test_scalabel_files_find_their_pictures(tmp_path: Path) -> None:
    for name in ("train/1.png", "val/1.png", "video_a/1.png", "video_b/1.png"):
        _picture(tmp_path / "images" / name)
    day = {"attributes": {"timeofday": "day"}, "labels": [_CAR]}
    _text(tmp_path / "labels/det/det_train.json", json.dumps([{"name": "1.png", **day}]))
    _text(
        tmp_path / "labels/video_a.json",
        json.dumps({"frames": [{"name": "1.png", "videoName": "video_a", "labels": [_CAR]}]}),
    )
    reader = ImagesReader(str(tmp_path))
    found = {ref.name: reader.read(ref.name) for ref in reader.scenes()}
    # The plain name speaks of the train split, and of the video without labels of its own: nothing tells them apart.
    assert {name: len(tables.annotations) for name, tables in found.items()} == {
        "images/train": 2,
        "images/val": 0,
        "images/video_a": 1,
        "images/video_b": 2,
    }
    tables = found["images/train"]
    by_category = {row["category"]: row for row in tables.annotations.to_pylist()}
    assert json.loads(by_category["timeofday"]["attributes"]) == {"value": "day"}
    assert by_category["timeofday"]["bbox_xyxy"] is None
    assert by_category["car"]["sample_data_id"] == tables.sample_data["sample_data_id"][0].as_py()


def test_a_broken_file_stops_the_scene_it_is_named_after_only(tmp_path: Path) -> None:
    for name in ("video_a/1.png", "video_b/1.png"):
        _picture(tmp_path / name)
    _text(tmp_path / "labels/video_a.json", '[{"name": "1.png",\n "labels": [}]')
    reader = ImagesReader(str(tmp_path))
    assert len(reader.read("video_b").sample_data) == 1
    with pytest.raises(BadInput, match=r"video_a\.json: .*line 2"):
        reader.read("video_a")
    _text(tmp_path / "labels/all.json", "[")
    with pytest.raises(BadInput, match=r"all\.json"):
        ImagesReader(str(tmp_path)).read("video_b")


@pytest.mark.parametrize(
    "label",
    [
        {"category": "car", "box2d": {"x1": 1}},
        {"box2d": None},
        {"category": "car", "box2d": {"x1": "a", "y1": 0, "x2": 1, "y2": 1}},
        {"category": "car", "box2d": {"x1": float("nan"), "y1": 0, "x2": 1, "y2": 1}},
        "car",
    ],
)
def test_labels_that_make_no_sense(tmp_path: Path, label: Any) -> None:
    _picture(tmp_path / "1.png")
    _text(tmp_path / "labels.json", json.dumps([{"name": "1.png", "labels": [label]}]))
    with pytest.raises(BadInput, match="bad-labels"):
        _rows(tmp_path)


def test_other_json_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _picture(tmp_path / "1.png")
    _text(tmp_path / "camera.json", '{"fx": 1000}')
    with caplog.at_level(logging.WARNING):
        assert _rows(tmp_path) == []
    assert "camera.json" in caplog.text


# ---- DriveLM ----


def test_drivelm_scenes() -> None:
    info = {"Category": "Vehicle", "Status": None, "Visual_description": "Red car.", "2d_bbox": [1, 2, 3, 4]}
    key_frame = {
        "image_paths": {"CAM_FRONT": "../n/CAM_FRONT/f.jpg"},
        "key_object_infos": {"<c1,CAM_FRONT,2.0,3.0>": info},
    }
    labels = parse_drivelm({"s": {"scene_description": "Rain.", "key_frames": {"k": key_frame}}})
    (row,) = labels.rows["CAM_FRONT/f.jpg"]
    assert (row["category"], row["bbox_xyxy"]) == ("Vehicle", [1, 2, 3, 4])
    assert row["attributes"] == {"description": "Red car.", "object": "c1", "key_frame": "k"}
    assert labels.descriptions == {"CAM_FRONT/f.jpg": "Rain."}


@pytest.mark.parametrize("text", ['{"s": {"key_frames": {"k": {}}}}', '{"s": {"key_frames": 3}}', '{"s": '])
def test_broken_drivelm(tmp_path: Path, text: str) -> None:
    _picture(tmp_path / "samples/CAM_FRONT/1.png")
    _text(tmp_path / "train.json", text)
    with pytest.raises(BadInput, match=r"bad-labels: .*train\.json"):
        _rows(tmp_path)


# ---- real excerpts, counted from their own files ----


def test_real_tracon(test_data: Path) -> None:
    folder = test_data / "tracon"
    lines = {path.stem: path.read_text().split("\n") for path in (folder / "labels").rglob("*.txt")}
    expected = Counter({stem: sum(bool(line.strip()) for line in found) for stem, found in lines.items()})
    tables = ImagesReader(str(folder)).read("images/test")
    uri_of = dict(
        zip(tables.sample_data["sample_data_id"].to_pylist(), tables.sample_data["uri"].to_pylist(), strict=True)
    )
    rows = tables.annotations.to_pylist()
    assert Counter(Path(uri_of[row["sample_data_id"]]).stem for row in rows) == +expected and len(rows) > 0
    for row in rows:
        x0, y0, x1, y1 = row["bbox_xyxy"]
        width, height = Image.open(uri_of[row["sample_data_id"]]).size
        assert -1 <= x0 < x1 <= width + 1 and -1 <= y0 < y1 <= height + 1


def test_real_bdd100k(test_data: Path) -> None:
    folder = test_data / "bdd100k"
    pictures = {path.name for path in (folder / "images").rglob("*.jpg")}
    expected: Counter[str] = Counter()
    boxes = 0
    for path in (folder / "labels").rglob("*.json"):
        for frame in json.loads(path.read_text()):
            if frame["name"] in pictures:
                labels = frame.get("labels") or []
                boxes += sum("box2d" in label for label in labels)
                expected.update(label["category"] for label in labels)
                expected.update((frame.get("attributes") or {}).keys())
    rows = _rows(folder)
    assert Counter(row["category"] for row in rows) == expected
    assert sum(row["bbox_xyxy"] is not None for row in rows) == boxes > 0


def test_real_drivelm(test_data: Path) -> None:
    folder = test_data / "drivelm_nuscenes"
    (scene,) = json.loads((folder / "train_sample.json").read_text()).values()
    infos = [info for frame in scene["key_frames"].values() for info in frame["key_object_infos"].values()]
    tables = ImagesReader(str(folder)).read("nuscenes/samples")
    rows = tables.annotations.to_pylist()
    said = Counter((*row["bbox_xyxy"], json.loads(row["attributes"])["description"]) for row in rows)
    assert said == Counter((*map(float, info["2d_bbox"]), info["Visual_description"]) for info in infos)
    assert tables.scenes["description"].to_pylist() == [scene["scene_description"]]


@pytest.mark.parametrize("dataset", ["camvid", "cityscapes"])
def test_real_label_maps_are_no_labels(test_data: Path, dataset: str) -> None:
    assert _rows(test_data / dataset) == []


def test_a_file_name_that_only_contains_a_split_belongs_to_all() -> None:
    """`latest.json` holds the letters of `test` but is no file of the test split."""
    assert _SPLIT.findall("labels/latest.json") == []
    assert _SPLIT.findall("labels/det_20/det_train.json") == ["train"]
    assert _SPLIT.findall("images/100k/val") == ["val"]
