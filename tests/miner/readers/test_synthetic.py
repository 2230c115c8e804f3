"""The reader of simulated recordings against the files that were written."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from embeddings.plugins import load_plugin
from miner.errors import BadInput, NotFound, UsageError
from miner.readers.synthetic import SyntheticReader
from miner.simulation import Spec, record

SPEC = Spec(scenes=2, seconds=1.5, width=80, height=48, beams=4, azimuths=90, cameras=("CAM_FRONT", "CAM_BACK"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording")
    record(SPEC, folder)
    return folder


def test_is_found_by_name_and_by_what_the_folder_holds(recording, tmp_path):
    assert load_plugin("miner.readers", "synthetic") is SyntheticReader
    assert SyntheticReader.matches(str(recording))
    assert not SyntheticReader.matches(str(tmp_path)) and not SyntheticReader.matches(str(tmp_path / "none"))


def test_every_file_is_a_row_and_every_row_a_file(recording):
    reader = SyntheticReader(str(recording))
    listed = []
    for scene_id, name in reader.scenes():
        tables = reader.read(name)
        assert tables.scenes["scene_id"].to_pylist() == [scene_id]
        listed += tables.sample_data["uri"].to_pylist()
    written = [str(path) for path in recording.rglob("*") if path.suffix in (".jpg", ".bin")]
    assert sorted(listed) == sorted(written) and len(written) == 2 * 3 * 3


def test_the_files_are_what_their_rows_say(recording):
    for row in SyntheticReader(str(recording)).read("scene-0000001").sample_data.to_pylist():
        content = Path(row["uri"]).read_bytes()
        if row["fileformat"] == "jpg":
            assert simplejpeg.decode_jpeg(content, strict=True).shape == (48, 80, 3)
            assert row["modality"] == "camera" and len(row["intrinsic"]) == 9
        else:
            points = np.frombuffer(content, np.float32).reshape(-1, 5)
            assert len(points) > 50 and np.abs(points[:, :3]).max() < 90
            assert (row["fileformat"], row["modality"], row["intrinsic"]) == ("nuscenes_bin", "lidar", None)


def test_another_dataset_name_gives_other_ids(recording):
    ours, theirs = SyntheticReader(str(recording)), SyntheticReader(str(recording), "mine")
    assert not set(ours.scenes()) & set(theirs.scenes())
    assert theirs.read("scene-0000000").scenes["dataset"].to_pylist() == ["mine"]


def test_it_travels_and_answers_the_same(recording):
    reader = SyntheticReader(str(recording))
    twin = pickle.loads(pickle.dumps(reader))
    assert list(twin.scenes()) == list(reader.scenes())
    assert twin.read("scene-0000000").annotations.equals(reader.read("scene-0000000").annotations)


def test_what_cannot_be_read_says_so(recording, tmp_path):
    with pytest.raises(BadInput, match="unknown-scene"):
        SyntheticReader(str(recording)).read("scene-0000002")
    with pytest.raises(NotFound, match=r"simulation\.json"):
        SyntheticReader(str(tmp_path))
    (tmp_path / "simulation.json").write_text("{")
    with pytest.raises(UsageError, match="JSON"):
        SyntheticReader(str(tmp_path))
