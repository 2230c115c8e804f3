"""Exports: read back by who will read them, the same bytes again, whole files or none, resumed; refused elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simplejpeg

from embeddings.plugins import plugin_names
from miner.errors import MinerError, NotFound, UsageError
from miner.export import MANIFEST, export
from miner.exporters import GROUP
from miner.exporters.content import Options
from miner.lake import Lake, create
from miner.simulation import Spec, record
from miner.training_sets import Dataset
from tests.s3 import Cloud, cloud, s3_server  # noqa: F401  fixtures
from tests.videos import write_video

FORMATS = plugin_names(GROUP)
SMALL = Options(part_clips=2)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two simulated drives with cameras and LiDAR, and a video, cut into clips of a second."""
    root = tmp_path_factory.mktemp("source")
    record(Spec(scenes=2, seconds=3.0, width=64, height=36, beams=8, azimuths=90, camera_hz=2.0), root / "drives")
    write_video(root / "films" / "film.mp4", 20)
    lake = create(root / "lake")
    lake.ingest(root / "drives")
    lake.ingest(root / "films")
    lake.cut(1)
    lake.index()
    lake.select({"budget": 7, "seed": 1}, "v")
    return lake


@pytest.fixture(scope="module")
def version(lake: Lake) -> Dataset:
    return lake.dataset("v@1")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def readings_of(version: Dataset) -> dict[str, str]:
    """The clip of each reading of the version, found row by row."""
    clips = version.to_arrow().to_pylist()
    rows = version.snapshot.scan("sample_data", ["sample_data_id", "scene_id", "timestamp_ns"]).to_pylist()
    return {
        row["sample_data_id"]: clip["clip_id"]
        for row in rows
        for clip in clips
        if clip["scene_id"] == row["scene_id"] and clip["start_ns"] <= row["timestamp_ns"] < clip["end_ns"]
    }


