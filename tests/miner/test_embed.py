"""Frames to vectors and assets: rows as the schema says, facts against other libraries, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from miner.decode.image import Picture, decode_image
from miner.decode.sweep import Sweep
from miner.embed import EmbedStage, Sizes, sweep_points, table_of
from miner.errors import MinerError, NotFound, UnknownName, UsageError
from miner.executor import LocalExecutor
from miner.lake import Lake, create
from miner.plan import make_plan
from miner.simulation import Spec, record
from tests.pictures import jpg, noise
from tests.recordings import write_drives
from tests.tables import contents

FRAMES = 6


def make_lake(folder: Path, source: Path, threads: int = 2) -> Lake:
    lake = create(folder, LocalExecutor(threads=threads))
    lake.ingest(source)
    return lake


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_drives(tmp_path / "source", scenes=2, frames=FRAMES)


@pytest.fixture
def lake(tmp_path: Path, source: Path) -> Lake:
    return make_lake(tmp_path / "lake", source)


def by_reading(lake: Lake, table: str = "embeddings/hashing") -> dict[str, list[dict[str, Any]]]:
    """Rows by reading, in order of their part."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in lake.store.scan(table).sort_by("part").to_pylist():
        found.setdefault(row["sample_data_id"], []).append(row)
    return found


def test_a_row_for_each_view(lake: Lake) -> None:
    report = lake.embed(["hashing"], views="whole+tiles")
    assert (report.written, report.rows) == (12, {"embeddings/hashing": 36, "assets": 12})
    readings = {row["sample_data_id"]: row for row in lake.store.scan("sample_data").to_pylist()}
    found = by_reading(lake)
    assert found.keys() == readings.keys()
    for key, rows in found.items():
        assert [row["part"] for row in rows] == [0, 1, 2]
        for column in ("scene_id", "channel", "timestamp_ns"):
            assert {row[column] for row in rows} == {readings[key][column]}
        whole, *tiles = [row["region"] for row in rows]
        assert whole is None
        assert (tiles[0]["x0"], tiles[-1]["x1"]) == (0, 1)
        for tile in tiles:  # of a 96 x 64 picture: squares of its full height
            assert (tile["y0"], tile["y1"]) == (0, 1)
            assert (tile["x1"] - tile["x0"]) * 96 == pytest.approx(64)
        assert all(right["x0"] <= left["x1"] for left, right in pairwise(tiles)), "a gap between tiles"
    ids = lake.store.scan("embeddings/hashing")["embedding_id"].to_pylist()
    assert len(set(ids)) == len(ids) == 36


@pytest.mark.parametrize(("views", "parts"), [("whole", 1), ("tiles", 2)])
def test_other_views(lake: Lake, views: str, parts: int) -> None:
    lake.embed(["hashing"], views=views)
    rows = by_reading(lake)
    assert {len(each) for each in rows.values()} == {parts}
    assert {row["region"] is None for each in rows.values() for row in each} == {views == "whole"}
    assert lake.store.schema("embeddings/hashing").metadata[b"views"] == views.encode()


def test_vectors_are_of_their_pictures(lake: Lake, source: Path) -> None:
    """A copy of a picture has its vectors, another picture has others; all are of unit length."""
    frames = sorted((source / "drive_00").iterdir())
    (source / "drive_01" / "frame_000003.jpg").write_bytes(frames[1].read_bytes())
    lake.embed(["hashing"])
    uris = {row["sample_data_id"]: row["uri"] for row in lake.store.scan("sample_data").to_pylist()}
    vectors = {uris[key]: np.array([row["vector"] for row in rows]) for key, rows in by_reading(lake).items()}
    np.testing.assert_allclose([np.linalg.norm(v, axis=1) for v in vectors.values()], 1, atol=1e-6)
    mine = vectors[str(frames[1])]
    same = [uri for uri, other in vectors.items() if np.array_equal(mine, other)]
    assert sorted(same) == [str(frames[1]), str(source / "drive_01" / "frame_000003.jpg")]


