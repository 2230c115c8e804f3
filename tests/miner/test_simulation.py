"""The simulator: same spec, same bytes; pictures, sweeps and boxes agree; rare events come as ordered."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from kernels.se3 import wxyz_to_matrix
from miner.errors import Conflict, NotFound, UnknownName, UsageError
from miner.schema import ANNOTATIONS, SAMPLE_DATA, SCENES
from miner.simulation import Spec, load_spec, record, render, scene_names, scene_tables, sweep, vectors
from miner.simulation.camera import directions, make_shot, trace
from miner.simulation.conditions import ENVIRONMENTS, EVENTS, planted_event, scene_conditions
from miner.simulation.solids import NOBODY
from miner.simulation.sweep import lidar_to_ego
from miner.simulation.world import make_world, view

SMALL = Spec(scenes=3, seconds=1.0, width=96, height=54, beams=8, azimuths=180, cameras=("CAM_FRONT",))
BARE = Spec(scenes=200, seconds=4.0, pixels=False)


SOLID = ("vehicle.car", "vehicle.truck", "vehicle.bus")


def boxes(tables):
    return [row for row in tables.annotations.to_pylist() if row["size_lwh"]]


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scenes", 0), ("scenes", 1.5), ("scenes", True), ("seconds", -1), ("seconds", float("nan")),
        ("camera_hz", 0),
        ("rare_rate", 1.1), ("width", 2), ("beams", 0), ("seed", -1), ("cameras", ("CAM_FRONT", "CAM_FRONT")),
        ("pixels", 1),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_refused_by_name(field, value):
    with pytest.raises(UsageError, match=field.removesuffix("s")):
        Spec(**{field: value})


def test_a_spec_needs_sensors_that_exist():
    with pytest.raises(UnknownName, match="CAM_FRONT"):
        Spec(cameras=("CAM_FRNT",))
    with pytest.raises(UsageError, match="no sensors"):
        Spec(cameras=(), lidar_hz=0)


def test_a_spec_survives_json():
    assert Spec.from_json(SMALL.to_json()) == SMALL
    assert Spec.from_json("{}") == Spec()
    with pytest.raises(UnknownName, match="seed"):
        Spec.from_json('{"sed": 1}')
    for text in ("{", "[]", '{"cameras": "CAM_FRONT"}'):
        with pytest.raises(UsageError):
            Spec.from_json(text)


@pytest.mark.parametrize("name", ["scene-0000003", "scene-1", "", "scene-000000x"])
def test_an_unknown_scene_is_not_found(name):
    with pytest.raises(NotFound, match="scene-0000002"):
        scene_tables(SMALL, name, "r")


def test_same_spec_same_bytes_other_seed_other_bytes(tmp_path):
    for folder in ("a", "b"):
        record(replace(SMALL, scenes=1), tmp_path / folder)
    record(replace(SMALL, scenes=1, seed=1), tmp_path / "c")
    a, b, c = (digest(tmp_path / folder) for folder in "abc")
    assert a == b and len(a) == 1 + 2 + 2
    assert not set(a.values()) & set(c.values())


def test_recording_goes_on_where_it_stopped(tmp_path):
    calls = []
    assert record(SMALL, tmp_path, lambda done, total: calls.append((done, total))) == 12
    assert calls == [(1, 3), (2, 3), (3, 3)]
    before = digest(tmp_path)
    next(tmp_path.rglob("*.jpg")).unlink()
    next(tmp_path.rglob("*.bin")).unlink()
    assert record(SMALL, tmp_path) == 2
    assert record(SMALL, tmp_path) == 0
    assert digest(tmp_path) == before
    assert load_spec(tmp_path) == SMALL


def test_a_folder_holds_one_simulation(tmp_path):
    bare = replace(SMALL, pixels=False)
    assert record(bare, tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["simulation.json"]
    with pytest.raises(Conflict):
        record(replace(bare, seed=9), tmp_path)


def test_a_scene_depends_on_its_index_alone():
    small, large = scene_tables(replace(BARE, scenes=5), "scene-0000004", "r"), scene_tables(BARE, "scene-0000004", "r")
    assert small.sample_data.equals(large.sample_data) and small.annotations.equals(large.annotations)
    assert small.scenes.equals(large.scenes)


def test_tables_have_the_declared_schemas_and_unique_ids():
    seen = Counter()
    for name in list(scene_names(BARE))[:20]:
        tables = scene_tables(BARE, name, "r")
        assert tables.scenes.schema == SCENES and len(tables.scenes) == 1
        assert tables.sample_data.schema == SAMPLE_DATA and len(tables.sample_data) == 3 * 8 + 8
        assert tables.annotations.schema == ANNOTATIONS
        scene_id = tables.scenes["scene_id"][0].as_py()
        assert set(tables.sample_data["scene_id"].to_pylist()) == {scene_id}
        seen.update([scene_id])
        seen.update(tables.sample_data["sample_data_id"].to_pylist())
        seen.update(tables.annotations["annotation_id"].to_pylist())
        times = tables.sample_data["timestamp_ns"].to_numpy()
        assert tables.scenes["start_ns"][0].as_py() <= times.min() and times.max() < tables.scenes["end_ns"][0].as_py()
    assert max(seen.values()) == 1


@pytest.mark.parametrize(("camera_hz", "keys"), [(2.0, 8), (10.0, 8), (12.0, 8), (1.0, 4)])
def test_key_frames_come_twice_a_second(camera_hz, keys):
    spec = replace(BARE, camera_hz=camera_hz, cameras=("CAM_FRONT",), lidar_hz=0.0)
    table = scene_tables(spec, "scene-0000000", "r").sample_data
    assert len(table) == 4 * camera_hz
    assert sum(table["is_key_frame"].to_pylist()) == keys == len(set(table["sample_id"].to_pylist()))


@pytest.mark.parametrize("rate", [0.0, 0.03, 0.25, 0.7, 1.0])
def test_rare_events_come_at_the_chosen_rate(rate):
    spec = Spec(scenes=400, rare_rate=rate, seed=3)
    planted = [planted_event(spec, index) for index in range(400)]
    kinds = Counter(event for event in planted if event)
    assert abs(sum(kinds.values()) - 400 * rate) <= 1
    if rate >= 0.25:
        assert set(kinds) == set(EVENTS) and max(kinds.values()) - min(kinds.values()) <= 2


@pytest.mark.parametrize(
    ("event", "category"),
    [
        ("tyre_on_lane", "movable_object.debris"),
        ("animal", "animal"),
        ("tipped_vehicle", "vehicle"),
        ("closed_road", "movable_object.barrier"),
        ("fog_bank", ""),
    ],
)
def test_a_planted_event_is_labelled_and_lies_ahead(event, category):
    index = next(i for i in range(200) if planted_event(BARE, i) == event)
    tables = scene_tables(BARE, f"scene-{index:07d}", "r")
    rows = [row for row in tables.annotations.to_pylist() if row["category"] == "event"]
    label = json.loads(rows[0]["attributes"])
    scene = tables.scenes.to_pylist()[0]
    assert len(rows) == 1 and label["value"] == event
    assert scene["start_ns"] <= label["start_ns"] < label["end_ns"] <= scene["end_ns"]
    last = max(row["timestamp_ns"] for row in boxes(tables))
    end = [row for row in boxes(tables) if row["timestamp_ns"] == last]
    if event == "tipped_vehicle":
        up = [wxyz_to_matrix(row["ego_SE3_object"]["rotation_wxyz"])[2, 2] for row in end]
        end = [row for row, z in zip(end, up, strict=True) if z < 0.5]
    if category:
        found = [row["ego_SE3_object"]["translation"] for row in end if row["category"].startswith(category)]
        assert any(2 < x < 25 and abs(y) < 4 for x, y, _ in found)


def test_scenes_without_an_event_have_no_event_row():
    for index in range(20):
        tables = scene_tables(BARE, f"scene-{index:07d}", "r")
        conditions = scene_conditions(BARE, index)
        labels = {
            row["category"]: json.loads(row["attributes"])["value"]
            for row in tables.annotations.to_pylist()
            if not row["size_lwh"]
        }
        expected = {"weather": conditions.weather, "light": conditions.light}
        assert labels == expected | ({"event": conditions.event} if conditions.event else {})
        description = tables.scenes["description"][0].as_py()
        assert conditions.weather in description and conditions.light in description


def test_the_recording_vehicle_meets_nobody():
    for index in range(60):
        for row in boxes(scene_tables(BARE, f"scene-{index:07d}", "r")):
            x, y, _ = row["ego_SE3_object"]["translation"]
            assert not (-0.9 < x < 3.7 and abs(y) < 0.9), (index, row)


def test_all_surroundings_weathers_and_lights_occur():
    conditions = [scene_conditions(BARE, index) for index in range(60)]
    assert {c.environment for c in conditions} == set(ENVIRONMENTS)
    assert len({c.weather for c in conditions}) == 4 and len({c.light for c in conditions}) == 3


def test_boxes_project_onto_their_own_pixels():
    """A box centre, taken through the tables' calibration, lands on its own pixel or on one of something nearer."""
    spec = Spec(scenes=8, seconds=1.0, width=320, height=180, beams=2, azimuths=16, cameras=("CAM_FRONT",))
    own = 0
    for name in scene_names(spec):
        tables, seen = scene_tables(spec, name, "r"), view(make_world(spec, name))
        camera = tables.sample_data.to_pylist()[0]
        ego_R_camera = wxyz_to_matrix(camera["ego_SE3_sensor"]["rotation_wxyz"])
        matrix = np.reshape(camera["intrinsic"], (3, 3))
        rows = boxes(tables)
        time = rows[0]["timestamp_ns"]
        shot = make_shot(seen, "CAM_FRONT", time)
        solids, hits = trace(shot, directions(shot))
        owners = {tuple(a.size_lwh): i for i, a in enumerate(seen.world.actors)}
        for row in (row for row in rows if row["timestamp_ns"] == time and row["category"] in SOLID):
            offset = np.subtract(row["ego_SE3_object"]["translation"], camera["ego_SE3_sensor"]["translation"])
            place = offset @ ego_R_camera
            u, v, _ = matrix @ place / max(place[2], 1e-9)
            if place[2] < 1 or not (0 <= u < 320 and 0 <= v < 180):
                continue
            depth, hit = hits.distance[int(v), int(u)], hits.solid[int(v), int(u)]
            owner = solids.owner[hit] if hit >= 0 else NOBODY
            mine = owner == owners[tuple(row["size_lwh"])]
            assert depth < np.linalg.norm(place) + 0.3 * mine
            own += mine
    assert own >= 25