@pytest.mark.parametrize("name", FORMATS)
def test_any_format_is_deterministic_and_says_what_it_wrote(name: str, version: Dataset, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    done = export(version, name, one, SMALL)
    export(version, name, two, SMALL)
    assert tree(one) == tree(two)
    manifest = json.loads((one / MANIFEST).read_text())
    assert manifest == done.manifest and manifest["complete"] and manifest["left_out"] == []
    listed = {each["path"]: (each["num_bytes"], each["sha256"]) for each in manifest["files"]}
    files = {path: data for path, data in tree(one).items() if path != MANIFEST}
    assert listed == {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in files.items()}
    assert manifest["dataset"]["version_id"] == "v@1" and manifest["dataset"]["tables"] == dict(
        version.snapshot.versions
    )
    jobs = {run["job"] for run in manifest["lineage"]}
    assert {"ingest", "cut", "index", "select"} <= jobs
    again = export(version, name, one, SMALL)
    assert again.written == 0 and tree(one) == tree(two)


@pytest.mark.parametrize("name", FORMATS)
def test_any_format_without_a_clip(name: str, lake: Lake, tmp_path: Path) -> None:
    lake.select({"budget": 1, "fill": False}, "empty")
    done = export(lake.dataset("empty"), name, tmp_path / "out")
    assert done.manifest["complete"] and sum(each["clips"] for each in done.manifest["files"]) == 0


def test_parquet_read_by_pandas_is_the_version(version: Dataset, tmp_path: Path) -> None:
    export(version, "parquet", tmp_path / "out", SMALL)
    clips = pd.read_parquet(tmp_path / "out" / "clips")
    wanted = version.to_pandas()
    assert clips[list(wanted.columns)].equals(wanted)
    readings = pd.read_parquet(tmp_path / "out" / "readings")
    assert dict(zip(readings["sample_data_id"], readings["clip_id"], strict=True)) == readings_of(version)
    notes = pd.read_parquet(tmp_path / "out" / "annotations")
    scenes = set(version.to_arrow()["scene_id"].to_pylist())
    held = version.snapshot.scan("annotations").to_pylist()
    assert set(notes["annotation_id"]) <= {row["annotation_id"] for row in held if row["scene_id"] in scenes}
    labels = notes[notes["category"] == "weather"].groupby("clip_id").size()
    simulated = [clip for clip in clips.itertuples() if clip.dataset == "synthetic"]
    assert len(labels) == len(simulated) > 0 and (labels == 1).all(), "a label of a scene holds in each of its clips"


def test_jsonl_has_all_of_a_clip(version: Dataset, tmp_path: Path) -> None:
    export(version, "jsonl", tmp_path / "out", SMALL)
    lines = [json.loads(line) for path in sorted((tmp_path / "out").glob("*.jsonl")) for line in path.open()]
    assert [line["clip_id"] for line in lines] == version.to_arrow()["clip_id"].to_pylist()
    found = {row["sample_data_id"]: line["clip_id"] for line in lines for row in line["readings"]}
    assert found == readings_of(version)


def samples(folder: Path) -> Iterator[dict[str, Any]]:
    webdataset = pytest.importorskip("webdataset")
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    yield from webdataset.WebDataset(shards, shardshuffle=False)


def test_webdataset_reads_the_clips(version: Dataset, tmp_path: Path) -> None:
    export(version, "webdataset", tmp_path / "out", SMALL)
    read = list(samples(tmp_path / "out"))
    assert [each["__key__"] for each in read] == version.to_arrow()["clip_id"].to_pylist()
    wanted, found = readings_of(version), {}
    uris = {row["sample_data_id"]: row for row in version.snapshot.scan("sample_data").to_pylist()}
    for sample in read:
        document = json.loads(sample["json"])
        for reading in document["readings"]:
            found[reading["sample_data_id"]] = document["clip_id"]
            data, row = sample[reading["key"]], uris[reading["sample_data_id"]]
            if row["fileformat"] == "mp4":
                assert simplejpeg.decode_jpeg(data).ndim == 3
            else:
                assert data == Path(row["uri"]).read_bytes()
    assert found == wanted
    kinds = {key.rpartition(".")[2] for sample in read for key in sample if not key.startswith("__")}
    assert {"json", "jpg", "bin"} <= kinds


def test_webdataset_reads_frames(version: Dataset, tmp_path: Path) -> None:
    channel = version.snapshot.scan("sample_data", ["channel"], "modality = 'camera'")["channel"][0].as_py()
    export(version, "webdataset", tmp_path / "out", Options((channel,), key_frames=True, per="frame"))
    rows = version.snapshot.scan("sample_data", filter=f"channel = '{channel}' AND is_key_frame").to_pylist()
    wanted = {row["sample_data_id"] for row in rows} & {*readings_of(version)}
    read = list(samples(tmp_path / "out"))
    assert {each["__key__"] for each in read} == wanted and len(read) == len(wanted) > 0
    document = json.loads(read[0]["json"])
    assert document["clip"]["clip_id"] == readings_of(version)[read[0]["__key__"]]


def test_what_cannot_be_read_is_left_out_and_told(lake: Lake, version: Dataset, tmp_path: Path) -> None:
    row = next(
        each for each in version.snapshot.scan("sample_data").to_pylist()
        if each["fileformat"] == "jpg" and each["sample_data_id"] in readings_of(version)
    )  # fmt: skip
    file = Path(row["uri"])
    data = file.read_bytes()
    file.unlink()
    try:
        done = export(version, "webdataset", tmp_path / "out", SMALL)
    finally:
        file.write_bytes(data)
    [bad] = done.left_out
    assert (
        bad["sample_data_id"] == row["sample_data_id"]
        and bad["reason"] == "missing-file"
        and str(file) in bad["detail"]
    )


def test_refused_where_other_files_are(version: Dataset, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        export(version, "jsonl", foreign)
    export(version, "jsonl", tmp_path / "out", SMALL)
    for name, options in (("parquet", SMALL), ("jsonl", Options())):
        with pytest.raises(UsageError, match=r"another export \(jsonl of v@1"):
            export(version, name, tmp_path / "out", options)
    (foreign / MANIFEST).write_text("[]")
    with pytest.raises(UsageError, match="no manifest of ours"):
        export(version, "jsonl", foreign)
    assert tree(foreign)["mine.txt"] == b"precious"


def test_what_is_not_known(version: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown format 'parket'\nDid you mean 'parquet'"):
        export(version, "parket", tmp_path)
    with pytest.raises(NotFound, match="no reading is of channel 'CAM_TOP'"):
        export(version, "jsonl", tmp_path, Options(("CAM_TOP",)))
    with pytest.raises(UsageError, match="part_clips"):
        Options(part_clips=0)
    with pytest.raises(UsageError, match="unit 'scene'"):
        Options(per="scene")


def test_a_dry_run_writes_nothing(version: Dataset, tmp_path: Path) -> None:
    done = export(version, "webdataset", tmp_path / "out", SMALL, dry_run=True)
    assert done.written == 4 and not (tmp_path / "out").exists()


def test_a_damaged_file_is_made_anew(version: Dataset, tmp_path: Path) -> None:
    export(version, "jsonl", tmp_path / "out", SMALL)
    before = tree(tmp_path / "out")
    (tmp_path / "out" / "clips-00001.jsonl").write_bytes(b"cut")
    assert export(version, "jsonl", tmp_path / "out", SMALL).written == 1
    assert tree(tmp_path / "out") == before


KILLED = """
import sys
from miner.export import export
from miner.exporters.content import Options
from miner.lake import open
export(open(sys.argv[1]).dataset("v@1"), "webdataset", sys.argv[2], Options(part_clips=2))
"""


@pytest.mark.fault
@pytest.mark.parametrize("window", ["export:before-rename=kill@3", "export:between-parts=kill@2"])
def test_an_export_that_is_killed_shows_whole_shards_only_and_goes_on(
    window: str, lake: Lake, version: Dataset, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    export(version, "webdataset", whole, SMALL)
    command = [sys.executable, "-c", KILLED, lake.uri, str(out)]
    done = subprocess.run(command, env={**os.environ, "MINER_FAILPOINT": window}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    shards = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    assert 0 < len(shards) < 4 and all(tree(whole)[name] == data for name, data in shards.items())
    assert not json.loads((out / MANIFEST).read_text())["complete"]
    assert export(version, "webdataset", out, SMALL).manifest["complete"]
    assert tree(out) == tree(whole)


def test_a_full_disk_leaves_no_half_file(version: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINER_FAILPOINT", "export:before-rename=full@3")
    monkeypatch.setattr("miner.failpoints._seen", __import__("collections").Counter())
    with pytest.raises(MinerError, match="no space left"):
        export(version, "jsonl", tmp_path / "out", SMALL)
    assert {*tree(tmp_path / "out")} == {MANIFEST, "clips-00000.jsonl"}
    monkeypatch.delenv("MINER_FAILPOINT")
    assert export(version, "jsonl", tmp_path / "out", SMALL).manifest["complete"]


def test_into_an_object_store(version: Dataset, tmp_path: Path, cloud: Cloud) -> None:  # noqa: F811
    export(version, "webdataset", tmp_path / "here", SMALL)
    uri = f"{cloud.uri}/sets/v1"
    assert export(version, "webdataset", uri, SMALL).written == 4
    assert tree(cloud.bucket.download("sets/v1", tmp_path / "there")) == tree(tmp_path / "here")
    assert export(version, "webdataset", uri, SMALL).written == 0
    cloud.bucket.delete("sets/v1/shard-000002.tar")
    assert export(version, "webdataset", uri, SMALL).written == 1
    cloud.bucket.put_bytes("other/file", b"x")
    with pytest.raises(UsageError, match="not empty"):
        export(version, "webdataset", f"{cloud.uri}/other")


def test_sweeps_in_containers_become_arrays(tmp_path: Path) -> None:
    from miner.decode import Recordings
    from miner.exporters.content import Content
    from miner.simulation.tables import scene_tables
    from tests.mcaps import recorded, write_mcap

    spec = Spec(scenes=1, seconds=1.0, width=64, height=36, beams=8, azimuths=90, camera_hz=2.0)
    record(spec, tmp_path / "drives")
    write_mcap(tmp_path / "source" / "a.mcap", recorded(scene_tables(spec, "scene-0000000", str(tmp_path / "drives"))))
    lake = create(tmp_path / "lake")
    lake.ingest(tmp_path / "source")
    lake.cut(1)
    lake.index()
    lake.select({"budget": 1}, "v")
    with Recordings() as recordings:
        content = Content(lake.dataset("v"), Options(), recordings)
        endings = {}
        for row in content.readings(0, 1).to_pylist():
            ending, data = content.payload(row)
            endings[row["modality"]] = ending
            if ending == "npy":
                from io import BytesIO

                assert np.load(BytesIO(data)).shape[1] >= 3
    assert endings.get("lidar") == "npy" and endings.get("camera") in ("jpg", "png")
