"""What to simulate: the specification of a set of scenes, and the names of its scenes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from miner.errors import NotFound, UnknownName, UsageError
from miner.simulation.rig import CAMERAS

MAX_SCENES = 10_000_000
_NAME = re.compile(r"scene-(\d{7})")
_LIMITS = {
    "scenes": (1, MAX_SCENES),
    "seconds": (0.1, 3600.0),
    "camera_hz": (0.1, 100.0),
    "lidar_hz": (0.0, 100.0),
    "width": (16, 8192),
    "height": (16, 8192),
    "beams": (1, 256),
    "azimuths": (8, 8192),
    "seed": (0, 2**63 - 1),
    "rare_rate": (0.0, 1.0),
}


@dataclass(frozen=True)
class Spec:
    """A set of simulated scenes. Equal specs give equal bytes; a scene depends on the spec and its own index alone.

    `rare_rate` is the share of scenes with a planted rare event. Without `pixels` nothing is rendered or cast: only
    tables and vectors, at any scale. `lidar_hz` 0 leaves the LiDAR out. Raises UsageError for a value out of limits.
    """

    scenes: int = 12
    seconds: float = 8.0
    camera_hz: float = 2.0
    lidar_hz: float = 2.0
    cameras: tuple[str, ...] = ("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT")
    width: int = 640
    height: int = 360
    beams: int = 32
    azimuths: int = 1080
    seed: int = 0
    rare_rate: float = 0.25
    pixels: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        for name, (low, high) in _LIMITS.items():
            value, whole = getattr(self, name), isinstance(low, int)
            kind = int if whole else (int, float)
            if (
                isinstance(value, bool)
                or not isinstance(value, kind)
                or not math.isfinite(value)
                or not low <= value <= high
            ):
                expected = "a whole number" if whole else "a number"
                raise UsageError(f"simulation: {name} is {value!r}, expected {expected} from {low} to {high}")
        for channel in self.cameras:
            if channel not in CAMERAS:
                raise UnknownName.of("camera", channel, CAMERAS)
        if len(set(self.cameras)) < len(self.cameras):
            raise UsageError(f"simulation: a camera is named twice in {', '.join(self.cameras)}", "Name each once.")
        if not self.cameras and not self.lidar_hz:
            raise UsageError("simulation: no sensors", "Name at least one camera, or set lidar_hz above 0.")
        if not isinstance(self.pixels, bool):
            raise UsageError(f"simulation: pixels is {self.pixels!r}, expected true or false")

    def to_json(self) -> str:
        """The spec as a JSON object, one field a line."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The spec that `to_json` wrote. Raises UsageError for other text, UnknownName for an unknown field."""
        try:
            values: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError(f"simulation: not JSON: {error}") from error
        if not isinstance(values, dict) or not isinstance(values.get("cameras", []), list):
            raise UsageError("simulation: expected a JSON object with a list of cameras")
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise UnknownName.of("simulation field", name, known)
        return cls(**values)


def scene_name(index: int) -> str:
    """The name of the scene with this index."""
    return f"scene-{index:07d}"


def scene_names(spec: Spec) -> Iterator[str]:
    """The names of all scenes, in order."""
    return map(scene_name, range(spec.scenes))


def scene_index(spec: Spec, name: str) -> int:
    """The index of the scene `name`. Raises NotFound where the spec has no such scene."""
    found = _NAME.fullmatch(name)
    if not found or int(found[1]) >= spec.scenes:
        last = scene_name(spec.scenes - 1)
        raise NotFound(f"no scene {name!r} in this simulation", f"Its scenes are {scene_name(0)} to {last}.")
    return int(found[1])