def test_lidar_points_lie_in_the_boxes_that_count_them():
    spec = Spec(scenes=4, seconds=1.0, beams=32, azimuths=540, cameras=())
    counted = 0
    for name in scene_names(spec):
        rows = boxes(scene_tables(spec, name, "r"))
        points = lidar_to_ego(sweep(spec, name, rows[0]["timestamp_ns"]))
        for row in (row for row in rows if row["timestamp_ns"] == rows[0]["timestamp_ns"]):
            pose = row["ego_SE3_object"]
            local = (points - pose["translation"]) @ wxyz_to_matrix(pose["rotation_wxyz"])
            inside = int((np.abs(local) <= np.array(row["size_lwh"]) / 2 + 0.06).all(1).sum())
            assert inside >= row["num_lidar_pts"]
            counted += row["num_lidar_pts"]
    assert counted > 1000


def test_sweeps_are_points_with_rings():
    points = sweep(SMALL, "scene-0000000", make_world(SMALL, "scene-0000000").start_ns)
    assert points.dtype == np.float32 and points.shape[1] == 5 and len(points) > 200
    assert set(np.unique(points[:, 4])) <= set(range(8)) and points[:, 3].min() >= 0 and points[:, 3].max() <= 255
    elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
    np.testing.assert_allclose(np.degrees(elevation), -30.67 + points[:, 4] * 41.34 / 7, atol=0.01)


