"""Small KITTI trees on disk for tests, with calibration, poses and boxes that were made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.pictures import picture, png

DRIVE = "2011_09_26_drive_0001_sync"

# Camera and LiDAR in one point, the camera looking along the LiDAR's x; the IMU 1 m behind and 0.5 m below the LiDAR.
AXES = "0 -1 0 0 0 -1 1 0 0"
POSE = "0 -1 0 0 0 0 -1 0 1 0 0 0"
TURNED_NOT = "1 0 0 0 1 0 0 0 1"
INTRINSIC = "700 0 600 0 700 180 0 0 1"
LEFT, RIGHT = "700 0 600 42 0 700 180 0 0 0 1 0", "700 0 600 -336 0 700 180 0 0 0 1 0"  # 6 cm left, 48 cm right

CAM_TO_CAM = f"""calib_time: 09-Jan-2012 13:57:47
R_rect_00: {TURNED_NOT}
P_rect_00: 700 0 600 0 0 700 180 0 0 0 1 0
K_02: {INTRINSIC}
D_02: -0.3 0.2 0.001 0.002 -0.07
R_02: {TURNED_NOT}
T_02: 0.06 0 0
P_rect_02: {LEFT}
P_rect_03: {RIGHT}
"""
VELO_TO_CAM = f"calib_time: 15-Mar-2012 11:37:16\nR: {AXES}\nT: 0 0 0\ndelta_f: 0 0\n"
IMU_TO_VELO = f"R: {TURNED_NOT}\nT: -1 0 -0.5\n"
OBJECT_CALIB = f"""P0: 700 0 600 0 0 700 180 0 0 0 1 0
P1: 700 0 600 -378 0 700 180 0 0 0 1 0
P2: {LEFT}
P3: {RIGHT}
R0_rect: {TURNED_NOT}
Tr_velo_to_cam: {POSE}
Tr_imu_to_velo: 1 0 0 -1 0 1 0 0 0 0 1 -0.5

"""
# A car 10 m ahead and 2 m to the right, its wheels 1.5 m below the camera, looking ahead; and an area left out.
LABELS = """Car 0.25 1 -1.40 600.00 170.00 800.00 290.00 1.50 1.60 4.00 2.00 1.50 10.00 -1.5707963267948966
DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10
"""


def sweep(points: int = 50, seed: int = 0) -> NDArray[np.float32]:
    """Points (n, 4) as KITTI has them: within 80 m, reflectance from 0 to 0.99."""
    random = np.random.default_rng(seed)
    xyz = random.uniform((-80, -80, -3), (80, 80, 3), (points, 3))
    return np.column_stack([xyz, random.integers(0, 100, points) / 100]).astype(np.float32)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_raw(root: Path, frames: int = 3, drive: str = DRIVE) -> Path:
    """A drive with two cameras, LiDAR, oxts, a tracklet and labels of its first frame; the folder of the drive."""
    date = root / drive[:10]
    for name, text in (("cam_to_cam", CAM_TO_CAM), ("velo_to_cam", VELO_TO_CAM), ("imu_to_velo", IMU_TO_VELO)):
        write(date / f"calib_{name}.txt", text)
    folder = date / drive
    for frame in range(frames):
        for camera in ("image_02", "image_03"):
            write(folder / camera / "data" / f"{frame:010d}.png", png(picture(24, 80)))
        write(folder / "velodyne_points" / "data" / f"{frame:010d}.bin", sweep(seed=frame).tobytes())
        write(folder / "oxts" / "data" / f"{frame:010d}.txt", oxts(49.0 + 1e-5 * frame, 8.4, 110.0, 0.01, 0.02, 1.5))
    for number, sensor in enumerate(("velodyne_points", "image_02", "image_03", "oxts")):
        write(folder / sensor / "timestamps.txt", timestamps(frames, offset_ns=number))
    write(folder / "label_2" / f"{0:010d}.txt", LABELS)
    write(folder / "tracklet_labels.xml", tracklets(("Cyclist", 1, [(12.0, 3.0, -1.5, 0.5), (11.0, 3.0, -1.5, 0.5)])))
    return folder


def write_object(root: Path, frames: int = 2, split: str = "training") -> Path:
    """A split of single frames with both colour cameras, LiDAR, calibration and labels; the folder of the split."""
    folder = root / split
    for frame in range(frames):
        for camera in ("image_2", "image_3"):
            write(folder / camera / f"{frame:06d}.png", png(picture(24, 80)))
        write(folder / "velodyne" / f"{frame:06d}.bin", sweep(seed=frame).tobytes())
        write(folder / "calib" / f"{frame:06d}.txt", OBJECT_CALIB)
        write(folder / "label_2" / f"{frame:06d}.txt", LABELS)
    return folder


def timestamps(frames: int, offset_ns: int = 0) -> str:
    """10 Hz from 13:02:25.900 on, each sensor `offset_ns` later."""
    tenths = [259 + number for number in range(frames)]
    return "".join(f"2011-09-26 13:{2 + t // 600:02d}:{t // 10 % 60:02d}.{t % 10}{offset_ns:08d}\n" for t in tenths)


def oxts(*values: float) -> str:
    """A packet of 30 numbers that starts with latitude, longitude, altitude, roll, pitch, yaw."""
    return " ".join(map(repr, [*values, *[0.0] * (30 - len(values))])) + "\n"


def tracklets(*items: tuple[str, int, list[tuple[float, float, float, float]]]) -> str:
    """Boxes 1.8 m long, 0.6 m wide, 1.7 m high: category, first frame, and x, y, z, yaw of each frame from there on."""
    texts = []
    for category, first, poses in items:
        inner = "".join(
            f"<item><tx>{x}</tx><ty>{y}</ty><tz>{z}</tz><rx>0</rx><ry>0</ry><rz>{yaw}</rz>"
            "<state>2</state><occlusion>1</occlusion><occlusion_kf>0</occlusion_kf><truncation>0</truncation></item>\n"
            for x, y, z, yaw in poses
        )
        texts.append(
            f"<item class_id='1' version='1'><objectType>{category}</objectType><h>1.7</h><w>0.6</w><l>1.8</l>"
            f"<first_frame>{first}</first_frame><poses><count>{len(poses)}</count>{inner}</poses>"
            "<finished>1</finished></item>\n"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>\n<!DOCTYPE boost_serialization>\n'
        '<boost_serialization signature="serialization::archive" version="9"><tracklets class_id="0" version="0">\n'
        f"<count>{len(items)}</count><item_version>1</item_version>\n{''.join(texts)}</tracklets></boost_serialization>\n"
    )