def test_assets_say_what_other_libraries_say(lake: Lake, source: Path) -> None:
    Image.new("RGB", (50, 40), (9, 90, 200)).save(source / "drive_01" / "frame_000002.jpg", quality=70)
    lake.embed(["hashing"])
    uris = {row["sample_data_id"]: row["uri"] for row in lake.store.scan("sample_data").to_pylist()}
    assets = lake.store.scan("assets").to_pylist()
    assert len(assets) == 2 * FRAMES
    for row in assets:
        data = Path(uris[row["sample_data_id"]]).read_bytes()
        assert (row["sha256"], row["num_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        with Image.open(uris[row["sample_data_id"]]) as picture:
            assert (row["width"], row["height"]) == picture.size
        assert row["flags"] == []
    assert {row["width"] for row in assets} == {96, 50}


def test_a_second_encoder_writes_only_its_own_table(lake: Lake) -> None:
    lake.embed(["hashing"])
    before = contents(lake.uri)
    versions = {table: lake.store.version(table) for table in ("assets", "embeddings/hashing")}
    report = lake.embed(["hashing:32"])
    assert report.rows == {"embeddings/hashing-32": 36}
    assert contents(lake.uri) == before
    assert versions == {table: lake.store.version(table) for table in versions}
    assert lake.store.schema(table_of("hashing:32")).metadata[b"dim"] == b"32"


def test_two_encoders_of_one_pass_give_what_two_passes_give(lake: Lake, tmp_path: Path, source: Path) -> None:
    lake.embed(["hashing"])
    lake.embed(["hashing:32"])
    both = make_lake(tmp_path / "both", source)
    both.embed(["hashing", "hashing:32"])
    assert contents(both.uri) == contents(lake.uri)
    assert by_reading(both, "embeddings/hashing-32") == by_reading(lake, "embeddings/hashing-32")


def test_a_new_frame_and_a_missing_row_are_all_that_is_done(lake: Lake, source: Path, tmp_path: Path) -> None:
    lake.embed(["hashing"])
    complete = contents(lake.uri)
    key = lake.store.scan("assets", ["sample_data_id"])["sample_data_id"][4].as_py()
    lake.store.delete("assets", f"sample_data_id = '{key}'")
    assert lake.embed(["hashing"]).rows == {"assets": 1}
    assert contents(lake.uri) == complete
    lake.ingest(write_drives(tmp_path / "more", scenes=1, frames=2))
    assert lake.embed(["hashing"]).written == 2


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty-file"), (b"<html>404</html>", "not-an-image"), (None, "missing-file")]
)
def test_a_broken_picture_is_quarantined_with_its_file(
    lake: Lake, source: Path, content: bytes | None, reason: str
) -> None:
    victim = source / "drive_00" / "frame_000002.jpg"
    victim.unlink() if content is None else victim.write_bytes(content)
    report = lake.embed(["hashing"])
    assert (report.written, report.reasons) == (11, {reason: 1})
    [row] = lake.store.scan("quarantine").to_pylist()
    [reading] = lake.store.scan("sample_data", filter=f"sample_data_id = '{row['key']}'").to_pylist()
    assert reading["uri"] == str(victim) and row["scene_id"] == reading["scene_id"]
    assert (row["stage"], row["reason"]) == ("embed", reason)
    assert str(victim) in row["detail"]
    assert row["key"] not in by_reading(lake)
    assert lake.embed(["hashing"]).changed is False


def test_a_truncated_picture_does_not_pass(lake: Lake, source: Path) -> None:
    victim = source / "drive_01" / "frame_000000.jpg"
    victim.write_bytes(victim.read_bytes()[:-400])
    assert lake.embed(["hashing"]).quarantined == 1
    assert str(victim) in lake.store.scan("quarantine")["detail"][0].as_py()


def test_other_views_on_the_same_table_are_refused(lake: Lake) -> None:
    lake.embed(["hashing"], views="whole")
    before = contents(lake.uri)
    with pytest.raises(UsageError, match="has views whole, this run makes tiles"):
        lake.embed(["hashing"], views="tiles")
    assert contents(lake.uri) == before


def test_wrong_names_are_told_before_a_table_is_made(lake: Lake) -> None:
    tables = lake.store.tables()
    with pytest.raises(UnknownName, match=r"unknown views 'halves'(?s:.)*whole\+tiles"):
        lake.embed(["hashing"], views="halves")
    with pytest.raises(UnknownName, match=r"unknown encoder 'hashin'\nDid you mean 'hashing'"):
        lake.embed(["hashin"])
    with pytest.raises(UsageError, match="takes a positive number, got 'big'"):
        lake.embed(["hashing:big"])
    assert lake.store.tables() == tables
    assert lake.embed(["hashing"], views="whole").written == 12


def test_vectors_are_bit_equal_whatever_the_split(lake: Lake, tmp_path: Path, source: Path) -> None:
    """Blocks of other sizes, in another order, on other threads."""
    lake.embed(["hashing"])
    expected = contents(lake.uri)["embeddings/hashing"]
    for threads in (1, 3):
        other = make_lake(tmp_path / f"lake-{threads}", source, threads)
        other.embed(["hashing"])
        assert contents(other.uri)["embeddings/hashing"] == expected


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated drives of three cameras and a LiDAR, two readings of each."""
    folder = tmp_path_factory.mktemp("drives")
    shape = {"width": 96, "height": 54, "beams": 8, "azimuths": 90}
    record(Spec(scenes=2, seconds=1.0, camera_hz=2.0, lidar_hz=2.0, **shape), folder)  # type: ignore[arg-type]
    return folder


def test_cameras_and_lidar_in_one_pass(drives: Path, tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", drives)
    report = lake.embed(["hashing", "descriptor"], "whole")
    assert (report.units, report.written, report.quarantined) == (16, 16, 0)
    assert report.rows == {"embeddings/hashing": 12, "embeddings/descriptor": 4, "assets": 16}
    readings = {row["sample_data_id"]: row for row in lake.store.scan("sample_data").to_pylist()}
    for table, modality in (("hashing", "camera"), ("descriptor", "lidar")):
        rows = lake.store.scan(f"embeddings/{table}").to_pylist()
        assert {readings[row["sample_data_id"]]["modality"] for row in rows} == {modality}
        assert lake.store.schema(f"embeddings/{table}").metadata[b"modality"] == modality.encode()
    for asset in lake.store.scan("assets").to_pylist():
        reading = readings[asset["sample_data_id"]]
        data = Path(reading["uri"]).read_bytes()
        assert (asset["modality"], asset["sha256"]) == (reading["modality"], hashlib.sha256(data).hexdigest())
        size = (asset["width"], asset["height"], asset["num_points"])
        blank = [asset[name] is None for name in ("sharpness", "exposure", "phash")]
        assert blank == [reading["modality"] == "lidar"] * 3
        assert size == ((96, 54, None) if reading["modality"] == "camera" else (None, None, len(data) // 20))
    assert not lake.embed(["hashing", "descriptor"]).changed and not lake.embed(["descriptor"]).changed
    assert all(check.ok for check in lake.verify())


def test_one_pass_gives_what_one_pass_per_sensor_gives(drives: Path, tmp_path: Path) -> None:
    together, apart = make_lake(tmp_path / "a", drives), make_lake(tmp_path / "b", drives)
    together.embed(["hashing", "descriptor"], "whole")
    assert apart.embed(["descriptor"]).rows == {"embeddings/descriptor": 4, "assets": 4}
    assert apart.embed(["hashing"], "whole").rows == {"embeddings/hashing": 12, "assets": 12}
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("modality", ["camera", "lidar"])
def test_rows_of_another_sensor_hide_no_missing_one(drives: Path, tmp_path: Path, modality: str) -> None:
    lake = make_lake(tmp_path / "lake", drives)
    lake.embed(["hashing", "descriptor"], "whole")
    key = lake.store.scan("assets", ["sample_data_id"], f"modality = '{modality}'")["sample_data_id"][1].as_py()
    lake.store.delete("assets", f"sample_data_id = '{key}'")
    encoder = {"camera": "hashing", "lidar": "descriptor"}[modality]
    assert lake.embed([encoder]).rows == {"assets": 1}


def test_encoders_by_default_are_for_the_sensors_there_are(drives: Path, source: Path, tmp_path: Path) -> None:
    assert EmbedStage.of(make_lake(tmp_path / "a", drives).store).encoders == ("lite", "descriptor")
    assert EmbedStage.of(make_lake(tmp_path / "b", source).store).encoders == ("lite",)


def test_a_broken_sweep_is_quarantined(drives: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(drives, tmp_path / "drives")
    broken, swapped, *_ = sorted(copied.rglob("*.bin"))
    broken.write_bytes(broken.read_bytes()[:-7])
    swapped.write_bytes(b"")
    lake = make_lake(tmp_path / "lake", copied)
    report = lake.embed(["hashing", "descriptor"], "whole")
    assert (report.written, report.reasons) == (14, {"bad-size": 1, "empty-file": 1})
    details = lake.store.scan("quarantine", ["detail"])["detail"].to_pylist()
    assert {file.name in " ".join(details) for file in (broken, swapped)} == {True}
    assert all(check.ok for check in lake.verify())


def test_a_picture_is_no_sweep(lake: Lake) -> None:
    row = lake.store.scan("sample_data").slice(0, 1)
    place = row.column_names.index("modality")
    lake.store.upsert("sample_data", row.set_column(place, "modality", pa.array(["lidar"])))
    assert lake.embed(["hashing", "descriptor"]).reasons == {"wrong-modality": 1}
    assert row["uri"][0].as_py() in lake.store.scan("quarantine")["detail"][0].as_py()


def test_points_that_do_not_count_are_told(drives: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(drives, tmp_path / "drives")
    first = sorted(copied.rglob("*.bin"))[0]
    points = np.fromfile(first, np.float32).reshape(-1, 5)
    points[3, 0], points[5, 1] = np.nan, 1e6
    first.write_bytes(points.tobytes())
    lake = make_lake(tmp_path / "lake", copied)
    lake.embed(["descriptor"])
    [asset] = [row for row in lake.store.scan("assets").to_pylist() if row["flags"]]
    assert (asset["flags"], asset["num_points"]) == (["dropped-points"], len(points) - 2)


def test_bad_frames_are_no_business_of_the_lidar(drives: Path, tmp_path: Path) -> None:
    """Frames in quarantine are neither counted nor forgotten by a run that does not try them again."""
    copied = shutil.copytree(drives, tmp_path / "drives")
    for frame in sorted(copied.rglob("*.jpg"))[:6]:
        frame.write_bytes(b"")
    lake = make_lake(tmp_path / "lake", copied)
    assert lake.embed(["hashing"], "whole").quarantined == 6
    plan = make_plan(lake.store, EmbedStage.of(lake.store, ["descriptor"]))
    assert (plan.total, plan.pending, plan.quarantined) == (4, 4, 0)
    report = lake.embed(["descriptor"])
    assert (report.units, report.done_before, report.written, report.quarantined_before) == (4, 0, 4, 0)
    sweep = next(iter(by_reading(lake, "embeddings/descriptor")))
    lake.store.delete("assets", f"sample_data_id = '{sweep}'")
    lake.executor.retry_quarantined = True
    assert lake.embed(["descriptor"]).rows == {"assets": 1}
    assert lake.store.count("quarantine") == 6 and all(check.ok for check in lake.verify())
    again = lake.embed(["hashing"])
    assert (again.done_before, again.written, again.quarantined) == (6, 0, 6)


def test_encoders_are_for_the_processor_that_workers_are_given(lake: Lake) -> None:
    """A machine may have a GPU that its workers were not given: they would all load their models onto it."""
    of = [
        EmbedStage.of(lake.store, ["lite"], None, Sizes(num_gpus), in_process)
        for num_gpus, in_process in ((0.0, True), (0.0, False), (0.5, False))
    ]
    assert [stage.processor for stage in of] == ["any", "cpu", "gpu"]
    there = pickle.loads(pickle.dumps(of[1]))
    assert there.loaded[0]._processor == "cpu" and there.inputs == of[1].inputs


def test_who_is_to_have_a_gpu_does_not_compute_without(lake: Lake) -> None:
    import torch

    EmbedStage(("hashing",), sizes=Sizes(0.5)).apply(lake.store)  # which needs none
    if not torch.cuda.is_available():
        with pytest.raises(MinerError, match=r"num_gpus = 0\.5.* sees none on .*\n.*leave out --num-gpus"):
            EmbedStage(("lite",), sizes=Sizes(0.5), processor="gpu").apply(lake.store)


def test_only_weights_keep_a_worker(lake: Lake) -> None:
    """Without them tasks do, whose processes are those of the stages before."""
    assert [EmbedStage(names).loads for names in (("hashing", "descriptor"), ("hashing", "lite"))] == [False, True]
    stage = EmbedStage(("lite",))
    stage.apply(lake.store)
    assert "_image_tower" in vars(stage.loaded[0])


def test_a_prepared_block_is_of_bounded_size(lake: Lake) -> None:
    [camera] = EmbedStage.of(lake.store, ["lite"], "whole", Sizes(0.5), False).inputs.values()
    for views, rows in (("whole", 1), ("whole+tiles", 3)):
        stage = EmbedStage.of(lake.store, ["lite"], views, Sizes(0.5), False)
        assert 50e6 < stage.block_size * rows * camera.size**2 * 3 < 135e6
    assert EmbedStage(("lite", "descriptor"), sizes=Sizes(0.5)).block_size >= 1


def test_a_batch_fits_in_memory(drives: Path) -> None:
    """An encoder may want hundreds of frames at once; as many of the longest sweeps would be a gigabyte."""
    stage = EmbedStage(("hashing", "descriptor"), "whole")
    frames, sweeps = stage.loaded
    frames.input = replace(frames.input, batch=256)
    assert stage.batch_size * sweeps.input.size * 16 <= 1 << 28
    assert EmbedStage(("descriptor",)).batch_size == 32
    alone = EmbedStage(("hashing",))
    alone.loaded[0].input = replace(alone.loaded[0].input, batch=256)
    assert alone.batch_size == 256


def test_how_the_work_is_cut_up_changes_no_row(lake: Lake, tmp_path: Path, source: Path) -> None:
    lake.embed(["hashing"])
    for number, (batch, block, files) in enumerate([(1, 5, 3), (3, 100, 1)]):
        other = make_lake(tmp_path / f"other_{number}", source)
        other.embed(["hashing"], batch_size=batch, block_size=block)
        assert contents(other.uri) == contents(lake.uri)
        assert len(other.store.dataset("embeddings/hashing").get_fragments()) == files


def test_encoders_of_different_views_are_told_apart(lake: Lake) -> None:
    lake.embed(["hashing"], "whole")
    lake.embed(["hashing:32"], "tiles")
    with pytest.raises(UsageError, match="one of the encoders at a time"):
        lake.embed(["hashing", "hashing:32"])


def test_an_encoder_goes_by_one_name(lake: Lake) -> None:
    lake.embed(["hashing:64"], "whole")
    assert lake.store.vector_tables() == ["embeddings/hashing"]
    assert not lake.embed(["hashing:64", "hashing", "hashing"]).changed


def test_a_lake_without_readings_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no readings(.|\n)*miner ingest"):
        create(tmp_path / "lake").embed(["hashing"])


def test_a_long_sweep_is_thinned_evenly() -> None:
    points = np.arange(50, dtype=np.float32).reshape(10, 5)
    sweep = Sweep(b"", points, ("x", "y", "z", "ring", "intensity"))
    np.testing.assert_array_equal(sweep_points(sweep, 5), points[::2][:, [0, 1, 2, 4]])
    np.testing.assert_array_equal(sweep_points(sweep, 12), points[:, [0, 1, 2, 4]])
    bare = sweep_points(Sweep(b"", points[:, :3], ("x", "y", "z")), 10)
    np.testing.assert_array_equal(bare[:, 3], 0)


def test_a_stage_travels_with_the_versions_of_its_encoders() -> None:
    sizes = Sizes(0.5, 3, 10)
    stage = pickle.loads(pickle.dumps(EmbedStage(("hashing", "descriptor"), "whole", sizes)))
    assert (stage.num_gpus, stage.batch_size, stage.block_size) == (0.5, 3, 10)
    assert stage.versions == tuple(encoder.version for encoder in stage.loaded)
    with pytest.raises(MinerError, match="'hashing' is 1 here, the run wants 7"):
        EmbedStage(("hashing",), "whole", versions=("7",)).check()


@pytest.mark.parametrize(("height", "decodes"), [(900, 1), (700, 2), (300, 1)])
def test_encoders_of_other_sizes_share_a_decode_where_it_is_the_same(height: int, decodes: int) -> None:
    """`hashing` asks for a short side of 320 pixels, `lite` for 390."""
    data = jpg(np.asarray(Image.fromarray(noise(45, 80)).resize((1600, height))))
    asked: list[int] = []

    def decode(side: int) -> np.ndarray:
        asked.append(side)
        return decode_image(data, "jpg", "x", side)

    together = EmbedStage(("lite", "hashing"), "whole")._picture(Picture(data, 1600, height, decode), None)
    assert len(asked) == decodes
    for name in ("lite", "hashing"):
        alone = EmbedStage((name,), "whole")._picture(Picture.encoded(data, "jpg", "x"), None)
        assert alone[f"input:{name}"] == together[f"input:{name}"]