def test_night_is_darker_than_day():
    spec = replace(SMALL, scenes=40, rare_rate=0.0)
    light = {"day": [], "night": []}
    for index in range(12):
        name = f"scene-{index:07d}"
        if (kind := scene_conditions(spec, index).light) in light:
            frame = render(spec, name, "CAM_FRONT", make_world(spec, name).start_ns)
            assert frame.shape == (54, 96, 3) and frame.dtype == np.uint8
            light[kind].append(frame.mean())
    assert max(light["night"]) < min(light["day"])


def test_a_camera_that_is_not_there_is_not_found():
    with pytest.raises(NotFound, match="CAM_BACK"):
        render(SMALL, "scene-0000000", "CAM_BACK", 0)


def test_vectors_are_unit_rows_of_the_camera_readings():
    tables = scene_tables(BARE, "scene-0000001", "r")
    rows = vectors(BARE, "scene-0000001", 64)
    assert rows.dtype == np.float32 and len(rows) == tables.sample_data["modality"].to_pylist().count("camera")
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(rows, vectors(BARE, "scene-0000001", 64))


def test_vectors_cluster_by_conditions_and_rare_events_stand_out():
    spec = replace(BARE, cameras=("CAM_FRONT",), camera_hz=10.0)
    plain = [i for i in range(80) if planted_event(spec, i) is None]
    kinds = {i: replace(scene_conditions(spec, i), event=None) for i in range(80)}
    first = {i: vectors(spec, f"scene-{i:07d}", 128)[-1] for i in range(80)}
    same = [first[a] @ first[b] for a in plain for b in plain if a < b and kinds[a] == kinds[b]]
    other = [first[a] @ first[b] for a in plain for b in plain if a < b and kinds[a] != kinds[b]]
    assert np.mean(same) > np.mean(other) + 0.2
    burst = vectors(spec, f"scene-{plain[0]:07d}", 128)
    assert np.mean(np.sum(burst[1:] * burst[:-1], 1)) > np.mean(same) + 0.1
    middle = np.mean([first[i] for i in plain], 0)
    rare = [i for i in range(80) if i not in plain]
    assert np.mean([first[i] @ middle for i in rare]) < np.mean([first[i] @ middle for i in plain])
